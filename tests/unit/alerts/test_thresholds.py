"""Marks of everything that fills up: told by the write that passes them, once, the highest of several."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.gate import Client, concurrent, limit, plan, world
from tests.support.levels import CREDITS as LEVEL_CREDITS
from tests.support.levels import SEATS, STORAGE, level_plan, put
from tests.support.telling import Crash, Told, look_at_all, telling_deps
from tests.unit.gate.test_money import CREDITS, PER_UNIT, TIERED, TOKENS, move, priced, use
from tollgate.accounts.rules import Controls
from tollgate.catalog.model import GrantRule, Limit, Pack, Plan
from tollgate.gate.grants import claw_back, give
from tollgate.gate.reserve import Granted
from tollgate.usage.grant import FOREVER, GrantRow, Pending
from tollgate.windows import DAY, LIFETIME, MINUTE, MONTH, PERIOD, WindowKind

DAY_MS = 86_400_000


def watched(of: Plan, *meters: object, controls: Controls | None = None) -> tuple[Client, Told]:
    made = world(of, *(meters or (CREDITS, TOKENS)))  # type: ignore[arg-type]
    if controls is not None:
        made.rows["acme"] = replace(made.row("acme"), controls=controls)
    told = Told()
    return Client(made, deps=telling_deps(made, told)), told


def spend(client: Client, units: int | str, **more: object) -> None:
    client.commit(client.granted(units, **more))


PAID_FOR = priced(limits=(limit("monthly", 100, MONTH),), base_fee=Decimal(5))


@pytest.mark.parametrize("window", [MINUTE, DAY, MONTH, PERIOD, LIFETIME, WindowKind.first_use(5)])
def test_each_mark_of_a_limit_is_told_once_by_the_call_that_passes_it(window: WindowKind) -> None:
    client, told = watched(plan(limit("mine", 100, window)))
    seen: list[tuple[int, int]] = []
    for used in range(1, 101):
        spend(client, 1)
        seen += [(used, percent) for percent in told.marks()[len(seen) :]]
    assert seen == [(50, 50), (80, 80), (90, 90), (100, 100)]
    assert told.puts == len(told.alerts), "nothing is put that is not new"


def test_what_is_held_is_not_used() -> None:
    client, told = watched(PAID_FOR)
    held = [client.granted(30) for _ in range(3)]
    assert told.puts == 0
    client.release(held[0])
    client.commit(held[1], 10)
    assert told.puts == 0
    client.commit(held[2])
    assert told.marks() == []
    spend(client, 10)
    assert told.marks() == [50]
    assert told.alerts[0].facts["used"] == "50"


def test_of_several_marks_that_one_call_passes_the_highest_is_told() -> None:
    client, told = watched(PAID_FOR)
    spend(client, 95)
    assert told.marks() == [90]
    assert told.alerts[0].facts["passed"] == "50,80"
    assert look_at_all(client.world, told) == 0, "the scheduled look agrees"


def test_a_mark_that_was_reached_to_the_unit_is_not_passed_once_more() -> None:
    client, told = watched(PAID_FOR)
    spend(client, 50)
    spend(client, 30)
    assert told.marks() == [50, 80]
    assert [alert.facts.get("passed") for alert in told.alerts] == [None, None]
    assert told.puts == 2


def test_a_new_window_is_told_of_anew_and_begins_at_nothing() -> None:
    client, told = watched(plan(limit("daily", 10)))
    spend(client, 9)
    client.world.now_ms += DAY_MS
    spend(client, 4)
    assert told.marks() == [90]
    spend(client, 1)
    assert told.marks() == [90, 50]
    assert len({alert.id for alert in told.alerts}) == len(told.alerts)


def test_a_hold_that_is_carried_into_a_new_window_counts_there_once_it_is_used() -> None:
    client, told = watched(plan(limit("daily", 10)))
    held = client.granted(6, ttl=80_000)
    client.world.now_ms += DAY_MS * 3 // 4
    client.commit(held)
    assert told.marks() == [50]
    start = told.alerts[0].facts["window_start"]
    assert start == "2026-11-22T00:00:00Z"


def test_usage_past_a_limit_and_marks_past_the_whole_of_it() -> None:
    client, told = watched(replace(PAID_FOR, thresholds=(100, 150, 300)))
    use(client, 99, "a")
    assert told.marks() == []
    use(client, 60, "b")
    assert told.marks() == [150]
    use(client, 200, "c")
    assert told.marks() == [150, 300]


def test_a_members_limit_is_told_for_each_member() -> None:
    client, told = watched(plan(limit("each", 10, per="member")))
    spend(client, 5, member="ann")
    spend(client, 8, member="bob")
    assert (told.marks(member="ann"), told.marks(member="bob")) == ([50], [80])


def test_open_reservations_have_no_marks() -> None:
    client, told = watched(replace(plan(concurrent("jobs", 2)), unlimited=True))
    spend(client, 1)
    client.granted(1)
    client.granted(1)
    assert told.puts == 0


def test_a_raised_limit_is_told_of_anew_and_a_lowered_one_by_the_scheduled_look() -> None:
    client, told = watched(PAID_FOR)
    spend(client, 80)
    move(client, replace(PAID_FOR, version=2, limits=(limit("monthly", 200, MONTH),)))
    spend(client, 80)
    assert told.marks() == [80, 80]
    move(client, replace(PAID_FOR, version=3, limits=(limit("monthly", 150, MONTH),)))
    assert look_at_all(client.world, told) == 1
    assert told.marks() == [80, 80, 100]


# -- who wants to be told ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of_plan", "of_customer", "expected"),
    [
        ((50, 80), None, [(50, "both"), (80, "both")]),
        ((50, 80), (80,), [(50, "operator"), (80, "both")]),
        ((50,), (75,), [(50, "operator"), (75, "customer")]),
        ((50,), (), [(50, "operator")]),
        ((), (20,), [(20, "customer")]),
        ((), None, []),
    ],
)
def test_the_plan_says_when_to_tell_and_so_does_the_customer(
    of_plan: tuple[int, ...], of_customer: tuple[int, ...] | None, expected: list[tuple[int, str]]
) -> None:
    client, told = watched(replace(PAID_FOR, thresholds=of_plan), controls=Controls(thresholds=of_customer))
    for _ in range(100):
        spend(client, 1)
    assert [(int(alert.facts["threshold"]), alert.audience) for alert in told.alerts] == expected
    assert look_at_all(client.world, told) == 0


FREE = Plan("free", 1, "Free", limits=(limit("monthly", 100, MONTH),))


def test_a_free_allowance_that_is_almost_used_up_nudges_its_user_and_tells_the_operator() -> None:
    client, told = watched(FREE)
    for _ in range(100):
        spend(client, 1)
    assert told.marks(kind="upgrade_nudge") == [80]
    assert [(int(a.facts["threshold"]), a.audience) for a in told.alerts if a.kind == "threshold"] == [
        (50, "both"),
        (80, "operator"),
        (90, "both"),
        (100, "both"),
    ]
    assert look_at_all(client.world, told) == 0


@pytest.mark.parametrize(
    ("of", "said"),
    [
        (PAID_FOR, None),
        (priced(PER_UNIT, limits=(limit("monthly", 100, MONTH),)), None),
        (plan(limit("pace", 100, MINUTE)), None),
        (FREE, ()),
    ],
)
def test_nobody_else_is_nudged(of: Plan, said: tuple[int, ...] | None) -> None:
    client, told = watched(of, controls=Controls(thresholds=said))
    spend(client, 85)
    assert told.marks(kind="upgrade_nudge") == []


def test_a_nudge_needs_no_mark_of_the_plan() -> None:
    client, told = watched(replace(FREE, thresholds=()))
    spend(client, 79)
    assert told.alerts == []
    spend(client, 1)
    assert [(alert.kind, alert.audience) for alert in told.alerts] == [("upgrade_nudge", "customer")]


# -- included units, money ---------------------------------------------------------------------------------------------


def test_included_units_are_told_of_until_they_are_used_up() -> None:
    client, told = watched(priced(TIERED))
    for _ in range(15):
        spend(client, 10)
    assert told.marks("included") == [50, 80, 90, 100]


@pytest.mark.parametrize(("cap", "of"), [("20", "spend_cap"), (None, "hard_limit")])
def test_a_promise_about_money_is_told_by_what_was_used(cap: str | None, of: str) -> None:
    controls = Controls(hard_limit=None if cap else Decimal(20))
    client, told = watched(priced(PER_UNIT, cap=cap), controls=controls)
    held = client.granted(500)
    assert told.puts == 0, "what is held is no charge"
    client.release(held)
    seen: list[tuple[int, int]] = []
    for used in range(20, 1001, 20):
        spend(client, 20)
        seen += [(used, percent) for percent in told.marks(of)[len(seen) :]]
    assert seen == [(500, 50), (800, 80), (900, 90), (1000, 100)]
    assert told.puts == len(told.alerts)


def test_money_across_the_edges_of_a_price_and_a_new_period() -> None:
    client, told = watched(priced(TIERED, cap="4"))
    spend(client, 250)  # 100 free, 150 at a cent
    spend(client, 100)
    assert told.marks("spend_cap") == [50]
    client.world.now_ms += 31 * DAY_MS
    spend(client, 299)
    assert told.marks("spend_cap") == [50]
    spend(client, 1)
    assert told.marks("spend_cap") == [50, 50]


def in_period(told: Told) -> list[tuple[int, str]]:
    return [
        (int(alert.facts["threshold"]), alert.facts["window_start"])
        for alert in told.alerts
        if alert.facts["of"] == "spend_cap"
    ]


NEXT = "2026-12-01T00:00:00Z"


@pytest.mark.parametrize("first", ["nothing", "a call", "a hold", "a look"])
@pytest.mark.parametrize(("units", "expected"), [(300, [50]), (240, []), (0, []), (450, [90])])
def test_money_of_a_hold_from_another_period_counts_where_it_is_used_alone(
    first: str, units: int, expected: list[int]
) -> None:
    """$4 of November and a hold that is carried over: December's marks go by what December used, November's by its
    own, whoever rolls the period over."""
    client, told = watched(priced(PER_UNIT, cap="10"))
    client.world.now_ms = int(datetime(2026, 11, 30, 23, 50, tzinfo=UTC).timestamp() * 1000)
    spend(client, 200)
    held = client.granted(300, ttl=7_200)
    client.world.now_ms += 1_200_000
    if first == "a call":
        spend(client, 1)
        client.release(client.granted(1))
    elif first == "a hold":
        client.granted(1)
    elif first == "a look":
        assert look_at_all(client.world, told) == 0, "November came to $4, whatever is held"
    assert told.alerts == []
    if units:
        client.commit(held, units)
    else:
        client.release(held)
    assert in_period(told) == [(percent, NEXT) for percent in expected]
    assert look_at_all(client.world, told) == 0


def test_a_mark_of_the_old_period_is_not_told_of_the_new_one() -> None:
    """November passed 90 % and its message was lost; then December began with a hold of November's."""
    client, told = watched(priced(PER_UNIT, cap="10"))
    client.world.now_ms = int(datetime(2026, 11, 30, 23, 50, tzinfo=UTC).timestamp() * 1000)
    spent, held = client.granted(450), client.granted(50, ttl=7_200)
    told.cut = 1
    with pytest.raises(Crash):
        client.commit(spent)
    client.world.now_ms += 1_200_000
    late = Told()
    assert look_at_all(client.world, late) == 1, "for an hour, until December rolls it over"
    assert in_period(late) == [(90, "2026-11-01T00:00:00Z")]
    client.commit(held)
    assert told.alerts == []
    assert look_at_all(client.world, told) == 0, "December used $1"


