"""What an account brought in a month and what it cost at its providers (pure).

A month is a calendar month of UTC, as rollups are UTC days. It is rated as if it was one billing period of one plan:
base fee and seats in full, and the billable units of the month from the first tier on. Of a plan by the year, twelve
such months are rated and a twelfth is taken. Credit packs are no revenue of a month: their price was paid some other
day. Money is in the plan's currency where nothing else is said; cost is in US dollars.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Final, Literal, NamedTuple

from tollgate.accounts.currency import charges
from tollgate.billing.breakdown import NAMED, REST, Shares, summed
from tollgate.billing.rollup import Rollup
from tollgate.catalog.model import Meter, Plan
from tollgate.margins.book import PriceBook
from tollgate.quantities import EXACT, ONE, ZERO, quantize
from tollgate.rating.bill import Used, bill
from tollgate.rating.currency import rounded

Level = Literal["healthy", "warning", "critical", "free", "unknown"]
WARNING: Final = Decimal("0.4")
CRITICAL: Final = Decimal("0.6")
"""Ratios of cost to revenue from which a margin is one or the other."""
USD: Final = "usd"
PLACES: Final = 6
"""Decimal places of amounts in US dollars that were converted or divided."""
_YEAR: Final = 12


@dataclass(frozen=True, slots=True)
class Month:
    """A meter's rollups of a month together. `level`: what a level meter was last set to."""

    billable: Decimal = ZERO
    units: Decimal = ZERO
    credit_funded: Decimal = ZERO
    cost: Decimal = ZERO
    unpriced: Decimal = ZERO
    models: Shares = field(default_factory=dict)
    level: tuple[int, Decimal] | None = None
    """Number of the change, and units."""

    def plus(self, day: Rollup) -> Month:
        mark = day.total.level
        level = self.level
        if mark is not None and (level is None or level[0] <= mark.number):
            level = (mark.number, mark.units)
        return Month(
            EXACT.add(self.billable, day.total.billable),
            EXACT.add(self.units, day.total.units),
            EXACT.add(self.credit_funded, day.total.credit_funded),
            EXACT.add(self.cost, day.cost),
            EXACT.add(self.unpriced, day.unpriced),
            summed(self.models, day.models),
            level,
        )


def months(rollups: Iterable[Rollup]) -> dict[str, Month]:
    """The rollups of one account's month, by meter."""
    found: dict[str, Month] = {}
    for day in rollups:
        found[day.meter] = found.get(day.meter, Month()).plus(day)
    return found


class Line(NamedTuple):
    """What a model, or all accounts of a plan, brought and cost, in US dollars."""

    revenue: Decimal = ZERO
    cost: Decimal = ZERO

    def plus(self, other: Line) -> Line:
        return Line(EXACT.add(self.revenue, other.revenue), EXACT.add(self.cost, other.cost))

    @property
    def ratio(self) -> Decimal | None:
        return ratio_of(self.cost, self.revenue)


@dataclass(frozen=True, slots=True)
class Margin:
    """One account's month. `usd`: the revenue in US dollars; None: in another currency, and the operator says no rate.

    `unpriced`: units whose cost is unknown, by meter; with any, `cost` is less than it was. `credits`: units were paid
    with credits that the plan sells in packs; then the revenue is less than it was.
    """

    account: str
    plan: str
    version: int
    currency: str
    fixed: Decimal
    """Base fee, seats and levels."""
    usage: Decimal
    cost: Decimal
    usd: Decimal | None
    level: Level
    unpriced: Mapping[str, Decimal] = field(default_factory=dict)
    credits: bool = False
    models: Mapping[str, Line] = field(default_factory=dict)
    """Those of most cost, and REST; empty where there is no revenue in US dollars."""

    @property
    def revenue(self) -> Decimal:
        return EXACT.add(self.fixed, self.usage)

    @property
    def ratio(self) -> Decimal | None:
        """Cost for each dollar of revenue; None: there is no revenue, or none in dollars."""
        return None if self.usd is None else ratio_of(self.cost, self.usd)

    @property
    def loses(self) -> bool:
        """Whether a plan that is to be paid brought less than the account cost."""
        return self.level not in ("free", "unknown") and self.usd is not None and self.cost > self.usd


def ratio_of(cost: Decimal, revenue: Decimal) -> Decimal | None:
    """Cost by revenue, to four places; None without revenue."""
    return quantize(EXACT.divide(cost, revenue), 4) if revenue else None


def level_of(cost: Decimal, revenue: Decimal | None) -> Level:
    """How bad it is, not of the rounded ratio; `unknown` without revenue in US dollars."""
    if revenue is None:
        return "unknown"
    if cost == ZERO or cost < EXACT.multiply(revenue, WARNING):
        return "healthy"
    return "warning" if cost < EXACT.multiply(revenue, CRITICAL) else "critical"


