"""Light, medium and heavy use of a plan, billed by the rating engine: the worked examples of a pricing page.

With included units (free tiers, seats, credits): a fifth of them, twice, ten times as many. Without: round numbers that
come to about a twentieth, a quarter and all of the spend cap (else of twice the base fee, else of 20 in a currency with
cents). Usage stops where the plan stops it: at an account's limit, a blocked overage, the spend cap.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import NamedTuple

from tollgate.catalog.model import Meter, Plan, Price
from tollgate.catalog.page import summary
from tollgate.catalog.wording import money
from tollgate.quantities import ZERO
from tollgate.rating.bill import Bill, Used, bill, paid_units
from tollgate.rating.caps import usable
from tollgate.rating.charge import highest, included
from tollgate.rating.currency import EXACT, floor_at, minor_places, quotient
from tollgate.rating.marginal import buys, marginal_highest

LEVELS = ("light", "medium", "heavy")
_OF_FREE = (Decimal("0.2"), Decimal(2), Decimal(10))
_OF_MONEY = (Decimal("0.05"), Decimal("0.25"), Decimal(1))
_OF_SEATS = (1, 3, 10)
_UNPRICED = (Decimal(100), Decimal(1000), Decimal(10000))
_FEW = (Decimal(1), Decimal(2), Decimal(5))


class Example(NamedTuple):
    """`used` by meter. `capped`: the spend cap stopped usage there. `seats` is None for a plan without seats."""

    name: str
    seats: int | None
    used: dict[str, Used]
    bill: Bill
    capped: bool
    text: str


def examples(plan: Plan, meters: Mapping[str, Meter], currency: str) -> list[Example]:
    """One example for each level; none for a plan that prices neither usage nor seats, or whose usage only packs pay
    for: how many of them a customer buys, no plan says."""
    if not plan.prices and plan.seats is None:
        return []
    found = [_example(plan, meters, currency, level) for level in range(len(LEVELS))]
    shown = any(example.seats or any(used.units for used in example.used.values()) for example in found)
    return found if shown or not plan.packs else []


def _example(plan: Plan, meters: Mapping[str, Meter], currency: str, level: int) -> Example:
    seats = 0 if plan.seats is None else max(plan.seats.minimum, 1) * _OF_SEATS[level]
    used: dict[str, Used] = {}
    capped = False
    spent = sum((highest(price, ZERO) for price in plan.prices), ZERO)
    scales = [(price, meters[price.meter].scale) for price in plan.prices]
    cap = None if plan.spend_cap is None else usable(plan.spend_cap, scales, currency)
    for price, scale in scales:
        units = _allowed(plan, price, _units(plan, price, scale, currency, seats, level), seats, meters[price.meter])
        found = _funded(plan, price, units, scale, seats)
        paid = paid_units(plan, price, found, seats)
        if cap is not None:
            most = buys(price, ZERO, EXACT.subtract(cap, spent), scale)
            if most is not None and paid > most:
                capped = True
                fits = EXACT.subtract(units, EXACT.subtract(paid, most))
                found = _funded(plan, price, floor_at(fits, 0) if fits >= 1 else fits, scale, seats)
                paid = paid_units(plan, price, found, seats)
        spent = EXACT.add(spent, marginal_highest(price, ZERO, paid))
        used[price.meter] = found
    made = bill(plan, currency, used, seats)
    counted = summary({meter: entry.units for meter, entry in used.items()}, meters)
    people = [] if plan.seats is None else [f"{seats} seat{'' if seats == 1 else 's'}"]
    said = ", ".join([*people, *([counted] if counted else [])])
    text = f"{said}: {money(made.total, currency)}/{plan.period.interval}"
    if capped:
        text += ", where the cap stops usage"
    return Example(LEVELS[level], None if plan.seats is None else seats, used, made, capped, text)


def _units(plan: Plan, price: Price, scale: int, currency: str, seats: int, level: int) -> Decimal:
    """How many units this level uses, before anything stops it."""
    first = included(price)
    if first is None:
        return _UNPRICED[level]
    free = EXACT.add(first, EXACT.multiply(price.included_per_seat, Decimal(seats))) or _granted(plan, price)
    if free:
        units = EXACT.multiply(free, _OF_FREE[level])
        return floor_at(units, 0) if units >= 1 else floor_at(units, scale)
    reference = plan.spend_cap or EXACT.multiply(plan.base_fee, Decimal(2)) or _twenty(currency)
    bought = buys(price, ZERO, EXACT.multiply(reference, _OF_MONEY[level]), scale)
    if bought is None:
        return _UNPRICED[level]
    return _round_number(bought) if bought >= _FEW[level] else _FEW[level]


def _twenty(currency: str) -> Decimal:
    return Decimal(20) if minor_places(currency) else Decimal(2000)


def _round_number(value: Decimal) -> Decimal:
    """The largest 1, 2 or 5 times a power of ten that is not above a value of at least 1."""
    power = Decimal(1).scaleb(value.adjusted())
    return next(EXACT.multiply(step, power) for step in reversed(_FEW) if EXACT.multiply(step, power) <= value)


def _granted(plan: Plan, price: Price) -> Decimal:
    """Credits for the price's meter that the plan gives in every period."""
    return sum(_grants(plan, price), ZERO)


def _grants(plan: Plan, price: Price) -> Iterator[Decimal]:
    months = 12 if plan.period.interval == "year" else 1
    times = {"period": 1, "month": months, "year": 1 if months == 12 else 0, "week": 4 * months, "day": 28 * months}
    for grant in plan.grants:
        if grant.meter == price.meter:
            yield EXACT.multiply(grant.units, Decimal(times.get(grant.every, 0)))


def _funded(plan: Plan, price: Price, units: Decimal, scale: int, seats: int) -> Used:
    """Usage spread evenly over the seats, with credits paying what is beyond the included units."""
    share = quotient(units, Decimal(seats), scale) if seats else ZERO
    by_seat = (share,) * seats
    paid = paid_units(plan, price, Used(units, by_seat=by_seat), seats)
    beyond = max(ZERO, EXACT.subtract(paid, included(price) or ZERO))
    return Used(units, credit_funded=min(_granted(plan, price), beyond), by_seat=by_seat)


def _allowed(plan: Plan, price: Price, units: Decimal, seats: int, meter: Meter) -> Decimal:
    """The units that limits and a blocked overage leave of those wished for."""
    first = included(price)
    if plan.overage == "off" and first is not None:
        brought = EXACT.multiply(price.included_per_seat, Decimal(seats))
        units = min(units, EXACT.add(EXACT.add(first, brought), _granted(plan, price)))
    for limit in plan.limits:
        period = meter.kind == "level" or (
            limit.window is not None and limit.window.name in ("period", plan.period.interval)
        )
        if period and limit.per == "account" and limit.meters == (price.meter,) and not limit.where and limit.max:
            units = min(units, limit.max)
    return units