def test_a_soft_limit_is_one_mark_and_the_customers_alone() -> None:
    client, told = watched(replace(priced(PER_UNIT), thresholds=()), controls=Controls(soft_limit=Decimal(10)))
    spend(client, 499)
    assert told.alerts == []
    spend(client, 2)
    assert [(alert.facts["of"], alert.audience) for alert in told.alerts] == [("soft_limit", "customer")]
    spend(client, 100)
    assert look_at_all(client.world, told) == 0
    assert len(told.alerts) == 1


def test_the_default_soft_limit_follows_what_was_usually_spent() -> None:
    client, told = watched(replace(priced(PER_UNIT), thresholds=()))
    spend(client, 500)  # $10
    client.world.now_ms += 31 * DAY_MS
    spend(client, 399)
    assert told.alerts == []
    spend(client, 1)  # $8
    assert told.marks("soft_limit") == [100]
    assert told.alerts[0].facts["max"] == "8"


def test_a_members_money_limit() -> None:
    each = Limit("each", (), "member", None, None, (), None, amount=Decimal(1))
    client, told = watched(priced(PER_UNIT, limits=(each,)))
    spend(client, 24, member="ann")
    assert told.marks("member_amount", member="ann") == []
    spend(client, 1, member="ann")
    assert told.marks("member_amount", member="ann") == [50]