def margin_of(
    account: str,
    plan: Plan,
    meters: Mapping[str, Meter],
    used: Mapping[str, Month],
    standing: Mapping[str, Decimal],
    book: PriceBook,
) -> Margin:
    """`used`: the month, by meter; `standing`: what level meters stand at that were not set in it."""
    levels = {
        name: level[1] if (level := used.get(name, Month()).level) is not None else standing.get(name, ZERO)
        for name, meter in meters.items()
        if meter.kind == "level"
    }
    rated = _rated(plan, used, levels)
    by_meter = {meter: amount for meter, amount in rated.items() if meter is not None and meter not in levels}
    usage = sum(by_meter.values(), ZERO)
    fixed = EXACT.subtract(sum(rated.values(), ZERO), usage)
    rate = ONE if plan.currency == USD else book.usd_per.get(plan.currency)
    revenue = EXACT.add(fixed, usage)
    usd = in_usd(revenue, rate) if rate is not None else None if revenue else ZERO
    cost = sum((month.cost for month in used.values()), ZERO)
    sold = {pack.meter for pack in plan.packs}
    return Margin(
        account=account,
        plan=plan.id,
        version=plan.version,
        currency=plan.currency,
        fixed=fixed,
        usage=usage,
        cost=cost,
        usd=usd,
        level=level_of(cost, usd) if charges(plan) else "free",
        unpriced={meter: month.unpriced for meter, month in sorted(used.items()) if month.unpriced},
        credits=any(used[meter].credit_funded for meter in sold & used.keys()),
        models={} if rate is None or usd is None else _models(used, by_meter, rate, usd),
    )


def in_usd(amount: Decimal, rate: Decimal) -> Decimal:
    return amount if rate == ONE else quantize(EXACT.multiply(amount, rate), PLACES)


def _rated(plan: Plan, used: Mapping[str, Month], levels: Mapping[str, Decimal]) -> dict[str | None, Decimal]:
    """What the month comes to by meter; base fee and seats under None."""
    times = _YEAR if plan.period.interval == "year" else 1
    # What is billable is what is to be paid: units that seats brought, credits paid for or were waived are out of it.
    as_sent = tuple(replace(price, included_per_seat=ZERO) for price in plan.prices)
    quantities = {
        price.meter: Used(
            levels[price.meter]
            if price.meter in levels
            else EXACT.multiply(used.get(price.meter, Month()).billable, Decimal(times))
        )
        for price in plan.prices
    }
    seats = ZERO if plan.seats is None or plan.seats.meter is None else levels.get(plan.seats.meter, ZERO)
    found: dict[str | None, Decimal] = {}
    for line in bill(replace(plan, prices=as_sent), plan.currency, quantities, int(seats)).lines:
        found[line.meter] = EXACT.add(found.get(line.meter, ZERO), line.amount)
    if times == 1:
        return found
    return {meter: rounded(EXACT.divide(amount, Decimal(times)), plan.currency) for meter, amount in found.items()}


def _models(used: Mapping[str, Month], by_meter: Mapping[str, Decimal], rate: Decimal, usd: Decimal) -> dict[str, Line]:
    """Revenue and cost by model: a meter's charge by its units, all else by cost, the one measure that meters share.
    What cannot be told apart, what rounding leaves, and all models but `NAMED` are REST's: the lines add up to the
    account's. (Apps name models: another twenty for each meter and day would make a row of any size.)"""
    found: dict[str, Line] = {}
    cost = sum((month.cost for month in used.values()), ZERO)
    usage = in_usd(sum(by_meter.values(), ZERO), rate)
    for meter, month in used.items():
        charge = in_usd(by_meter.get(meter, ZERO), rate)
        for model, share in month.models.items():
            if model == REST:
                continue
            brought = _part(charge, share.units, month.units) + _part(usd - usage, share.cost, cost)
            found[model] = found.get(model, Line()).plus(Line(brought, share.cost))
    names = sorted(found, key=lambda name: (-found[name].cost, -found[name].revenue, name))
    named = {name: found[name] for name in names[:NAMED]}
    rest = Line(usd, cost)
    for line in named.values():
        rest = Line(EXACT.subtract(rest.revenue, line.revenue), EXACT.subtract(rest.cost, line.cost))
    return {**named, REST: rest} if any(rest) else named


def _part(amount: Decimal, of: Decimal, whole: Decimal) -> Decimal:
    return quantize(EXACT.divide(EXACT.multiply(amount, of), whole), PLACES) if whole else ZERO
