"""Sealed windows, daily rollups, the window grid and claims on markers: what seal keeps in the billing table.

| row | pk | sk |
| --- | --- | --- |
| sealed window | `sealed#<account>` | `<window start>#<period start>#<supplement>`, never changed once put |
| daily rollup | `rollup#<account>` | `<yyyy-mm-dd>#<meter>`, overwritten from the sealed windows of that UTC day \
(`rollup_store.py`); in the index `due` until it is reconciled |
| window grid | `seal` | `grid` |
| standing level | `carry#<shard of 16>` | `<period start>#<account>#<meter>`: what to bill that period for, if nobody \
changes it; put when the period before is sealed, gone when its first window is |

Times in keys are epoch seconds in 12 digits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError

from tollgate import dynamo
from tollgate.billing.breakdown import Breakdown, Share
from tollgate.billing.grid import Grid
from tollgate.billing.rollup import DAY_S, rolled_up
from tollgate.billing.rollup_store import rollup_item
from tollgate.billing.sealed import Carried, LevelMark, PeriodTotal, SealedWindow
from tollgate.billing.total_row import amounts, amounts_of
from tollgate.quantities import ZERO
from tollgate.usage.markers import Marker, partition, shard_of


class SealTable:
    """Seal's own rows on DynamoDB."""

    def __init__(self, table: str) -> None:
        self._table = table

    # -- sealed windows ------------------------------------------------------------------------------------------------

    def freeze(self, window: SealedWindow) -> bool:
        """Put a sealed window; False where another one stands at its key (also one of our own, sent twice)."""
        return self._put_if(sealed_item(window), "attribute_not_exists(pk)", {})

    def of_window(self, account: str, window_start: int) -> list[SealedWindow]:
        """All that is frozen of one window, consistently read."""
        return list(self._sealed(account, f"{window_start:012d}#", f"{window_start:012d}$"))

    def between(self, account: str, start: int, end: int) -> Iterator[SealedWindow]:
        """Sealed windows that begin in [start, end)."""
        yield from self._sealed(account, f"{start:012d}#", f"{end:012d}")

    def _sealed(self, account: str, first: str, last: str) -> Iterator[SealedWindow]:
        for raw in dynamo.query(
            self._table,
            KeyConditionExpression="pk = :pk AND sk BETWEEN :first AND :last",
            ExpressionAttributeValues={
                ":pk": dynamo.s(f"sealed#{account}"),
                ":first": dynamo.s(first),
                ":last": dynamo.s(last),
            },
            ConsistentRead=True,
        ):
            yield sealed_of(raw)

    # -- standing levels -----------------------------------------------------------------------------------------------

    def carry(self, carried: Carried) -> None:
        """Keep a level for the period that begins at `carried.start`, unless a later change of it is kept already."""
        key = _carry_key(carried)
        level = carried.level
        fields = {"n": level.number, "v": level.units, "at": level.at, "priced": level.priced}
        values = {":n": dynamo.n(level.number)}
        self._put_if(key | dynamo.item(fields), "attribute_not_exists(pk) OR n < :n", values)

    def carried(self, shard: int, until: int) -> Iterator[Carried]:
        """Levels kept for periods that begin up to `until`, consistently read, oldest first."""
        for raw in dynamo.query(
            self._table,
            KeyConditionExpression="pk = :pk AND sk < :until",
            ExpressionAttributeValues={
                ":pk": dynamo.s(f"carry#{shard:02d}"),
                ":until": dynamo.s(f"{until + 1:012d}"),
            },
            ConsistentRead=True,
        ):
            row = dynamo.unitem(raw)
            start, account, meter = row["sk"].split("#", 2)
            level = LevelMark(int(row["n"]), row["v"], int(row["at"]), row.get("priced", False))
            yield Carried(account, int(start), meter, level)

    def carried_over(self, carried: Carried) -> None:
        """Drop a level that its period is billed for, unless a later change took its place meanwhile."""
        self._changed(
            "delete_item",
            Key=_carry_key(carried),
            ConditionExpression="n = :n",
            ExpressionAttributeValues={":n": dynamo.n(carried.level.number)},
        )

    # -- daily rollups -------------------------------------------------------------------------------------------------

    def roll_up(self, account: str, day: int) -> None:
        """Overwrite an account's rollups of the UTC day that starts at `day` with the sum of its sealed windows."""
        for rollup in rolled_up(account, day, self.between(account, day, day + DAY_S)):
            # Reconciliation finds by these two which pairs changed. They stay the same all day, so the index is
            # written once for each account, meter and day.
            changed = {"due_shard": changed_shard(shard_of(account)), "due_at": day}
            # Sealed windows only come, so of two sums at once the one of more events is the later one.
            self._put_if(
                rollup_item(rollup) | dynamo.item(changed),
                "attribute_not_exists(pk) OR events <= :events",
                {":events": dynamo.n(rollup.total.events)},
            )

    # -- the grid ------------------------------------------------------------------------------------------------------

    def grid(self, seconds: int, now: int) -> Grid:
        """The grid in force; where it does not end in windows of `seconds`, it is changed to, from a later edge on."""
        while True:
            found = self._grid_row()
            stored = _grid_of(found) if found else None
            wanted = Grid.of(seconds) if stored is None else stored.with_length(seconds, now)
            if wanted == stored:
                return wanted
            row = dynamo.item({"pk": "seal", "sk": "grid", "reigns": [list(reign) for reign in wanted.reigns]})
            condition, values = "attribute_not_exists(pk)", {}
            if found:
                condition, values = "reigns = :was", {":was": found["reigns"]}
            self._put_if(row, condition, values)  # whoever came first: read again what holds now

    def known_grid(self) -> Grid | None:
        """The grid in force, as it stands; None before the first seal."""
        found = self._grid_row()
        return _grid_of(found) if found else None

    def _grid_row(self) -> dynamo.Item | None:
        key = {"pk": dynamo.s("seal"), "sk": dynamo.s("grid")}
        found: dynamo.Item | None = (
            dynamo.client().get_item(TableName=self._table, Key=key, ConsistentRead=True).get("Item")
        )
        return found

    # -- markers -------------------------------------------------------------------------------------------------------

    def claim(self, marker: Marker, claim: bytes) -> bool:
        """Note on a marker that its rows are read from now on; False where it is gone.

        A writer that marks the window again puts a marker without a claim over it. So a marker that still carries the
        claim has not been written since, and every row it stands for was there to be read.
        """
        return self._changed(
            "update_item",
            Key=_marker_key(marker),
            UpdateExpression="SET claim = :claim",
            ConditionExpression="attribute_exists(pk)",
            ExpressionAttributeValues={":claim": dynamo.b(claim)},
        )

    def drop(self, marker: Marker, claim: bytes) -> bool:
        """Delete a marker that still carries the claim; False where it does not: it is left for the next seal."""
        return self._changed(
            "delete_item",
            Key=_marker_key(marker),
            ConditionExpression="claim = :claim",
            ExpressionAttributeValues={":claim": dynamo.b(claim)},
        )

    # ------------------------------------------------------------------------------------------------------------------

    def _put_if(self, item: dynamo.Item, condition: str, values: dict[str, dynamo.Attr]) -> bool:
        request: dict[str, Any] = {"ExpressionAttributeValues": values} if values else {}
        return self._changed("put_item", Item=item, ConditionExpression=condition, **request)

    def _changed(self, operation: str, **request: Any) -> bool:
        try:
            getattr(dynamo.client(), operation)(TableName=self._table, **request)
        except ClientError as error:
            if dynamo.failed_condition(error):
                return False
            raise
        return True