# -- credits -----------------------------------------------------------------------------------------------------------


def bought(client: Client, units: int, name: str) -> None:
    row = GrantRow("acme", 0, "ai_credits", Decimal(units), "stripe", name, 50, 0, FOREVER, client.world.now_ms)
    give(client.deps, client.world.rules("acme"), row)


PREPAID = priced(overage="off", packs=(), grants=(GrantRule("ai_credits", Decimal(100), "month"),))


def test_credits_are_told_as_they_are_taken_and_new_ones_begin_anew() -> None:
    client, told = watched(PREPAID)
    held = client.granted(50)
    assert told.marks("credits") == [50]
    client.release(held)
    spend(client, 60)
    assert told.marks("credits") == [50], "what came back and went again is no second time"
    bought(client, 100, "pi_1")
    assert told.marks("credits") == [50]
    spend(client, 39)
    assert told.marks("credits") == [50]
    spend(client, 1)  # 100 of 200
    assert told.marks("credits") == [50, 50]
    assert told.alerts[-1].facts["max"] == "200"


def test_64_calls_that_hold_credits_at_once_pass_no_mark_in_silence() -> None:
    client, told = watched(PREPAID)
    held = [client.granted(1) for _ in range(64)]
    assert told.marks("credits") == [50]
    for one in held:
        client.commit(one)
    assert told.marks("credits") == [50]


