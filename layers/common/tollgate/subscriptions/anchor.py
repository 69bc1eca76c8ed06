"""When the billing periods of a new subscription begin: always at a whole minute (pure).

Stripe's meter event summaries are asked for in whole minutes, so a period that begins at 12:34:56 could never be
compared with what was sent for it.
"""

from __future__ import annotations

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