def _grid_of(row: dynamo.Item) -> Grid:
    return Grid(tuple((int(r["L"][0]["N"]), int(r["L"][1]["N"])) for r in row["reigns"]["L"]))


def changed_shard(shard: int) -> str:
    """Where the index `due` lists the account, meter and day pairs that changed since they were last reconciled."""
    return f"{shard:02d}.pair"


def sealed_item(window: SealedWindow) -> dynamo.Item:
    """A sealed window as its row: `totals` by meter, `ranges` the starts of the id ranges, `seal` their length."""
    total = window.total
    return dynamo.item(
        {
            "pk": f"sealed#{window.account}",
            "sk": f"{window.window_start:012d}#{total.period_start:012d}#{window.supplement:03d}",
            "seal": window.seal_seconds,
            "ranges": list(window.range_starts),
            "rows": total.rows,
            "totals": {meter: amounts(amount) for meter, amount in total.meters.items()},
            "shares": {meter: _shares(one) for meter, one in total.breakdowns.items() if one != _NOTHING},
            "period_end": total.period_end,
            "sealed_at": window.sealed_at,
        }
    )


def sealed_of(raw: dynamo.Item) -> SealedWindow:
    row = dynamo.unitem(raw)
    window, period, supplement = row["sk"].split("#")
    meters = {meter: amounts_of(amount) for meter, amount in row["totals"].items()}
    # Rows from before windows had shares have none: all of it is then of no known model, member or cost.
    breakdowns = {meter: _breakdown(one) for meter, one in row.get("shares", {}).items()}
    return SealedWindow(
        account=row["pk"].partition("#")[2],
        window_start=int(window),
        seal_seconds=int(row["seal"]),
        supplement=int(supplement),
        total=PeriodTotal(int(period), int(row["period_end"]), int(row["rows"]), meters, breakdowns),
        range_starts=tuple(int(start) for start in row["ranges"]),
        sealed_at=int(row["sealed_at"]),
    )


_NOTHING = Breakdown()


def _shares(breakdown: Breakdown) -> dict[str, Any]:
    """`[name, events, units, cost]`, without what is 0: a day's sum reads all windows of the day, at every seal."""
    named = {
        "models": [_share(*one) for one in breakdown.models.items()],
        "members": [_share(*one) for one in breakdown.members.items()],
    }
    sums = {"cached": breakdown.cached, "cost": breakdown.cost, "priced": breakdown.priced}
    return {name: value for name, value in (named | sums).items() if value}


def _share(name: str, share: Share) -> list[Any]:
    return [name, share.events, share.units, *([share.cost] if share.cost else ())]


def _breakdown(row: Mapping[str, Any]) -> Breakdown:
    models, members = (
        {name: Share(int(events), units, *cost) for name, events, units, *cost in row.get(kind, ())}
        for kind in ("models", "members")
    )
    return Breakdown(int(row.get("cached", 0)), row.get("cost", ZERO), row.get("priced", ZERO), models, members)


def _carry_key(carried: Carried) -> dynamo.Item:
    shard = shard_of(carried.account)
    return {
        "pk": dynamo.s(f"carry#{shard:02d}"),
        "sk": dynamo.s(f"{carried.start:012d}#{carried.account}#{carried.meter}"),
    }


def _marker_key(marker: Marker) -> dynamo.Item:
    return {"pk": dynamo.s(partition(shard_of(marker.account))), "sk": dynamo.s(marker.sort_key)}
