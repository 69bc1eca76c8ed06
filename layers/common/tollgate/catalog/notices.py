"""What a catalogue asks for and this release accepts but does not do yet: said aloud whenever a catalogue is loaded."""

from __future__ import annotations

from collections.abc import Iterator

from tollgate.catalog.model import Catalog, Plan, level_meters
from tollgate.sync.expressed import NotExpressible, metered
from tollgate.sync.objects import Terms


def notices(catalog: Catalog) -> list[str]:
    """One sentence for each such wish, in the order of the file; empty where everything is enforced."""
    levels = level_meters(catalog.meters)
    return [notice for plan in catalog.plans.values() for notice in _of(plan, catalog.currency, levels)]


def _of(plan: Plan, currency: str, levels: frozenset[str]) -> Iterator[str]:
    at = f"plans.{plan.id}"
    if plan.seats is not None and plan.seats.meter is not None:
        level = plan.seats.meter
        yield f"{at}.seats.meter: the seats on the subscription are billed; `{level}` does not change them yet."
    for index, price in enumerate(plan.prices):
        if price.meter in levels and (plan.spend_cap is not None or any(limit.amount for limit in plan.limits)):
            yield f"{at}.prices[{index}]: what the level `{price.meter}` costs comes on top of every cap on spend."
        try:
            metered(price, Terms("", currency, plan.period.interval))
        except NotExpressible as reason:
            yield f"{at}.prices[{index}]: is shown but cannot be billed through Stripe: {reason}."
