"""What a catalogue asks for and this release accepts but does not do yet: said aloud whenever a catalogue is loaded."""

from __future__ import annotations

from collections.abc import Iterator

from tollgate.catalog.model import Catalog, Plan
from tollgate.quantities import plain


def notices(catalog: Catalog) -> list[str]:
    """One sentence for each such wish, in the order of the file; empty where everything is enforced."""
    levels = [
        f"meters.{meter.id}.kind: a `level` cannot be set yet; usage of this meter is added up, without a reset."
        for meter in catalog.meters.values()
        if meter.kind == "level"
    ]
    return levels + [notice for plan in catalog.plans.values() for notice in _of(plan, catalog.currency)]


def _of(plan: Plan, currency: str) -> Iterator[str]:
    at = f"plans.{plan.id}"
    if plan.base_fee:
        fee = plain(plan.base_fee)
        yield f"{at}.base_fee: {fee} {currency} is shown but not billed yet; add it to the customer's subscription."
    if plan.seats is not None:
        fee = plain(plan.seats.unit_price)
        yield f"{at}.seats: {fee} {currency} a seat is shown but not billed yet; add it to the customer's subscription."
    for index, price in enumerate(plan.prices):
        wished = {"minimum": price.minimum, "maximum": price.maximum, "markup": price.markup or None}
        for name, value in wished.items():
            if value is not None:
                yield f"{at}.prices[{index}].{name}: {plain(value)} is shown but not billed yet."
        if price.included_per_seat:
            brought = plain(price.included_per_seat)
            yield f"{at}.prices[{index}].included_per_seat: {brought} is shown but neither given nor billed yet."
    if plan.period.anchor == "subscription":
        yield f"{at}.period.anchor: `subscription` is not read from Stripe yet; periods begin as the account did."
    for index, pack in enumerate(plan.packs):
        asked = plain(pack.price)
        yield f"{at}.packs[{index}]: {plain(pack.units)} units for {asked} {currency} are shown but not sold yet."
