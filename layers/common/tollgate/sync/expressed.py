"""A catalogue's price in Stripe's words, or why Stripe has none for it.

| catalogue | Stripe |
| --- | --- |
| per_unit | `unit_amount_decimal` |
| graduated, volume | `tiers`; included units are a first tier at 0 |
| package | `unit_amount_decimal` of a package, `transform_quantity` |
| markup | multiplied into every amount |
| minimum, maximum | folded into graduated tiers where that is exact (`bounds`) |
| included_per_seat | nothing: these units are never sent (`rating.bill`) |
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from tollgate.catalog import model
from tollgate.quantities import ZERO, plain
from tollgate.rating.charge import with_markup
from tollgate.rating.currency import EXACT, stripe_places
from tollgate.sync.bounds import NotFoldable, with_maximum, with_minimum
from tollgate.sync.objects import Terms, Tier

PLACES: Final = 12
"""Of `unit_amount_decimal` [SDK]."""


class NotExpressible(Exception):
    """Stripe has no price like this; the text is a sentence that says what to change."""


@dataclass(frozen=True, slots=True)
class Expressed:
    """The terms, and what was folded into them, for people."""

    terms: Terms
    folded: tuple[str, ...] = ()


def unit_amount(amount: Decimal, currency: str) -> Decimal:
    """A price of one unit (major units) as `unit_amount_decimal`. Raises NotExpressible."""
    found = EXACT.scaleb(amount, stripe_places(currency))
    if len(plain(found).partition(".")[2]) > PLACES:
        raise NotExpressible(f"{plain(amount)} {currency} has more than {PLACES} decimal places in its smallest unit")
    return found


def whole_amount(amount: Decimal, currency: str) -> Decimal:
    """An amount that is charged as it is (major units), as an integer. Raises NotExpressible."""
    found = EXACT.scaleb(amount, stripe_places(currency))
    if found != found.to_integral_value():
        raise NotExpressible(f"{plain(amount)} {currency} is no whole number of its smallest unit")
    return found


def metered(price: model.Price, base: Terms) -> Expressed:
    """A meter's price; `base` has product, currency, interval and event name. Raises NotExpressible."""
    bounded = price.minimum is not None or price.maximum is not None
    folded = [f"markup {plain(price.markup)} % in each amount"] if price.markup else []
    if price.scheme == "package":
        if bounded:
            raise NotExpressible("Stripe has no minimum or maximum charge, and packages take no tiers to fold it into")
        return Expressed(_package(price, base), tuple(folded))
    if price.scheme == "per_unit" and not bounded:
        assert price.unit_price is not None
        amount = unit_amount(with_markup(price.unit_price, price.markup), base.currency)
        return Expressed(base._replace(unit_amount=amount), tuple(folded))
    tiers = _marked_up(price)
    if bounded:
        if price.scheme == "volume":
            raise NotExpressible("Stripe has no minimum or maximum charge, and a volume price has no tiers to fold it")
        tiers = _bounded(price, tiers, base.currency)
        for name, bound in (("minimum", price.minimum), ("maximum", price.maximum)):
            if bound is not None:
                folded.append(f"{name} {plain(bound)} {base.currency} in the tiers")
    mode = "volume" if price.scheme == "volume" else "graduated"
    found = tuple(
        Tier(_edge(tier.up_to), unit_amount(tier.unit_price, base.currency), whole_amount(tier.flat, base.currency))
        for tier in tiers
    )
    return Expressed(base._replace(tiers_mode=mode, tiers=found), tuple(folded))


def _package(price: model.Price, base: Terms) -> Terms:
    assert price.package_size is not None
    assert price.package_price is not None
    if price.package_size != price.package_size.to_integral_value():
        raise NotExpressible(f"Stripe divides by whole numbers only, not by packages of {plain(price.package_size)}")
    amount = unit_amount(with_markup(price.package_price, price.markup), base.currency)
    return base._replace(unit_amount=amount, divide_by=int(price.package_size), round=price.round)


def _marked_up(price: model.Price) -> tuple[model.Tier, ...]:
    tiers = price.tiers
    if price.scheme == "per_unit":
        assert price.unit_price is not None
        tiers = (model.Tier(None, price.unit_price, ZERO),)
    return tuple(
        model.Tier(tier.up_to, with_markup(tier.unit_price, price.markup), with_markup(tier.flat, price.markup))
        for tier in tiers
    )


def _bounded(price: model.Price, tiers: tuple[model.Tier, ...], currency: str) -> tuple[model.Tier, ...]:
    # The maximum first: a minimum merges the tiers below it, whose edges the maximum would no longer see.
    for name, amount, fold in (("maximum", price.maximum, with_maximum), ("minimum", price.minimum, with_minimum)):
        if amount is None:
            continue
        whole_amount(amount, currency)
        try:
            tiers = fold(tiers, amount, currency)
        except NotFoldable as reason:
            raise NotExpressible(
                f"Stripe has no {name} charge, and this one does not fold into tiers: {reason}"
            ) from None
    return tiers


def _edge(up_to: Decimal | None) -> Decimal | None:
    if up_to is not None and up_to != up_to.to_integral_value():
        raise NotExpressible(f"Stripe's tiers end at whole numbers, not at {plain(up_to)}")
    return up_to
