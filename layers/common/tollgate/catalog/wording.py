"""Money, amounts and units as people read them on a pricing page."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Final, NamedTuple

from tollgate.catalog.model import Meter
from tollgate.rating.currency import EXACT, is_chargeable, minor_places

_SYMBOLS: Final = {"usd": "$", "eur": "€", "gbp": "£", "jpy": "¥", "inr": "₹", "krw": "₩", "brl": "R$"}
_UNNAMED: Final = "unit"


class Noun(NamedTuple):
    """What a meter counts. `one` is None where only a plural is known."""

    one: str | None
    many: str

    def counted(self, count: Decimal) -> str:
        """`1 message`, `1,000 messages`."""
        return f"{number(count)} {self.one if count == 1 and self.one else self.many}"


def number(value: Decimal) -> str:
    """`1,000,000`, `0.5`: thousands apart, no trailing zeros."""
    text = f"{value:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def money(amount: Decimal, currency: str) -> str:
    """`$20`, `$0.02`, `$6.50`, `$0.007`, `CHF 5`: whole, or with at least the currency's decimal places."""
    whole, _, fraction = number(amount).partition(".")
    fraction = fraction.ljust(minor_places(currency), "0") if fraction else ""
    text = f"{whole}.{fraction}" if fraction else whole
    symbol = _SYMBOLS.get(currency)
    return f"{symbol}{text}" if symbol else f"{currency.upper()} {text}"


def rate(unit_price: Decimal, currency: str) -> tuple[Decimal, Decimal]:
    """A unit price and for how many units it is said, so that it can be read: $5 for 1,000,000, not $0.000005 for 1.

    Prices below a tenth of the smallest amount are said for a thousand, a million, ... units: the first that is whole.
    """
    many = Decimal(1)
    if unit_price < Decimal(1).scaleb(-minor_places(currency) - 1):
        while not is_chargeable(EXACT.multiply(unit_price, many), currency):
            many *= 1000
    return EXACT.multiply(unit_price, many), many


def plural(unit: str) -> str:
    """`message` → `messages`, `query` → `queries`; abbreviations such as `GB` stay."""
    if unit.isupper() or not unit.isascii():
        return unit
    if unit.endswith("y") and unit[-2:-1] not in ("a", "e", "i", "o", "u"):
        return unit[:-1] + "ies"
    return unit + ("es" if unit.endswith(("s", "x", "z", "ch", "sh")) else "s")


def noun(meter: Meter, among: Iterable[Meter]) -> Noun:
    """What a meter counts: its unit; its name, where it has no unit of its own `among` the meters shown with it."""
    if meter.unit != _UNNAMED and not any(other.unit == meter.unit for other in among if other.id != meter.id):
        return Noun(meter.unit, plural(meter.unit))
    name = meter.name
    return Noun(None, name if name[1:2].isupper() else name[:1].lower() + name[1:])
