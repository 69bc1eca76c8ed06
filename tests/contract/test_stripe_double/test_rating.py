"""The double's rating against the tables of Stripe's documentation."""

from __future__ import annotations

from decimal import Decimal

import pytest

from local.stripe_double.rating import Pricing, Tier, cost, rounded

SIMPLE = (Tier(5, Decimal(700), None), Tier(10, Decimal(650), None), Tier(None, Decimal(600), None))
FLAT = (
    Tier(5, Decimal(500), 1000),
    Tier(10, Decimal(400), 2000),
    Tier(15, Decimal(300), 3000),
    Tier(20, Decimal(200), 4000),
    Tier(None, Decimal(100), 5000),
)
INCLUDED = (Tier(1000, Decimal(0), None), Tier(None, Decimal(4), None))


@pytest.mark.parametrize(
    ("tiers", "mode", "quantity", "cents"),
    [
        (SIMPLE, "volume", "1", 700),
        (SIMPLE, "volume", "5", 3500),
        (SIMPLE, "volume", "6", 3900),
        (SIMPLE, "volume", "20", 12000),
        (SIMPLE, "volume", "25", 15000),
        (SIMPLE, "graduated", "1", 700),
        (SIMPLE, "graduated", "5", 3500),
        (SIMPLE, "graduated", "6", 4150),
        (SIMPLE, "graduated", "20", 12750),
        (SIMPLE, "graduated", "25", 15750),
        (FLAT, "volume", "12", 6600),
        (FLAT, "graduated", "12", 11100),
        (FLAT, "volume", "0", 1000),
        (FLAT, "graduated", "0", 1000),
        (INCLUDED, "graduated", "3000", 8000),
        (INCLUDED, "graduated", "1000", 0),
        (INCLUDED, "graduated", "1000.5", 2),
    ],
)
def test_tiers(tiers: tuple[Tier, ...], mode: str, quantity: str, cents: int) -> None:
    assert rounded(cost(Pricing(tiers=tiers, mode=mode), Decimal(quantity))) == cents


@pytest.mark.parametrize(("round_up", "quantity", "cents"), [(True, 150, 3000), (False, 150, 2000), (True, 120, 2000)])
def test_packages(round_up: bool, quantity: int, cents: int) -> None:
    pricing = Pricing(Decimal(1000), divide_by=60, round_up=round_up)
    assert rounded(cost(pricing, Decimal(quantity))) == cents


@pytest.mark.parametrize(
    ("unit", "quantity", "cents"), [("0.05", 30, 2), ("0.05", 29, 1), ("0.05", 50, 3), ("0.000000000001", 1, 0)]
)
def test_a_line_is_rounded_half_up_after_multiplication(unit: str, quantity: int, cents: int) -> None:
    assert rounded(cost(Pricing(Decimal(unit)), Decimal(quantity))) == cents


def test_no_digit_is_lost() -> None:
    exact = Decimal("300239975157732.8600248419669")
    assert cost(Pricing(Decimal("0.333333333333")), Decimal("900719925474099.3")) == exact
