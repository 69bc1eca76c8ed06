"""What a quantity costs: properties of every scheme, markup, minimum, maximum, and exactness."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.rating.making import D, amounts, graduated, package, per_unit, prices, volume
from tollgate.catalog.model import Price
from tollgate.rating.charge import charge, highest, included
from tollgate.rating.currency import EXACT, is_chargeable, minor_places, quotient, rounded, stripe_places
from tollgate.rating.lines import total, usage_lines
from tollgate.rating.marginal import marginal, marginal_highest

HALF_A_CENT = D("0.005")


@given(prices(("per_unit", "graduated", "package")), amounts, amounts)
def test_more_never_costs_less(price: Price, one: Decimal, other: Decimal) -> None:
    low, high = sorted((one, other))
    assert charge(price, low) <= charge(price, high)


def test_a_volume_price_can_fall_but_the_highest_charge_cannot() -> None:
    price = volume((10, "7"), (None, "6"))
    assert (charge(price, D(10)), charge(price, D(11))) == (D(70), D(66))
    assert [highest(price, D(quantity)) for quantity in (0, 10, 11, 12)] == [0, 70, 70, 72]


@given(prices(), amounts)
def test_the_highest_charge_is_the_most_along_the_way(price: Price, quantity: Decimal) -> None:
    steps = range(int(quantity * 100) + 1)
    assert highest(price, quantity) >= max(charge(price, D(step).scaleb(-2)) for step in steps)
    assert highest(price, quantity) in {charge(price, D(step).scaleb(-2)) for step in steps}


@given(prices(), st.lists(amounts, max_size=8))
def test_marginals_sum_to_the_total(price: Price, steps: list[Decimal]) -> None:
    position, due, cap = D(0), charge(price, D(0)), highest(price, D(0))
    for step in steps:
        due += marginal(price, position, step)
        cap += marginal_highest(price, position, step)
        position += step
    assert due == charge(price, position)
    assert cap == highest(price, position)


@given(prices(), amounts, amounts)
def test_giving_units_back_undoes_their_cost(price: Price, position: Decimal, units: Decimal) -> None:
    assert marginal(price, position + units, -units) == -marginal(price, position, units)


@given(prices(), amounts, st.sampled_from(["usd", "jpy", "kwd"]))
def test_lines_add_up_to_the_charge_but_for_half_a_unit_each(price: Price, quantity: Decimal, currency: str) -> None:
    lines = usage_lines(price, quantity, currency)
    usage = [line for line in lines if line.kind == "usage"]
    half = D("0.5").scaleb(-minor_places(currency))
    if all(bound is None or is_chargeable(bound, currency) for bound in (price.minimum, price.maximum)):
        assert abs(total(lines) - charge(price, quantity)) <= half * len(usage)
    assert sum(line.quantity for line in usage) == quantity
    for line in usage:
        count = line.quantity if line.packages is None else line.packages
        assert line.exact == (count * line.unit_price + line.flat) * (1 + line.markup / 100)
        assert line.amount == rounded(line.exact, currency)
        assert abs(line.amount - line.exact) <= half


@given(prices(), amounts)
def test_minimum_and_maximum_hold_for_the_rounded_lines(price: Price, quantity: Decimal) -> None:
    due = total(usage_lines(price, quantity, "usd"))
    assert price.minimum is None or due >= price.minimum
    assert price.maximum is None or due <= price.maximum


@given(prices(), amounts)
def test_decimals_only(price: Price, quantity: Decimal) -> None:
    assert isinstance(charge(price, quantity), Decimal)
    assert isinstance(highest(price, quantity), Decimal)
    for line in usage_lines(price, quantity, "usd"):
        for value in (line.quantity, line.unit_price, line.amount, line.exact, line.flat, line.markup):
            assert type(value) is Decimal


@pytest.mark.parametrize("price", [per_unit("1"), graduated((5, "1"), (None, "2")), package(3, "1")])
def test_a_float_is_refused(price: Price) -> None:
    with pytest.raises(TypeError):
        charge(price, 1.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("price", [per_unit("1"), volume((None, "2")), package(3, "1")])
def test_a_negative_quantity_is_refused(price: Price) -> None:
    with pytest.raises(ValueError, match="-1"):
        charge(price, D(-1))


def test_nothing_is_lost_at_the_widest() -> None:
    """18 digits and 12 places of units, price and markup: every digit stands."""
    unit, quantity = D("123456789012345678.123456789012"), D("999999999999999999.999999999999")
    price = per_unit(str(unit), markup=D("123456789012345678.123456789012"))
    assert charge(price, quantity) == EXACT.multiply(
        EXACT.multiply(unit, quantity), D("1234567890123457.78123456789012")
    )


def test_a_markup_is_on_prices_and_flat_amounts_but_not_on_bounds() -> None:
    price = graduated((10, "1", "5"), (None, "2"), markup=D(10))
    assert [charge(price, D(quantity)) for quantity in (0, 10, 12)] == [D("5.5"), D("16.5"), D("20.9")]
    assert charge(graduated((None, "1"), markup=D(10), maximum=D(20)), D(50)) == 20
    assert charge(graduated((None, "1"), markup=D(10), minimum=D(20)), D(5)) == 20
    assert charge(package(10, "1", markup=D(50)), D(11)) == 3


def test_a_minimum_is_due_without_usage() -> None:
    lines = usage_lines(per_unit("0.10", minimum=D(5)), D(0), "usd")
    assert [(line.kind, line.amount) for line in lines] == [("usage", D(0)), ("minimum", D(5))]
    lines = usage_lines(per_unit("0.10", minimum=D(5)), D(49), "usd")
    assert [(line.kind, line.amount) for line in lines] == [("usage", D("4.90")), ("minimum", D("0.10"))]
    assert len(usage_lines(per_unit("0.10", minimum=D(5)), D(50), "usd")) == 1


def test_a_maximum_is_a_line_of_its_own() -> None:
    price = graduated((100, "0.10"), (None, "0.05"), maximum=D(12))
    lines = usage_lines(price, D(200), "usd")
    assert [(line.kind, line.tier, line.amount) for line in lines] == [
        ("usage", 1, D(10)),
        ("usage", 2, D(5)),
        ("maximum", None, D(-3)),
    ]
    assert (lines[2].exact, lines[2].unit_price, lines[2].quantity) == (D(-3), D(-3), D(1))


def test_what_a_line_explains() -> None:
    line = usage_lines(package(1000, "0.04", markup=D(25)), D(2500), "usd")[0]
    assert line._asdict() == {
        "kind": "usage",
        "meter": "m",
        "quantity": D(2500),
        "unit_price": D("0.04"),
        "amount": D("0.15"),
        "exact": D("0.15"),
        "flat": D(0),
        "tier": None,
        "packages": D(3),
        "markup": D(25),
    }


@pytest.mark.parametrize(
    ("price", "units"),
    [
        (per_unit("1"), D(0)),
        (per_unit("0"), None),
        (package(5, "1"), D(0)),
        (package(5, "0"), None),
        (graduated((100, "0"), (None, "1")), D(100)),
        (graduated((100, "0"), (200, "0"), (None, "1")), D(200)),
        (graduated((100, "0"), (200, "0", "3"), (None, "1")), D(100)),
        (graduated((100, "0", "3"), (200, "0"), (None, "1")), D(200)),
        (graduated((100, "0"), (None, "0")), None),
        (graduated((100, "1"), (None, "0")), D(0)),
        (volume((100, "0"), (None, "1")), D(100)),
        (volume((100, "0", "3"), (200, "0", "3"), (None, "0", "4")), D(200)),
    ],
)
def test_included(price: Price, units: Decimal | None) -> None:
    assert included(price) == units


@given(prices())
def test_included_units_cost_nothing_and_the_next_one_does(price: Price) -> None:
    bare = Price(price.meter, price.scheme, price.unit_price, price.tiers, price.package_size, price.package_price)
    units = included(bare)
    if units is None:
        assert highest(bare, D(10**6)) == charge(bare, D(0))
        return
    assert highest(bare, units) == charge(bare, D(0))
    # A volume price that begins with a flat amount may fall first, and a package is completed only later.
    assert price.scheme in ("volume", "package") or charge(bare, units + D("0.000001")) > charge(bare, D(0))


def test_stripe_counts_some_currencies_in_hundredths_that_they_do_not_have() -> None:
    assert [(minor_places(code), stripe_places(code)) for code in ("usd", "jpy", "kwd", "isk", "ugx")] == [
        (2, 2),
        (0, 0),
        (3, 3),
        (0, 2),
        (0, 2),
    ]


def test_a_quotient_is_cut_and_never_rounded() -> None:
    assert quotient(D(20), D(3), 6) == D("6.666666")
    assert quotient(D("0.999999999999"), D("0.000000000001")) == 999999999999
    assert quotient(D(10) ** 30, D("0.000000000003"), 12) == D("3" * 42 + "." + "3" * 12)
