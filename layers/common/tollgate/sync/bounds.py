"""A price's minimum and maximum charge, folded into graduated tiers where the result is the same to the cent.

Stripe knows neither bound. A graduated price grows without falling, so from the quantity on at which it has come to
the minimum it goes on as it was, and until there a flat amount stands for it: the first tier's flat amount is billed at
quantity 0, too. At the maximum the price just ends. All money here is in major units.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from tollgate.catalog.model import Tier
from tollgate.quantities import ZERO
from tollgate.rating.currency import EXACT, is_chargeable


class NotFoldable(Exception):
    """No tiers say the same; the text says why, in a few words."""


class _Crossing(NamedTuple):
    """Where tiers come to an amount: `quantity` in the tier of that number, from 0. `jump`: by its flat amount."""

    number: int
    quantity: Decimal
    jump: bool


def with_minimum(tiers: tuple[Tier, ...], minimum: Decimal, currency: str) -> tuple[Tier, ...]:
    """Graduated tiers that come to at least `minimum`. Raises NotFoldable."""
    if tiers[0].flat >= minimum:
        return tiers
    at = _crossing(tiers, minimum, currency)
    if at is None:
        return (Tier(None, ZERO, minimum),)
    tier = tiers[at.number]
    first = Tier(at.quantity, ZERO, minimum)
    if at.jump:
        over = EXACT.subtract(EXACT.add(_due(tiers, at.number), tier.flat), minimum)
        return (first, tier._replace(flat=over), *tiers[at.number + 1 :])
    if at.quantity == tier.up_to:
        return (first, *tiers[at.number + 1 :])
    return (first, tier._replace(flat=ZERO), *tiers[at.number + 1 :])


def with_maximum(tiers: tuple[Tier, ...], maximum: Decimal, currency: str) -> tuple[Tier, ...]:
    """Graduated tiers that come to at most `maximum`. Raises NotFoldable."""
    if tiers[0].flat >= maximum:
        return (Tier(None, ZERO, maximum),)
    at = _crossing(tiers, maximum, currency)
    if at is None:
        return tiers
    tier, before = tiers[at.number], tiers[: at.number]
    if at.jump:
        return (*before, Tier(None, ZERO, EXACT.subtract(maximum, _due(tiers, at.number))))
    return (*before, tier._replace(up_to=at.quantity), Tier(None, ZERO, ZERO))


def _due(tiers: tuple[Tier, ...], index: int) -> Decimal:
    """What the full tiers below a tier come to."""
    total, low = ZERO, ZERO
    for tier in tiers[:index]:
        assert tier.up_to is not None
        total = EXACT.add(total, EXACT.fma(EXACT.subtract(tier.up_to, low), tier.unit_price, tier.flat))
        low = tier.up_to
    return total


def _crossing(tiers: tuple[Tier, ...], amount: Decimal, currency: str) -> _Crossing | None:
    """Where the tiers come to an amount above the first tier's flat one; None: nowhere. Raises NotFoldable where the
    quantity is no whole number, or a full tier below ends on a fraction: its line is rounded by itself, and would not
    be once it is folded into another."""
    low = ZERO
    for index, tier in enumerate(tiers):
        due = _due(tiers, index)
        if not is_chargeable(due, currency):
            raise NotFoldable(f"its first {index} tiers end on a fraction of the smallest amount")
        begun = EXACT.add(due, tier.flat)
        if begun >= amount:
            return _Crossing(index, low, jump=True)
        end = None if tier.up_to is None else EXACT.fma(EXACT.subtract(tier.up_to, low), tier.unit_price, begun)
        if tier.unit_price and (end is None or end >= amount):
            more, rest = EXACT.divmod(EXACT.subtract(amount, begun), tier.unit_price)
            if rest:
                raise NotFoldable("it is reached at a quantity that is not whole")
            return _Crossing(index, EXACT.add(low, more), jump=False)
        if tier.up_to is None:
            return None
        low = tier.up_to
    raise AssertionError("the last tier has no end")
