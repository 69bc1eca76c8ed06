"""A money cap on exact spend keeps the rounded invoice within it, and gives away nothing it need not."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.rating.making import SCALE, D, amounts, graduated, package, per_unit, prices, volume
from tollgate.catalog.model import Price
from tollgate.rating.caps import fractional_lines, usable
from tollgate.rating.charge import charge
from tollgate.rating.lines import total, usage_lines
from tollgate.rating.marginal import buys

CAP = D(20)


def test_one_price_keeps_the_whole_cap() -> None:
    price = graduated((100, "0"), (None, "0.02"))
    assert usable(CAP, [(price, 6)], "usd") == CAP
    assert buys(price, D(0), CAP, 6) == 1100


def test_each_further_line_that_can_be_rounded_up_costs_half_a_cent() -> None:
    fine = per_unit("0.0001")
    assert usable(CAP, [(fine, 0)] * 2, "usd") == D("19.995")
    assert usable(CAP, [(fine, 0)] * 3, "usd") == D("19.99")
    assert usable(CAP, [(fine, 0)] * 3, "jpy") == D(19)
    assert usable(CAP, [(per_unit("0.01"), 0)] * 3, "usd") == CAP


def test_a_cap_finer_than_the_currency_is_cut() -> None:
    assert usable(D("20.019"), [(per_unit("1"), 0)], "usd") == D("20.01")
    assert usable(D("0.001"), [(per_unit("0.0001"), 0)] * 5, "usd") == 0


@pytest.mark.parametrize(
    ("price", "scale", "lines"),
    [
        (per_unit("0.01"), 0, 0),
        (per_unit("0.01"), 1, 1),
        (per_unit("0.01", markup=D(10)), 0, 1),
        (package(7, "0.04"), 6, 0),
        (package(7, "0.045"), 0, 1),
        # full tiers on whole cents; the last open one
        (graduated((100, "0"), (500, "0.010"), (None, "0.007")), 0, 1),
        # full tiers that end on half a cent stay on the invoice
        (graduated((1, "0.005"), (2, "0.005"), (None, "0.005")), 0, 3),
        (graduated((1, "0.005"), (2, "0.005"), (None, "1")), 0, 2),
        (volume((1, "0.005"), (2, "0.005"), (None, "0.005")), 0, 1),
        (graduated((1, "0", "0.005"), (None, "1")), 0, 1),
    ],
)
def test_lines_that_can_end_on_a_fraction(price: Price, scale: int, lines: int) -> None:
    assert fractional_lines(price, scale, "usd") == lines


@given(
    st.lists(st.tuples(prices(), amounts), min_size=1, max_size=4),
    st.integers(0, 4000).map(lambda n: D(n).scaleb(-2)),
    st.sampled_from(["usd", "jpy"]),
)
def test_spend_within_the_usable_cap_is_billed_within_the_cap(
    used: list[tuple[Price, Decimal]], cap: Decimal, currency: str
) -> None:
    """Usage is scaled to small fractions, where rounding matters most."""
    used = [(price, quantity / 10) for price, quantity in used]
    spend = sum((charge(price, quantity) for price, quantity in used), D(0))
    room = usable(cap, [(price, SCALE + 1) for price, _ in used], currency)
    if spend <= room:
        assert sum(total(usage_lines(price, quantity, currency)) for price, quantity in used) <= cap


@given(st.lists(st.integers(0, 400), min_size=1, max_size=6), st.integers(0, 8))
def test_the_same_for_many_half_cents(quantities: list[int], cents: int) -> None:
    price, cap = per_unit("0.005"), D(cents).scaleb(-2)
    used = [D(quantity % 5) for quantity in quantities]
    spend = sum((charge(price, quantity) for quantity in used), D(0))
    if spend <= usable(cap, [(price, 0)] * len(used), "usd"):
        assert sum(total(usage_lines(price, quantity, "usd")) for quantity in used) <= cap
