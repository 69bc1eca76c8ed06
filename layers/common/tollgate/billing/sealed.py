"""Sealed windows: the frozen totals of one account in one seal window and billing period.

Rows are immutable, so a window's totals only grow; of a level meter the last change is kept instead of a sum. What is
frozen never changes; rows found later are frozen as a supplement that holds the exact difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import NamedTuple

from tollgate.quantities import EXACT, ZERO
from tollgate.usage.outcome import Event, UsedItem


class Inconsistent(Exception):
    """The rows read are fewer, or count less, than what is frozen of them: read again, freeze nothing."""


class LevelMark(NamedTuple):
    """A level that stands from epoch second `at` on: change `number` of its meter. `priced`: whether it is billed."""

    number: int
    units: Decimal
    at: int
    priced: bool


def later(one: LevelMark | None, other: LevelMark | None) -> LevelMark | None:
    """The later change of two."""
    if one is None or other is None:
        return one or other
    return one if one.number >= other.number else other


class Carried(NamedTuple):
    """What a level stood at when a billing period of its account began: where nobody changes it, it is billed all the
    same. `start`: the period's, epoch seconds."""

    account: str
    start: int
    meter: str
    level: LevelMark


@dataclass(frozen=True, slots=True)
class MeterTotal:
    """What one meter counted. `billable` is the sum of what its items are billed for; `event_name` is fixed when
    frozen: the sink's name of the meter, empty where it has none, None where nothing is billed."""

    events: int = 0
    units: Decimal = ZERO
    credit_funded: Decimal = ZERO
    waived: Decimal = ZERO
    billable: Decimal = ZERO
    event_name: str | None = None
    level: LevelMark | None = None
    """Of a level meter: the last change."""

    @property
    def billed(self) -> bool:
        return self.billable > ZERO or (self.level is not None and self.level.priced)

    def plus(self, item: UsedItem, at: int) -> MeterTotal:
        """With an item recorded at epoch second `at`."""
        if item.level is not None:
            mark = LevelMark(item.level, item.units, at, item.priced)
            return replace(self, events=self.events + 1, level=later(self.level, mark))
        return MeterTotal(
            self.events + 1,
            EXACT.add(self.units, item.units),
            EXACT.add(self.credit_funded, item.credit_funded),
            EXACT.add(self.waived, item.waived),
            EXACT.add(self.billable, item.billable),
            self.event_name,
            self.level,
        )

    def combined(self, other: MeterTotal, sign: int = 1) -> MeterTotal:
        """Sum (or difference, `sign` -1) of two totals; the event name stays. Of levels the later one; in a difference
        only one that is later than the other's."""
        level = later(self.level, other.level)
        if sign < 0 and other.level is not None and level is not None and level.number <= other.level.number:
            level = None
        return MeterTotal(
            self.events + sign * other.events,
            EXACT.add(self.units, sign * other.units),
            EXACT.add(self.credit_funded, sign * other.credit_funded),
            EXACT.add(self.waived, sign * other.waived),
            EXACT.add(self.billable, sign * other.billable),
            self.event_name,
            level,
        )

    @property
    def counts(self) -> tuple[int | Decimal, ...]:
        return self.events, self.units, self.credit_funded, self.waived, self.billable


@dataclass(frozen=True, slots=True)
class PeriodTotal:
    """The rows of one window that lie in one billing period."""

    period_start: int
    period_end: int
    rows: int = 0
    meters: Mapping[str, MeterTotal] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SealedWindow:
    """One frozen item. `range_starts` are the id ranges (each `seal_seconds` long) that were read for it."""

    account: str
    window_start: int
    seal_seconds: int
    supplement: int
    total: PeriodTotal
    range_starts: tuple[int, ...]
    sealed_at: int

    @property
    def window_end(self) -> int:
        return self.window_start + self.seal_seconds


def totals(
    events: Iterable[Event], start: int, end: int, period_of: Callable[[int], tuple[int, int]]
) -> dict[int, PeriodTotal]:
    """The totals of the rows recorded in [start, end), by period start."""
    rows: dict[int, int] = {}
    ends: dict[int, int] = {}
    meters: dict[int, dict[str, MeterTotal]] = {}
    for event in events:
        if not start <= event.recorded_s < end:
            continue
        period, ends_at = period_of(event.recorded_s)
        ends[period] = ends_at
        rows[period] = rows.get(period, 0) + 1
        mine = meters.setdefault(period, {})
        for item in event.items:
            mine[item.meter] = mine.get(item.meter, MeterTotal()).plus(item, event.recorded_s)
    return {period: PeriodTotal(period, ends[period], rows[period], meters[period]) for period in rows}


def standing(
    current: Mapping[int, PeriodTotal], carried: Iterable[Carried], period_of: Callable[[int], tuple[int, int]]
) -> dict[int, PeriodTotal]:
    """`current` (by period start) with the levels that stood when its periods began: those carried over, and those that
    the period before left in this very window, where that is later."""
    found = dict(current)
    for one in carried:
        start, end = period_of(one.start)
        if start != one.start:
            continue  # that period never came: another one began before, where the level was set anew
        level = one.level
        for total in current.values():
            left = total.meters.get(one.meter, MeterTotal()).level
            if total.period_end == one.start and left is not None and left.number > level.number:
                level = left._replace(priced=level.priced)
        there = found.get(start, PeriodTotal(start, end))
        amount = there.meters.get(one.meter, MeterTotal())
        level = later(amount.level, level._replace(at=start)) or level
        found[start] = replace(there, meters={**there.meters, one.meter: replace(amount, level=level)})
    return found


def added(now: Iterable[PeriodTotal], frozen: Iterable[SealedWindow]) -> list[PeriodTotal]:
    """What `now` holds beyond what is frozen, by period; nothing where they are equal.

    Raises Inconsistent where anything would be negative, or units moved without rows: rows never change or go.
    """
    current = {total.period_start: total for total in now}
    before: dict[int, list[SealedWindow]] = {}
    for window in frozen:
        before.setdefault(window.total.period_start, []).append(window)
    missing = {period for period, windows in before.items() if any(w.total.rows for w in windows)} - set(current)
    if missing:
        raise Inconsistent(f"no rows left in periods {sorted(missing)}")
    found = []
    for period, total in sorted(current.items()):
        difference = _beyond(total, before.get(period, []))
        if difference.rows or difference.meters:
            found.append(difference)
    return found


def _beyond(total: PeriodTotal, frozen: list[SealedWindow]) -> PeriodTotal:
    rows, meters = total.rows, dict(total.meters)
    for window in frozen:
        rows -= window.total.rows
        for meter, amount in window.total.meters.items():
            meters[meter] = meters.get(meter, MeterTotal()).combined(amount, -1)
    left = {meter: amount for meter, amount in meters.items() if any(amount.counts) or amount.level is not None}
    moved = any(any(amount.counts) for amount in left.values())  # a level that was carried over has no row
    if rows < 0 or any(count < 0 for amount in left.values() for count in amount.counts) or (moved and not rows):
        raise Inconsistent(f"{rows} rows beyond what is frozen of period {total.period_start}")
    return PeriodTotal(total.period_start, total.period_end, rows, left)
