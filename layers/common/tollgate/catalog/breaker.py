"""The circuit breaker's settings: what `catalog.yaml` says of it, as values with the floors that follow from plans.

A floor is what an hour may come to however little an account has used so far. Where the catalogue names none for a
meter, the plan itself says what is a normal day: what it includes, gives or allows, spread over its days. `multiple`
such days are the floor.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import ROUND_CEILING, Decimal

from tollgate.catalog.document import BreakerEntry, Document, PlanEntry
from tollgate.catalog.model import BreakerRule, Breakers, Meter, Plan
from tollgate.quantities import EXACT, ZERO
from tollgate.rating.charge import included

_DAYS = {"day": 1, "week": 7, "month": 30, "year": 365}


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
    floors = {}
    for meter in meters:
        floor = next((one.floor[meter.id] for one in said if meter.id in one.floor), None)
        if floor is None:
            normal = max(_normal_days(plan, meter.id), default=ZERO)
            floor = EXACT.multiply(multiple, normal).quantize(Decimal(1), rounding=ROUND_CEILING, context=EXACT)
        if floor:
            floors[meter.id] = floor
    return BreakerRule(multiple, floors)


def _normal_days(plan: Plan, meter: str) -> Iterator[Decimal]:
    """Units a day of a meter that the plan itself says are normal."""
    days = {**_DAYS, "period": _DAYS[plan.period.interval]}
    for limit in plan.limits:
        window = None if limit.window is None else limit.window.name
        if limit.per == "account" and limit.meters == (meter,) and not limit.where and window in days and limit.max:
            yield EXACT.divide(limit.max, days[window])
    for price in plan.prices:
        if price.meter == meter:
            yield EXACT.divide(included(price) or ZERO, days["period"])
    for rule in plan.grants:
        if rule.meter == meter and rule.every in days:
            yield EXACT.divide(rule.units, days[rule.every])
