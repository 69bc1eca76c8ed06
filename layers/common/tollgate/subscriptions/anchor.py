"""When the billing periods of a subscription begin (pure); those of one that is made here, at a whole minute.

Stripe's meter event summaries are asked for in whole minutes, so a period that begins at 12:34:56 could never be
compared with what was sent for it.
"""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, datetime
from typing import NamedTuple

from tollgate.catalog.model import BillingPeriod


class Anchor(NamedTuple):
    """Stripe's `billing_cycle_anchor_config`, in UTC. `month` None: every month. The second is 0."""

    day_of_month: int
    hour: int
    minute: int
    month: int | None = None


def anchor_of(period: BillingPeriod, now: int) -> Anchor:
    """The anchor of a subscription that begins at `now` (epoch seconds): the first of the month (or year) for a plan
    of the calendar, else the minute of its beginning, so that the first period is at most 59 seconds short."""
    if period.anchor == "calendar":
        return Anchor(1, 0, 0, 1 if period.interval == "year" else None)
    begins = datetime.fromtimestamp(now, UTC)
    return Anchor(begins.day, begins.hour, begins.minute, begins.month if period.interval == "year" else None)


def counted_from(anchor: int, day: int | None, month: int | None) -> int:
    """Where the periods of a subscription with this `billing_cycle_anchor` (epoch seconds) are counted from.

    With a `billing_cycle_anchor_config` for a day that the anchor's month lacks, the anchor is that month's last day,
    but periods return to the day [docs: billing cycle]: so they are counted from the last time that it came. `month`:
    the configuration's, of a yearly period.
    """
    at = datetime.fromtimestamp(anchor, UTC)
    if day is None or at.day >= day:
        return anchor
    number = at.year * 12 + at.month - 1
    while monthrange(number // 12, number % 12 + 1)[1] < day:
        number -= 1 if month is None else 12
    return int(at.replace(year=number // 12, month=number % 12 + 1, day=day).timestamp())
