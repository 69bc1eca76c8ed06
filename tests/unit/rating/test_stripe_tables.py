"""The tables of Stripe's documentation, and Tollgate's own worked examples.

Sources, below docs.stripe.com/products-prices: pricing-models (volume, graduated), pricing-models#tiered-pricing (flat
amounts, quantity 0), pricing-models#transform-quantities (packages), pricing-models#decimal-amounts (rounding).
"""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.unit.rating.making import D, graduated, package, per_unit, volume
from tollgate.catalog.model import Plan, Price
from tollgate.rating.bill import Used, bill
from tollgate.rating.charge import charge
from tollgate.rating.lines import total, usage_lines

SEVEN = ((5, "7"), (10, "6.50"), (None, "6"))
WITH_FLATS = ((5, "5", "10"), (10, "4", "20"), (15, "3", "30"), (20, "2", "40"), (None, "1", "50"))
THRESHOLD = volume((10000, "0.50"), (None, "0.40"))
INCLUDED = graduated((1000, "0"), (None, "0.04"))
HUNDRED_FREE = graduated((100, "0"), (500, "0.010"), (None, "0.007"))
TOKENS = package(1000, "0.04")


@pytest.mark.parametrize(
    ("price", "quantity", "due"),
    [
        *((volume(*SEVEN), quantity, due) for quantity, due in [(1, 7), (5, 35), (6, 39), (20, 120), (25, 150)]),
        *(
            (graduated(*SEVEN), quantity, due)
            for quantity, due in [(1, 7), (5, 35), (6, "41.50"), (20, "127.50"), (25, "157.50")]
        ),
        (volume(*WITH_FLATS), 12, 66),
        (graduated(*WITH_FLATS), 12, 111),
        (volume(*WITH_FLATS), 0, 10),
        (graduated(*WITH_FLATS), 0, 10),
        (graduated(*WITH_FLATS), 5, 35),
        (graduated(*WITH_FLATS), 6, 59),
        (INCLUDED, 3000, 80),
        (INCLUDED, 1000, 0),
        (THRESHOLD, 10000, 5000),
        (THRESHOLD, 10001, "4000.40"),
        (THRESHOLD, 25000, 10000),
        (package(60, "10"), 150, 30),
        (package(60, "10", "down"), 150, 20),
        (package(60, "10"), 120, 20),
        (package(60, "10"), "120.000001", 30),
        (package(60, "10", "down"), "119.999999", 10),
        (package(60, "10"), 0, 0),
        # Tollgate's own
        (HUNDRED_FREE, 100, 0),
        (HUNDRED_FREE, 101, "0.010"),
        (HUNDRED_FREE, 500, 4),
        (HUNDRED_FREE, 501, "4.007"),
        (HUNDRED_FREE, 1000, "7.50"),
        (TOKENS, 1, "0.04"),
        (TOKENS, 1000, "0.04"),
        (TOKENS, 1001, "0.08"),
        (TOKENS, 0, 0),
    ],
)
def test_table(price: Price, quantity: int | str, due: int | str) -> None:
    assert charge(price, D(quantity)) == D(due)
    assert total(usage_lines(price, D(quantity), "usd")) == D(due).quantize(Decimal("0.01"), "ROUND_HALF_UP")


def test_half_a_cent_is_rounded_up_after_the_multiplication() -> None:
    """30 x 0.05 cents are 1.5 cents: 2, and not 30 times a rounded price."""
    (line,) = usage_lines(per_unit("0.0005"), D(30), "usd")
    assert (line.exact, line.amount) == (D("0.015"), D("0.02"))
    (line,) = usage_lines(per_unit("0.0005"), D("29.999999"), "usd")
    assert line.amount == D("0.01")


def test_each_line_is_rounded_before_they_are_added() -> None:
    price = graduated((10, "0.0005"), (20, "0.0005"), (None, "0.0005"))
    lines = usage_lines(price, D(30), "usd")
    assert [line.amount for line in lines] == [D("0.01")] * 3
    assert total(lines) == D("0.03")
    assert charge(price, D(30)) == D("0.015")


@pytest.mark.parametrize(
    ("currency", "amount"),
    [("usd", "1.23"), ("jpy", "1"), ("kwd", "1.235"), ("isk", "1"), ("ugx", "1"), ("huf", "1.23"), ("mga", "1")],
)
def test_the_smallest_unit_of_the_currency(currency: str, amount: str) -> None:
    (line,) = usage_lines(per_unit("0.12345"), D(10), currency)
    assert line.exact == D("1.2345")
    assert str(line.amount) == amount


@pytest.mark.parametrize(("quantity", "amount"), [("0.5", "1"), ("1.5", "2"), ("2.5", "3"), ("0.499999", "0")])
def test_halves_go_up_in_yen(quantity: str, amount: str) -> None:
    (line,) = usage_lines(per_unit("1"), D(quantity), "jpy")
    assert line.amount == D(amount)


@pytest.mark.parametrize(("used", "due"), [(200, 5), (20, 3), (100, 3), (101, "3.02"), (0, 3)])
def test_three_dollars_hundred_free_then_two_cents(used: int, due: int | str) -> None:
    plan = Plan("p", 1, "P", base_fee=D(3), prices=(graduated((100, "0"), (None, "0.02")),))
    assert bill(plan, "usd", {"m": Used(D(used))}).total == D(due)


@pytest.mark.parametrize(
    ("used", "due"),
    [(1000000, 29), (2000000, 34), (3000000, 39), (1200000, 30), (1001000, "29.01"), (1000999, "29.00")],
)
def test_a_million_included_then_five_dollars_a_million(used: int, due: int | str) -> None:
    plan = Plan("p", 1, "P", base_fee=D(29), prices=(graduated((1000000, "0"), (None, "0.000005")),))
    assert bill(plan, "usd", {"m": Used(D(used))}).total == D(due)
