"""A stretch of positions in which some number of units costs a constant."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple, Protocol

from tollgate.quantities import ZERO


class Piece(NamedTuple):
    """For every position p with low < p (or low <= p where not `low_open`) and p + n <= high (None: no end), going
    from p to p + n changes the highest charge by exactly `cost`.

    Positions and n have no more decimal places than the meter's scale. Read backwards, it holds for taking n units
    off a position: from p + n to p the charge falls by `cost`.
    """

    low: Decimal
    low_open: bool
    high: Decimal | None
    cost: Decimal

    def holds(self, position: Decimal, units: Decimal) -> bool:
        """Whether `units` more at this position cost `cost`."""
        above = position > self.low if self.low_open else position >= self.low
        return above and (self.high is None or position + units <= self.high)


ANYWHERE_FREE = Piece(ZERO, False, None, ZERO)


class Schedule(Protocol):
    """A price as a function of the position that never falls: its `highest` charge."""

    def at(self, position: Decimal) -> Decimal:
        """The highest charge over 0..position."""
        ...

    def piece(self, position: Decimal, units: Decimal) -> Piece | None:
        """The piece in which `units` (not negative) more cost what they cost at `position`; None: they cross an edge,
        so that the cost holds at this very position only."""
        ...

    def buys(self, position: Decimal, amount: Decimal) -> Decimal | None:
        """The most units at the meter's scale that cost at most `amount` at `position`; None: any number."""
        ...
