"""What n more units cost at a position, and how many units an amount buys there.

A position is the quantity paid for so far in the period. Both follow `highest`, which never falls: for every scheme but
volume that is the charge itself; for volume it is what a money cap is checked against.
"""

from __future__ import annotations

from decimal import Decimal

from tollgate.catalog.model import Price
from tollgate.rating.charge import charge, highest
from tollgate.rating.currency import EXACT
from tollgate.rating.schedule import schedule


def marginal(price: Price, position: Decimal, units: Decimal) -> Decimal:
    """What `units` more (or, negative, fewer) change the charge by. A volume price can make more units cost less."""
    return EXACT.subtract(charge(price, EXACT.add(position, units)), charge(price, position))


def marginal_highest(price: Price, position: Decimal, units: Decimal) -> Decimal:
    """What `units` more raise the highest charge so far by: never negative for more units."""
    return EXACT.subtract(highest(price, EXACT.add(position, units)), highest(price, position))


def buys(price: Price, position: Decimal, amount: Decimal, scale: int) -> Decimal | None:
    """The most units, at `scale` decimal places, that raise the highest charge by at most `amount`; None: any number.

    `position` has at most `scale` places. 0 where the amount is negative.
    """
    return schedule(price, scale).buys(position, amount)
