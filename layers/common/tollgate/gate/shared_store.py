"""Shared counters in the gates table: one item per shard and window.

Item: `pk` `%<plan>#<hash>#<window start>#<shard>`, `c` N (units counted), `ttl` N where the window ends. A new window
is a new item: nothing rolls over, and what is given back late meets an item that nobody asks any more.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tollgate import dynamo
from tollgate.errors import Busy
from tollgate.gate.shares import Known
from tollgate.quantities import EXACT, ZERO

KEPT_S = 172_800
"""How long a shard stays after its window: clocks that are behind still count in it."""


class SharedTable:
    """SharedStore on DynamoDB."""

    def __init__(self, table: str) -> None:
        self._table = table
        self.known = Known()

    def add(self, name: str, units: Decimal, most: Decimal | None, ends: int | None) -> tuple[bool, Decimal]:
        # The SDK may send it again after a lost answer: then it is counted twice, or refused though it was counted.
        # Either counts too much, never too little.
        sets, values = "c = if_not_exists(c, :zero) + :n", {":zero": dynamo.n(0), ":n": dynamo.n(units)}
        request = self._request(name, values)
        if ends is not None:
            sets += ", #ttl = :ttl"
            values[":ttl"] = dynamo.n(ends + KEPT_S)
            request["ExpressionAttributeNames"] = {"#ttl": "ttl"}
        if most is not None:
            request["ConditionExpression"] = "attribute_not_exists(c) OR c <= :room"
            values[":room"] = dynamo.n(EXACT.subtract(most, units))
        try:
            answer = dynamo.client().update_item(UpdateExpression=f"SET {sets}", **request)
        except ClientError as error:
            if dynamo.failed_condition(error):
                return False, _count(error.response.get("Item", {}))
            if dynamo.unavailable(error):
                raise Busy from error
            raise
        except BotoCoreError as error:
            raise Busy from error
        return True, _count(answer["Attributes"])

    def take_off(self, name: str, units: Decimal) -> Decimal | None:
        # Sent once: taken off twice, a cap could be passed.
        request = self._request(name, {":n": dynamo.n(units)})
        try:
            answer = dynamo.client(retry=False).update_item(
                UpdateExpression="SET c = c - :n", ConditionExpression="c >= :n", **request
            )
        except (ClientError, BotoCoreError) as error:
            if isinstance(error, ClientError) and dynamo.failed_condition(error):
                return None
            if dynamo.unavailable(error):
                return None
            raise
        return _count(answer["Attributes"])

    def counts(self, names: list[str]) -> list[Decimal]:
        keys = [{"pk": dynamo.s(name)} for name in names]
        try:
            found = {raw["pk"]["S"]: _count(raw) for raw in dynamo.batch_get(self._table, keys)}
        except (ClientError, BotoCoreError) as error:
            if dynamo.unavailable(error):
                raise Busy from error
            raise
        return [found.get(name, ZERO) for name in names]

    def _request(self, name: str, values: dict[str, dynamo.Attr]) -> dict[str, Any]:
        return {
            "TableName": self._table,
            "Key": {"pk": dynamo.s(name)},
            "ExpressionAttributeValues": values,
            "ReturnValues": "ALL_NEW",
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }


def _count(raw: dynamo.Item) -> Decimal:
    return Decimal(raw["c"]["N"]) if "c" in raw else ZERO
