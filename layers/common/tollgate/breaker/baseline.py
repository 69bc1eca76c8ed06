"""What a typical day of an account is, from its daily rollups of four weeks; and of a plan's accounts. Pure.

Of the days on which a meter was used, the third largest: a day that the account came to three times in four weeks. So
one or two days out of line move nothing, in either direction, and what comes once a week (a batch every Monday) is
typical, which the median of days would not know. With fewer than three days it is the smallest of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Final

from tollgate.accounts.rules import Typical
from tollgate.billing.rollup import DAY_S, Rollup
from tollgate.quantities import ZERO

DAYS: Final = 28
SETTLED_DAYS: Final = 7
"""Days with usage on the plan that the account is on, before its own typical day stands alone."""
REACHED: Final = 3
ENOUGH: Final = 5
"""Accounts before a plan has a typical day."""


def first_day(today: int) -> int:
    """Of those that count, `today` (epoch seconds of its start) not among them."""
    return today - DAYS * DAY_S


def typical(rollups: Iterable[Rollup], plan_since: int) -> Typical:
    """From the rollups of all ids of an account, of days that count. `plan_since`: epoch seconds."""
    days: dict[str, dict[int, Decimal]] = {}
    for rollup in rollups:
        if rollup.total.units > 0:
            of_meter = days.setdefault(rollup.meter, {})
            of_meter[rollup.day] = of_meter.get(rollup.day, ZERO) + rollup.total.units
    return Typical(
        {meter: typical_day(of_meter.values()) for meter, of_meter in sorted(days.items())},
        tuple(meter for meter, of_meter in sorted(days.items()) if _since(of_meter, plan_since) >= SETTLED_DAYS),
    )


def typical_day(days: Iterable[Decimal]) -> Decimal:
    """Of at least one day."""
    largest = sorted(days, reverse=True)[:REACHED]
    return largest[-1]


def _since(days: Mapping[int, Decimal], plan_since: int) -> int:
    return sum(1 for day in days if day + DAY_S > plan_since)


def of_plan(days: Iterable[Decimal]) -> Decimal | None:
    """The typical day of a plan's accounts, from settled accounts' own: the median. None: too few."""
    known = sorted(days)
    return known[len(known) // 2] if len(known) >= ENOUGH else None
