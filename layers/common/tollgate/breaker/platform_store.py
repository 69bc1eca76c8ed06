"""The platform's breaker in the billing table.

| row | pk | sk | |
| --- | --- | --- | --- |
| an hour's cost | `cost#<hour, epoch s>` | `sum` | `cost`; `resumed`: what of it counts no more, `resumes` how often |
| the stop | `breaker` | `platform` | `since`, `hour`, `cost`, `cap`, `resumes`; void once its hour has more of them |
"""

from __future__ import annotations

from decimal import Decimal

from botocore.exceptions import BotoCoreError, ClientError

from tollgate import dynamo
from tollgate.breaker.platform import Spent, Stop
from tollgate.quantities import ZERO

_KEPT_S = 40 * 86_400


class PlatformTable:
    """PlatformStore on DynamoDB (billing table)."""

    def __init__(self, table: str) -> None:
        self._table = table

    def add(self, hour: int, cost: Decimal) -> Spent | None:
        try:
            answer = dynamo.client(retry=False).update_item(
                TableName=self._table,
                Key=_hour(hour),
                UpdateExpression="SET #ttl = :ttl ADD cost :cost",
                ExpressionAttributeNames={"#ttl": "ttl"},
                ExpressionAttributeValues={":cost": dynamo.n(cost), ":ttl": dynamo.n(hour + _KEPT_S)},
                ReturnValues="ALL_NEW",
            )
        except (ClientError, BotoCoreError) as error:
            # Sent once, as an addition must not be repeated: what is lost, the scheduled task finds in the rollups.
            if not dynamo.unavailable(error):
                raise
            return None
        return _spent(answer["Attributes"])

    def spent(self, hour: int) -> Spent:
        found = dynamo.client().get_item(TableName=self._table, Key=_hour(hour), ConsistentRead=True).get("Item")
        return _spent(found) if found else Spent(ZERO)

    def forgive(self, hour: int) -> None:
        dynamo.client().update_item(
            TableName=self._table,
            Key=_hour(hour),
            UpdateExpression="SET resumed = if_not_exists(cost, :none), #ttl = :ttl ADD resumes :one",
            ExpressionAttributeNames={"#ttl": "ttl"},
            ExpressionAttributeValues={
                ":none": dynamo.n(0),
                ":one": dynamo.n(1),
                ":ttl": dynamo.n(hour + _KEPT_S),
            },
        )

    def stop(self, stop: Stop) -> bool:
        try:
            dynamo.client().put_item(
                TableName=self._table,
                Item=dynamo.item({"pk": "breaker", "sk": "platform", **stop._asdict()}),
                ConditionExpression=(
                    "attribute_not_exists(pk) OR #hour < :hour OR (#hour = :hour AND resumes < :resumes)"
                ),
                ExpressionAttributeNames={"#hour": "hour"},
                ExpressionAttributeValues={":hour": dynamo.n(stop.hour), ":resumes": dynamo.n(stop.resumes)},
            )
        except ClientError as error:
            if dynamo.failed_condition(error):
                return False
            raise
        return True

    def stopped(self) -> Stop | None:
        found = dynamo.client().get_item(TableName=self._table, Key=_STOP, ConsistentRead=True).get("Item")
        if not found:
            return None
        row = dynamo.unitem(found)
        stop = Stop(int(row["since"]), int(row["hour"]), row["cost"], row["cap"], int(row.get("resumes", 0)))
        return stop if self.spent(stop.hour).resumes <= stop.resumes else None

    def go_on(self) -> None:
        dynamo.client().delete_item(TableName=self._table, Key=_STOP)


_STOP = {"pk": dynamo.s("breaker"), "sk": dynamo.s("platform")}


def _hour(hour: int) -> dynamo.Item:
    return {"pk": dynamo.s(f"cost#{hour}"), "sk": dynamo.s("sum")}


def _spent(raw: dynamo.Item) -> Spent:
    row = dynamo.unitem(raw)
    return Spent(row.get("cost", ZERO), row.get("resumed", ZERO), int(row.get("resumes", 0)))
