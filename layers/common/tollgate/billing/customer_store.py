"""Which Stripe customers were seen to exist. Billing table: `pk` `customer#<id>`, `sk` `seen`, `at` epoch seconds."""

from __future__ import annotations

from tollgate import dynamo

_REMEMBERED = 50_000


class CustomerTable:
    """Customers seen, on DynamoDB; a process asks for each one once."""

    def __init__(self, table: str) -> None:
        self._table = table
        self._seen: set[str] = set()

    def seen(self, customer: str) -> bool:
        if customer in self._seen:
            return True
        if "Item" not in dynamo.client().get_item(TableName=self._table, Key=_key(customer)):
            return False
        self._remember(customer)
        return True

    def put(self, customer: str, now: int) -> None:
        """Remember a customer for good. Only ever called for one that exists; repeating it is harmless."""
        dynamo.client().put_item(TableName=self._table, Item=_key(customer) | {"at": dynamo.n(now)})
        self._remember(customer)

    def _remember(self, customer: str) -> None:
        if len(self._seen) >= _REMEMBERED:
            self._seen.clear()
        self._seen.add(customer)


def _key(customer: str) -> dynamo.Item:
    return {"pk": dynamo.s(f"customer#{customer}"), "sk": dynamo.s("seen")}
