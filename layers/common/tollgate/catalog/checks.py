"""What the fields of a catalogue mean together: references, unique ids, rates, prices and money. Limits are in
`limit_checks`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from tollgate.catalog.document import (
    BreakerEntry,
    GraduatedEntry,
    MeterEntry,
    PackageEntry,
    PerUnitEntry,
    PlanEntry,
    PriceEntry,
    ProviderPrices,
    RatesEntry,
    TierEntry,
    VolumeEntry,
)
from tollgate.catalog.errors import Path
from tollgate.catalog.limit_checks import Mistake, check_limits, repeated
from tollgate.catalog.model import Condition, condition
from tollgate.catalog.rates import SINCE
from tollgate.quantities import plain, quantize
from tollgate.rating.charge import with_markup
from tollgate.rating.currency import is_chargeable, minor_places

MAX_PROVIDER_PRICES = 3_000
"""Prices of one book: with them it stays far below DynamoDB's 400 KB an item."""
STRIPE_PLACES = 12
"""Decimal places of a unit price in the currency's smallest units (Stripe's `unit_amount_decimal`)."""
_SET_AS_IT_IS = "a level is set as it is, not weighed: remove it"


def check_meters(meters: Mapping[str, MeterEntry]) -> Iterator[Mistake]:
    """Stripe has one active meter for each event name, so two meters under one name would be added up."""
    owner: dict[str, str] = {}
    for meter_id, meter in meters.items():
        at: Path = ("meters", meter_id)
        name = meter.stripe_event_name
        if name is not None and owner.setdefault(name, meter_id) != meter_id:
            yield (*at, "stripe_event_name"), f"meter `{owner[name]}` already sends its events as `{name}`"
        if meter.kind == "level":
            for field in ("weights", "rates", "multipliers", "costs"):
                if getattr(meter, field):
                    yield (*at, field), _SET_AS_IT_IS
        elif meter.rates is not None:
            yield from _check_rates((*at, "rates"), meter.rates)
            if all(rule.when for rule in meter.weights):
                yield (*at, "rates"), "what the file does not name would count 1: end `weights` with one for all"


def check_breaker(at: Path, breaker: BreakerEntry, meters: Mapping[str, Any]) -> Iterator[Mistake]:
    """Floors are of meters whose usage is added up."""
    for name in breaker.floor:
        meter = meters.get(name)
        if name not in meters:
            yield (*at, "floor", name), f"no meter `{name}` in this file"
        elif isinstance(meter, MeterEntry) and meter.kind == "level":
            yield (*at, "floor", name), "a level has no breaker: remove it"


def check_prices(at: Path, prices: ProviderPrices) -> Iterator[Mistake]:
    """A model has one price of a kind at a time."""
    for model, entries in prices.items():
        yield from repeated((*at, model), "effective_from", [str(entry.effective_from) for entry in entries])
    if sum(len(entry.per_million) for entries in prices.values() for entry in entries) > MAX_PROVIDER_PRICES:
        yield at, f"more than {MAX_PROVIDER_PRICES} prices"


def _check_rates(at: Path, rates: RatesEntry) -> Iterator[Mistake]:
    yield from repeated((*at, "dimensions"), None, rates.dimensions)
    for index, dimension in enumerate(rates.dimensions):
        if dimension == SINCE or dimension in rates.columns:
            yield (*at, "dimensions", index), f"column `{dimension}` has another meaning already"
    meanings: dict[Condition, str] = {}
    for column, when in rates.columns.items():
        if column == SINCE:
            yield (*at, "columns", column), f"column `{column}` holds the day from which a line holds"
        for dimension in when:
            if dimension in rates.dimensions:
                yield (*at, "columns", column, dimension), "a column of `dimensions` says this already"
        first = meanings.setdefault(condition(when), column)
        if first != column:
            yield (*at, "columns", column), f"is for the same as column `{first}`"


