"""docs/catalog.md: its examples load and say what the page says, and no field is missing from it."""

from __future__ import annotations

import re
import textwrap
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import BaseModel

from tollgate.catalog import document
from tollgate.catalog.model import weight_of
from tollgate.catalog.page import sentence
from tollgate.catalog.schema import Beside, parse_catalog
from tollgate.rating import currency

TEXT = (Path(__file__).parents[3] / "docs" / "catalog.md").read_text(encoding="utf-8")
RATED, PRICES, TEAM, LIMITS = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
(RATES,) = re.findall(r"```csv\n(.*?)```", TEXT, re.DOTALL)
HEAD = """
currency: usd
default_plan: team
meters:
  messages: {unit: message, stripe_event_name: messages}
  tokens: {unit: token, stripe_event_name: tokens}
  images: {unit: image, stripe_event_name: images}
plans:
"""


def said(plans: str) -> str:
    catalog = parse_catalog(HEAD + textwrap.indent(plans, "  "))
    return sentence(catalog.plans["team"], catalog.meters, "usd")


def test_the_prices() -> None:
    assert said("team:\n" + textwrap.indent(PRICES, "  ")) == (
        "First 100 messages free, then $0.02 each; "
        "$0.044 per started 1,000 tokens, at least $5/month, at most $500/month"
    )


def test_the_seats() -> None:
    described = " ".join(re.findall(r"# (.*)", TEAM))
    assert said(TEAM) == re.sub(r"\s+", " ", described)


def test_the_limits() -> None:
    plans = "team:\n" + textwrap.indent(PRICES + LIMITS, "  ")
    plan = parse_catalog(HEAD + textwrap.indent(plans, "  ")).plans["team"]
    assert [limit.id for limit in plan.limits] == ["daily", "jobs", "seat_money"]
    assert [(limit.id, limit.per) for limit in plan.shared_limits] == [
        ("everyone", "plan"),
        ("address", "dimension:ip"),
    ]


@pytest.mark.parametrize(
    ("model", "dimensions", "before", "after"),
    [
        ("deep-2", {"direction": "input"}, "5", "4"),
        ("deep-2", {"direction": "output", "context": "long"}, "37.5", "30"),
        ("swift-3", {"direction": "output"}, "4", "4"),
        ("swift-3", {"direction": "output", "context": "long"}, "4", "4"),
        ("other", {"direction": "input"}, "25", "25"),
    ],
)
def test_the_rates(model: str, dimensions: dict[str, str], before: str, after: str) -> None:
    text = f"currency: usd\ndefault_plan: p\nplans: {{p: {{}}}}\n{RATED}"
    for day, rate in ((date(2026, 12, 31), before), (date(2027, 1, 1), after)):
        files = {"rates.csv": RATES}
        meter = parse_catalog(text, "catalog.yaml", Beside(day, files.__getitem__)).meters["model_use"]
        assert weight_of(meter, {"model": model, **dimensions}) == Decimal(rate)


ENTRIES = [
    kind
    for kind in vars(document).values()
    if isinstance(kind, type)
    and issubclass(kind, BaseModel)
    and not kind.__name__.startswith("_")
    and kind.__module__ == document.__name__
]


@pytest.mark.parametrize("kind", ENTRIES, ids=lambda kind: kind.__name__)
def test_every_field_is_described(kind: type[BaseModel]) -> None:
    assert [name for name in kind.model_fields if not re.search(rf"`[^`]*\b{name}\b[^`]*`", TEXT)] == []


def test_the_currencies() -> None:
    codes = sorted(re.findall(r"\b[a-z]{3}\b", " ".join(re.findall(r"^- currencies .*: `(.*)`$", TEXT, re.MULTILINE))))
    known = [code for code in codes if currency.minor_places(code) != 2]
    assert known == codes
    assert len(codes) == len(currency._NO_MINOR_UNIT) + len(currency._THOUSANDTHS)
