"""The smallest amount of a currency that can be charged, and exact arithmetic with money.

Source: docs.stripe.com/currencies (zero-decimal and three-decimal currencies, special cases). Those are ISO 4217's
minor units with these exceptions: mga has fifths in ISO 4217 and no minor unit at Stripe; isk and ugx have none in
either, but Stripe's API wants their amounts in hundredths that are always 00.
"""

from __future__ import annotations

from decimal import (
    ROUND_FLOOR,
    ROUND_HALF_UP,
    Context,
    Decimal,
    DivisionByZero,
    FloatOperation,
    Inexact,
    InvalidOperation,
    Overflow,
)
from typing import Final

EXACT: Final = Context(
    prec=200, Emax=999999, Emin=-999999, traps=[Inexact, InvalidOperation, DivisionByZero, Overflow, FloatOperation]
)
"""Raises Inexact where a digit would be lost: quantity x price x markup has at most 38 + 30 + 32 of them."""
_ROUNDING: Final = Context(prec=200, rounding=ROUND_HALF_UP, traps=[InvalidOperation, FloatOperation])

_NO_MINOR_UNIT: Final = frozenset(
    (
        *("bif", "clp", "djf", "gnf", "isk", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "ugx"),
        *("vnd", "vuv", "xaf", "xof", "xpf"),
    )
)
_THOUSANDTHS: Final = frozenset(("bhd", "jod", "kwd", "omr", "tnd"))
_HUNDREDTHS_THAT_ARE_NONE: Final = frozenset(("isk", "ugx"))


def minor_places(currency: str) -> int:
    """Decimal places of the smallest amount charged: 2 for usd, 0 for jpy, 3 for kwd (`currency`: lower-case code)."""
    if currency in _NO_MINOR_UNIT:
        return 0
    return 3 if currency in _THOUSANDTHS else 2


def stripe_places(currency: str) -> int:
    """Decimal places of the integers in which Stripe's API gives and takes amounts of this currency."""
    return 2 if currency in _HUNDREDTHS_THAT_ARE_NONE else minor_places(currency)


def rounded(amount: Decimal, currency: str) -> Decimal:
    """An amount as it is charged: at the currency's smallest unit, halves away from zero (Stripe's rule for a line)."""
    return amount.quantize(Decimal(1).scaleb(-minor_places(currency)), context=_ROUNDING)


def is_chargeable(amount: Decimal, currency: str) -> bool:
    """Whether an amount is a whole number of the currency's smallest units."""
    return rounded(amount, currency) == amount


def floor_at(value: Decimal, scale: int) -> Decimal:
    """The largest number of `scale` decimal places that is not above `value`."""
    return value.quantize(Decimal(1).scaleb(-scale), rounding=ROUND_FLOOR, context=_ROUNDING)


def quotient(value: Decimal, by: Decimal, scale: int = 0) -> Decimal:
    """`value / by`, both not negative, cut to `scale` decimal places. Exact where a division would round."""
    return EXACT.scaleb(EXACT.divide_int(EXACT.scaleb(value, scale), by), -scale)
