"""The catalogue in Stripe's words: what is wanted, what is folded, what is refused."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.examples.shelf import AGENT, IMAGES, RESELLER, catalog, version
from tests.unit.rating.making import graduated, per_unit, tiers
from tollgate.catalog import model
from tollgate.catalog.frozen import PlanVersion
from tollgate.catalog.model import Meter, Pack, Plan, Price, Seats
from tollgate.rating.lines import total, usage_lines
from tollgate.sync.desired import Desired, desired
from tollgate.sync.objects import Terms

D = Decimal
METER = Meter("m", "Things", "thing", scale=0, stripe_event_name="things")


def of(*prices: Price, **more: Any) -> Desired:
    return desired([PlanVersion(Plan("pro", 3, "Pro", prices=prices, **more), {"m": METER})], "dev")


def terms(found: Desired) -> Terms:
    (price,) = found.prices
    assert not found.refusals
    return price.terms


def cents(found: Terms, quantity: int) -> Decimal:
    """What graduated tiers come to in Stripe's order: each tier a line, each line rounded."""
    assert found.tiers_mode == "graduated"
    amount, low = D(0), D(0)
    for tier in found.tiers:
        high = D(quantity) if tier.up_to is None else min(D(quantity), tier.up_to)
        line = (high - low) * tier.unit_amount + tier.flat_amount
        amount += line.quantize(D(1), rounding="ROUND_HALF_UP")
        if tier.up_to is None or quantity <= tier.up_to:
            return amount
        low = tier.up_to
    raise AssertionError


def test_the_example_catalogues_can_be_at_stripe() -> None:
    for name in (IMAGES, AGENT, RESELLER):
        plans = [version(name, plan) for plan in catalog(name).plans]
        found = desired(plans, "tollgate-dev")
        assert found.refusals == (), name
        assert len({price.lookup_key for price in found.prices}) == len(found.prices)


def test_a_plan_becomes_products_and_prices() -> None:
    found = desired([version(AGENT, "team")], "tollgate-dev")
    assert [(one.event_name, one.formula) for one in found.meters] == [("model_use_cents", "sum")]
    assert [one.name for one in found.products] == ["Team: seats", "Team: Model use"]
    seats, use = found.prices
    assert seats.lookup_key == "tollgate:tollgate-dev:team:1:seats"
    assert (seats.terms.unit_amount, seats.terms.interval, seats.terms.event_name) == (D(4000), "month", None)
    assert (use.terms.unit_amount, use.terms.event_name) == (D(1), "model_use_cents")
    assert use.metadata == {
        "tollgate_stack": "tollgate-dev",
        "tollgate_plan": "team",
        "tollgate_plan_version": "1",
        "tollgate_part": "meter:model_use",
    }


def test_included_units_are_a_free_first_tier() -> None:
    base, use = desired([version(AGENT, "pro")], "dev").prices
    assert (base.terms.unit_amount, base.terms.event_name) == (D(2000), None)
    assert [(tier.up_to, tier.unit_amount) for tier in use.terms.tiers] == [(D(2000), D(0)), (None, D(1))]


def test_packs_are_paid_once_and_a_year_is_a_year() -> None:
    found = desired([version(IMAGES, "creator_yearly")], "dev")
    by_part = {price.metadata["tollgate_part"]: price.terms for price in found.prices}
    assert by_part["base"].interval == by_part["meter:credits"].interval == "year"
    assert (by_part["pack:pack_500"].interval, by_part["pack:pack_500"].unit_amount) == (None, D(2000))


def test_a_markup_is_in_the_amount_and_said() -> None:
    found = desired([version(RESELLER, "pay_as_you_go")], "dev")
    assert terms(found).unit_amount == D("0.000105")
    assert found.folded == {"tollgate:dev:pay_as_you_go:1:meter:model_use": ("markup 5 % in each amount",)}


def test_a_level_is_counted_by_its_last_value_and_yen_have_no_cents() -> None:
    level = Meter("gb", "Storage", "GB", stripe_event_name="gb", kind="level")
    plan = Plan("p", 1, "P", prices=(Price("gb", "per_unit", unit_price=D("7")),), currency="jpy", base_fee=D(900))
    found = desired([PlanVersion(plan, {"gb": level})], "dev")
    assert [one.formula for one in found.meters] == ["last"]
    assert [one.terms.unit_amount for one in found.prices] == [D(900), D(7)]


def test_packages_divide() -> None:
    found = terms(of(Price("m", "package", package_size=D(60), package_price=D("0.10"), round="down")))
    assert (found.unit_amount, found.divide_by, found.round) == (D(10), 60, "down")


def test_products_stay_and_the_newest_version_names_them() -> None:
    old = PlanVersion(Plan("pro", 1, "Old name", base_fee=D(1)), {})
    new = PlanVersion(Plan("pro", 2, "New name", base_fee=D(2)), {})
    found = desired([old, new], "dev")
    assert [one.name for one in found.products] == ["New name"]
    assert len({one.terms.product for one in found.prices}) == 1
    assert [one.lookup_key for one in found.prices] == ["tollgate:dev:pro:1:base", "tollgate:dev:pro:2:base"]


