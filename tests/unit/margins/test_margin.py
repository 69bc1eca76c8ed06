"""Margins by hand, to the cent: what an account's month brought, what it cost, and how bad that is."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from tollgate.billing.breakdown import NAMED, REST
from tollgate.billing.rollup import DAY_S, Rollup, Share
from tollgate.billing.sealed import LevelMark, MeterTotal
from tollgate.catalog.model import Catalog
from tollgate.catalog.schema import parse_catalog
from tollgate.margins.book import PriceBook
from tollgate.margins.margin import Line, Margin, level_of, margin_of, months

NOVEMBER = 1_793_491_200
"""2026-11-01."""
CATALOG = """
currency: usd
default_plan: free
meters:
  tokens: {stripe_event_name: tokens}
  images: {stripe_event_name: images}
  seats: {kind: level, stripe_event_name: seats}
plans:
  free:
    limits: [{id: daily, meter: tokens, window: day, max: 100000}]
  pro:
    base_fee: "29.00"
    prices:
      - meter: tokens
        scheme: graduated
        tiers: [{up_to: 1000000, unit_price: "0"}, {up_to: inf, unit_price: "0.000005"}]
      - {meter: images, scheme: per_unit, unit_price: "0.04"}
    packs: [{id: more, meter: images, units: 100, price: "3.00"}]
  yearly:
    base_fee: "120.00"
    period: {interval: year}
    prices:
      - meter: tokens
        scheme: graduated
        tiers: [{up_to: 12000000, unit_price: "0"}, {up_to: inf, unit_price: "0.000005"}]
  team:
    base_fee: "10.00"
    seats: {unit_price: "7.00", minimum: 2, meter: seats}
    prices: [{meter: tokens, scheme: per_unit, unit_price: "0.000001", included_per_seat: 100000}]
