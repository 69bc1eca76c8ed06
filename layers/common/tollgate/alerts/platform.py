"""Marks of what belongs to no account: limits that a plan's accounts share, and the volume that the operator expects.

No gate holds these, so no write sees them passed: the scheduled function looks. Both are told to the operator alone:
the highest mark that is passed, once for each window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from tollgate.alerts.outbox import Alert
from tollgate.alerts.telling import KnowingOutbox
from tollgate.alerts.watch import mark
from tollgate.billing.rollup import DAY_S, Rollup
from tollgate.catalog.frozen import PlanVersion
from tollgate.catalog.store import Current
from tollgate.catalog.wording import number
from tollgate.clock import Clock, rfc3339
from tollgate.gate.shares import of_plan
from tollgate.quantities import ZERO, plain
from tollgate.usage.markers import SHARDS
from tollgate.windows import MONTH, Calendar, window_at

_UTC = Calendar.of("UTC")


class Plans(Protocol):
    def current(self) -> Current | None: ...
    def version(self, plan: str, version: int) -> PlanVersion: ...


class Counts(Protocol):
    def counts(self, names: list[str]) -> list[Decimal]: ...


class Days(Protocol):
    def of_day(self, day: int, shard: int) -> Iterator[Rollup]: ...


@dataclass(frozen=True, slots=True)
class PlatformDeps:
    plans: Plans
    shared: Counts
    days: Days
    outbox: KnowingOutbox
    clock: Clock


def look_at_shared(deps: PlatformDeps) -> int:
    """Tell what the limits of the catalogue's plans have passed that all of a plan's accounts share; returns how much
    was new. Usage and open reservations are counted as one there."""
    current, now_ms, told = deps.plans.current(), deps.clock(), 0
    for plan_id, version in {} if current is None else current.versions.items():
        plan = deps.plans.version(plan_id, version).plan
        for share in of_plan(plan_id, plan.shared_limits, now_ms // 1000):
            names = [f"{share.counter}#{shard}" for shard in range(len(share.parts))]
            counted = sum(deps.shared.counts(names), ZERO)
            percent = _highest(plan.thresholds, share.limit.max, counted)
            if percent is None:
                continue
            used = f"{number(counted)} out of {number(share.limit.max)} units"
            told += _tell(
                deps.outbox,
                f"shared_limit:{plan_id}:{share.limit.id}:{plain(share.limit.max)}:{share.window}",
                percent,
                f"{percent} % of limit {share.limit.id} of plan {plan_id}",
                f"All accounts on {plan_id} together have used {used} of limit {share.limit.id}.",
                {
                    "of": "shared_limit",
                    "plan": plan_id,
                    "limit": share.limit.id,
                    "used": plain(counted),
                    "max": plain(share.limit.max),
                    "window_start": rfc3339(share.window),
                },
                now_ms,
            )
    return told


def look_at_volume(deps: PlatformDeps, in_time: Callable[[], bool] = lambda: True) -> tuple[int, bool]:
    """Tell how much of the volume that is expected in a calendar month (UTC) was used; returns how much was new, and
    whether all rollups were read: where time runs out, what was read tells what it can. On a month's first day the one
    before has its last look: no run came after its last day."""
    current, now_ms = deps.plans.current(), deps.clock()
    if current is None or not current.expected_volume:
        return 0, True
    now, told, complete = now_ms // 1000, 0, True
    for start in sorted({window_at(MONTH, _UTC, at).start for at in (now - DAY_S, now)}):
        ends = window_at(MONTH, _UTC, start).end or now
        used, whole = _volume(deps.days, range(start, min(ends, now + 1), DAY_S), in_time)
        complete &= whole
        told += _tell_volume(deps.outbox, current, used, start, now_ms)
    return told, complete


def _tell_volume(outbox: KnowingOutbox, current: Current, used: Mapping[str, Decimal], start: int, now_ms: int) -> int:
    """`start`: of the month that `used` is of."""
    told = 0
    for meter, expected in current.expected_volume.items():
        percent = _highest(current.thresholds, expected, used.get(meter, ZERO))
        if percent is None:
            continue
        units = f"{number(used[meter])} out of {number(expected)} units of {meter}"
        told += _tell(
            outbox,
            f"expected_volume:{meter}:{plain(expected)}:{start}",
            percent,
            f"{percent} % of the expected volume of {meter}",
            f"All accounts together have used {units} that are expected in {rfc3339(start)[:7]}.",
            {
                "of": "expected_volume",
                "meter": meter,
                "used": plain(used[meter]),
                "max": plain(expected),
                "window_start": rfc3339(start),
            },
            now_ms,
        )
    return told


def _volume(days: Days, of: Iterable[int], in_time: Callable[[], bool]) -> tuple[Mapping[str, Decimal], bool]:
    used: dict[str, Decimal] = {}
    for day in of:
        for shard in range(SHARDS):
            if not in_time():
                return used, False
            for rollup in days.of_day(day, shard):
                used[rollup.meter] = used.get(rollup.meter, ZERO) + rollup.total.units
    return used, True


def _highest(percents: Iterable[int], maximum: Decimal, used: Decimal) -> int | None:
    return max((one for one in percents if maximum > 0 and mark(maximum, one) <= used), default=None)


def _tell(
    outbox: KnowingOutbox, thing: str, percent: int, subject: str, text: str, facts: Mapping[str, str], now_ms: int
) -> bool:
    alert = Alert(
        id=f"threshold##{thing}#{percent}",
        kind="threshold",
        account="",
        subject=subject,
        text=text,
        at_ms=now_ms,
        facts={**facts, "threshold": str(percent)},
    )
    return not outbox.knows(alert.id) and outbox.put(alert)
