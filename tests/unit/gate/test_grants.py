"""Grants: from plans, bought, taken back, expired; every unit of them accounted for."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.gate import NOON, Client, limit, world
from tests.unit.gate.test_money import CREDITS, PER_UNIT, TOKENS, move, priced
from tollgate.catalog.model import BillingPeriod, GrantRule, Meter, Plan, Price, Seats
from tollgate.errors import IdempotencyMismatch, TooManyGrants, UnknownGrant
from tollgate.gate.grants import (
    MAX_GRANTS,
    OUTLIVED_S,
    SETTLED_S,
    claw_back,
    give,
    missing,
    put_on_gate,
    take_off,
)
from tollgate.gate.hold import PAID, unpack
from tollgate.gate.item import Level
from tollgate.gate.recurring import give_due
from tollgate.gate.reserve import Denied, Granted
from tollgate.gate.sweep import Swept, sweep_gate
from tollgate.quantities import ZERO
from tollgate.usage.grant import FOREVER, GrantRow, Pending
from tollgate.usage.ledger import Standing, balanced, balances, burns, fixed_entries
from tollgate.windows import Calendar

DAY_MS = 86_400_000


def plan_with(*rules: GrantRule, **more: Any) -> Plan:
    return priced(grants=rules, overage="off", **more)


def monthly(units: int, most: int | None = None) -> GrantRule:
    return GrantRule("ai_credits", Decimal(units), "month", None if most is None else Decimal(most))


def client_of(plan: Plan) -> Client:
    return Client(world(plan, CREDITS, TOKENS))


def row(units: int, source_id: str, **more: Any) -> GrantRow:
    made = GrantRow("acme", 0, "ai_credits", Decimal(units), "stripe", source_id, 50, 0, FOREVER, NOON)
    return made._replace(**more)


def buy(client: Client, units: int, source_id: str, **more: Any) -> GrantRow:
    return give(client.deps, client.world.rules("acme"), row(units, source_id, **more))[0]


def refund(client: Client, of: str, units: int, source_id: str) -> Decimal:
    wanted = Pending("stripe", source_id, Decimal(units), ZERO, client.world.now_ms)
    return claw_back(client.deps, client.world.rules("acme"), "ai_credits", ("stripe", of), wanted)[1].taken


def left(client: Client) -> list[Decimal]:
    return [grant.left for grant in client.world.gates["acme"].grants.values()]


# -- of a plan -----------------------------------------------------------------------------------------------------


def test_a_plan_gives_its_credits_to_whoever_asks_first_in_a_month() -> None:
    client = client_of(plan_with(monthly(100)))
    client.commit(client.granted(60))
    assert left(client) == [40]
    assert isinstance(client.reserve(41), Denied)
    client.world.now_ms += 10 * DAY_MS  # December
    client.commit(client.granted(100))
    assert left(client) == [40, 0]  # without rollover the rest is over
    assert isinstance(client.reserve(1), Denied)
    client.check()


@pytest.mark.parametrize("rolled", [True, False])
def test_a_reservation_on_credits_is_settled_in_the_next_period_of_a_plan_without_prices(rolled: bool) -> None:
    """`rolled`: another settle began the period, and kept no position of the meter."""
    tokens = Price("tokens", "per_unit", unit_price=Decimal("0.01"))
    client = client_of(priced(tokens, grants=(monthly(4),)))
    held, other = client.granted(1), client.granted(2, meter="tokens")
    client.world.now_ms += 12 * DAY_MS
    move(client, priced(version=2))
    if rolled:
        client.commit(other)
    assert client.commit(held).event.items[0].credit_funded == 1
    assert left(client) == [3]
    client.check()


def test_what_is_left_rolls_over_up_to_a_maximum() -> None:
    client = client_of(plan_with(monthly(100, 150)))
    client.commit(client.granted(10))
    client.world.now_ms += 10 * DAY_MS
    assert isinstance(client.reserve(191), Denied)
    client.commit(client.granted(1))
    assert left(client) == [0, 189]  # 90 of them moved
    client.world.now_ms += 31 * DAY_MS
    assert isinstance(client.reserve(251), Denied)
    assert isinstance(client.reserve(250), Granted)  # 100 and at most 150 of the 189
    client.check()


def test_months_that_nobody_asked_in_roll_over_too() -> None:
    client = client_of(plan_with(monthly(100, 250)))
    client.commit(client.granted(100))
    client.world.now_ms += 72 * DAY_MS  # 1 February: December and January passed without a call
    assert isinstance(client.reserve(301), Denied)
    assert isinstance(client.reserve(300), Granted)
    client.check()


def test_once_is_once_also_after_leaving_the_plan() -> None:
    once = plan_with(GrantRule("ai_credits", Decimal(10), "once"))
    client = client_of(once)
    client.commit(client.granted(10))
    move(client, priced(version=2))
    move(client, replace(once, version=3))
    client.world.now_ms += 400 * DAY_MS
    assert isinstance(client.reserve(1), Denied)


def test_an_upgrade_gives_the_difference_and_coming_back_gives_nothing() -> None:
    client = client_of(plan_with(monthly(100)))
    client.commit(client.granted(100))
    move(client, plan_with(monthly(500), version=2))
    client.commit(client.granted(400))
    assert isinstance(client.reserve(1), Denied)
    move(client, plan_with(monthly(100), version=3))
    assert isinstance(client.reserve(1), Denied)
    move(client, plan_with(monthly(500), version=4))
    assert isinstance(client.reserve(1), Denied)
    client.check()


def test_monthly_credits_of_an_annual_plan_come_on_its_own_day() -> None:
    plan = plan_with(monthly(5), period=BillingPeriod("year", "signup"))
    client = client_of(plan)
    client.world.rows["acme"] = replace(client.world.row("acme"), created_at=NOON // 1000)
    client.world.move_to("acme", replace(plan, version=2))
    client.world.now_ms += 3600_000
    client.commit(client.granted(5))
    ends = next(iter(client.world.gates["acme"].grants.values())).ends
    assert ends == (NOON + 30 * DAY_MS) // 1000  # 21 December, noon
    client.world.now_ms = NOON + 30 * DAY_MS - 1000
    assert isinstance(client.reserve(1), Denied)
    client.world.now_ms += 1000
    assert isinstance(client.reserve(5), Granted)


# -- bought and taken back -----------------------------------------------------------------------------------------


def test_a_source_gives_once() -> None:
    client = client_of(priced())
    assert buy(client, 100, "pi_1").number == buy(client, 100, "pi_1").number == 0
    assert left(client) == [100]
    with pytest.raises(IdempotencyMismatch):
        buy(client, 200, "pi_1")
    assert buy(client, 100, "pi_2").number == 1


def test_taking_back_takes_what_is_left_and_says_so() -> None:
    client = client_of(plan_with(GrantRule("ai_credits", Decimal(1), "once", None, 10)))
    buy(client, 100, "pi_1")
    client.commit(client.granted(31))
    held = client.granted(20)
    assert refund(client, "pi_1", 100, "re_1") == 50  # 30 are burned, 20 held
    assert refund(client, "pi_1", 100, "re_1") == 50  # again: the same answer
    client.release(held)
    assert refund(client, "pi_1", 50, "re_2") == 20
    with pytest.raises(IdempotencyMismatch):
        refund(client, "pi_1", 90, "re_1")
    with pytest.raises(UnknownGrant):
        refund(client, "pi_7", 1, "re_3")
    assert left(client) == [0, 0]


def test_grants_are_bounded() -> None:
    client = client_of(priced())
    for number in range(MAX_GRANTS):
        buy(client, 1, f"pi_{number}")
    with pytest.raises(TooManyGrants):
        buy(client, 1, "pi_more")


def test_a_grant_that_a_crash_kept_from_the_gate_is_found() -> None:
    client = client_of(plan_with(monthly(10)))
    client.granted(1)
    client.deps.grants.open(row(100, "pi_1"))
    assert missing(client.deps, client.world.rules("acme"), client.world.gates["acme"])
    assert left(client) == [9, 100]
    assert not missing(client.deps, client.world.rules("acme"), client.world.gates["acme"])


def test_what_rolled_over_is_not_used_once_more_by_a_clock_that_is_behind() -> None:
    client = client_of(plan_with(monthly(100, 100)))
    behind = Client(client.world, deps=client.world.deps(skew_ms=-3_000))
    behind.commit(behind.granted(40))
    client.world.now_ms = NOON + 19 * DAY_MS // 2  # 1 December
    assert isinstance(client.reserve(161), Denied)
    assert left(client) == [0, 160]
    assert isinstance(behind.reserve(1), Denied)


def test_a_grant_leaves_the_gate_only_when_no_function_lives_that_could_put_it_there_again() -> None:
    client = client_of(priced(PER_UNIT))
    bought = buy(client, 5, "pi_1")
    client.commit(client.granted(5))
    rules = client.world.rules("acme")
    take_off(client.deps, rules, client.world.gates["acme"])
    put_on_gate(client.deps, rules, bought)  # by a process that read its row before
    assert left(client) == [0]
    client.world.now_ms += OUTLIVED_S * 1000
    take_off(client.deps, rules, client.world.gates["acme"])
    assert left(client) == []
    buy(client, 5, "pi_1")
    assert left(client) == []


def test_what_is_taken_back_from_an_ended_grant_is_not_said_to_be_left() -> None:
    client = client_of(priced())
    buy(client, 5, "pi_1", ends=NOON // 1000 + 60)
    client.world.now_ms += (60 + SETTLED_S) * 1000
    rules = client.world.rules("acme")
    take_off(client.deps, rules, client.world.gates["acme"])
    assert refund(client, "pi_1", 2, "re_1") == 0  # it is worth nothing any more
    for _ in range(3):
        client.world.now_ms += OUTLIVED_S * 1000
        take_off(client.deps, rules, client.world.gates["acme"])
    assert left(client) == []
    ended = client.world.grants["acme"][0].ended
    assert ended is not None
    assert ended.left == 5
    _conserved(client)


def test_a_process_that_remembers_a_grant_that_is_gone_overlooks_none_that_came() -> None:
    client = client_of(priced(PER_UNIT))
    buy(client, 1, "pi_1", ends=NOON // 1000 + 60)
    assert isinstance(client.reserve(1, ttl=1), Granted)  # from now on this process remembers the gate
    other = Client(client.world, deps=client.world.deps())
    client.world.now_ms += (SETTLED_S + 60) * 1000
    for _ in range(2):
        gate = client.world.gates["acme"]
        sweep_gate(other.deps, gate, Swept(), audit=True)
        client.world.now_ms += OUTLIVED_S * 1000
    assert left(client) == []
    buy(other, 1, "pi_2")
    assert client.commit(client.granted(1)).event.items[0].credit_funded == 1


# -- conservation --------------------------------------------------------------------------------------------------

ACTIONS = ["reserve"] * 4 + ["commit"] * 3 + ["release", "buy", "buy", "refund", "wait", "plan", "sweep"]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_granted_is_left_held_burned_expired_and_taken_back(data: st.DataObject) -> None:
    plans = [plan_with(monthly(100, 150), version=1), plan_with(monthly(300), version=2), priced(version=3)]
    client = client_of(plans[0])
    open_holds: list[Granted] = []
    amounts = st.sampled_from([1, 7, 50, 99, 100, 101])
    bought = 0
    for _ in range(data.draw(st.integers(1, 16))):
        action = data.draw(st.sampled_from(ACTIONS))
        rules = client.world.rules("acme")
        if action == "reserve" and rules.covers("ai_credits"):
            found = client.reserve(data.draw(amounts), ttl=data.draw(st.sampled_from([5, 300, 86_400])))
            if isinstance(found, Granted):
                open_holds.append(found)
        elif action in ("commit", "release") and open_holds:
            held = open_holds.pop(data.draw(st.integers(0, len(open_holds) - 1)))
            if action == "commit":
                client.commit(held, data.draw(st.one_of(st.none(), amounts)))
            else:
                client.release(held)
        elif action == "buy":
            ends = data.draw(st.sampled_from([FOREVER, client.world.now_ms // 1000 + 86_400]))
            buy(client, data.draw(amounts), f"pi_{bought}", ends=ends, created_ms=client.world.now_ms)
            bought += 1
        elif action == "refund" and bought:
            of = data.draw(st.integers(0, bought - 1))
            refund(client, f"pi_{of}", data.draw(amounts), f"re_{client.world.calls}")
        elif action == "wait":
            client.world.now_ms += data.draw(st.sampled_from([1_000, 10_000, 4 * 3600_000, 12 * DAY_MS]))
        elif action == "plan":
            move(client, replace(data.draw(st.sampled_from(plans)), version=10 + client.world.calls))
        elif action == "sweep" and "acme" in client.world.gates:
            take_off(client.deps, rules, client.world.gates["acme"])
            client.world.now_ms += data.draw(st.sampled_from([0, OUTLIVED_S * 1000]))
        _conserved(client)


def _conserved(client: Client) -> None:
    """By the ledger: it starts at 0, every entry is explained, and it ends at what the gate has."""
    gate = client.world.gates.get("acme")
    if gate is None:
        return
    held: dict[int, Decimal] = {}
    for raw in gate.holds.values():
        for part in unpack(raw).parts:
            if part.source >= 0:
                held[part.source] = held.get(part.source, ZERO) + part.units
    now = client.world.now_ms // 1000
    standings = {n: Standing(grant.unused, held.get(n, ZERO), grant.carried) for n, grant in gate.grants.items()}
    rows = client.world.grants.get("acme", [])
    events = sorted(client.world.events("acme"), key=lambda event: event.at, reverse=True)
    settled = [event for event in events if event.hold_key not in gate.holds]
    assert all(grant.left >= 0 for grant in gate.grants.values())
    entries = list(
        balanced(
            fixed_entries(rows, standings, now),
            burns(settled, {row.number: row for row in rows}),
            balances(rows, standings, now),
        )
    )
    if not entries:
        return
    assert entries == sorted(entries, key=lambda entry: entry.place, reverse=True)
    assert entries[-1].balance == entries[-1].units, "the first entry begins at nothing"
    for later, before in zip(entries, entries[1:], strict=False):
        assert later.balance == before.balance + later.units


def test_usage_of_a_period_that_begins_with_carried_credits_is_explained() -> None:
    client = client_of(plan_with(monthly(100, 150)))
    client.commit(client.granted(10))
    client.world.now_ms += 10 * DAY_MS
    give_due(client.deps, client.world.rules("acme"), client.world.gates["acme"])
    client.commit(client.granted(150))
    _conserved(client)
    client.check()


# -- seats ---------------------------------------------------------------------------------------------------------


def with_seats(client: Client, many: int) -> None:
    """The level of seats, straight onto the gate."""
    gate = client.world.gates["acme"]
    slot = client.world.rules("acme").row.meters.index("seats")
    client.world.gates["acme"] = replace(gate, levels={slot: Level(1, Decimal(many), client.world.now_ms)})
    client.deps.gates.read("acme")


def test_pooled_seats_bring_units_and_new_ones_at_once() -> None:
    brings = replace(PER_UNIT, included_per_seat=Decimal(10))
    plan = replace(priced(brings), seats=Seats(Decimal(40), 2, True, "seats"), overage="off")
    client = Client(world(plan, CREDITS, Meter("seats", "Seats", "seat", kind="level")))
    client.commit(client.granted(15))
    assert isinstance(client.reserve(6), Denied)  # two seats at least
    with_seats(client, 3)
    assert isinstance(client.reserve(16), Denied)
    client.commit(client.granted(15))
    with_seats(client, 1)
    assert isinstance(client.reserve(1), Denied)
    client.world.now_ms += 10 * DAY_MS  # the next period: two at least
    assert isinstance(client.reserve(21), Denied)
    assert client.commit(client.granted(20)).event.items[0].billable == 0
    client.check()


# -- found by attack -----------------------------------------------------------------------------------------------


def at(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0) -> int:
    return int(datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp() * 1000)


def test_another_timezone_gives_no_month_twice_and_leaves_none_out() -> None:
    client = client_of(plan_with(monthly(100)))
    client.world.now_ms = at(2027, 3, 5)
    row = client.world.row("acme")
    client.world.rows["acme"] = replace(row, calendar=Calendar.of("Europe/London"))
    client.commit(client.granted(100))
    moved_ = client.world.rows["acme"]
    client.world.rows["acme"] = replace(
        moved_, rev=moved_.rev + 1, calendar=moved_.calendar.moved(at(2027, 3, 10) // 1000, "UTC")
    )
    client.world.now_ms = at(2027, 3, 31, 23, 30)  # London's March is over, UTC's is not
    client.deps = client.world.deps()
    client.commit(client.granted(100))
    client.world.now_ms = at(2027, 4, 30, 12)
    assert isinstance(client.reserve(1), Denied)
    client.world.now_ms = at(2027, 5, 1, 1)
    assert isinstance(client.reserve(100), Granted)
    client.check()


def test_nothing_carries_over_from_months_without_the_plan() -> None:
    client = client_of(plan_with(monthly(100, 1000)))
    client.commit(client.granted(100))
    move(client, priced(version=2))
    client.world.now_ms = at(2027, 8, 3)
    move(client, plan_with(monthly(100, 1000), version=3))
    assert isinstance(client.reserve(101), Denied)
    assert isinstance(client.reserve(100), Granted)


def test_another_interval_gives_only_the_difference() -> None:
    client = client_of(plan_with(monthly(100)))
    client.commit(client.granted(100))
    move(client, plan_with(GrantRule("ai_credits", Decimal(120), "period"), version=2))
    assert isinstance(client.reserve(21), Denied)
    assert isinstance(client.reserve(20), Granted)


def test_what_another_interval_gave_is_made_up_once_it_has_ended() -> None:
    client = client_of(plan_with(monthly(20)))
    client.commit(client.granted(5))
    move(client, plan_with(GrantRule("ai_credits", Decimal(120), "year"), version=2))
    assert isinstance(client.reserve(116), Denied)
    client.world.now_ms = at(2026, 12, 2)
    slow = client.world.deps(skew_ms=-2 * DAY_MS)  # to it the month has not ended
    give_due(slow, client.world.rules("acme"), client.world.gates["acme"])
    assert isinstance(client.reserve(121), Denied)
    assert isinstance(client.reserve(120), Granted)
    assert [row.units for row in client.world.grants["acme"]] == [20, 100, 20]
    client.check()


def test_due_credits_pay_for_what_an_open_hold_grows_by() -> None:
    for grow in ("extend", "commit", "late"):
        client = client_of(priced(PER_UNIT, grants=(monthly(100),)))
        client.world.now_ms = at(2026, 11, 30, 12)
        client.commit(client.granted(90))
        held = client.granted(10, ttl=5 if grow == "late" else 86_400)
        if grow == "late":
            client.world.now_ms += 10_000
            client.granted(1)
            client.world.now_ms += 4 * 3600_000
        client.world.now_ms = at(2026, 12, 1, 0, 0, 5)
        if grow == "extend":
            assert client.extend(held, 110).refused is None
        row = client.commit(held, 60).event
        assert row.items[0].billable == 0, grow
        client.check()


def test_a_dead_hold_is_not_renewed_on_credits_that_have_ended() -> None:
    client = client_of(priced(PER_UNIT))
    buy(client, 50, "pi_1", ends=NOON // 1000 + 10)
    client.granted(50, key="k", ttl=5)
    client.world.now_ms += 30 * DAY_MS
    assert [part.source for part in client.granted(50, key="k").holds["account"].parts] == [PAID]
    client.check()


def test_a_dead_hold_of_a_free_plan_is_not_renewed_for_free() -> None:
    client = client_of(Plan("free", 1, "Free", limits=(limit("daily", 1000),)))
    client.granted(500, key="k", ttl=5)
    move(client, priced(PER_UNIT, cap="1", version=2))
    client.world.now_ms += 60_000
    assert isinstance(client.reserve(500, key="k"), Denied)
    client.check()


def test_drained_grants_make_room_for_new_ones() -> None:
    client = client_of(priced(PER_UNIT))
    for number in range(MAX_GRANTS):
        buy(client, 1, f"pi_{number}")
    client.commit(client.granted(MAX_GRANTS))
    for _ in range(2):
        client.world.now_ms += (SETTLED_S + OUTLIVED_S) * 1000
        take_off(client.deps, client.world.rules("acme"), client.world.gates["acme"])
    assert buy(client, 1, "pi_more").number == MAX_GRANTS


def test_a_commit_by_a_slow_clock_is_recorded_where_its_growth_was_paid_for() -> None:
    client = client_of(priced(PER_UNIT, cap="1"))
    client.world.now_ms = at(2026, 11, 30, 23, 59, 59)
    client.commit(client.granted(30))
    held = client.granted(20)
    client.world.now_ms = at(2026, 12, 1, 0, 0, 1)
    client.granted(1)
    slow = Client(client.world, deps=client.world.deps(skew_ms=-2000))
    event = slow.commit(held, 60).event
    assert event.recorded_ms >= at(2026, 12, 1)
    client.check()