"""


def catalog(currency: str = "usd", more: str = "") -> Catalog:
    return parse_catalog(CATALOG.replace("currency: usd", f"currency: {currency}") + more)


def day(
    meter: str, units: int, cost: str = "0", number: int = 0, *, models: Mapping[str, Share] | None = None, **more: Any
) -> Rollup:
    credit_funded, waived = (Decimal(more.pop(name, 0)) for name in ("credit_funded", "waived"))
    billable = Decimal(units) - credit_funded - waived
    return Rollup(
        "acme",
        meter,
        NOVEMBER + number * DAY_S,
        MeterTotal(1, Decimal(units), credit_funded, waived, billable, level=more.pop("level", None)),
        cost=Decimal(cost),
        models=models or {},
        **more,
    )


def margin(plan: str, *days: Rollup, found: Catalog | None = None, **standing: int) -> Margin:
    found = found or catalog()
    at = {meter: Decimal(level) for meter, level in standing.items()}
    assert found.book is not None
    return margin_of("acme", found.plans[plan], found.meters, months(days), at, found.book)


def test_a_month_to_the_cent() -> None:
    """$29, and 3.5 million tokens of which one is included: 2.5 million x $0.000005 = $12.50. Cost $12.45 of $41.50."""
    found = margin("pro", day("tokens", 1_500_000, "5.25"), day("tokens", 2_000_000, "7.20", 1))
    assert (found.fixed, found.usage, found.usd) == (Decimal("29.00"), Decimal("12.50"), Decimal("41.50"))
    assert (found.cost, found.ratio, found.level) == (Decimal("12.45"), Decimal("0.3"), "healthy")
    assert not found.loses


@pytest.mark.parametrize(
    ("cost", "level", "loses"),
    [
        ("0", "healthy", False),
        ("11.599999", "healthy", False),
        ("11.60", "warning", False),
        ("17.399999", "warning", False),
        ("17.40", "critical", False),
        ("29.00", "critical", False),
        ("29.000001", "critical", True),
    ],
)
def test_the_three_levels_and_a_plan_that_loses_money(cost: str, level: str, loses: bool) -> None:
    found = margin("pro", day("tokens", 10, cost))
    assert (found.level, found.loses) == (level, loses)


def test_no_revenue_at_all() -> None:
    assert level_of(Decimal("0.01"), Decimal(0)) == "critical"
    assert level_of(Decimal(0), Decimal(0)) == "healthy"
    nothing = margin("pro")
    assert (nothing.usd, nothing.level) == (Decimal(29), "healthy"), "an idle account pays its base fee"


def test_a_plan_that_charges_nothing_is_no_loss() -> None:
    found = margin("free", day("tokens", 1000, "3.10"))
    assert (found.level, found.loses, found.usd, found.ratio) == ("free", False, Decimal(0), None)
    assert found.cost == Decimal("3.10")


def test_what_is_not_billed_is_no_revenue() -> None:
    """1,000 images: 300 waived, 200 paid with credits; 500 x $0.04."""
    found = margin("pro", day("images", 1000, "4", waived=300, credit_funded=200))
    assert found.usage == Decimal("20.00")
    assert found.credits, "what the pack cost was paid another day"
    assert not margin("pro", day("tokens", 1000, "4", credit_funded=200)).credits, "no pack of them is sold"


def test_units_without_a_cost_are_counted() -> None:
    found = margin("pro", day("tokens", 1000, "1", unpriced=Decimal(400)), day("tokens", 10, "1", 1), day("images", 1))
    assert found.unpriced == {"tokens": 400}


def test_a_plan_by_the_year_is_a_twelfth_of_twelve_such_months() -> None:
    """1.5 million in the month are 18 million in a year, 6 million over: $30 + $120 a year, $12.50 a month."""
    found = margin("yearly", day("tokens", 1_500_000, "5"))
    assert (found.fixed, found.usage, found.ratio) == (Decimal("10.00"), Decimal("2.50"), Decimal("0.4"))
    assert margin("yearly", day("tokens", 1_000_000, "5")).usage == 0


def test_seats_by_the_level_of_the_month_else_as_it_stands() -> None:
    """$10, five seats x $7, and 2,000,000 billable tokens x $0.000001: what seats brought is not billable already."""
    used = day("tokens", 2_500_000, "1", credit_funded=500_000)
    marks = [LevelMark(1, Decimal(9), NOVEMBER, True), LevelMark(2, Decimal(5), NOVEMBER + DAY_S, True)]
    levels = [day("seats", 0, number=at, level=mark) for at, mark in enumerate(marks)]
    found = margin("team", used, *levels, seats=7)
    assert (found.fixed, found.usage) == (Decimal("45.00"), Decimal("2.00"))
    assert margin("team", used, seats=7).fixed == Decimal("59.00"), "set before the month: as it stands"
    assert margin("team", used).fixed == Decimal("24.00"), "the plan's minimum"


def test_another_currency_is_never_taken_for_dollars() -> None:
    """JPY 29 as a base fee would be a fifth of a dollar."""
    yen = CATALOG.replace('"29.00"', '"4350"').replace('"120.00"', '"18000"').replace('"10.00"', '"1500"')
    yen = yen.replace('"7.00"', '"1000"').replace('"3.00"', '"450"').replace("currency: usd", "currency: jpy")
    found = margin("pro", day("tokens", 10, "12.00"), found=parse_catalog(yen))
    assert (found.currency, found.revenue, found.usd, found.ratio) == ("jpy", Decimal(4350), None, None)
    assert (found.level, found.loses, found.models) == ("unknown", False, {})
    rated = parse_catalog(yen + 'margins: {usd_per: {jpy: "0.0066"}}\n')
    found = margin("pro", day("tokens", 10, "12.00"), found=rated)
    assert (found.usd, found.ratio, found.level) == (Decimal("28.71"), Decimal("0.4180"), "warning")


def test_models_bring_by_units_and_the_base_fee_goes_by_cost() -> None:
    """Tokens: $10 charged for 3 million, of which `large` 2 and `small` 1 million. Cost: $6 and $2. Base fee $29."""
    models = {"large": Share(2, Decimal(2_000_000), Decimal(6)), "small": Share(1, Decimal(1_000_000), Decimal(2))}
    found = margin("pro", day("tokens", 3_000_000, "8", models=models))
    assert found.usage == 10
    assert found.models["large"] == Line(Decimal("28.416667"), Decimal(6))  # 6.666667 + 21.75
    assert found.models["small"] == Line(Decimal("10.583333"), Decimal(2))  # 3.333333 + 7.25
    assert REST not in found.models
    assert found.models["large"].ratio == Decimal("0.2111")


def test_what_no_model_is_known_for_is_the_rest() -> None:
    named = {"large": Share(1, Decimal(1_000_000), Decimal(6)), REST: Share(1, Decimal(1_000_000), Decimal(2))}
    found = margin("pro", day("tokens", 2_000_000, "8", models=named))
    assert found.models["large"] == Line(Decimal("24.25"), Decimal(6))
    assert found.models[REST] == Line(Decimal("9.75"), Decimal(2))
    whole = [sum((getattr(line, name) for line in found.models.values()), Decimal(0)) for name in ("revenue", "cost")]
    assert whole == [found.usd, found.cost], "the lines add up to the account"


def test_a_book_of_no_catalogue_knows_nothing() -> None:
    assert PriceBook().models == {}


def test_of_however_many_models_an_account_has_its_row_stays_small() -> None:
    days = [
        day(
            "tokens",
            20,
            "210",
            number,
            models={f"m{number}-{at}": Share(1, Decimal(1), Decimal(at)) for at in range(1, 21)},
        )
        for number in range(30)
    ]
    found = margin_of("a", catalog().plans["pro"], dict(catalog().meters), months(days), {}, PriceBook())
    assert len(found.models) == NAMED + 1
    assert {line.cost for name, line in found.models.items() if name != REST} == {Decimal(20)}, "those of most cost"
    assert sum((line.cost for line in found.models.values()), Decimal(0)) == found.cost == 30 * 210
    assert sum((line.revenue for line in found.models.values()), Decimal(0)) == found.usd