def test_credits_that_are_taken_back_leave_less_and_the_scheduled_look_says_so() -> None:
    sold = Pack("small", "Small", "ai_credits", Decimal(100), Decimal(5))
    client, told = watched(priced(overage="off", packs=(sold,)))
    bought(client, 100, "pi_1")
    spend(client, 40)
    pending = Pending("refund", "re_1", Decimal(50), Decimal(0), client.world.now_ms)
    claw_back(client.deps, client.world.rules("acme"), "ai_credits", ("stripe", "pi_1"), pending)
    assert told.marks("credits") == []
    assert look_at_all(client.world, told) == 1
    assert told.marks("credits") == [80]


# -- levels ------------------------------------------------------------------------------------------------------------


def test_a_level_is_told_once_in_a_billing_period() -> None:
    made = world(level_plan("100"), LEVEL_CREDITS, STORAGE, SEATS)
    told = Told()
    deps = telling_deps(made, told)
    for level in (40, 85, 95, 20, 95):
        put(deps, level, f"level {level} {len(told.alerts)}")
    assert told.marks("level") == [80, 90]
    made.now_ms += 31 * DAY_MS
    put(deps, 20, "down")
    put(deps, 90, "up")
    assert told.marks("level") == [80, 90, 90]


# -- what a crash leaves -----------------------------------------------------------------------------------------------


def test_a_crash_before_the_outbox_is_found_once_by_the_scheduled_look() -> None:
    client, told = watched(PAID_FOR)
    spend(client, 79)
    held = client.granted(1)
    told.alerts.clear()
    told.cut = 1
    with pytest.raises(Crash):
        client.commit(held)
    assert client.commit(held).duplicate
    assert told.alerts == []
    assert look_at_all(client.world, told) == 1
    assert look_at_all(client.world, told) == 0
    assert told.marks() == [80]
    spend(client, 10)
    assert told.marks() == [80, 90]


def test_windows_that_ended_are_told_for_an_hour_more() -> None:
    client, told = watched(plan(limit("daily", 10)))
    told.cut = 1
    held = client.granted(9)
    with pytest.raises(Crash):
        client.commit(held)
    client.world.now_ms += DAY_MS // 2 + 3_599_000  # from noon to 00:59:59
    assert look_at_all(client.world, told) == 2  # the mark, and the nudge
    told.alerts.clear()
    client.world.now_ms += 1_000
    assert look_at_all(client.world, told) == 0


ACTIONS = ["use", "hold", "commit", "release", "roll"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(1, 40)), max_size=25))
def test_after_any_calls_the_scheduled_look_finds_nothing_that_was_not_told(steps: list[tuple[str, int]]) -> None:
    """What writes tell, and what gates show, are the same."""
    both = priced(TIERED, cap="1", overage="on", limits=(limit("daily", 60), limit("monthly", 200, MONTH)))
    client, told = watched(both)
    held: list[Granted] = []
    for number, (action, units) in enumerate(steps):
        if action == "use":
            use(client, units, f"u{number}")
        elif action == "hold":
            found = client.reserve(units, ttl=86_400)
            held += [found] if isinstance(found, Granted) else []
        elif action == "commit" and held:
            client.commit(held.pop(), units)
        elif action == "release" and held:
            client.release(held.pop())
        elif action == "roll":
            client.world.now_ms += DAY_MS // 3
    assert told.puts == len(told.alerts)
    assert look_at_all(client.world, told) == 0
