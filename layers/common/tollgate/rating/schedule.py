"""A price as a schedule: what a position comes to, pieces of constant cost, and what an amount buys."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache

from tollgate.catalog.model import Price
from tollgate.rating.package_steps import PackageSteps
from tollgate.rating.piece import Piece, Schedule
from tollgate.rating.segments import Segment, Segments, segments_of

_NEVER_RISES = Segment(Decimal(-1), None, Decimal(0), Decimal(0))


@lru_cache(maxsize=1024)
def schedule(price: Price, scale: int) -> Schedule:
    """The schedule of a price for positions at `scale` decimal places (the meter's); kept, as prices never change."""
    if price.scheme != "package":
        return segments_of(price, scale)
    if price.package_price:
        return PackageSteps(price, scale)
    return Segments([_NEVER_RISES._replace(base=price.minimum or Decimal(0))], scale)


def piece(price: Price, position: Decimal, units: Decimal, scale: int) -> Piece | None:
    """The piece in which `units` more cost what they cost at `position`.

    None where they cross an edge: then the cost (`marginal_highest`) holds at this very position only. `position` and
    `units` are not negative and have at most `scale` decimal places.
    """
    return schedule(price, scale).piece(position, units)
