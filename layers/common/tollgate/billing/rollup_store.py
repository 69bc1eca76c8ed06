"""Daily rollups in the billing table: what `SealTable.roll_up` puts, and who reads it.

| row | pk | sk |
| --- | --- | --- |
| daily rollup | `rollup#<account>` | `<yyyy-mm-dd>#<meter>` |

Besides the meter's total: `hours` 24 numbers, `peak`, `cached`, `cost`, `unpriced`, `models` and `members` as lists of
`[name, events, units, cost]`. The index `days` lists a day's rollups: `day_shard` `<yyyy-mm-dd>#<shard of 16>`, ranged
by `pk`. A row's keys never change, so of all its overwrites only the first costs a write there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from tollgate import dynamo
from tollgate.billing.rollup import Rollup, Share
from tollgate.billing.total_row import amounts, amounts_of
from tollgate.clock import parse_rfc3339, rfc3339
from tollgate.quantities import ZERO
from tollgate.usage.markers import shard_of

_AT_ONCE = 100
"""Rows of one BatchGetItem."""


class RollupTable:
    """Daily rollups on DynamoDB (billing table)."""

    def __init__(self, table: str) -> None:
        self._table = table

    def of_account(self, account: str, first_day: int, last_day: int) -> Iterator[Rollup]:
        """An account's rollups of all days from `first_day` to `last_day` (epoch seconds, both included), by day and
        meter. Rollups follow usage by a seal window and its grace."""
        for raw in dynamo.query(
            self._table,
            KeyConditionExpression="pk = :pk AND sk BETWEEN :first AND :last",
            ExpressionAttributeValues={
                ":pk": dynamo.s(f"rollup#{account}"),
                ":first": dynamo.s(f"{_date(first_day)}#"),
                ":last": dynamo.s(f"{_date(last_day)}$"),
            },
        ):
            yield rollup_of(raw)

    def of_day(self, day: int, shard: int, after: str | None = None) -> Iterator[Rollup]:
        """The rollups of a UTC day in one of 16 shards of the accounts, an account's meters one after another; those of
        accounts beyond `after`, in their order. The index may lag behind a little."""
        condition = "day_shard = :day" + (" AND pk > :after" if after is not None else "")
        values = {":day": dynamo.s(day_shard(day, shard))}
        if after is not None:
            values[":after"] = dynamo.s(f"rollup#{after}")
        keys = dynamo.query(
            self._table, IndexName="days", KeyConditionExpression=condition, ExpressionAttributeValues=values
        )
        found = ({"pk": raw["pk"], "sk": raw["sk"]} for raw in keys)
        while some := list(islice(found, _AT_ONCE)):
            yield from self._rows(some)

    def _rows(self, keys: Sequence[dynamo.Item]) -> Iterator[Rollup]:
        """The rows at these keys, in their order."""
        read = dynamo.batch_get(self._table, keys, consistent=False)
        rows = {(raw["pk"]["S"], raw["sk"]["S"]): raw for raw in read}
        for key in keys:
            if raw := rows.get((key["pk"]["S"], key["sk"]["S"])):
                yield rollup_of(raw)


def day_shard(day: int, shard: int) -> str:
    return f"{_date(day)}#{shard:02d}"


def rollup_item(rollup: Rollup) -> dynamo.Item:
    return dynamo.item(
        {
            "pk": f"rollup#{rollup.account}",
            "sk": f"{_date(rollup.day)}#{rollup.meter}",
            **amounts(rollup.total),
            "hours": rollup.hours,
            "peak": rollup.peak,
            "cached": rollup.cached,
            "cost": rollup.cost,
            "unpriced": rollup.unpriced,
            "models": [[name, *share] for name, share in rollup.models.items()],
            "members": [[name, *share] for name, share in rollup.members.items()],
            "day_shard": day_shard(rollup.day, shard_of(rollup.account)),
        }
    )


def rollup_of(raw: dynamo.Item) -> Rollup:
    """A row as a rollup. Of a day from before rollups had more than totals, only these are known."""
    row = dynamo.unitem(raw)
    date, _, meter = row["sk"].partition("#")
    account, day = row["pk"].partition("#")[2], parse_rfc3339(f"{date}T00:00:00+00:00") // 1000
    total = amounts_of(row)
    if "hours" not in row:
        whole = {"": Share(total.events, total.units, ZERO)}
        return Rollup(account, meter, day, total, unpriced=total.units, models=whole, members=whole)
    return Rollup(
        account=account,
        meter=meter,
        day=day,
        total=total,
        hours=tuple(row["hours"]),
        peak=row["peak"],
        cached=int(row["cached"]),
        cost=row["cost"],
        unpriced=row["unpriced"],
        models={name: Share(int(events), units, cost) for name, events, units, cost in row["models"]},
        members={name: Share(int(events), units, cost) for name, events, units, cost in row["members"]},
    )


def _date(day: int) -> str:
    return rfc3339(day)[:10]
