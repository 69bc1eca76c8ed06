"""What a quantity costs at its provider: worked examples to the cent, and where nothing is known."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import pytest

from tollgate.catalog.errors import CatalogError
from tollgate.catalog.price_book import shipped
from tollgate.catalog.schema import parse_catalog
from tollgate.clock import parse_rfc3339
from tollgate.margins.book import PriceBook, of_text, to_text
from tollgate.margins.prices import cost_of, prices_of

CATALOG = """
currency: usd
default_plan: free
meters:
  tokens:
    costs:
      - {when: {direction: output}, kind: output}
      - {when: {direction: cached_input}, kind: cached_input}
      - {kind: input}
  pages: {}
plans: {free: {}}
provider_prices:
  x:
    - {effective_from: 2026-03-16, source: a page, per_million: {input: "2", output: "8"}}
    - {effective_from: 2026-01-01, source: a page, per_million: {input: "10", cached_input: "2.5", output: "40"}}
  x-mini:
    - {effective_from: 2026-01-01, source: a page, per_million: {input: "0.000001"}}
  x-2026-02-02:
    - {effective_from: 2026-01-01, source: a page, per_million: {input: "1"}}
"""


def book(text: str = CATALOG) -> PriceBook:
    found = parse_catalog(text).book
    assert found is not None
    assert of_text(to_text(found)) == found, "what is published is what was read"
    return found


def seconds(day: str, time: str = "12:00:00") -> int:
    return parse_rfc3339(f"{day}T{time}+00:00") // 1000


EARLY, LATE = seconds("2026-03-01"), seconds("2026-03-20")


def cost(quantity: str, dimensions: Mapping[str, str], at: int = EARLY, meter: str = "tokens") -> Decimal | None:
    return cost_of(book(), meter, dimensions, Decimal(quantity), at)


def test_a_call_to_the_cent() -> None:
    """12,000 of input at $10, 6,000 of them from the provider's cache at $2.50, 1,500 of output at $40 a million."""
    whole = [
        cost("6000", {"model": "x", "direction": "input"}),
        cost("6000", {"model": "x", "direction": "cached_input"}),
        cost("1500", {"model": "x", "direction": "output"}),
    ]
    assert whole == [Decimal("0.06"), Decimal("0.015"), Decimal("0.06")]
    assert cost("6000", {"model": "x"}) == Decimal("0.06"), "the last rule is for whatever the others are not for"


def test_a_price_that_changes_in_mid_month() -> None:
    before, after = seconds("2026-03-15", "23:59:59"), seconds("2026-03-16", "00:00:00")
    assert cost("1000000", {"model": "x"}, before) == 10
    assert cost("1000000", {"model": "x"}, after) == 2
    assert cost("1000000", {"model": "x"}, seconds("2025-12-31", "23:59:59")) is None, "older than all that is known"


def test_a_kind_that_the_new_price_does_not_name_has_none() -> None:
    assert cost("1000", {"model": "x", "direction": "cached_input"}, EARLY) == Decimal("0.0025")
    assert cost("1000", {"model": "x", "direction": "cached_input"}, LATE) is None


@pytest.mark.parametrize(
    "dimensions",
    [{}, {"model": "y"}, {"model": ""}, {"model": "x-mini-2"}, {"model": "x-"}, {"model": "X"}, {"model": "vendor/x"}],
)
def test_what_is_not_known_is_not_guessed(dimensions: Mapping[str, str]) -> None:
    assert cost("1000", dimensions) is None


def test_a_meter_that_says_no_kind_has_no_cost() -> None:
    assert cost("1000", {"model": "x", "direction": "input"}, meter="pages") is None
    assert cost("1000", {"model": "x", "direction": "input"}, meter="gone") is None


