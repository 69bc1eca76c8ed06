"""Plan versions as JSON: round trip, identity, what is frozen."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields, replace
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollgate.catalog.frozen import content_hash, plan_from_json, plan_to_json
from tollgate.catalog.model import (
    BillingPeriod,
    Condition,
    GrantRule,
    Limit,
    Meter,
    Multiplier,
    Pack,
    Plan,
    Price,
    Seats,
    SharedLimit,
    Tier,
    WeightRule,
    condition,
    units,
)
from tollgate.windows import CALENDAR_KINDS, DAY, LIFETIME, WindowKind

METER = Meter(
    "ai_credits",
    "AI credits",
    "credit",
    4,
    "ai_credits_v1",
    (WeightRule(condition({"op": ["image", "photo"]}), Decimal(5)),),
    (Multiplier(condition({"quality": "hd"}), Decimal("1.5")),),
)
TIERS = (Tier(Decimal(100), Decimal(0), Decimal(1)), Tier(None, Decimal("0.02"), Decimal(0)))
FULL = Plan(
    id="pro",
    version=3,
    name="Pro",
    base_fee=Decimal("29.5"),
    period=BillingPeriod("year", "signup"),
    prices=(
        Price("ai_credits", "graduated", tiers=TIERS),
        Price("b", "per_unit", unit_price=Decimal("0.000005"), minimum=Decimal(5), maximum=Decimal("50.5")),
        Price(
            "c",
            "package",
            package_size=Decimal(1000),
            package_price=Decimal("0.04"),
            round="down",
            markup=Decimal("7.5"),
        ),
        Price("d", "per_unit", unit_price=Decimal(1), included_per_seat=Decimal(100)),
    ),
    overage="opt_in",
    spend_cap=Decimal(60),
    grants=(GrantRule("ai_credits", Decimal(1500), "month", Decimal(3000), 10), GrantRule("b", Decimal(1), "once")),
    limits=(
        Limit("daily", ("ai_credits", "b"), "member", DAY, None, condition({"model": "x*"}), Decimal(10)),
        Limit("burst", ("ai_credits",), "account", WindowKind.first_use(5), None, (), Decimal(0)),
        Limit("jobs", (), "member", None, 3, (), None),
        Limit("money", (), "member", None, None, (), None, Decimal("20.5")),
    ),
    features={"private_mode": True, "sso": False, "seats": 0, "support": "fast"},
    unlimited=True,
    public=False,
    description="For professionals.",
    order=2,
    seats=Seats(Decimal("20.5"), 3, pooled=False),
    currency="eur",
    packs=(
        Pack("small", "Small", "ai_credits", Decimal("500.5"), Decimal("9.25"), 20, 365),
        Pack("large", "large", "b", Decimal(5000), Decimal(80)),
    ),
    shared_limits=(
        SharedLimit("all", ("ai_credits", "b"), LIFETIME, condition({"model": "x*"}), Decimal(10)),
        SharedLimit("address", ("b",), DAY, (), Decimal(0), "ip"),
    ),
    thresholds=(),
)

GROWN = (
    replace(FULL.prices[0], minimum=Decimal(2)),
    replace(FULL.prices[0], maximum=Decimal(2)),
    replace(FULL.prices[0], markup=Decimal(2)),
    replace(FULL.prices[0], included_per_seat=Decimal(2)),
)


def test_everything_reads_back() -> None:
    version = plan_from_json(plan_to_json(FULL, [METER]))
    assert version.plan == FULL
    assert version.meters == {"ai_credits": METER}


def test_the_full_plan_above_leaves_no_field_at_its_default() -> None:
    bare = Plan("pro", 3, "Pro")
    at_default = {each.name for each in fields(Plan) if getattr(FULL, each.name) == getattr(bare, each.name)}
    assert at_default == {"id", "version", "name", "weights"}


def test_a_bare_plan_reads_back() -> None:
    bare = Plan("free", 1, "Free")
    assert plan_from_json(plan_to_json(bare, [])).plan == bare


def test_meters_are_frozen_as_the_plan_weighs_them() -> None:
    plan = replace(FULL, weights=(("ai_credits", (WeightRule(condition({"op": "image"}), Decimal(3)),)),))
    text = plan_to_json(plan, [METER])
    version = plan_from_json(text)
    assert units(version.meters["ai_credits"], Decimal(1), {"op": "image"}) == 3
    assert units(version.meters["ai_credits"], Decimal(1), {"op": "photo"}) == 5
    assert plan_to_json(version.plan, version.meters.values()) == text


def test_equal_contents_have_one_identity() -> None:
    other = Meter("b", "B", "b")
    same = replace(
        FULL, version=9, base_fee=Decimal("29.500"), features=dict(sorted(FULL.features.items(), reverse=True))
    )
    assert content_hash(same, [other, METER]) == content_hash(FULL, [METER, other])


@pytest.mark.parametrize(
    "changed",
    [
        replace(FULL, base_fee=Decimal("29.51")),
        replace(FULL, name="Pro 2"),
        replace(FULL, spend_cap=None),
        replace(FULL, limits=FULL.limits[:2]),
        replace(FULL, limits=(replace(FULL.limits[0], max=Decimal(11)), *FULL.limits[1:])),
        replace(FULL, features={}),
        replace(FULL, unlimited=False),
        replace(FULL, seats=None),
        replace(FULL, seats=Seats(Decimal("20.5"), 3)),
        replace(FULL, currency="usd"),
        replace(FULL, packs=FULL.packs[1:]),
        replace(FULL, packs=(FULL.packs[0]._replace(expires_days=None), FULL.packs[1])),
        replace(FULL, packs=(FULL.packs[0]._replace(priority=50), FULL.packs[1])),
        replace(FULL, shared_limits=FULL.shared_limits[1:]),
        replace(FULL, shared_limits=(FULL.shared_limits[0], FULL.shared_limits[1]._replace(dimension=None))),
        replace(FULL, limits=(*FULL.limits[:3], replace(FULL.limits[3], amount=Decimal(21)))),
        *(replace(FULL, prices=(price, *FULL.prices[1:])) for price in GROWN),
    ],
)
def test_another_content_has_another_identity(changed: Plan) -> None:
    assert content_hash(changed, [METER]) != content_hash(FULL, [METER])


def test_a_changed_meter_is_another_version() -> None:
    assert content_hash(FULL, [replace(METER, scale=2)]) != content_hash(FULL, [METER])
    assert content_hash(FULL, [replace(METER, weights=())]) != content_hash(FULL, [METER])
    assert content_hash(FULL, [replace(METER, kind="level")]) != content_hash(FULL, [METER])


def test_the_identity_of_stored_plans_does_not_change_between_releases() -> None:
    plan = Plan("free", 1, "Free", limits=(Limit("daily", ("m",), "account", DAY, None, (), Decimal(10)),))
    assert json.loads(plan_to_json(plan, [Meter("m", "M", "u")])) == {
        "format": 1,
        "version": 1,
        "plan": {
            "id": "free",
            "name": "Free",
            "interval": "month",
            "anchor": "calendar",
            "overage": "on",
            "limits": [{"id": "daily", "meters": ["m"], "per": "account", "window": "day", "max": "10"}],
        },
        "meters": [{"id": "m", "name": "M", "unit": "u", "scale": 6}],
    }


def test_no_float_is_written_or_read() -> None:
    text = plan_to_json(FULL, [METER])
    json.loads(text, parse_float=lambda number: pytest.fail(f"a float: {number}"))
    with pytest.raises(ValueError, match=r"not 29\.5"):
        plan_from_json(text.replace('"base_fee":"29.5"', '"base_fee":29.5'))


def test_a_format_of_a_later_release_is_refused() -> None:
    text = plan_to_json(FULL, [METER]).replace('"format":3', '"format":4')
    with pytest.raises(ValueError, match="format 4"):
        plan_from_json(text)


OLD = (
    '{"format":1,"meters":[{"id":"m","name":"M","scale":6,"unit":"u"}],"plan":{"anchor":"calendar","base_fee":"29",'
    '"id":"pro","interval":"month","name":"Pro","overage":"on","prices":[{"meter":"m","scheme":"graduated","tiers":'
    '[{"flat":"0","unit_price":"0","up_to":"100"},{"flat":"0","unit_price":"0.02"}]}]},"version":4}'
)


def test_a_stored_version_of_format_1_reads_and_is_written_as_it_was() -> None:
    version = plan_from_json(OLD)
    assert (version.plan.seats, version.plan.version) == (None, 4)
    assert version.plan.prices == (Price("m", "graduated", tiers=(TIERS[0]._replace(flat=Decimal(0)), TIERS[1])),)
    assert plan_to_json(version.plan, version.meters.values()) == OLD


@pytest.mark.parametrize(
    "grown",
    [
        Plan("p", 1, "P", seats=Seats(Decimal(0))),
        *(Plan("p", 1, "P", prices=(price,)) for price in GROWN),
    ],
)
def test_what_an_older_release_must_not_ignore_is_format_2(grown: Plan) -> None:
    text = plan_to_json(grown, [])
    assert json.loads(text)["format"] == 2
    assert plan_from_json(text).plan == grown


@pytest.mark.parametrize(
    ("grown", "meter"),
    [
        (Plan("p", 1, "P", currency="eur"), METER),
        (Plan("p", 1, "P", packs=FULL.packs[:1]), METER),
        (Plan("p", 1, "P", shared_limits=FULL.shared_limits[:1]), METER),
        (Plan("p", 1, "P", limits=FULL.limits[3:]), METER),
        (Plan("p", 1, "P"), Meter("storage", "Storage", "GB", kind="level")),
    ],
)
def test_what_format_2_does_not_know_is_format_3(grown: Plan, meter: Meter) -> None:
    text = plan_to_json(grown, [meter])
    assert json.loads(text)["format"] == 3
    version = plan_from_json(text)
    assert (version.plan, version.meters) == (grown, {meter.id: meter})


decimals = st.decimals(min_value=0, max_value=10**17, allow_nan=False, places=12)
words = st.text('abc_.-ü"\\', min_size=1, max_size=8)
conditions: st.SearchStrategy[Condition] = st.dictionaries(
    words, st.lists(words, min_size=1, max_size=3), max_size=3
).map(lambda when: condition({name: list(values) for name, values in when.items()}))
windows = st.one_of(st.sampled_from(CALENDAR_KINDS), st.integers(1, 1000).map(WindowKind.first_use))
limits = st.one_of(
    st.builds(
        Limit,
        words,
        st.lists(words, min_size=1, max_size=3).map(lambda meters: tuple(sorted(meters))),
        st.sampled_from(["account", "member"]),
        windows,
        st.none(),
        conditions,
        decimals,
    ),
    st.builds(Limit, words, st.just(()), st.just("member"), st.none(), st.integers(1, 500), st.just(()), st.none()),
    st.builds(
        Limit, words, st.just(()), st.just("member"), st.none(), st.none(), st.just(()), st.none(), amount=decimals
    ),
)
shared_limits = st.builds(
    SharedLimit,
    words,
    st.lists(words, min_size=1, max_size=3).map(lambda meters: tuple(sorted(meters))),
    st.sampled_from(CALENDAR_KINDS),
    conditions,
    decimals,
    st.none() | words,
)
packs = st.builds(Pack, words, words, words, decimals, decimals, st.integers(0, 100), st.none() | st.integers(1, 3650))
meters = st.builds(
    Meter,
    words,
    words,
    words,
    st.integers(0, 12),
    st.none() | words,
    st.lists(st.builds(WeightRule, conditions, decimals), max_size=3).map(tuple),
    st.lists(st.builds(Multiplier, conditions, decimals), max_size=3).map(tuple),
    st.sampled_from(["sum", "level"]),
)
plans = st.builds(
    Plan,
    st.just("p"),
    st.just(1),
    words,
    limits=st.lists(limits, max_size=4).map(tuple),
    shared_limits=st.lists(shared_limits, max_size=2).map(tuple),
    packs=st.lists(packs, max_size=2).map(tuple),
    currency=st.sampled_from(["usd", "jpy"]),
)


@given(plans, st.lists(meters, max_size=3, unique_by=lambda meter: meter.id))
def test_any_limits_packs_and_meters_read_back(plan: Plan, some_meters: list[Meter]) -> None:
    text = plan_to_json(plan, some_meters)
    version = plan_from_json(text)
    assert version.plan == plan
    assert version.meters == {meter.id: meter for meter in some_meters}
    assert plan_to_json(version.plan, version.meters.values()) == text


def test_the_gate_loads_neither_pydantic_nor_yaml_with_the_model() -> None:
    layer = Path(__file__).parents[3] / "layers" / "common"
    script = (
        "import sys; import tollgate.catalog.frozen, tollgate.catalog.model, tollgate.windows; "
        "print([name for name in ('pydantic', 'yaml', 'boto3', 'stripe') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=layer, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
