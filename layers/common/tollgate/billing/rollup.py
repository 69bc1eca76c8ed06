"""The daily rollup of an account and meter: what a UTC day came to, in which hours, by whom and with what.

Derived from the day's sealed windows, all of them each time, and overwritten: never added to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from tollgate.billing.breakdown import REST, Breakdown, Share, largest, summed, with_rest
from tollgate.billing.sealed import MeterTotal, SealedWindow
from tollgate.quantities import EXACT, ZERO

__all__ = ["DAY_S", "NO_HOURS", "PEAK_S", "REST", "Rollup", "Share", "rolled_up"]

DAY_S: Final = 86_400
PEAK_S: Final = 600
NO_HOURS: Final = (ZERO,) * 24


@dataclass(frozen=True, slots=True)
class Rollup:
    """One account, meter and UTC day (epoch seconds of its start). Costs are the provider's, in US dollars."""

    account: str
    meter: str
    day: int
    total: MeterTotal
    hours: tuple[Decimal, ...] = NO_HOURS
    """Units by UTC hour in which their seal window began."""
    peak: Decimal = ZERO
    """Units of the ten minutes that had most, in whole seal windows: of one where it is longer."""
    cached: int = 0
    """Events that the app's cache answered."""
    cost: Decimal = ZERO
    unpriced: Decimal = ZERO
    """Units whose cost is unknown."""
    models: Mapping[str, Share] = field(default_factory=dict)
    """The twenty of most units, and REST."""
    members: Mapping[str, Share] = field(default_factory=dict)


def rolled_up(account: str, day: int, windows: Iterable[SealedWindow]) -> list[Rollup]:
    """The rollups of a day by meter, from all of its sealed windows in any order."""
    days: dict[str, _Day] = {}
    for window in sorted(windows, key=lambda one: (one.window_start, one.total.period_start, one.supplement)):
        for meter, total in window.total.meters.items():
            days.setdefault(meter, _Day()).add(window, total)
        for meter, breakdown in window.total.breakdowns.items():
            # A supplement's breakdown is of all rows there are by then: it takes the place of the one before.
            if meter in days:
                days[meter].breakdowns[window.window_start, window.total.period_start] = breakdown
    return [one.rollup(account, meter, day) for meter, one in sorted(days.items())]


class _Day:
    """A meter's sealed windows of one day."""

    def __init__(self) -> None:
        self.total = MeterTotal()
        self.breakdowns: dict[tuple[int, int], Breakdown] = {}
        self._units: dict[int, Decimal] = {}
        self._ends: dict[int, int] = {}

    def add(self, window: SealedWindow, total: MeterTotal) -> None:
        self.total = self.total.combined(total)
        start = window.window_start
        self._units[start] = EXACT.add(self._units.get(start, ZERO), total.units)
        self._ends[start] = window.window_end

    def rollup(self, account: str, meter: str, day: int) -> Rollup:
        hours = list(NO_HOURS)
        for start, units in self._units.items():
            hour = (start - day) // 3600
            hours[hour] = EXACT.add(hours[hour], units)
        cached, cost, priced = 0, ZERO, ZERO
        models: dict[str, Share] = {}
        members: dict[str, Share] = {}
        for one in self.breakdowns.values():
            cached += one.cached
            cost = EXACT.add(cost, one.cost)
            priced = EXACT.add(priced, one.priced)
            models, members = summed(models, one.models), summed(members, one.members)
        total = self.total
        whole = Share(total.events, total.units, cost)
        return Rollup(
            account,
            meter,
            day,
            total,
            tuple(hours),
            self._peak(),
            cached,
            cost,
            EXACT.subtract(total.units, priced),
            with_rest(largest(models), whole),
            with_rest(largest(members), whole),
        )

    def _peak(self) -> Decimal:
        """Each window with those after it that end within ten minutes of its start."""
        starts = sorted(self._units)
        found = ZERO
        first, units = 0, ZERO
        for start in starts:
            units = EXACT.add(units, self._units[start])
            while self._ends[start] - starts[first] > PEAK_S and starts[first] < start:
                units = EXACT.subtract(units, self._units[starts[first]])
                first += 1
            found = max(found, units)
        return found
