"""A whole billing period of a plan as lines and a total: base fee, seats, and each priced meter.

Seats that bring units: those are taken off the meter's quantity before its tiers, like units that credits paid for.
So they work with every scheme, Stripe's price is the same for every account, and units that are not to be paid are
not sent. (Widening the first tier would need another Stripe price for each number of seats.)
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple

from tollgate.catalog.model import Plan, Price
from tollgate.quantities import ZERO
from tollgate.rating.currency import EXACT
from tollgate.rating.lines import Line, base_fee_line, seat_line, total, usage_lines


class Used(NamedTuple):
    """Units of one meter in a period.

    `units` are all of them; `credit_funded` and `waived` those of them that are not paid. `by_seat` are those of each
    seat, needed where seats that are not pooled bring units; what no seat used is paid from the first unit on.
    """

    units: Decimal
    credit_funded: Decimal = ZERO
    waived: Decimal = ZERO
    by_seat: tuple[Decimal, ...] = ()


class Bill(NamedTuple):
    """`usage` is what money caps are about: all lines but base fee and seats."""

    lines: tuple[Line, ...]
    total: Decimal
    usage: Decimal


def bill(plan: Plan, currency: str, used: Mapping[str, Used], seats: int = 0) -> Bill:
    """The bill of one period. Meters that the plan does not price cost nothing; priced ones not in `used` are at 0.

    Tax, proration and money caps are not in it: a cap stops or waives usage before it gets here. Raises ValueError
    where a quantity is negative, or more seats used units than there are.
    """
    lines: list[Line] = []
    if plan.base_fee:
        lines.append(base_fee_line(plan.base_fee, currency))
    if plan.seats is not None:
        lines.append(seat_line(plan.seats, seats, currency))
    usage: list[Line] = []
    for price in plan.prices:
        paid = paid_units(plan, price, used.get(price.meter, Used(ZERO)), seats)
        usage += usage_lines(price, paid, currency)
    return Bill((*lines, *usage), total([*lines, *usage]), total(usage))


def paid_units(plan: Plan, price: Price, used: Used, seats: int) -> Decimal:
    """The units of a meter that its price applies to: never below 0. Raises ValueError as `bill`."""
    if used.units < 0:
        raise ValueError(f"{used.units} units cannot be rated")
    paid = EXACT.subtract(used.units, brought(plan, price, used, seats))
    return max(ZERO, EXACT.subtract(EXACT.subtract(paid, used.credit_funded), used.waived))


def brought(plan: Plan, price: Price, used: Used, seats: int) -> Decimal:
    """The units used that seats brought: of the pool, or, not pooled, of each seat's own.

    The pool counts the seats that are billed, the plan's minimum included.
    """
    each = price.included_per_seat
    if not each or plan.seats is None:
        return ZERO
    if plan.seats.pooled:
        return min(used.units, EXACT.multiply(each, Decimal(max(seats, plan.seats.minimum))))
    if len(used.by_seat) > max(seats, plan.seats.minimum):
        raise ValueError(f"{len(used.by_seat)} seats used units, of {seats}")
    taken = ZERO
    for own in used.by_seat:
        taken = EXACT.add(taken, min(own, each))
    return taken
