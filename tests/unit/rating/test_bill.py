"""Whole periods: base fee, seats, units that seats bring, and what is not paid."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.rating.making import D, amounts, graduated, per_unit, prices
from tollgate.catalog.model import Plan, Price, Seats
from tollgate.rating.bill import Bill, Used, bill, brought, paid_units

TEAM = Plan(
    "team",
    1,
    "Team",
    base_fee=D(99),
    seats=Seats(D("20.005"), minimum=3),
    prices=(per_unit("0.10", included_per_seat=D(100)),),
)


def test_lines_in_order() -> None:
    found = bill(TEAM, "usd", {"m": Used(D(650)), "unpriced": Used(D(9))}, seats=5)
    assert [(line.kind, line.meter, line.quantity, line.amount) for line in found.lines] == [
        ("base_fee", None, D(1), D(99)),
        ("seats", None, D(5), D("100.03")),
        ("usage", "m", D(150), D(15)),
    ]
    assert (found.total, found.usage) == (D("214.03"), D(15))


def test_the_minimum_of_seats_is_billed_and_brings_its_units() -> None:
    found = bill(TEAM, "usd", {"m": Used(D(301))}, seats=1)
    assert [(line.kind, line.quantity) for line in found.lines] == [
        ("base_fee", D(1)),
        ("seats", D(3)),
        ("usage", D(1)),
    ]


def test_no_fee_no_line() -> None:
    plan = Plan("p", 1, "P", prices=(per_unit("1"),))
    assert [line.kind for line in bill(plan, "usd", {}).lines] == ["usage"]
    assert bill(Plan("p", 1, "P"), "usd", {"m": Used(D(5))}) == Bill((), D(0), D(0))


def test_the_pool_is_for_all_and_own_units_are_not() -> None:
    used = Used(D(250), by_seat=(D(200), D(50)))
    price = TEAM.prices[0]
    pooled = replace(TEAM, seats=Seats(D(20)))
    apart = replace(TEAM, seats=Seats(D(20), pooled=False))
    assert paid_units(pooled, price, used, 2) == 50
    assert brought(apart, price, used, 2) == 150
    assert paid_units(apart, price, used, 2) == 100


def test_usage_of_no_seat_is_paid_from_the_first_unit() -> None:
    apart = replace(TEAM, seats=Seats(D(20), pooled=False))
    assert paid_units(apart, TEAM.prices[0], Used(D(130), by_seat=(D(40),)), 2) == 90


def test_more_seats_than_there_are() -> None:
    apart = replace(TEAM, seats=Seats(D(20), pooled=False))
    with pytest.raises(ValueError, match="2 seats used units, of 1"):
        bill(apart, "usd", {"m": Used(D(2), by_seat=(D(1), D(1)))}, seats=1)


def test_negative_usage_is_refused() -> None:
    with pytest.raises(ValueError, match="-5"):
        bill(TEAM, "usd", {"m": Used(D(-5))}, seats=1)


def test_units_of_seats_come_before_credits_and_tiers() -> None:
    plan = replace(TEAM, prices=(graduated((100, "0"), (None, "0.10"), included_per_seat=D(100)),))
    assert paid_units(plan, plan.prices[0], Used(D(700), credit_funded=D(50), waived=D(20)), 3) == 330
    assert bill(plan, "usd", {"m": Used(D(700), credit_funded=D(50), waived=D(20))}, 3).usage == 23


def test_credits_that_paid_for_what_seats_bring_are_not_owed() -> None:
    assert paid_units(TEAM, TEAM.prices[0], Used(D(310), credit_funded=D(50)), 3) == 0


def test_without_seats_nothing_is_brought() -> None:
    plan = replace(TEAM, seats=None)
    assert paid_units(plan, plan.prices[0], Used(D(650)), 5) == 650


@given(prices(), amounts, st.integers(0, 4), st.sampled_from([D(0), D(3), D("0.5")]))
def test_units_of_seats_widen_a_first_free_tier(price: Price, quantity: Decimal, seats: int, each: Decimal) -> None:
    """Taking them off before the tiers is the same as moving every edge of a graduated price up by them."""
    free = D(2)
    first = graduated((free, "0"), (D(9), "1", "2"), (None, "3"), included_per_seat=each)
    wide = graduated((free + each * seats, "0"), (D(9) + each * seats, "1", "2"), (None, "3"))
    plan = Plan("p", 1, "P", prices=(first,), seats=Seats(D(0)))
    widened = Plan("p", 1, "P", prices=(wide,), seats=Seats(D(0)))
    used = {"m": Used(quantity)}
    assert bill(plan, "usd", used, seats).usage == bill(widened, "usd", used, seats).usage


@given(st.lists(prices(), max_size=3), amounts, st.integers(0, 5000).map(lambda n: D(n).scaleb(-2)))
def test_a_bill_is_the_sum_of_its_lines(some: list[Price], quantity: Decimal, fee: Decimal) -> None:
    named = tuple(replace(price, meter=f"m{index}") for index, price in enumerate(some))
    plan = Plan("p", 1, "P", base_fee=fee, prices=named, seats=Seats(D(7), minimum=1))
    found = bill(plan, "usd", {price.meter: Used(quantity) for price in named}, seats=2)
    assert found.total == sum((line.amount for line in found.lines), D(0)) == fee + 14 + found.usage
