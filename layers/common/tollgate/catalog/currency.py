"""How many decimal places a currency's smallest unit has, as Stripe charges it (docs.stripe.com/currencies)."""

from __future__ import annotations

from typing import Final

_NO_MINOR_UNIT: Final = frozenset(
    ("bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf")
)
_THOUSANDTHS: Final = frozenset(("bhd", "jod", "kwd", "omr", "tnd"))


def minor_places(currency: str) -> int:
    """2 for usd, 0 for jpy, 3 for kwd; `currency` is lower-case ISO 4217."""
    if currency in _NO_MINOR_UNIT:
        return 0
    return 3 if currency in _THOUSANDTHS else 2
