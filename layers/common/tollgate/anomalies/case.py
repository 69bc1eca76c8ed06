"""What a detector is given, and what it answers. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import Final, NamedTuple

from tollgate.billing.rollup import Rollup
from tollgate.quantities import ZERO

DAYS: Final = 28
"""How far back an account is known: four weeks, so that each day of the week counts alike."""
KNOWN: Final = 7
"""Days with use from which on an account has habits; with fewer it is young, and what is told says so."""

_HALF: Final = Decimal("0.5")
_MAD: Final = Decimal("1.4826")
"""Times the median deviation: what would be the standard deviation of a normal distribution."""


def median(values: Iterable[Decimal]) -> Decimal:
    """Raises ValueError for none."""
    ranked = sorted(values)
    if not ranked:
        raise ValueError("a median of nothing")
    middle = len(ranked) // 2
    return ranked[middle] if len(ranked) % 2 else (ranked[middle - 1] + ranked[middle]) * _HALF


def spread(values: Iterable[Decimal]) -> Decimal:
    """The median absolute deviation, as a standard deviation."""
    found = list(values)
    centre = median(found)
    return median(abs(value - centre) for value in found) * _MAD


class PlanTypical(NamedTuple):
    """What the accounts of a plan that use a meter use of it a day, over about a week."""

    plan: str
    days: Decimal
    """Days of accounts that the average is made of; the older, the less each counts."""
    average: Decimal


@dataclass(frozen=True)
class Case:
    """One meter of one account on one UTC day."""

    today: Rollup
    past: tuple[Rollup, ...]
    """The days with use among the `DAYS` before, oldest first."""
    over: bool
    """Whether the day is over; else it is so far."""
    plan: PlanTypical | None = None
    timezone: str = "UTC"

    @property
    def units(self) -> Decimal:
        return self.today.total.units

    @property
    def young(self) -> bool:
        return len(self.past) < KNOWN

    @cached_property
    def used(self) -> list[Decimal]:
        """Units of the past days that had any, most first: of a small account's day all may come from its cache."""
        return sorted((day.total.units for day in self.past if day.total.units > 0), reverse=True)

    @cached_property
    def typical(self) -> Decimal:
        """Units of a typical day; 0 where none is known."""
        return median(self.used) if self.used else ZERO

    @cached_property
    def reach(self) -> Decimal:
        """How far the account's own days reach: its second-busiest, so that one outlier is forgiven; of a young
        account its busiest."""
        if not self.used:
            return ZERO
        return self.used[0 if self.young or len(self.used) == 1 else 1]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a detector saw. `score`: how many times past its threshold, 1 and more; `evidence`: for programs."""

    kind: str
    meter: str
    score: Decimal
    text: str
    evidence: Mapping[str, str] = field(default_factory=dict)
