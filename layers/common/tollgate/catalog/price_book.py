"""The price book of a catalogue: the list that comes with Tollgate, and what `catalog.yaml` says instead."""

from __future__ import annotations

from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter

from tollgate.catalog import source
from tollgate.catalog.document import Document, ProviderPriceEntry, ProviderPrices
from tollgate.catalog.model import condition
from tollgate.margins.book import KindRule, PriceBook, PriceFrom

LIST: Final = Path(__file__).parent.parent / "margins" / "provider_prices.yaml"
_EPOCH: Final = date(1970, 1, 1)
_DAY_S: Final = 86_400


def price_book(document: Document) -> PriceBook:
    """The book of a catalogue without mistakes. A model that it prices is priced by it alone, at any time."""
    prices = {**shipped(), **document.provider_prices}
    margins = document.margins
    return PriceBook(
        kinds={
            meter_id: tuple(KindRule(condition(cost.when), cost.kind) for cost in meter.costs)
            for meter_id, meter in document.meters.items()
            if meter.costs
        },
        models={model: _history(entries) for model, entries in prices.items()},
        told_from=margins.told_from,
        spend_above=margins.spend_above,
        usd_per=margins.usd_per,
    )


@lru_cache(maxsize=1)
def shipped() -> ProviderPrices:
    """The list that comes with Tollgate."""
    return TypeAdapter(ProviderPrices).validate_python(source.read(LIST.read_text(encoding="utf-8")).data)


def _history(entries: list[ProviderPriceEntry]) -> tuple[PriceFrom, ...]:
    found = (PriceFrom((entry.effective_from - _EPOCH).days * _DAY_S, entry.per_million) for entry in entries)
    return tuple(sorted(found, key=lambda one: one.since))
