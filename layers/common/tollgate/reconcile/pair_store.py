"""Which pairs changed: an account's meter and UTC day, listed by the index `due` as long as it is not reconciled.

The row is seal's daily rollup (`sealed_store.py`), which carries the index's keys whenever it is written: so a change
costs no request of its own, and one more write unit for each account, meter and day. `due_shard` `<shard of 16>.pair`,
`due_at` the day.
"""

from __future__ import annotations

from collections.abc import Iterator

from botocore.exceptions import ClientError

from tollgate import dynamo
from tollgate.billing.sealed_store import changed_shard
from tollgate.clock import parse_rfc3339, rfc3339
from tollgate.reconcile.ports import Pair


class PairTable:
    """Pairs on DynamoDB (billing table)."""

    def __init__(self, table: str) -> None:
        self._table = table

    def changed(self, shard: int, until: int) -> Iterator[Pair]:
        """Pairs of a shard that are due by `until`, oldest first. The index may lag behind a little."""
        for raw in dynamo.query(
            self._table,
            IndexName="due",
            KeyConditionExpression="due_shard = :shard AND due_at <= :until",
            ExpressionAttributeValues={":shard": dynamo.s(changed_shard(shard)), ":until": dynamo.n(until)},
        ):
            yield _pair(raw)

    def days_of(self, account: str, start: int, end: int) -> Iterator[Pair]:
        """All pairs of an account that have a rollup and whose day begins in [start, end), settled or not."""
        for raw in dynamo.query(
            self._table,
            KeyConditionExpression="pk = :pk AND sk BETWEEN :first AND :last",
            ExpressionAttributeValues={
                ":pk": dynamo.s(f"rollup#{account}"),
                ":first": dynamo.s(rfc3339(start)[:10]),
                ":last": dynamo.s(rfc3339(end)[:10]),
            },
            ConsistentRead=True,
        ):
            yield _pair(raw)

    def settle(self, pair: Pair, events: int) -> bool:
        """Take a pair off the index, unless its rollup counts other events by now than those compared."""
        try:
            dynamo.client().update_item(
                TableName=self._table,
                Key={
                    "pk": dynamo.s(f"rollup#{pair.account}"),
                    "sk": dynamo.s(f"{rfc3339(pair.day)[:10]}#{pair.meter}"),
                },
                UpdateExpression="REMOVE due_shard, due_at",
                ConditionExpression="events = :events",
                ExpressionAttributeValues={":events": dynamo.n(events)},
            )
        except ClientError as error:
            if dynamo.failed_condition(error):
                return False
            raise
        return True


def _pair(raw: dynamo.Item) -> Pair:
    day, _, meter = raw["sk"]["S"].partition("#")
    account = raw["pk"]["S"].partition("#")[2]
    return Pair(account, meter, parse_rfc3339(f"{day}T00:00:00+00:00") // 1000)
