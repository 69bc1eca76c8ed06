"""What a quantity costs under a price: the double's own arithmetic, independent of the product's.

Amounts are in the currency's minor unit, exact until a line is rounded. Rules [docs: tiered pricing, transform
quantities, decimal amounts]: a package count is divided and rounded before it is priced; graduated tiers price each
unit in its own tier, volume prices all units in the tier of the total; a tier's flat amount falls due when the tier is
reached, the first one's always, also at quantity 0; a line is rounded half up to the minor unit after multiplication.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Context, Decimal

_EXACT = Context(prec=200)
_WHOLE = Decimal(1)


@dataclass(frozen=True)
class Tier:
    """Units up to and including `up_to` (None: no end) at `unit` each, and `flat` for the tier; None: not given."""

    up_to: int | None
    unit: Decimal | None
    flat: int | None


@dataclass(frozen=True)
class Pricing:
    """Either a unit amount, perhaps for each package of `divide_by` units, or tiers with their mode."""

    unit: Decimal | None = None
    tiers: Sequence[Tier] = ()
    mode: str | None = None
    divide_by: int | None = None
    round_up: bool = False


def billed(pricing: Pricing, quantity: Decimal) -> Decimal:
    """The quantity that is multiplied: packages where there are packages."""
    if pricing.divide_by is None:
        return quantity
    whole, rest = divmod(quantity, pricing.divide_by)
    return whole + 1 if rest and pricing.round_up else whole


def cost(pricing: Pricing, quantity: Decimal) -> Decimal:
    """The exact cost of a quantity of at least 0."""
    if pricing.mode == "graduated":
        total = Decimal(0)
        for _, part in by_tier(pricing, quantity):
            total = _EXACT.add(total, part)
        return total
    if pricing.mode == "volume":
        tier = next(tier for tier in pricing.tiers if tier.up_to is None or quantity <= tier.up_to)
        return _EXACT.add(_EXACT.multiply(quantity, tier.unit or Decimal(0)), Decimal(tier.flat or 0))
    return _EXACT.multiply(billed(pricing, quantity), pricing.unit or Decimal(0))


def by_tier(pricing: Pricing, quantity: Decimal) -> list[tuple[Decimal, Decimal]]:
    """Quantity and exact cost in each tier that a graduated price's quantity reaches, its flat amount included."""
    parts: list[tuple[Decimal, Decimal]] = []
    below = Decimal(0)
    for number, tier in enumerate(pricing.tiers):
        if number and quantity <= below:
            break
        upper = quantity if tier.up_to is None else min(quantity, Decimal(tier.up_to))
        in_tier = _EXACT.multiply(upper - below, tier.unit or Decimal(0))
        parts.append((upper - below, _EXACT.add(in_tier, Decimal(tier.flat or 0))))
        below = upper
    return parts


def rounded(amount: Decimal) -> int:
    """A line's amount in whole minor units: half away from zero."""
    return int(amount.quantize(_WHOLE, ROUND_HALF_UP, _EXACT))
