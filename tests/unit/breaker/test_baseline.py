"""What is typical of an account: robust to days out of line, fair to young accounts, never below a floor."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollgate.accounts.rules import AccountRow, Grace, Typical, compile_rules, with_plan
from tollgate.billing.rollup import DAY_S, Rollup
from tollgate.billing.sealed import MeterTotal
from tollgate.breaker.baseline import of_plan, typical, typical_day
from tollgate.catalog.model import BreakerRule, Limit, Meter, Plan
from tollgate.catalog.schema import parse_catalog
from tollgate.windows import DAY, Calendar

TODAY = 1_795_219_200
UNITS = st.decimals(min_value=1, max_value=10**9, places=2)
METERS = {"tokens": Meter("tokens", "Tokens", "token"), "images": Meter("images", "Images", "image")}
PLAN = Plan("pro", 1, "Pro", limits=tuple(Limit(m, (m,), "account", DAY, None, (), Decimal(10**9)) for m in METERS))


def rollups(units: list[Decimal], meter: str = "tokens", account: str = "acme") -> list[Rollup]:
    """One a day, the last of them yesterday; 0: a day without usage."""
    total = len(units)
    return [
        Rollup(account, meter, TODAY - (total - index) * DAY_S, MeterTotal(events=1, units=one))
        for index, one in enumerate(units)
    ]


def of(units: list[Decimal], since: int = 0) -> Decimal:
    return typical(rollups(units), since).units["tokens"]


@given(st.lists(UNITS, min_size=7, max_size=28), st.data())
def test_two_days_out_of_line_move_it_to_a_neighbour_at_most(days: list[Decimal], data: st.DataObject) -> None:
    wild = st.decimals(min_value=0, max_value=10**15, places=0)
    places = data.draw(st.lists(st.integers(0, len(days) - 1), min_size=1, max_size=2, unique=True))
    moved = [data.draw(wild) if index in places else day for index, day in enumerate(days)]
    ordered = sorted(days, reverse=True)
    spread = len(places)
    assert ordered[2 + spread] <= of(moved) <= ordered[2 - spread]


@given(st.lists(UNITS, min_size=1, max_size=28))
def test_it_is_a_day_that_there_was_and_its_order_does_not_count(days: list[Decimal]) -> None:
    found = of(days)
    assert found in days
    assert found == of(sorted(days)) == typical_day(days)
    assert sum(1 for day in days if day >= found) >= min(3, len(days))


def test_what_comes_once_a_week_is_typical_and_one_attack_is_not() -> None:
    week = [Decimal(10)] * 6 + [Decimal(5000)]
    assert of(week * 4) == 5000
    assert of([Decimal(10)] * 27 + [Decimal(10**9)]) == 10


def test_days_without_usage_do_not_count_and_ids_that_became_the_account_do() -> None:
    days = [Decimal(0)] * 20 + [Decimal(40)] * 3
    assert of(days) == 40
    both = [*rollups([Decimal(40)] * 7), *rollups([Decimal(2)] * 7, account="guest")]
    assert typical(both, 0) == Typical({"tokens": Decimal(42)}, ("tokens",))


def test_settled_counts_days_on_the_plan_of_each_meter() -> None:
    days = [*rollups([Decimal(9)] * 10), *rollups([Decimal(4)] * 6, "images")]
    assert typical(days, 0).settled == ("tokens",)
    assert typical(days, TODAY - 7 * DAY_S).settled == ("tokens",)
    assert typical(days, TODAY - 6 * DAY_S).settled == ()


def test_a_plans_day_is_the_median_of_enough_accounts() -> None:
    assert of_plan([Decimal(1), Decimal(2), Decimal(3), Decimal(4)]) is None
    assert of_plan([Decimal(9), Decimal(1), Decimal(5), Decimal(10**9), Decimal(2)]) == 5


# -- what an hour may come to ------------------------------------------------------------------------------------------


def ruled(
    rule: BreakerRule | None, own: Typical | None = None, grace: Grace | None = None
) -> dict[str, Decimal | None]:
    row = with_plan(AccountRow("acme", 1, "pro", 1, 0, Calendar.of("UTC"), (), ()), PLAN, METERS, 0)
    rules = compile_rules(replace(row, typical=own, grace=grace), PLAN, METERS, rule)
    assert {one.source for one in rules.breakers} <= {"breaker"}
    assert not any(one in rules.limits for one in rules.breakers)
    return {one.limit.meters[0]: one.maximum for one in rules.breakers}


YOUNG, SETTLED = Typical({"tokens": Decimal(30)}), Typical({"tokens": Decimal(30)}, ("tokens",))
HAD = {"tokens": Decimal(900)}
TINY = Typical({"tokens": Decimal(3)}, ("tokens",))
TEN = Decimal(10)


@pytest.mark.parametrize(
    ("rule", "own", "most"),
    [
        (BreakerRule(TEN, {}), None, None),  # nothing is known
        (BreakerRule(TEN, {}), YOUNG, None),  # a few days of its own are not enough
        (BreakerRule(TEN, {}), SETTLED, 300),
        (BreakerRule(TEN, {}), TINY, 100),  # 30 are no runaway
        (BreakerRule(TEN, {"tokens": Decimal(7)}), None, 7),
        (BreakerRule(TEN, {"tokens": Decimal(500)}), SETTLED, 500),  # never below the floor
        (BreakerRule(TEN, {"tokens": Decimal(20)}), SETTLED, 300),
        (BreakerRule(TEN, {"tokens": Decimal(20)}), YOUNG, 300),
        (BreakerRule(TEN, {}, {}, {"tokens": Decimal(100)}), None, 1000),  # new: as others of the plan
        (BreakerRule(TEN, {}, {}, {"tokens": Decimal(100)}), YOUNG, 1000),  # young: where that is more
        (BreakerRule(TEN, {}, {}, {"tokens": Decimal(1)}), YOUNG, 300),
        (BreakerRule(TEN, {"tokens": Decimal(20)}, {}, {"tokens": Decimal(100)}), YOUNG, 1000),
        (BreakerRule(TEN, {"tokens": Decimal(20)}, {}, {"tokens": Decimal(100)}), SETTLED, 300),  # its own stands alone
        (BreakerRule(TEN, {}, {}, {"tokens": Decimal(100)}), SETTLED, 1000),  # no other floor: the plan's day is one
        (BreakerRule(Decimal("4.5"), {}), SETTLED, 135),
        (BreakerRule(TEN, {}, HAD), None, None),  # to use up what is included is no runaway, nor what comes after it
        (BreakerRule(TEN, {}, HAD), YOUNG, None),
        (BreakerRule(TEN, {}, HAD), SETTLED, 900),
        (BreakerRule(TEN, {}, HAD, {"tokens": Decimal(100)}), YOUNG, 1000),
        (BreakerRule(TEN, {}, HAD, {"tokens": Decimal(100)}), SETTLED, 900),
        (None, SETTLED, None),
    ],
)
def test_what_an_hour_may_come_to(rule: BreakerRule | None, own: Typical | None, most: int | Decimal | None) -> None:
    assert ruled(rule, own) == ({} if most is None else {"tokens": Decimal(most)})


def test_a_grace_adds_nothing_where_there_is_no_breaker() -> None:
    grace = Grace(TODAY, {"tokens": Decimal(700)})
    assert ruled(BreakerRule(TEN, {}), SETTLED, grace) == {"tokens": Decimal(700)}
    assert ruled(BreakerRule(TEN, {}), None, grace) == {}
    assert ruled(None, SETTLED, grace) == {}


# -- the catalogue -----------------------------------------------------------------------------------------------------

CATALOG = """
currency: usd
default_plan: paid
{general}
meters:
  tokens: {{stripe_event_name: tokens}}
  stored: {{kind: level}}
