"""What a quantity costs at its provider, by the price book (pure). Where anything is not known, there is no cost: a
guess would pass for knowledge in every sum.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Context, Decimal, FloatOperation, InvalidOperation
from typing import Final

from tollgate.billing.breakdown import MODEL
from tollgate.catalog.model import matches
from tollgate.margins.book import PriceBook, PriceFrom
from tollgate.quantities import MAX_UNITS

PLACES: Final = 12
"""Decimal places of a cost: a token of the cheapest model has eight."""
_MILLIONTH: Final = -6
_WIDE: Final = Context(prec=200, rounding=ROUND_HALF_UP, traps=[InvalidOperation, FloatOperation])
_DATED: Final = re.compile(r"-(20[0-9]{2}-[01][0-9]-[0-3][0-9]|20[0-9]{2}[01][0-9][0-3][0-9])\Z", re.ASCII)
"""How providers name a snapshot of a model: gpt-x-2026-01-31, claude-x-20260131."""


def cost_of(book: PriceBook, meter: str, dimensions: Mapping[str, str], quantity: Decimal, at: int) -> Decimal | None:
    """US dollars for `quantity` of a meter, as the prices were at epoch second `at`. None where the meter says no kind
    for it, the model has no price, or the price then had none of that kind; and from 10**18 dollars on, which no sum
    could hold."""
    kind = next((rule.kind for rule in book.kinds.get(meter, ()) if matches(rule.when, dimensions)), None)
    prices = prices_of(book, dimensions.get(MODEL, ""))
    price = None if kind is None else next((one for one in reversed(prices) if one.since <= at), None)
    if kind is None or price is None or kind not in price.per_million:
        return None
    exact = _WIDE.scaleb(_WIDE.multiply(quantity, price.per_million[kind]), _MILLIONTH)
    return None if exact >= MAX_UNITS else exact.quantize(Decimal(1).scaleb(-PLACES), context=_WIDE)


def prices_of(book: PriceBook, model: str) -> tuple[PriceFrom, ...]:
    """The prices of a model by its own name; of a dated snapshot that has none, those of the name before the date.
    Nothing else that looks alike: `x-mini` is not `x`."""
    found = book.models.get(model)
    return found if found is not None else book.models.get(_DATED.sub("", model), ())
