"""How much exact spend keeps an invoice within a money cap, although each of its lines is rounded by itself."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from tollgate.catalog.model import Price
from tollgate.quantities import ZERO
from tollgate.rating.charge import with_markup
from tollgate.rating.currency import EXACT, floor_at, is_chargeable, minor_places


def usable(cap: Decimal, prices: Iterable[tuple[Price, int]], currency: str) -> Decimal:
    """The spend, exact and over all prices together, up to which the rounded lines stay within `cap`.

    `prices` come with their meters' scales. With k lines that rounding can lift, by half a smallest unit each, the sum
    of the rounded lines is below cap + 1 unit as long as the exact sum is at most cap - (k - 1) / 2 units; being whole
    units, it is then at most the cap. So one price keeps the whole cap: $20 at $0.02 buy 1,000 units, not 999.
    Never below 0.
    """
    lines = sum(fractional_lines(price, scale, currency) for price, scale in prices)
    unit = Decimal(1).scaleb(-minor_places(currency))
    slack = EXACT.multiply(Decimal(max(lines - 1, 0)), EXACT.multiply(unit, Decimal("0.5")))
    return max(ZERO, EXACT.subtract(floor_at(cap, minor_places(currency)), slack))


def fractional_lines(price: Price, scale: int, currency: str) -> int:
    """The most lines of a price that can end on a fraction of the currency's smallest unit at the same time."""
    step = Decimal(1).scaleb(-scale)
    if price.scheme == "package":
        assert price.package_price is not None
        return _is_fractional(with_markup(price.package_price, price.markup), currency)
    if price.scheme == "per_unit":
        assert price.unit_price is not None
        return _is_fractional(with_markup(EXACT.multiply(price.unit_price, step), price.markup), currency)
    most, full, low = 0, 0, ZERO
    for tier in price.tiers:
        flat = with_markup(tier.flat, price.markup)
        each = with_markup(EXACT.multiply(tier.unit_price, step), price.markup)
        most = max(most, full + (_is_fractional(flat, currency) or _is_fractional(each, currency)))
        if tier.up_to is not None and price.scheme == "graduated":
            whole = EXACT.multiply(tier.unit_price, EXACT.subtract(tier.up_to, low))
            full += _is_fractional(EXACT.add(flat, with_markup(whole, price.markup)), currency)
            low = tier.up_to
    return most


def _is_fractional(amount: Decimal, currency: str) -> int:
    return 0 if is_chargeable(amount, currency) else 1
