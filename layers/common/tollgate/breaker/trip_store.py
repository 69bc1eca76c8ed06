"""The list of trips in the billing table: `pk` `breaker`, `sk` `trip#<hour, epoch s>#<account>#<meter>#<number>`."""

from __future__ import annotations

from decimal import Decimal

from botocore.exceptions import ClientError

from tollgate import dynamo
from tollgate.breaker.trip import CLAIMED_S, Trip

_KEPT_S = 90 * 86_400


class TripTable:
    """Trips on DynamoDB (billing table)."""

    def __init__(self, table: str) -> None:
        self._table = table

    def claim(self, trip: Trip, allowed: Decimal, now: int) -> bool:
        row = {
            "pk": "breaker",
            "sk": _place(trip),
            "account": trip.account,
            "meter": trip.meter,
            "hour": trip.hour,
            "number": trip.number,
            "allowed": allowed,
            "at": now,
            "ttl": trip.hour + _KEPT_S,
        }
        try:
            dynamo.client().put_item(
                TableName=self._table,
                Item=dynamo.item(row),
                ConditionExpression="attribute_not_exists(pk) OR #at <= :dead",
                ExpressionAttributeNames={"#at": "at"},
                ExpressionAttributeValues={":dead": dynamo.n(now - CLAIMED_S)},
            )
        except ClientError as error:
            if dynamo.failed_condition(error):
                return False
            raise
        return True

    def give_back(self, trip: Trip, now: int) -> None:
        try:
            dynamo.client().update_item(
                TableName=self._table,
                Key={"pk": dynamo.s("breaker"), "sk": dynamo.s(_place(trip))},
                UpdateExpression="SET #at = :never",
                ConditionExpression="#at = :now",
                ExpressionAttributeNames={"#at": "at"},
                ExpressionAttributeValues={":never": dynamo.n(0), ":now": dynamo.n(now)},
            )
        except ClientError as error:
            if not dynamo.failed_condition(error):  # else another one has claimed it since
                raise

    def newest(self, limit: int) -> list[tuple[Trip, Decimal]]:
        """The trips of the last 90 days and what each hour was allowed, newest first."""
        answer = dynamo.client().query(
            TableName=self._table,
            KeyConditionExpression="pk = :pk AND begins_with(sk, :trip)",
            ExpressionAttributeValues={":pk": dynamo.s("breaker"), ":trip": dynamo.s("trip#")},
            ScanIndexForward=False,
            Limit=limit,
        )
        rows = [dynamo.unitem(raw) for raw in answer["Items"]]
        return [
            (Trip(row["account"], row["meter"], int(row["hour"]), int(row["number"])), row["allowed"]) for row in rows
        ]


def _place(trip: Trip) -> str:
    return f"trip#{trip.hour}#{trip.account}#{trip.meter}#{trip.number}"