def check_plan(plan_id: str, plan: PlanEntry, meters: Mapping[str, Any], currency: str | None) -> Iterator[Mistake]:
    """The mistakes of one plan. `meters` are those that the file names: the values may be entries that failed."""
    at: Path = ("plans", plan_id)
    levels = frozenset(
        name for name, meter in meters.items() if isinstance(meter, MeterEntry) and meter.kind == "level"
    )
    yield from _check_references(at, plan, meters)
    yield from _check_prices((*at, "prices"), plan, meters)
    yield from check_limits((*at, "limits"), plan, levels)
    yield from repeated((*at, "packs"), "id", [pack.id for pack in plan.packs])
    yield from _check_credits(at, plan, meters)
    if isinstance(plan.breaker, BreakerEntry):
        yield from check_breaker((*at, "breaker"), plan.breaker, meters)
    for meter in sorted(levels & plan.weights.keys()):
        yield (*at, "weights", meter), _SET_AS_IT_IS
    for index, grant in enumerate(plan.grants):
        if grant.rollover_max is not None and grant.every == "once":
            yield (*at, "grants", index, "rollover_max"), "a grant given once rolls nothing over: remove it"
    if currency is not None:
        yield from _check_money(at, plan, currency)


def _check_references(at: Path, plan: PlanEntry, meters: Mapping[str, Any]) -> Iterator[Mistake]:
    named: list[tuple[Path, str]] = []
    named += [((*at, "prices", index, "meter"), price.meter) for index, price in enumerate(plan.prices)]
    named += [((*at, "grants", index, "meter"), grant.meter) for index, grant in enumerate(plan.grants)]
    named += [((*at, "packs", index, "meter"), pack.meter) for index, pack in enumerate(plan.packs)]
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
    yield from repeated(at, "meter", [price.meter for price in plan.prices])
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
    if plan.seats is not None and plan.seats.meter is not None:
        counted = meters.get(plan.seats.meter)
        if not isinstance(counted, MeterEntry) or counted.kind != "level":
            levels = [name for name, one in meters.items() if isinstance(one, MeterEntry) and one.kind == "level"]
            known = ", ".join(levels) or "none"
            yield (*at[:-1], "seats", "meter"), f"no level meter `{plan.seats.meter}`; there is {known}"


def _check_credits(at: Path, plan: PlanEntry, meters: Mapping[str, Any]) -> Iterator[Mistake]:
    given: list[tuple[Path, str, Decimal]] = []
    given += [((*at, "grants", index), grant.meter, grant.units) for index, grant in enumerate(plan.grants)]
    given += [((*at, "packs", index), pack.meter, pack.units) for index, pack in enumerate(plan.packs)]
    seen: set[tuple[str, str]] = set()
    for index, grant in enumerate(plan.grants):
        if (grant.meter, grant.every) in seen:
            yield (*at, "grants", index), f"`{grant.meter}` comes every `{grant.every}` already: make one grant of both"
        seen.add((grant.meter, grant.every))
    for path, name, units in given:
        meter = meters.get(name)
        if not isinstance(meter, MeterEntry):
            continue
        if meter.kind == "level":
            yield (*path, "meter"), f"meter `{name}` is a level: nothing of it is used up that credits could pay for"
        if quantize(units, meter.scale) != units:
            yield (*path, "units"), f"meter `{name}` counts {meter.scale} decimal places (its `scale`)"


def _check_money(at: Path, plan: PlanEntry, currency: str) -> Iterator[Mistake]:
    """Amounts that stand on an invoice as they are must be whole in its currency; unit prices may be finer."""
    yield from _check_amount((*at, "base_fee"), plan.base_fee, currency)
    for index, pack in enumerate(plan.packs):
        path = (*at, "packs", index, "price")
        if pack.price == 0:
            yield path, "must be above 0: what costs nothing is a grant"
        yield from _check_amount(path, pack.price, currency)
    for index, limit in enumerate(plan.limits):
        yield from _check_amount((*at, "limits", index, "amount"), limit.amount, currency)
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
