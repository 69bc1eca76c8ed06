"""The price book: what providers ask for, and how their cost is held against revenue. As published with the catalogue.

Prices are in US dollars for a million of a kind (`input`, `cached_input`, `output`, ...), each from the beginning of a
UTC day on. Imports nothing of the catalogue's, which names it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

from tollgate.quantities import ONE, plain


class KindRule(NamedTuple):
    """The kind that quantities are of where `when` matches (a `Condition` of the catalogue)."""

    when: tuple[tuple[str, tuple[str, ...]], ...]
    kind: str


class PriceFrom(NamedTuple):
    """What a model costs from epoch second `since` on: US dollars for a million, by kind. A kind that is not named has
    no price then, whatever it had before."""

    since: int
    per_million: Mapping[str, Decimal]


@dataclass(frozen=True, slots=True)
class PriceBook:
    kinds: Mapping[str, tuple[KindRule, ...]] = field(default_factory=dict)
    """By meter: the first rule that matches says what its quantities are."""
    models: Mapping[str, tuple[PriceFrom, ...]] = field(default_factory=dict)
    """By the provider's name of the model: its prices, ascending by day."""
    told_from: Decimal = ONE
    """US dollars of provider cost in a month, below which nobody is told of an account's margin."""
    spend_above: Decimal | None = None
    """Revenue of a month, in the catalogue's currency, above which an account is one for the sales people."""
    usd_per: Mapping[str, Decimal] = field(default_factory=dict)
    """US dollars for one unit of another currency, as the operator says."""


def to_text(book: PriceBook) -> str:
    """The book as JSON, money as decimal strings."""
    return json.dumps(
        {
            "kinds": book.kinds,
            "models": {
                model: [[one.since, _texts(one.per_million)] for one in prices] for model, prices in book.models.items()
            },
            "told_from": plain(book.told_from),
            "spend_above": None if book.spend_above is None else plain(book.spend_above),
            "usd_per": _texts(book.usd_per),
        },
        ensure_ascii=False,
        separators=(",", ":"),
    )


def of_text(text: str) -> PriceBook:
    """A book that `to_text` wrote."""
    raw = json.loads(text)
    return PriceBook(
        kinds={
            meter: tuple(
                KindRule(tuple((dimension, tuple(patterns)) for dimension, patterns in when), kind)
                for when, kind in rules
            )
            for meter, rules in raw["kinds"].items()
        },
        models={
            model: tuple(PriceFrom(since, _decimals(per_million)) for since, per_million in prices)
            for model, prices in raw["models"].items()
        },
        told_from=Decimal(raw["told_from"]),
        spend_above=None if raw["spend_above"] is None else Decimal(raw["spend_above"]),
        usd_per=_decimals(raw["usd_per"]),
    )


def _texts(values: Mapping[str, Decimal]) -> dict[str, str]:
    return {name: plain(value) for name, value in values.items()}


def _decimals(values: Mapping[str, str]) -> dict[str, Decimal]:
    return {name: Decimal(value) for name, value in values.items()}
