"""What the fields of a catalogue mean together: references, unique ids, tiers, limits of one kind or the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from tollgate.catalog.document import (
    GraduatedEntry,
    LimitEntry,
    MeterEntry,
    PackageEntry,
    PerUnitEntry,
    PlanEntry,
    PriceEntry,
    TierEntry,
    VolumeEntry,
)
from tollgate.catalog.errors import Path
from tollgate.quantities import plain, quantize
from tollgate.rating.charge import with_markup
from tollgate.rating.currency import is_chargeable, minor_places

Mistake = tuple[Path, str]

STRIPE_PLACES = 12
"""Decimal places of a unit price in the currency's smallest units (Stripe's `unit_amount_decimal`)."""


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
    if currency is not None:
        yield from _check_money(at, plan, currency)


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
        if isinstance(meter, MeterEntry):
            if meter.stripe_event_name is None:
                yield (*at, index, "meter"), f"meter `{price.meter}` has no stripe_event_name to bill it under"
            yield from _check_scale((*at, index), price, meter.scale)
        if isinstance(price, GraduatedEntry | VolumeEntry):
            yield from _check_tiers((*at, index, "tiers"), price.tiers)
        if price.minimum is not None and price.maximum is not None and price.maximum < price.minimum:
            yield (*at, index, "maximum"), f"must be at least the minimum, {plain(price.minimum)}"
        if price.included_per_seat is not None and plan.seats is None:
            yield (*at, index, "included_per_seat"), "the plan has no `seats` to bring these units"


def _check_money(at: Path, plan: PlanEntry, currency: str) -> Iterator[Mistake]:
    """Amounts that stand on an invoice as they are must be whole in its currency; unit prices may be finer."""
    yield from _check_amount((*at, "base_fee"), plan.base_fee, currency)
    for index, price in enumerate(plan.prices):
        yield from _check_amount((*at, "prices", index, "minimum"), price.minimum, currency)
        yield from _check_amount((*at, "prices", index, "maximum"), price.maximum, currency)
        yield from _check_marked_up((*at, "prices", index), price, currency)


def _check_amount(path: Path, amount: Decimal | None, currency: str, what: str = "") -> Iterator[Mistake]:
    if amount is not None and not is_chargeable(amount, currency):
        yield path, f"{what}cannot be charged in {currency}, which has {minor_places(currency)} decimal places"


def _check_marked_up(at: Path, price: PriceEntry, currency: str) -> Iterator[Mistake]:
    """With the markup, a flat amount is still an amount, and a unit price has the decimal places that Stripe takes."""
    markup = price.markup or Decimal(0)
    each: list[tuple[Path, Decimal]] = []
    if isinstance(price, PerUnitEntry):
        each.append(((*at, "unit_price"), price.unit_price))
    elif isinstance(price, PackageEntry):
        each.append(((*at, "package_price"), price.package_price))
    else:
        for index, tier in enumerate(price.tiers):
            path = (*at, "tiers", index)
            each.append(((*path, "unit_price"), tier.unit_price))
            if tier.flat is not None:
                flat = with_markup(tier.flat, markup)
                what = f"with the markup it is {plain(flat)}, which " if markup else ""
                yield from _check_amount((*path, "flat"), flat, currency, what)
    most = STRIPE_PLACES + minor_places(currency)
    for path, unit_price in each:
        marked = plain(with_markup(unit_price, markup))
        if len(marked.partition(".")[2]) > most:
            yield path, f"with the markup it is {marked}: more than the {most} decimal places that can be billed"


def _check_scale(at: Path, price: PriceEntry, scale: int) -> Iterator[Mistake]:
    """An edge between two countable quantities would be met by neither."""
    counts: list[tuple[Path, Decimal | None]] = [((*at, "included_per_seat"), price.included_per_seat)]
    if isinstance(price, GraduatedEntry | VolumeEntry):
        counts += [((*at, "tiers", index, "up_to"), tier.up_to) for index, tier in enumerate(price.tiers)]
    for path, count in counts:
        if count is not None and quantize(count, scale) != count:
            yield path, f"meter `{price.meter}` counts {scale} decimal places (its `scale`)"


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
