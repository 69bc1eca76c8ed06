"""What Stripe last said about an account's subscription. Accounts table: `pk` account, `sk` `billing`.

Every write replaces the row and asserts its `version`, so a state that was fetched before another one was written is
never written over it.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, Final

from botocore.exceptions import ClientError

from tollgate import dynamo
from tollgate.subscriptions.state import BillingState, Standing, Target

SK: Final = "billing"
_WORDS: Final = frozenset({"access", "subscription", "status", "plan", "falls_to"})


class StateTable:
    """Billing states on DynamoDB."""

    def __init__(self, table: str) -> None:
        self._table = table

    def read(self, account: str) -> BillingState:
        """The state as stored (consistent read); version 0 where there is none."""
        found = dynamo.client().get_item(TableName=self._table, Key=_key(account), ConsistentRead=True).get("Item")
        return _state_of(account, dynamo.unitem(found)) if found else BillingState(account)

    def write(self, before: BillingState, after: BillingState) -> BillingState | None:
        """Write `after` where the row still is `before`. Returns it as it stands now, None where it changed, or where
        our own write had come through and only its answer was lost: the caller looks again either way."""
        written = replace(after, version=before.version + 1)
        seen: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(pk)"}
        if before.version:
            seen = {
                "ConditionExpression": "version = :v",
                "ExpressionAttributeValues": {":v": dynamo.n(before.version)},
            }
        try:
            dynamo.client().put_item(TableName=self._table, Item=_item(written), **seen)
        except ClientError as error:
            if dynamo.failed_condition(error):
                return None
            raise
        return written


def _key(account: str) -> dynamo.Item:
    return {"pk": dynamo.s(account), "sk": dynamo.s(SK)}


def _item(state: BillingState) -> dynamo.Item:
    return _key(state.account) | dynamo.item(
        {
            "customer": state.customer,
            "standing": _fields(state.standing),
            "target": _fields(state.target),
            "applied": _fields(state.applied),
            "falls": list(state.falls) or None,
            "version": state.version,
        }
    )


def _fields(record: Standing | Target | None) -> dict[str, Any] | None:
    if record is None:
        return None
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    return {name: value for name, value in values.items() if value is not None}


def _read(stored: dict[str, Any]) -> dict[str, Any]:
    return {name: value if name in _WORDS else int(value) for name, value in stored.items()}


def _state_of(account: str, row: dict[str, Any]) -> BillingState:
    return BillingState(
        account=account,
        customer=row.get("customer"),
        standing=Standing(**_read(row["standing"])) if "standing" in row else None,
        target=Target(**_read(row["target"])) if "target" in row else None,
        applied=Target(**_read(row["applied"])) if "applied" in row else None,
        falls=tuple(int(at) for at in row.get("falls", ())),
        version=int(row["version"]),
    )
