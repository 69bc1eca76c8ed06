"""Sealed windows, daily rollups, the window grid and claims on markers: what seal keeps in the billing table.

| row | pk | sk |
| --- | --- | --- |
| sealed window | `sealed#<account>` | `<window start>#<period start>#<supplement>`, never changed once put |
| daily rollup | `rollup#<account>` | `<yyyy-mm-dd>#<meter>`, overwritten from the sealed windows of that UTC day; in \
the index `due` until it is reconciled |
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
from tollgate.billing.grid import Grid
from tollgate.billing.sealed import Carried, LevelMark, MeterTotal, PeriodTotal, SealedWindow
from tollgate.clock import rfc3339
from tollgate.usage.markers import Marker, partition, shard_of

DAY_S = 86_400


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
        totals: dict[str, MeterTotal] = {}
        for window in self.between(account, day, day + DAY_S):
            for meter, amount in window.total.meters.items():
                totals[meter] = totals.get(meter, MeterTotal()).combined(amount)
        for meter, total in totals.items():
            # Reconciliation finds by these two which pairs changed. They stay the same all day, so the index is
            # written once for each account, meter and day.
            index = {"due_shard": changed_shard(shard_of(account)), "due_at": day}
            row = {"pk": f"rollup#{account}", "sk": f"{rfc3339(day)[:10]}#{meter}", **_amounts(total), **index}
            # Sealed windows only come, so of two sums at once the one of more events is the later one.
            self._put_if(
                dynamo.item(row),
                "attribute_not_exists(pk) OR events <= :events",
                {":events": dynamo.n(total.events)},
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
            "totals": {meter: _amounts(amount) for meter, amount in total.meters.items()},
            "period_end": total.period_end,
            "sealed_at": window.sealed_at,
        }
    )


def sealed_of(raw: dynamo.Item) -> SealedWindow:
    row = dynamo.unitem(raw)
    window, period, supplement = row["sk"].split("#")
    meters = {meter: _amounts_of(amount) for meter, amount in row["totals"].items()}
    return SealedWindow(
        account=row["pk"].partition("#")[2],
        window_start=int(window),
        seal_seconds=int(row["seal"]),
        supplement=int(supplement),
        total=PeriodTotal(int(period), int(row["period_end"]), int(row["rows"]), meters),
        range_starts=tuple(int(start) for start in row["ranges"]),
        sealed_at=int(row["sealed_at"]),
    )


def _amounts(total: MeterTotal) -> dict[str, Any]:
    amounts: dict[str, Any] = {
        "events": total.events,
        "units": total.units,
        "billable": total.billable,
        "credit_funded": total.credit_funded,
        "waived": total.waived,
    }
    if total.event_name is not None:
        amounts["event_name"] = total.event_name
    if total.level is not None:
        level = total.level
        amounts["level"] = {"n": level.number, "v": level.units, "at": level.at, "priced": level.priced}
    return amounts


def _amounts_of(row: Mapping[str, Any]) -> MeterTotal:
    return MeterTotal(
        events=int(row["events"]),
        units=row["units"],
        credit_funded=row["credit_funded"],
        waived=row["waived"],
        billable=row["billable"],
        event_name=row.get("event_name"),
        level=_level_of(row["level"]) if "level" in row else None,
    )


def _level_of(row: Mapping[str, Any]) -> LevelMark:
    return LevelMark(int(row["n"]), row["v"], int(row["at"]), row["priced"])


def _carry_key(carried: Carried) -> dynamo.Item:
    shard = shard_of(carried.account)
    return {
        "pk": dynamo.s(f"carry#{shard:02d}"),
        "sk": dynamo.s(f"{carried.start:012d}#{carried.account}#{carried.meter}"),
    }


def _marker_key(marker: Marker) -> dynamo.Item:
    return {"pk": dynamo.s(partition(shard_of(marker.account))), "sk": dynamo.s(marker.sort_key)}
