"""Prices that are linear between edges (per unit, graduated, volume) as segments, minimum and maximum cut in.

Edges lie at the meter's scale (the catalogue refuses finer tiers), so that every comparison with a position is exact:
where a minimum of ten dollars ends between two positions (at three cents, after 333.33… units), the edge is 333.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import NamedTuple

from tollgate.catalog.model import Price
from tollgate.quantities import ZERO
from tollgate.rating.charge import with_markup
from tollgate.rating.currency import EXACT, quotient
from tollgate.rating.piece import ANYWHERE_FREE, Piece

BEFORE = Decimal(-1)
"""Below every position: where the first segment begins, so that position 0 lies inside of it."""


class Segment(NamedTuple):
    """The charge is `base + slope * position` for low < position <= high (None: no end)."""

    low: Decimal
    high: Decimal | None
    base: Decimal
    slope: Decimal

    def at(self, position: Decimal) -> Decimal:
        return EXACT.fma(self.slope, position, self.base)

    def last_within(self, bound: Decimal, scale: int) -> Decimal | None:
        """The last position inside at which the charge is at most `bound`: `low` if there is none, None if no end."""
        if self.slope:
            if bound < self.base and self.low < 0:
                return self.low
            reached = quotient(max(EXACT.subtract(bound, self.base), ZERO), self.slope, scale)
            return max(self.low, reached if self.high is None else min(reached, self.high))
        return self.high if self.base <= bound else self.low


class Segments:
    """A schedule of segments that follow each other; `scale` is the meter's."""

    def __init__(self, segments: Iterable[Segment], scale: int) -> None:
        self._segments = tuple(_merged(segments))
        self._ends = [segment.high for segment in self._segments if segment.high is not None]
        self._scale = scale

    def at(self, position: Decimal) -> Decimal:
        return self._segments[bisect_left(self._ends, position)].at(position)

    def piece(self, position: Decimal, units: Decimal) -> Piece | None:
        if not units:
            return ANYWHERE_FREE
        index = bisect_left(self._ends, EXACT.add(position, units))
        segment = self._segments[index]
        if position < segment.low:
            return None
        joined = index == 0 or self._segments[index - 1].at(segment.low) == segment.at(segment.low)
        if position == segment.low and not joined:
            return None
        return Piece(max(segment.low, ZERO), not joined, segment.high, EXACT.multiply(units, segment.slope))

    def buys(self, position: Decimal, amount: Decimal) -> Decimal | None:
        if amount < 0:
            return ZERO
        bound = EXACT.add(self.at(position), amount)
        for segment in reversed(self._segments):
            last = segment.last_within(bound, self._scale)
            if last is None:
                return None
            if last > segment.low:
                return EXACT.subtract(last, position)
        raise AssertionError("the charge at the position itself is within the bound")


def segments_of(price: Price, scale: int) -> Segments:
    """The schedule of a per-unit, graduated or volume price: of its highest charge so far."""
    raw = _volume(price, scale) if price.scheme == "volume" else _graduated(price)
    raised = raw if price.minimum is None else _at_least(raw, price.minimum, scale)
    return Segments(raised if price.maximum is None else _at_most(raised, price.maximum, scale), scale)


def _graduated(price: Price) -> Iterator[Segment]:
    """Each tier goes on from what was due at the end of the one before."""
    if price.scheme == "per_unit":
        assert price.unit_price is not None
        yield Segment(BEFORE, None, ZERO, with_markup(price.unit_price, price.markup))
        return
    low, edge, due = BEFORE, ZERO, ZERO
    for tier in price.tiers:
        slope = with_markup(tier.unit_price, price.markup)
        due = EXACT.add(due, with_markup(tier.flat, price.markup))
        base = EXACT.subtract(due, EXACT.multiply(slope, edge))
        yield Segment(low, tier.up_to, base, slope)
        if tier.up_to is not None:
            low = edge = tier.up_to
            due = EXACT.fma(slope, edge, base)


def _volume(price: Price, scale: int) -> Iterator[Segment]:
    """A tier prices all units. Where it is cheaper than those before, the highest charge stays until it catches up."""
    low, top = BEFORE, BEFORE
    for tier in price.tiers:
        base, slope = with_markup(tier.flat, price.markup), with_markup(tier.unit_price, price.markup)
        segment = Segment(low, tier.up_to, base, slope)
        yield from _at_least((segment,), top, scale)
        if tier.up_to is not None:
            low, top = tier.up_to, max(top, segment.at(tier.up_to))


def _at_least(segments: Iterable[Segment], bound: Decimal, scale: int) -> Iterator[Segment]:
    """`bound` wherever the charge is below."""
    for segment in segments:
        last = segment.last_within(bound, scale)
        if last is None or last > segment.low:
            yield Segment(segment.low, last, bound, ZERO)
        if last is not None and last != segment.high:
            yield segment._replace(low=last)


def _at_most(segments: Iterable[Segment], bound: Decimal, scale: int) -> Iterator[Segment]:
    """`bound` wherever the charge is above."""
    for segment in segments:
        last = segment.last_within(bound, scale)
        if last is None or last > segment.low:
            yield segment._replace(high=last)
        if last is not None and last != segment.high:
            yield Segment(last, segment.high, bound, ZERO)


def _merged(segments: Iterable[Segment]) -> Iterator[Segment]:
    """Neighbours on one line as one: fewer edges for a write to meet."""
    before: Segment | None = None
    for segment in segments:
        if before is not None and (before.base, before.slope) == (segment.base, segment.slope):
            before = before._replace(high=segment.high)
            continue
        if before is not None:
            yield before
        before = segment
    if before is not None:
        yield before
