"""Loose ends in the billing table: what one account has too many or too few of in a minute of the sink, so that the
other end is recognized, whichever is compared first.

`pk` `loose#<event name>#<minute>`, `sk` account, `units` (below 0: too few); kept for 40 days.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from tollgate import dynamo

KEPT_S: Final = 40 * 86_400


class LooseTable:
    """Loose ends on DynamoDB."""

    def __init__(self, table: str) -> None:
        self._table = table

    def match(self, event_name: str, minute: int, account: str, units: Decimal, now: int) -> str | None:
        """Note one end; the account of the other one, where it is known."""
        pk = f"loose#{event_name}#{minute:012d}"
        row = {"pk": pk, "sk": account, "units": units, "ttl": now + KEPT_S}
        dynamo.client().put_item(TableName=self._table, Item=dynamo.item(row))
        for raw in dynamo.query(
            self._table,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": dynamo.s(pk)},
            ConsistentRead=True,
        ):
            there = dynamo.unitem(raw)
            if there["sk"] != account and there["units"] == -units:
                return str(there["sk"])
        return None
