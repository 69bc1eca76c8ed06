"""How a quantity becomes units: conditions, weights, multipliers, rounding."""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollgate.catalog.model import (
    _MAX_KNOWN,
    MAX_MULTIPLIERS,
    Meter,
    Multiplier,
    Plan,
    WeightRule,
    condition,
    matches,
    units,
    weighed_by,
    weight_of,
)
from tollgate.errors import QuantityTooLarge

CREDITS = Meter(
    "ai_credits",
    "AI credits",
    "credit",
    weights=(
        WeightRule(condition({"operation": "image"}), Decimal(5)),
        WeightRule(condition({"operation": "chat", "model": "small-*"}), Decimal("0.001")),
        WeightRule(condition({"operation": "chat"}), Decimal("0.01")),
    ),
    multipliers=(
        Multiplier(condition({"quality": "hd"}), Decimal(2)),
        Multiplier(condition({"speed": ["fast", "fastest"]}), Decimal("1.5")),
    ),
)


@pytest.mark.parametrize(
    ("quantity", "dimensions", "counted"),
    [
        ("3", {}, "3"),
        ("3", {"operation": "text"}, "3"),
        ("3", {"operation": "image"}, "15"),
        ("1234", {"operation": "chat", "model": "small-2"}, "1.234"),
        ("1234", {"operation": "chat", "model": "large"}, "12.34"),
        ("1234", {"operation": "chat"}, "12.34"),
        ("3", {"operation": "image", "quality": "hd"}, "30"),
        ("3", {"operation": "image", "quality": "hd", "speed": "fast"}, "45"),
        ("3", {"quality": "HD"}, "3"),
        ("0", {"operation": "image"}, "0"),
        ("0.0004999", {"operation": "chat", "model": "small-2"}, "0"),
        ("0.0005", {"operation": "chat", "model": "small-2"}, "0.000001"),
    ],
)
def test_units(quantity: str, dimensions: dict[str, str], counted: str) -> None:
    assert units(CREDITS, Decimal(quantity), dimensions) == Decimal(counted)


def test_units_stand_at_the_scale_of_the_meter() -> None:
    assert str(units(Meter("m", "m", "u", scale=2), Decimal(3), {})) == "3.00"
    assert str(units(Meter("m", "m", "u", scale=0), Decimal("2.5"), {})) == "3"


def test_units_are_rounded_once_whatever_the_number_of_factors() -> None:
    factor = Decimal("999999999999.999999999999")
    small = Decimal("0.000000000001")
    factors = [factor, small] * (MAX_MULTIPLIERS // 2)
    meter = Meter("m", "m", "u", scale=12, multipliers=tuple(Multiplier((), each) for each in factors))
    quantity = Decimal("0.123456789012")
    exact = Fraction(quantity)
    for each in factors:
        exact *= Fraction(each)
    counted = units(meter, quantity, {})
    assert abs(Fraction(counted) - exact) <= Fraction(1, 2 * 10**12)


def test_the_largest_quantity_is_below_ten_to_the_eighteen() -> None:
    meter = Meter("m", "m", "u")
    assert units(meter, Decimal("999999999999999999.999999"), {}) == Decimal("999999999999999999.999999")
    for quantity in ("1e18", "999999999999999999.9999995", "1e400"):
        with pytest.raises(QuantityTooLarge):
            units(meter, Decimal(quantity), {})


values = st.sampled_from(["image", "chat", "small-1", "hd", "fast", "fastest", "other"])


@given(st.lists(st.dictionaries(st.sampled_from(["operation", "model", "quality", "speed", "user"]), values)))
def test_a_remembered_weight_is_the_one_that_trying_finds(calls: list[dict[str, str]]) -> None:
    meter = replace(CREDITS)
    for dimensions in [*calls, *calls]:
        assert weight_of(meter, dimensions) == weight_of(replace(CREDITS), dimensions)


def test_callers_do_not_choose_how_much_is_remembered() -> None:
    meter = replace(CREDITS)
    for number in range(10_000):
        weight_of(meter, {"operation": "chat", "model": f"m-{number}", "user": f"u-{number}"})
        assert len(meter._known) <= _MAX_KNOWN
    assert weight_of(meter, {"operation": "chat", "model": "small-1"}) == Decimal("0.001")
    users = replace(CREDITS)
    for number in range(100):
        weight_of(users, {"operation": "image", "user": f"u-{number}"})
    assert users._known == {(None, "image", None, None): Decimal(5)}


def test_what_is_remembered_is_no_part_of_a_meter() -> None:
    meter = replace(CREDITS)
    weight_of(meter, {"operation": "image"})
    assert meter == CREDITS
    assert hash(meter) == hash(CREDITS)
    assert weight_of(replace(meter, weights=()), {"operation": "image"}) == 1


def test_a_plan_asks_its_own_weights_first() -> None:
    own = (WeightRule(condition({"operation": "image"}), Decimal(3)),)
    plan = Plan("pro", 1, "Pro", weights=(("ai_credits", own),))
    weighed = weighed_by(plan, CREDITS)
    assert units(weighed, Decimal(1), {"operation": "image"}) == 3
    assert units(weighed, Decimal(1), {"operation": "chat"}) == Decimal("0.01")
    assert weighed_by(plan, Meter("other", "o", "u")).weights == ()


def test_a_plans_rule_without_condition_replaces_the_meters_weights() -> None:
    plan = Plan("pro", 1, "Pro", weights=(("ai_credits", (WeightRule((), Decimal(7)),)),))
    assert units(weighed_by(plan, CREDITS), Decimal(1), {"operation": "image"}) == 7


# --- conditions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "value", "fits"),
    [
        ("small-*", "small-2", True),
        ("small-*", "small-", True),
        ("small-*", "a-small-2", False),
        ("*-hd", "video-hd", True),
        ("*-hd", "hd", False),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("*mini*", "gpt-mini-2", True),
        ("a*b*c", "a-b-b-c", True),
        ("a*bc*c", "abc", False),
        ("*", "", True),
        ("Small", "small", False),
        ("a?c", "abc", False),
        ("[ab]", "a", False),
        ("a.c", "abc", False),
        ("a", "a\n", False),
    ],
)
def test_patterns(pattern: str, value: str, fits: bool) -> None:
    assert matches(condition({"model": pattern}), {"model": value}) is fits


def test_every_dimension_must_be_there_and_match() -> None:
    when = condition({"model": "a", "region": ["eu", "us"]})
    assert matches(when, {"model": "a", "region": "us", "other": "x"})
    assert not matches(when, {"model": "a"})
    assert not matches(when, {"model": "a", "region": "asia"})
    assert matches((), {})


def test_equal_conditions_are_equal_values() -> None:
    assert condition({"b": "x", "a": ["z", "y", "z"]}) == condition({"a": ("y", "z"), "b": ["x"]})
    assert condition({"b": "x", "a": ["z", "y"]}) == (("a", ("y", "z")), ("b", ("x",)))


@given(st.text("ab*", max_size=8), st.text("ab", max_size=10))
def test_patterns_agree_with_a_regular_expression(pattern: str, value: str) -> None:
    expression = ".*".join(re.escape(part) for part in pattern.split("*"))
    expected = re.fullmatch(expression, value, re.DOTALL) is not None
    assert matches(condition({"d": pattern}), {"d": value}) is expected


def test_a_pattern_of_many_stars_needs_no_backtracking() -> None:
    assert not matches(condition({"d": "*a" * 40 + "*b*c"}), {"d": "a" * 4000 + "b"})
