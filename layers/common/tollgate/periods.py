"""Periods: stretches of time that repeat from an anchor (pure; every instant is an integer epoch second, UTC).

`windows` counts days, weeks, months and billing periods in them. For one rule and one zone they tile time: each instant
lies in exactly one, `start <= t < end`. Where a period starts is always reckoned from the anchor, never from the period
before it, so a period of the 31st that began on 28 February begins on 31 March again.

- `calendar`: local midnight of the first of the month or year, of Monday, of the day. The first period of an account
  is the calendar's whole one: it began before the account did. Several months, weeks, ... at a time count from 1970.
- `signup`: the instant at which the account was created, as long as no subscription at Stripe was told of (then it is
  as `subscription`). Periods start on its local date, at its local time of day to
  the second, in the account's timezone. In a month without that date: on the month's last day; 29 February comes back
  in each leap year. Clocks that are put forward over that time of day start the period at the change; of a time that
  comes twice, the first counts (the anchor itself is the instant that it is).
- `subscription`: the instant that Stripe calls `billing_cycle_anchor`; as long as it is not known, the account's
  creation. Its dates and times are those of UTC, whatever the account's timezone: Stripe reckons renewals in UTC
  [Stripe: `billing_cycle_anchor_config` is given in UTC], and our periods must end where its invoices do.

Minutes and hours are elapsed time from the anchor (`calendar`: from 1970-01-01 UTC) and follow no clock.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Final, Literal

Interval = Literal["minute", "hour", "day", "week", "month", "year"]
Anchor = Literal["calendar", "signup", "subscription"]

LAST_INSTANT: Final = 253_370_764_799
"""The end of the year 9998: past it the standard library's dates give out."""
MAX_COUNT: Final = 1000
"""Intervals in one period: the period of an instant since 1970 then begins after the year 1."""

_ELAPSED: Final = {"minute": 60, "hour": 3600}
_DAYS: Final = {"day": 1, "week": 7}
_MONTHS: Final = {"month": 1, "year": 12}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_LOCAL: Final = datetime(1970, 1, 1)
_FIRST_MONDAY: Final = datetime(1970, 1, 5)
_SECOND: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class PeriodRule:
    """Which periods: `count` intervals each, from an anchor. `at` is the anchor's instant; None for `calendar` only.

    Raises ValueError for an interval or anchor that is none, a count outside 1 to MAX_COUNT, and an instant outside
    1970 to 9998.
    """

    interval: Interval = "month"
    count: int = 1
    anchor: Anchor = "calendar"
    at: int | None = None

    def __post_init__(self) -> None:
        if self.interval not in _ELAPSED and self.interval not in _DAYS and self.interval not in _MONTHS:
            raise ValueError(f"no interval {self.interval!r}")
        if not 1 <= self.count <= MAX_COUNT:
            raise ValueError(f"a period lasts 1 to {MAX_COUNT} intervals, not {self.count}")
        if self.anchor not in ("calendar", "signup", "subscription"):
            raise ValueError(f"no anchor {self.anchor!r}")
        if (self.at is None) != (self.anchor == "calendar"):
            raise ValueError("all anchors but `calendar` are an instant")
        if self.at is not None and not 0 <= self.at <= LAST_INSTANT:
            raise ValueError(f"no instant that periods start from: {self.at}")


CALENDAR_MONTH: Final = PeriodRule()


def period_at(rule: PeriodRule, place: tzinfo, epoch_s: int) -> tuple[int, int]:
    """(start, end) of the period that contains an instant (0 to LAST_INSTANT) of an account in a zone."""
    seconds = _ELAPSED.get(rule.interval)
    if seconds is not None:
        length, anchor = seconds * rule.count, rule.at or 0
        start = (epoch_s - anchor) // length * length + anchor
        return start, start + length
    clock = UTC if rule.anchor == "subscription" else place
    anchored = _anchored(rule, clock)
    number = _elapsed(rule, anchored, _local(clock, epoch_s))
    # A guess by the date on the clock, which is off by one where the day has not come to the anchor's time yet, or
    # where clocks were put back over the start of a period: that has begun, and does not begin a second time.
    start = _start(rule, clock, anchored, number)
    while start > epoch_s:
        number -= 1
        start = _start(rule, clock, anchored, number)
    end = _start(rule, clock, anchored, number + 1)
    while end <= epoch_s:  # also steps over a day that the zone skips: its period has no instant
        number += 1
        start, end = end, _start(rule, clock, anchored, number + 1)
    return start, end


def _anchored(rule: PeriodRule, clock: tzinfo) -> datetime:
    """What the clock shows at the anchor; period 0 starts there."""
    if rule.at is not None:
        return _local(clock, rule.at)
    return _FIRST_MONDAY if rule.interval == "week" else _EPOCH_LOCAL


def _elapsed(rule: PeriodRule, anchored: datetime, local: datetime) -> int:
    """How many periods the dates lie apart."""
    months = _MONTHS.get(rule.interval)
    if months is not None:
        return ((local.year - anchored.year) * 12 + local.month - anchored.month) // (months * rule.count)
    return (local.date() - anchored.date()).days // (_DAYS[rule.interval] * rule.count)


def _start(rule: PeriodRule, clock: tzinfo, anchored: datetime, number: int) -> int:
    """The instant at which a period starts; past the last instant where it would start after the year 9999."""
    if number == 0 and rule.at is not None:
        return rule.at  # exactly, though the clock may show its time a second time
    months = _MONTHS.get(rule.interval)
    if months is None:
        days = anchored.toordinal() + _DAYS[rule.interval] * rule.count * number
        day = date.fromordinal(days) if days <= date.max.toordinal() else None
    else:
        day = _months_on(anchored.date(), months * rule.count * number)
    return LAST_INSTANT + 1 if day is None else reached(clock, datetime.combine(day, anchored.time()))


def _months_on(day: date, months: int) -> date | None:
    """The same day some months on, or the last day of that month; None after the year 9999."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    if year > date.max.year:
        return None
    return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))


# --- local clocks ----------------------------------------------------------------------------------------------------


def reached(clock: tzinfo, wall: datetime) -> int:
    """The first instant at which a local clock shows `wall` (a naive datetime) or later."""
    seconds = (wall - _EPOCH_LOCAL) // _SECOND
    before = seconds - _seconds(wall.replace(tzinfo=clock).utcoffset())
    after = seconds - _seconds(wall.replace(tzinfo=clock, fold=1).utcoffset())
    if before <= after:  # the time comes once, or twice (clocks put back): then its first time counts
        return before
    # The time is skipped: `before` and `after` read it with the offsets on either side, and the change lies between.
    offset_after = seconds - after
    return first(after, before, lambda t: offset(clock, t) == offset_after)


def offset(clock: tzinfo, epoch_s: int) -> int:
    """How many seconds a local clock is ahead of UTC."""
    return _seconds((_EPOCH + timedelta(seconds=epoch_s)).astimezone(clock).utcoffset())


def first(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """The first instant in (low, high] where `holds`, which is false at low and true from some instant on to high."""
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle
    return high


def _local(clock: tzinfo, epoch_s: int) -> datetime:
    return (_EPOCH + timedelta(seconds=epoch_s)).astimezone(clock).replace(tzinfo=None, fold=0)


def _seconds(offset: timedelta | None) -> int:
    if offset is None:
        raise ValueError("a zone without an offset")
    return offset.days * 86_400 + offset.seconds