def test_a_dated_snapshot_has_its_own_price_or_that_of_its_model() -> None:
    assert cost("1000000", {"model": "x-2026-01-31"}) == 10
    assert cost("1000000", {"model": "x-20260131"}) == 10
    assert cost("1000000", {"model": "x-2026-02-02"}) == 1, "it has a price of its own"
    assert cost("1000000", {"model": "x-mini-2026-01-31"}) == Decimal("0.000001")
    for name in ("x-2026", "x-2026-01", "x-2026-01-31-b", "x2026-01-31", "x-2026-91-31", "x-1"):
        assert cost("1000", {"model": name}) is None, name


def test_costs_are_exact_up_to_a_billionth_of_a_cent_and_never_too_large_for_a_sum() -> None:
    assert cost("1", {"model": "x-mini"}) == Decimal("0.000000000001")
    assert cost("0.5", {"model": "x-mini"}) == Decimal("0.000000000001"), "halves up"
    assert cost("0.4", {"model": "x-mini"}) == 0
    assert cost("0", {"model": "x"}) == 0, "known, and nothing"
    assert cost("99999999999999999999999", {"model": "x"}) == Decimal("999999999999999999.99999")
    assert cost("1e23", {"model": "x"}) is None
    assert cost("1e60", {"model": "x"}) is None


def test_the_catalogue_takes_the_place_of_the_list_that_comes_along() -> None:
    own = CATALOG.replace("  x-mini:", "  gpt-4.1:")
    at = seconds("2026-03-01")
    assert cost_of(book(), "tokens", {"model": "gpt-4.1"}, Decimal(1_000_000), at) == 2
    assert cost_of(book(own), "tokens", {"model": "gpt-4.1"}, Decimal(1_000_000), at) == Decimal("0.000001")
    assert cost_of(book(own), "tokens", {"model": "gpt-4.1", "direction": "output"}, Decimal(1), at) is None, (
        "by it alone: no kind of the list is left"
    )
    assert cost_of(book(own), "tokens", {"model": "gpt-4.1"}, Decimal(1), seconds("2025-12-31")) is None
    assert cost_of(book(own), "tokens", {"model": "gpt-5"}, Decimal(1_000_000), at) == Decimal("1.25")


def test_the_list_that_comes_along_is_in_order() -> None:
    """A changed price of it is on purpose: this is o3's, and the day that it fell."""
    found = prices_of(book(), "o3")
    assert [(one.since, one.per_million["output"]) for one in found] == [
        (seconds("2025-04-16", "00:00:00"), Decimal(40)),
        (seconds("2025-06-10", "00:00:00"), Decimal(8)),
    ]
    for model, entries in shipped().items():
        for entry in entries:
            prices = entry.per_million
            assert {"input", "output"} <= prices.keys(), model
            assert prices["input"] < prices["output"], model
            assert prices.get("cached_input", Decimal(0)) < prices["input"], model


@pytest.mark.parametrize(
    ("change", "path", "reason"),
    [
        (("2026-03-16", "2026-01-01"), "provider_prices.x", "2026-01-01"),
        (("2026-03-16", "2026-02-30"), "provider_prices.x[0].effective_from", "no day such as"),
        (('source: a page, per_million: {input: "1"}', 'per_million: {input: "1"}'), "source", "is required"),
        (('input: "1"', "input: 1.5"), "provider_prices.x-2026-02-02[0].per_million.input", "in quotes"),
        (("  pages: {}", "  pages: {kind: level, costs: [{kind: input}]}"), "meters.pages.costs", "a level"),
        (("  pages: {}", '  pages: {}\nmargins: {usd_per: {jpy: "0"}}'), "margins.usd_per.jpy", "above 0"),
    ],
)
def test_mistakes_are_refused_with_their_place(change: tuple[str, str], path: str, reason: str) -> None:
    with pytest.raises(CatalogError) as raised:
        parse_catalog(CATALOG.replace(*change, 1))
    said = [(problem.path, problem.reason) for problem in raised.value.problems]
    assert any(path in found and reason in why for found, why in said), said
