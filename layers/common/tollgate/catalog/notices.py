"""What a catalogue asks for and this release accepts but does not do yet: said aloud whenever a catalogue is loaded."""

from __future__ import annotations

from collections.abc import Iterator

from tollgate.catalog.model import Catalog, Plan, level_meters
from tollgate.quantities import plain


def notices(catalog: Catalog) -> list[str]:
    """One sentence for each such wish, in the order of the file; empty where everything is enforced."""
    levels = level_meters(catalog.meters)
    return [notice for plan in catalog.plans.values() for notice in _of(plan, catalog.currency, levels)]


def _of(plan: Plan, currency: str, levels: frozenset[str]) -> Iterator[str]:
    at = f"plans.{plan.id}"
    if plan.base_fee:
        fee = plain(plan.base_fee)
        yield f"{at}.base_fee: {fee} {currency} is shown but not billed yet; add it to the customer's subscription."
    if plan.seats is not None:
        fee = plain(plan.seats.unit_price)
        yield f"{at}.seats: {fee} {currency} a seat is shown but not billed yet; add it to the customer's subscription."
    for index, price in enumerate(plan.prices):
        if price.meter in levels and (plan.spend_cap is not None or any(limit.amount for limit in plan.limits)):
            yield f"{at}.prices[{index}]: what the level `{price.meter}` costs comes on top of every cap on spend."
        wished = {"minimum": price.minimum, "maximum": price.maximum, "markup": price.markup or None}
        for name, value in wished.items():
            if value is not None:
                yield f"{at}.prices[{index}].{name}: {plain(value)} is shown but not billed yet."
    if plan.period.anchor == "subscription":
        yield f"{at}.period.anchor: `subscription` is not read from Stripe yet; periods begin as the account did."
    for index, pack in enumerate(plan.packs):
        asked = plain(pack.price)
        yield f"{at}.packs[{index}]: {plain(pack.units)} units for {asked} {currency} are shown but not sold yet."
