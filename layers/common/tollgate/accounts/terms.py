"""What money and credits mean to one account now: prices as schedules, the cap on spend, what may run over.

Compiled from the plan version, the operator's overrides and the customer's controls. Only accounts with prices or
credits have terms; the module is imported with the first of them, so that the gate starts without the rating engine.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import NamedTuple

from tollgate.catalog.model import Meter, Plan, Price, credited
from tollgate.quantities import ZERO
from tollgate.rating.caps import usable
from tollgate.rating.charge import included
from tollgate.rating.piece import Schedule
from tollgate.rating.schedule import schedule


class Funding(NamedTuple):
    """How units of one meter are paid for: included ones, then credits, then overage."""

    meter: str
    slot: int
    """The meter's slot."""
    schedule: Schedule | None
    """None: the plan has no price for it, so that only credits pay."""
    included: Decimal | None
    """Paid positions up to here cost nothing; None: all do."""
    stopped_by: str | None
    """Who stops overage: `plan`, `customer`, or `credits` where nothing but credits could pay; None: it is allowed."""
    credited: bool = False
    """Whether the plan gives or sells credits of the meter."""

    def at(self, position: Decimal) -> Decimal:
        """The highest charge over 0..position."""
        return ZERO if self.schedule is None else self.schedule.at(position)


class Cap(NamedTuple):
    """A promise about the spend of a billing period. `amount` is as promised; `usable` is the exact spend that keeps
    the rounded invoice within it."""

    amount: Decimal
    usable: Decimal
    source: str
    """`plan`, `operator` or `customer`."""


class Terms(NamedTuple):
    """`fundings` by meter slot. `waives`: whether used units past a promise are waived (the account's gate); a member's
    money limit is the account's own business, so the account pays."""

    fundings: Mapping[int, Funding]
    cap: Cap | None
    waives: bool = True

    def spend(self, positions: Mapping[int, Decimal]) -> Decimal:
        """What paid positions come to; a meter without a position is at 0."""
        return sum((one.at(positions.get(slot, ZERO)) for slot, one in self.fundings.items()), ZERO)


def usage_prices(plan: Plan, meters: Mapping[str, Meter]) -> list[Price]:
    """The prices of what is used up. A level costs what it costs: no reservation takes from it, and no promise about
    usage is about it."""
    return [price for price in plan.prices if meters[price.meter].kind != "level"]


def account_terms(
    plan: Plan, meters: Mapping[str, Meter], slots: Mapping[str, int], cap: Cap | None, blocked: str | None
) -> Terms | None:
    """The terms of an account's gate; None where the plan has neither prices of usage nor credits.

    `slots`: meter slots by meter. `cap` as `lowest_cap` finds it; `blocked`: who stops overage (`overage_stopped`).
    """
    prices = {price.meter: price for price in usage_prices(plan, meters)}
    credits = credited(plan)
    found = {}
    for meter in sorted({*prices, *credits}):
        price, slot = prices.get(meter), slots[meter]
        if price is None:
            found[slot] = Funding(meter, slot, None, ZERO, "credits", credited=True)
        else:
            found[slot] = _funding(price, meters[meter], slot, blocked)._replace(credited=meter in credits)
    return Terms(found, cap) if found else None


def _funding(price: Price, meter: Meter, slot: int, blocked: str | None) -> Funding:
    return Funding(meter.id, slot, schedule(price, meter.scale), included(price), blocked)


def member_terms(
    plan: Plan, meters: Mapping[str, Meter], slots: Mapping[str, int], overridden: Collection[str] = ()
) -> Terms | None:
    """The terms of a member's gate: its units of each priced meter rated by themselves, under the plan's money limit
    for members. None where there is no such limit. `overridden`: the ids of limits that the operator set."""
    limit = next((limit for limit in plan.limits if limit.amount is not None), None)
    if limit is None or limit.amount is None:
        return None
    source = "operator" if limit.id in overridden else "plan"
    found = {}
    for price in usage_prices(plan, meters):
        slot, meter = slots[price.meter], meters[price.meter]
        found[slot] = Funding(meter.id, slot, schedule(price, meter.scale), ZERO, None)
    return Terms(found, Cap(limit.amount, limit.amount, source), waives=False)


def lowest_cap(plan: Plan, meters: Mapping[str, Meter], caps: Mapping[str, Decimal | None]) -> Cap | None:
    """The lowest of the caps (`plan`, `operator`, `customer` -> amount) that bind; the operator's takes the place of
    the plan's, None there lifts it. Of equal ones the customer's names itself last."""
    operator = "operator" in caps
    bound = [("operator", caps["operator"])] if operator else [("plan", plan.spend_cap)]
    bound.append(("customer", caps.get("customer")))
    prices = [(price, meters[price.meter].scale) for price in usage_prices(plan, meters)]
    found: Cap | None = None
    for source, amount in bound:
        if amount is not None and (found is None or amount < found.amount):
            found = Cap(amount, usable(amount, prices, plan.currency), source)
    return found


def overage_stopped(plan: Plan, block_overage: bool | None) -> str | None:
    """Who stops overage, if somebody does. `block_overage` is the customer's word: None where nothing was said."""
    if plan.overage == "off":
        return "plan"
    if block_overage or (plan.overage == "opt_in" and block_overage is None):
        return "customer"
    return None
