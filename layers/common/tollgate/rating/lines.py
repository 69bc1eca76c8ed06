"""Lines of an invoice: each explains itself, is rounded by itself, and then all are added up (Stripe's order).

Source: docs.stripe.com/billing/subscriptions/usage-based (decimal amounts): a line is quantity times price, rounded to
the smallest unit; 30 x 0.05 cents are 2 cents. A graduated price makes one line for each tier that is reached.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Literal, NamedTuple

from tollgate.catalog.model import Price, Seats
from tollgate.quantities import ONE, ZERO
from tollgate.rating.charge import bounded, part_charge, parts
from tollgate.rating.currency import EXACT, rounded

Kind = Literal["base_fee", "seats", "usage", "minimum", "maximum"]


class Line(NamedTuple):
    """`exact` = ((`packages` or `quantity`) x `unit_price` + `flat`) x (1 + `markup` / 100); `amount` is it, rounded.

    `meter`, `tier` (from 1) and `packages` are None where they mean nothing. A line of kind `minimum` lifts the other
    lines of its meter to the price's minimum charge, one of kind `maximum` (negative) lowers them to its maximum.
    """

    kind: Kind
    meter: str | None
    quantity: Decimal
    unit_price: Decimal
    amount: Decimal
    exact: Decimal
    flat: Decimal = ZERO
    tier: int | None = None
    packages: Decimal | None = None
    markup: Decimal = ZERO


def usage_lines(price: Price, quantity: Decimal, currency: str) -> list[Line]:
    """The lines of one meter's paid units in a period; at least one, as a price stands on the invoice at quantity 0.

    Raises ValueError for a negative quantity.
    """
    found = []
    for part in parts(price, quantity):
        exact = part_charge(part, price.markup)
        line = Line(
            kind="usage",
            meter=price.meter,
            quantity=part.quantity,
            unit_price=part.unit_price,
            amount=rounded(exact, currency),
            exact=exact,
            flat=part.flat,
            tier=part.tier,
            packages=part.packages,
            markup=price.markup,
        )
        found.append(line)
    # The bounds hold for what is charged, so they are compared with the rounded lines.
    short = EXACT.subtract(bounded(price, total(found)), total(found))
    if short:
        kind: Kind = "minimum" if short > 0 else "maximum"
        found.append(Line(kind, price.meter, ONE, short, rounded(short, currency), short))
    return found


def seat_line(seats: Seats, count: int, currency: str) -> Line:
    """The line of `count` seats, or of the plan's minimum where that is more."""
    billed = Decimal(max(count, seats.minimum))
    exact = EXACT.multiply(billed, seats.unit_price)
    return Line("seats", None, billed, seats.unit_price, rounded(exact, currency), exact)


def base_fee_line(fee: Decimal, currency: str) -> Line:
    return Line("base_fee", None, ONE, fee, rounded(fee, currency), fee)


def total(lines: Iterable[Line]) -> Decimal:
    """The sum of what the lines come to, each rounded before."""
    amount = ZERO
    for line in lines:
        amount = EXACT.add(amount, line.amount)
    return amount
