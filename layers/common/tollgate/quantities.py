"""Quantities and units: Decimals from end to end (invariant 6)."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Context, Decimal, DefaultContext, setcontext

EXACT = Context(prec=60)
"""Arithmetic context for units: wider than DynamoDB's 38 digits, so that nothing is rounded before it is quantized."""

# Plain `+` and `-` between units use the thread's context: with the library's 28 digits a meter of 12 places would lose
# some. New threads copy DefaultContext; the importing thread has its own already.
DefaultContext.prec = EXACT.prec
setcontext(EXACT.copy())

MAX_UNITS = Decimal(10) ** 18
"""Units of one item stay below this: with 12 decimal places a sum of millions of them fits DynamoDB's 38 digits."""

ZERO = Decimal(0)
ONE = Decimal(1)


def quantize(value: Decimal, scale: int) -> Decimal:
    """`value` at `scale` decimal places, halves away from zero."""
    return value.quantize(Decimal(1).scaleb(-scale), rounding=ROUND_HALF_UP, context=EXACT)


def plain(value: Decimal) -> str:
    """The plain decimal string of a value: no exponent, no trailing zeros, no negative zero."""
    text = str(value)
    if "E" in text:  # only very large or very small values
        text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