@pytest.mark.parametrize(
    ("price", "reason"),
    [
        (per_unit("0.000000000000001"), "12 decimal places"),
        (graduated((10, "0.01", "0.005"), (None, "0.02")), "no whole number of its smallest unit"),
        (graduated(("0.5", "0.01"), (None, "0.02")), "end at whole numbers"),
        (Price("m", "package", package_size=D("0.5"), package_price=D(1)), "divides by whole numbers"),
        (Price("m", "package", package_size=D(5), package_price=D(1), minimum=D(3)), "no minimum or maximum"),
        (Price("m", "volume", tiers=tiers((None, "1")), maximum=D(3)), "volume price"),
        (per_unit("0.03", minimum=D("0.10")), "a quantity that is not whole"),
        (graduated((3, "0.005"), (None, "1"), minimum=D(3)), "fraction of the smallest amount"),
    ],
)
def test_what_stripe_has_no_words_for_is_refused(price: Price, reason: str) -> None:
    found = of(price)
    assert found.prices == ()
    ((what, said),) = found.refusals
    assert what == "plan pro, version 3, meter:m"
    assert reason in said


def test_one_event_name_has_one_formula() -> None:
    level = METER.__class__("m", "Things", "thing", stripe_event_name="things", kind="level")
    found = desired([PlanVersion(Plan("a", 1, "A"), {"m": METER}), PlanVersion(Plan("b", 1, "B"), {"m": level})], "dev")
    ((what, said),) = found.refusals
    assert what == "plan b, version 1, meter m"
    assert "`things` is a sum in another plan version and a last here" in said


def test_too_many_prices_and_names_too_long_are_refused() -> None:
    meters = {f"m{n}": Meter(f"m{n}", "", "", stripe_event_name=f"e{n}") for n in range(20)}
    prices = tuple(Price(name, "per_unit", unit_price=D(1)) for name in meters)
    plan = Plan("p", 1, "P", base_fee=D(1), prices=prices, packs=(Pack("x", "X", "m0", D(1), D(1)),))
    ((what, said),) = desired([PlanVersion(plan, meters)], "dev").refusals
    assert (what, said) == ("plan p, version 1", "21 prices; a subscription at Stripe takes 20")
    long = desired([PlanVersion(Plan("p" * 64, 1, "P", seats=Seats(D(1))), {})], "s" * 130)
    assert "shorten names" in long.refusals[0].reason


def _whole_tiers(draw: st.DrawFn) -> tuple[model.Tier, ...]:
    edges = sorted(draw(st.sets(st.integers(1, 40), max_size=3)))
    ends: list[int | None] = [*edges, None]
    return tuple(
        model.Tier(None if end is None else D(end), D(draw(st.integers(0, 5))), D(draw(st.integers(0, 20))))
        for end in ends
    )


@st.composite
def bounded_prices(draw: st.DrawFn) -> Price:
    minimum = draw(st.none() | st.integers(0, 120).map(D))
    maximum = draw(st.none() | st.integers(int(minimum or 0), 240).map(D))
    if draw(st.booleans()):
        unit = D(draw(st.integers(0, 9))) / D(draw(st.sampled_from([1, 2, 4, 8, 1000])))
        return Price("m", "per_unit", unit_price=unit, minimum=minimum, maximum=maximum)
    return Price("m", "graduated", tiers=_whole_tiers(draw), minimum=minimum, maximum=maximum)


@given(bounded_prices(), st.integers(0, 300), st.sampled_from(["0", "10", "12.5"]))
def test_a_folded_bound_is_the_same_to_the_cent(price: Price, quantity: int, markup: str) -> None:
    """Whatever is not refused: tiers as Stripe bills them against the product's own lines."""
    price = model.Price(price.meter, price.scheme, price.unit_price, price.tiers, minimum=price.minimum,
                        maximum=price.maximum, markup=D(markup))  # fmt: skip
    found = of(price)
    if found.refusals or terms(found).tiers_mode is None:
        return
    ours = total(usage_lines(price, D(quantity), "usd"))
    assert cents(terms(found), quantity) == ours * 100


def test_folding_is_not_refused_too_often() -> None:
    for price in (
        per_unit("0.02", minimum=D(5)),
        per_unit("0.02", minimum=D(5), maximum=D(20)),
        graduated((100, "0"), (200, "0.05", "2.00"), (None, "0.01"), minimum=D("1.00"), maximum=D(9)),
    ):
        found = terms(of(price))
        assert cents(found, 0) == (price.minimum or 0) * 100
        assert cents(found, 10**6) == (price.maximum * 100 if price.maximum else D(2 * 10**6))
