"""The circuit breaker's settings: what `catalog.yaml` says of it, as values with the floors that follow from plans.

A floor is what an hour may come to however little an account has used so far. Where the catalogue names none for a
meter, it is what customers have in any case: the units that the plan includes and gives in one go, and its largest
pack; where the meter has no price and no credits, the largest limit of the account. So nobody is stopped while they
use up what they have. A floor that the catalogue names also stops new accounts; what follows from a plan does not, or
the first customer to go past what is included would be stopped.
"""

from __future__ import annotations

from decimal import Decimal

from tollgate.catalog.document import BreakerEntry, Document, PlanEntry
from tollgate.catalog.model import BreakerRule, Breakers, Meter, Plan
from tollgate.quantities import ZERO
from tollgate.rating.charge import included


def breakers(document: Document, plans: dict[str, Plan], meters: dict[str, Meter]) -> Breakers:
    """The breakers of a catalogue without mistakes."""
    general = document.breaker
    sums = [meter for meter in meters.values() if meter.kind != "level"]
    rules = {}
    for plan_id, plan in plans.items():
        found = _rule(general, document.plans[plan_id], plan, sums)
        if found is not None:
            rules[plan_id] = found
    return Breakers(rules, None if general == "off" else general.platform_cost_per_hour)


def _rule(general: BreakerEntry | str, entry: PlanEntry, plan: Plan, meters: list[Meter]) -> BreakerRule | None:
    own = entry.breaker
    if own == "off" or (own is None and general == "off"):
        return None
    said = [one for one in (own, general) if isinstance(one, BreakerEntry)]
    multiple = next((one.multiple for one in said if "multiple" in one.model_fields_set), said[0].multiple)
    floors, had = {}, {}
    for meter in meters:
        floor = next((one.floor[meter.id] for one in said if meter.id in one.floor), None)
        if floor is not None:
            floors[meter.id] = floor
        elif units := _had_anyway(plan, meter.id):
            had[meter.id] = units
    return BreakerRule(multiple, floors, had)


def _had_anyway(plan: Plan, meter: str) -> Decimal:
    prices = [price for price in plan.prices if price.meter == meter]
    grants = [rule.units for rule in plan.grants if rule.meter == meter]
    packs = [pack.units for pack in plan.packs if pack.meter == meter]
    if prices or grants or packs:
        return sum([*(included(price) or ZERO for price in prices), *grants, max(packs, default=ZERO)], ZERO)
    own = [limit for limit in plan.limits if limit.per == "account" and limit.meters == (meter,) and not limit.where]
    return max((limit.max for limit in own if limit.max is not None), default=ZERO)
