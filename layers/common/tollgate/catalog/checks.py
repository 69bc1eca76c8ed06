"""What the fields of a catalogue mean together: references, unique ids, tiers, limits of one kind or the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from tollgate.catalog.currency import minor_places
from tollgate.catalog.document import GraduatedEntry, LimitEntry, MeterEntry, PlanEntry, TierEntry, VolumeEntry
from tollgate.catalog.errors import Path

Mistake = tuple[Path, str]


def check_meters(meters: Mapping[str, MeterEntry]) -> Iterator[Mistake]:
    """Stripe has one active meter for each event name, so two meters under one name would be added up."""
    owner: dict[str, str] = {}
    for meter_id, meter in meters.items():
        name = meter.stripe_event_name
        if name is not None and owner.setdefault(name, meter_id) != meter_id:
            path = ("meters", meter_id, "stripe_event_name")
            yield path, f"meter `{owner[name]}` already sends its events as `{name}`"


def check_plan(plan_id: str, plan: PlanEntry, meters: Mapping[str, Any], currency: str | None) -> Iterator[Mistake]:
    """The mistakes of one plan. `meters` are those that the file names: the values may be entries that failed."""
    at: Path = ("plans", plan_id)
    yield from _check_references(at, plan, meters)
    yield from _check_prices((*at, "prices"), plan, meters)
    yield from _repeated((*at, "limits"), "id", [limit.id for limit in plan.limits])
    for index, limit in enumerate(plan.limits):
        yield from _check_limit((*at, "limits", index), limit)
    for index, grant in enumerate(plan.grants):
        if grant.rollover_max is not None and grant.every == "once":
            yield (*at, "grants", index, "rollover_max"), "a grant given once rolls nothing over: remove it"
    if currency is not None and plan.base_fee is not None:
        places = minor_places(currency)
        if plan.base_fee != plan.base_fee.quantize(Decimal(1).scaleb(-places)):
            yield (*at, "base_fee"), f"cannot be charged in {currency}, which has {places} decimal places"


def _check_references(at: Path, plan: PlanEntry, meters: Mapping[str, Any]) -> Iterator[Mistake]:
    named: list[tuple[Path, str]] = []
    named += [((*at, "prices", index, "meter"), price.meter) for index, price in enumerate(plan.prices)]
    named += [((*at, "grants", index, "meter"), grant.meter) for index, grant in enumerate(plan.grants)]
    named += [((*at, "weights", meter), meter) for meter in plan.weights]
    for index, limit in enumerate(plan.limits):
        if limit.meter is not None:
            named.append(((*at, "limits", index, "meter"), limit.meter))
        named += [((*at, "limits", index, "meters", place), meter) for place, meter in enumerate(limit.meters or ())]
    for path, meter in named:
        if meter not in meters:
            known = ", ".join(str(name) for name in meters)
            yield path, f"no meter `{meter}` in this file; it has {known}"


def _check_prices(at: Path, plan: PlanEntry, meters: Mapping[str, Any]) -> Iterator[Mistake]:
    yield from _repeated(at, "meter", [price.meter for price in plan.prices])
    for index, price in enumerate(plan.prices):
        meter = meters.get(price.meter)
        if isinstance(meter, MeterEntry) and meter.stripe_event_name is None:
            yield (*at, index, "meter"), f"meter `{price.meter}` has no stripe_event_name to bill it under"
        if isinstance(price, GraduatedEntry | VolumeEntry):
            yield from _check_tiers((*at, index, "tiers"), price.tiers)


def _check_tiers(at: Path, tiers: list[TierEntry]) -> Iterator[Mistake]:
    reached = Decimal(0)
    for index, tier in enumerate(tiers):
        last = index == len(tiers) - 1
        if tier.up_to is None:
            if not last:
                yield (*at, index, "up_to"), "only the last tier goes up to inf"
            continue
        if tier.up_to <= reached:
            yield (*at, index, "up_to"), f"tiers ascend: must be above {reached}"
        if last:
            yield (*at, index, "up_to"), "the last tier goes up to inf"
        reached = max(reached, tier.up_to)


def _check_limit(at: Path, limit: LimitEntry) -> Iterator[Mistake]:
    if (limit.window is None) == (limit.concurrent is None):
        yield at, "give exactly one of `window` (with `max`) and `concurrent`"
        return
    if limit.concurrent is not None:
        for field in ("meter", "meters", "max"):
            if getattr(limit, field) is not None:
                yield (*at, field), "a `concurrent` limit counts open reservations of every meter: remove it"
        if limit.where:
            yield (*at, "where"), "a `concurrent` limit counts every open reservation: remove it"
        return
    if limit.max is None:
        yield (*at, "max"), "is required with `window`"
    if (limit.meter is None) == (limit.meters is None):
        yield at, "give exactly one of `meter` and `meters`"
    yield from _repeated((*at, "meters"), None, limit.meters or ())


def _repeated(at: Path, field: str | None, values: Iterable[str]) -> Iterator[Mistake]:
    first: dict[str, int] = {}
    for index, value in enumerate(values):
        if first.setdefault(value, index) != index:
            path = (*at, index) if field is None else (*at, index, field)
            yield path, f"`{value}` is given twice, first at [{first[value]}]"
