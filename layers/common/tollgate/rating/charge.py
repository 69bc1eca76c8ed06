"""What a quantity costs under one price, exactly: nothing is rounded here (a line is, in `lines`).

Money is in major units. A quantity is the units of one billing period that are to be paid: without those that credits
paid for, that were waived, or that seats brought.

Stripe's rules (docs.stripe.com/products-prices/pricing-models and .../tiered-pricing): `up_to` is inclusive; a
graduated tier prices the units that fall into it, a volume tier all of them; `flat` falls due once when the quantity
reaches the tier, and the first tier's at quantity 0 already; packages divide the total of the period.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import NamedTuple

from tollgate.catalog.model import Price
from tollgate.quantities import ZERO
from tollgate.rating.currency import EXACT, quotient


class Part(NamedTuple):
    """The part of a quantity that one unit price applies to; one line of an invoice.

    `tier` counts from 1; None without tiers. `packages`: how many times `unit_price` falls due where it is that of a
    package, else None.
    """

    quantity: Decimal
    unit_price: Decimal
    flat: Decimal = ZERO
    tier: int | None = None
    packages: Decimal | None = None


def parts(price: Price, quantity: Decimal) -> Iterator[Part]:
    """The parts of a quantity, by tier; at least one. Raises ValueError for a negative quantity."""
    if quantity < 0:
        raise ValueError(f"a quantity of {quantity} cannot be rated")
    if price.scheme == "graduated":
        yield from _graduated(price, quantity)
    elif price.scheme == "volume":
        for number, tier in enumerate(price.tiers, 1):
            if tier.up_to is None or quantity <= tier.up_to:
                yield Part(quantity, tier.unit_price, tier.flat, number)
                return
    elif price.scheme == "package":
        assert price.package_price is not None
        yield Part(quantity, price.package_price, packages=packages(price, quantity))
    else:
        assert price.unit_price is not None
        yield Part(quantity, price.unit_price)


def _graduated(price: Price, quantity: Decimal) -> Iterator[Part]:
    low = ZERO
    for number, tier in enumerate(price.tiers, 1):
        if tier.up_to is None or quantity <= tier.up_to:
            yield Part(EXACT.subtract(quantity, low), tier.unit_price, tier.flat, number)
            return
        yield Part(EXACT.subtract(tier.up_to, low), tier.unit_price, tier.flat, number)
        low = tier.up_to


def packages(price: Price, quantity: Decimal) -> Decimal:
    """How many packages a quantity comes to: an incomplete one counts with `round: up` only."""
    assert price.package_size is not None
    whole = quotient(quantity, price.package_size)
    if price.round == "up" and EXACT.multiply(whole, price.package_size) < quantity:
        return EXACT.add(whole, Decimal(1))
    return whole


def with_markup(amount: Decimal, markup: Decimal) -> Decimal:
    """An amount and `markup` per cent of it."""
    return EXACT.multiply(amount, EXACT.add(Decimal(1), markup.scaleb(-2, EXACT))) if markup else amount


def part_charge(part: Part, markup: Decimal = ZERO) -> Decimal:
    """What one part costs, flat amount and markup included."""
    count = part.quantity if part.packages is None else part.packages
    return with_markup(EXACT.fma(count, part.unit_price, part.flat), markup)


def charge(price: Price, quantity: Decimal) -> Decimal:
    """What a quantity costs: its parts with markup, at least `minimum`, at most `maximum`.

    Grows with the quantity except where a volume price falls into a cheaper tier. Raises ValueError for a negative
    quantity.
    """
    total = ZERO
    for part in parts(price, quantity):
        total = EXACT.add(total, part_charge(part, price.markup))
    return bounded(price, total)


def bounded(price: Price, amount: Decimal) -> Decimal:
    """An amount inside the price's minimum and maximum."""
    if price.minimum is not None and amount < price.minimum:
        return price.minimum
    if price.maximum is not None and amount > price.maximum:
        return price.maximum
    return amount


def highest(price: Price, quantity: Decimal) -> Decimal:
    """The highest charge over 0..quantity: what a money cap is checked against, as a volume price can fall."""
    edges = [tier.up_to for tier in price.tiers if tier.up_to is not None and tier.up_to < quantity]
    return max(charge(price, position) for position in (quantity, *edges))


def included(price: Price) -> Decimal | None:
    """The units from 0 that cost nothing beyond what is due at quantity 0: the leading tiers at price 0; None: all.

    Units that seats bring come on top. A minimum charge is no included usage.
    """
    if price.scheme == "per_unit":
        return ZERO if price.unit_price else None
    if price.scheme == "package":
        return ZERO if price.package_price else None
    end = ZERO
    first = price.tiers[0].flat
    for tier in price.tiers:
        again = ZERO if price.scheme == "graduated" and tier is not price.tiers[0] else first
        if tier.unit_price or tier.flat > again:
            return end
        if tier.up_to is None:
            return None
        end = tier.up_to
    raise AssertionError("the last tier has no end")
