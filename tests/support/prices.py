"""What units cost, in the few schemes that tests use: apart from the product's rating, which cannot hide itself."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal

from tollgate.catalog.model import Price

ZERO = Decimal(0)


def charge(price: Price, units: Decimal) -> Decimal:
    """The highest that a price has come to on the way to `units`, exactly."""
    if price.scheme == "per_unit":
        assert price.unit_price is not None
        return units * price.unit_price
    if price.scheme == "package":
        assert price.package_size is not None
        assert price.package_price is not None
        assert price.round == "up"
        return (units / price.package_size).to_integral_value(ROUND_CEILING) * price.package_price
    total, low = ZERO, ZERO
    for tier in price.tiers:
        high = units if tier.up_to is None else min(units, tier.up_to)
        if low and units <= low:
            break
        if price.scheme == "graduated":
            total += tier.flat + (high - low) * tier.unit_price
        else:
            total = max(total, tier.flat + high * tier.unit_price)
        if tier.up_to is None:
            break
        low = tier.up_to
    return total
