"""Sealed windows: the frozen totals of one account in one seal window and billing period.

Rows are immutable, so a window's totals only grow. What is frozen never changes; rows found later are frozen as a
supplement that holds the exact difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from tollgate.quantities import EXACT, ZERO
from tollgate.usage.outcome import Event, UsedItem


class Inconsistent(Exception):
    """The rows read are fewer, or count less, than what is frozen of them: read again, freeze nothing."""


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

    def plus(self, item: UsedItem) -> MeterTotal:
        return MeterTotal(
            self.events + 1,
            EXACT.add(self.units, item.units),
            EXACT.add(self.credit_funded, item.credit_funded),
            EXACT.add(self.waived, item.waived),
            EXACT.add(self.billable, item.billable),
            self.event_name,
        )

    def combined(self, other: MeterTotal, sign: int = 1) -> MeterTotal:
        """Sum (or difference, `sign` -1) of two totals; the event name stays."""
        return MeterTotal(
            self.events + sign * other.events,
            EXACT.add(self.units, sign * other.units),
            EXACT.add(self.credit_funded, sign * other.credit_funded),
            EXACT.add(self.waived, sign * other.waived),
            EXACT.add(self.billable, sign * other.billable),
            self.event_name,
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
            mine[item.meter] = mine.get(item.meter, MeterTotal()).plus(item)
    return {period: PeriodTotal(period, ends[period], rows[period], meters[period]) for period in rows}


def added(now: Iterable[PeriodTotal], frozen: Iterable[SealedWindow]) -> list[PeriodTotal]:
    """What `now` holds beyond what is frozen, by period; nothing where they are equal.

    Raises Inconsistent where anything would be negative, or units moved without rows: rows never change or go.
    """
    current = {total.period_start: total for total in now}
    before: dict[int, list[SealedWindow]] = {}
    for window in frozen:
        before.setdefault(window.total.period_start, []).append(window)
    missing = set(before) - set(current)
    if missing:
        raise Inconsistent(f"no rows left in periods {sorted(missing)}")
    found = []
    for period, total in sorted(current.items()):
        difference = _beyond(total, before.get(period, []))
        if difference.rows:
            found.append(difference)
    return found


def _beyond(total: PeriodTotal, frozen: list[SealedWindow]) -> PeriodTotal:
    rows, meters = total.rows, dict(total.meters)
    for window in frozen:
        rows -= window.total.rows
        for meter, amount in window.total.meters.items():
            meters[meter] = meters.get(meter, MeterTotal()).combined(amount, -1)
    left = {meter: amount for meter, amount in meters.items() if any(amount.counts)}
    if rows < 0 or any(count < 0 for amount in left.values() for count in amount.counts) or (left and not rows):
        raise Inconsistent(f"{rows} rows beyond what is frozen of period {total.period_start}")
    return PeriodTotal(total.period_start, total.period_end, rows, left)