plans:
  paid:
    {own}
    {plan}
"""


def settings(plan: str, general: str = "", own: str = "") -> BreakerRule | None:
    parsed = parse_catalog(CATALOG.format(plan=plan, general=general, own=own))
    return parsed.breakers.rules.get("paid")


@pytest.mark.parametrize(
    ("plan", "floor"),
    [
        ("limits: [{id: d, meter: tokens, window: day, max: 10}, {id: m, meter: tokens, window: month, max: 90}]", 90),
        ("limits: [{id: m, meter: tokens, per: member, window: day, max: 10}]", None),
        ("limits: [{id: m, meter: tokens, window: day, max: 10, where: {model: a}}]", None),
        ('prices: [{meter: tokens, scheme: per_unit, unit_price: "1"}]', None),
        (
            "prices: [{meter: tokens, scheme: graduated, tiers: [{up_to: 3000, unit_price: '0'}, {up_to: inf,"
            " unit_price: '1'}]}]\n    limits: [{id: cap, meter: tokens, window: month, max: 1000000}]",
            3000,  # a cap on what is paid for is no quota
        ),
        ("grants: [{meter: tokens, units: 60, every: month}, {meter: tokens, units: 5, every: day}]", 65),
        (
            'packs: [{id: s, meter: tokens, units: 40, price: "1"}, {id: l, meter: tokens, units: 400, price: "9"}]',
            400,
        ),
        ("unlimited: true", None),
    ],
)
def test_where_the_catalogue_names_no_floor_the_plan_says_what_is_normal(plan: str, floor: int | None) -> None:
    found = settings(plan)
    assert found == BreakerRule(TEN, {}, {} if floor is None else {"tokens": Decimal(floor)})


def test_a_plan_has_the_catalogues_settings_but_for_its_own() -> None:
    plan, general = "unlimited: true", 'breaker: {multiple: "4", floor: {tokens: 7}}'
    assert settings(plan, general) == BreakerRule(Decimal(4), {"tokens": Decimal(7)})
    assert settings(plan, general, 'breaker: {multiple: "3"}') == BreakerRule(Decimal(3), {"tokens": Decimal(7)})
    assert settings(plan, general, "breaker: {floor: {tokens: 9}}") == BreakerRule(Decimal(4), {"tokens": Decimal(9)})
    assert settings(plan, general, "breaker: off") is None
    assert settings(plan, "breaker: off") is None
    assert settings(plan, "breaker: off", 'breaker: {multiple: "3"}') == BreakerRule(Decimal(3), {})
