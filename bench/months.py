"""The demo's trace as months of usage: what a read endpoint would find, and what the last month came to.

The demo plays an hour. Its generator's sessions are spread over four calendar months, calls inside a session keeping
their pauses; three months are history.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import accumulate
from typing import Final

from bench import ROOT
from demo.trace import Request
from tollgate.catalog.model import Catalog, Meter, Plan, units, weighed_by
from tollgate.catalog.schema import load_catalog
from tollgate.periods import CALENDAR_MONTH, period_at
from tollgate.projection import DAY_S, Closed, History
from tollgate.quantities import ZERO

PERIODS: Final = 4
WEEKEND: Final = Decimal("0.2")
"""What a Saturday or Sunday has of a working day, where the trace has weekends."""
BURST: Final = Decimal("0.3")
"""Units of an import in the period's second hour, as a share of what the month has besides."""
_FIRST: Final = int(datetime(2026, 8, 1, tzinfo=UTC).timestamp())
_SATURDAY: Final = 5


@dataclass(frozen=True, slots=True)
class Stream:
    """What one account used of one meter: (epoch second, units) by time, and the units of each UTC day."""

    account: str
    meter: str
    uses: Sequence[tuple[int, Decimal]]
    days: Mapping[int, Decimal]

    def between(self, start: int, end: int) -> Decimal:
        return sum((many for at, many in self.uses if start <= at < end), ZERO)


Read = Callable[[Stream], History]
"""What a read endpoint has of a stream besides the units so far. Days to come are in it: projecting leaves them out."""


@dataclass(frozen=True, slots=True)
class World:
    """The accounts of a trace and their months; the last one is projected."""

    catalog: Catalog
    plans: Mapping[str, Plan]
    """By account."""
    streams: Sequence[Stream]
    months: Sequence[tuple[int, int]]

    @property
    def period(self) -> tuple[int, int]:
        return self.months[-1]

    def moment(self, share: int) -> int:
        start, end = self.period
        return start + (end - start) * share // 100

    # What may be known. Without a row the product knows the same: days without usage have no rollup.

    def nothing(self, stream: Stream) -> History:
        return History()

    def own_days(self, stream: Stream) -> History:
        return History(days=stream.days, days_since=self.period[0])

    def more_days(self, stream: Stream) -> History:
        return History(days=stream.days, days_since=self.months[-2][0])

    def everything(self, stream: Stream) -> History:
        closed = tuple(Closed(*month, stream.between(*month)) for month in self.months[:-1])
        return History(closed, stream.days, self.months[-2][0])


def months() -> list[tuple[int, int]]:
    """Four calendar months that follow each other."""
    found = [period_at(CALENDAR_MONTH, UTC, _FIRST)]
    while len(found) < PERIODS:
        found.append(period_at(CALENDAR_MONTH, UTC, found[-1][1]))
    return found


def sessions(trace: Sequence[Request]) -> list[tuple[Decimal, Request]]:
    """Every call with the beginning of its session. The generator numbers calls session by session."""
    found: list[tuple[Decimal, Request]] = []
    before: Request | None = None
    for request in sorted(trace, key=lambda one: one.id):
        same = before is not None and (before.account, before.member) == (request.account, request.member)
        goes_on = same and before is not None and before.at <= request.at
        found.append((found[-1][0] if goes_on else request.at, request))
        before = request
    return found


def spread(last: Decimal, start: int, end: int, weekends: bool) -> Callable[[Decimal], int]:
    """Where in [start, end) a session lies that began at 0..last in the trace; `weekends`: fewer on those days."""
    days = range(start, end, DAY_S)
    weights = [WEEKEND if weekends and _weekday(day) >= _SATURDAY else Decimal(1) for day in days]
    ends = list(accumulate(weights))

    def place(at: Decimal) -> int:
        reached = ends[-1] * at / (last + 1)
        index = bisect_right(ends, reached)
        inside = (reached - ends[index] + weights[index]) / weights[index]
        return days[index] + int(inside * DAY_S)

    return place


def _weekday(day: int) -> int:
    return datetime.fromtimestamp(day, UTC).weekday()


def world(trace: Sequence[Request], weekends: bool = False) -> World:
    """The trace as months of usage under the project's own catalogue."""
    catalog = load_catalog(ROOT / "catalog.yaml")
    found = months()
    calls = sessions(trace)
    place = spread(max(begin for begin, _ in calls), found[0][0], found[-1][1], weekends)
    meters: dict[tuple[str, str], Meter] = {}
    plans: dict[str, Plan] = {}
    uses: dict[tuple[str, str], list[tuple[int, Decimal]]] = {}
    for begin, request in calls:
        plan = plans.setdefault(request.account, catalog.plans[request.plan or catalog.default_plan])
        at = place(begin) + int(request.at - begin)
        for item in request.items if request.outcome in ("ok", "late") else ():  # the others are not charged
            meter = meters.setdefault((plan.id, item.meter), weighed_by(plan, catalog.meters[item.meter]))
            uses.setdefault((request.account, item.meter), []).append((at, units(meter, item.used, item.dimensions)))
    streams = [Stream(account, meter, sorted(some), _by_day(some)) for (account, meter), some in sorted(uses.items())]
    return World(catalog, plans, streams, found)


def _by_day(uses: Sequence[tuple[int, Decimal]]) -> dict[int, Decimal]:
    found: dict[int, Decimal] = {}
    for at, many in uses:
        day = at // DAY_S * DAY_S
        found[day] = found.get(day, ZERO) + many
    return found


def with_burst(of: World) -> World:
    """The same months, with an import at the start of the last one."""
    start, end = of.period
    streams = []
    for stream in of.streams:
        extra = stream.between(start, end) * BURST
        uses = sorted([*stream.uses, (start + 2 * 3600, extra)]) if extra else stream.uses
        streams.append(Stream(stream.account, stream.meter, uses, _by_day(uses)))
    return replace(of, streams=streams)
