"""Levels: what setting one answers, what it writes, and what a crash leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tests.support.gate import Client, assert_consistent, limit, world
from tests.support.levels import (
    CREDITS,
    SEATS,
    STORAGE,
    assert_levels_recorded,
    level_limit,
    level_plan,
    put,
    rows,
)
from tests.support.memory import World
from tollgate.accounts.rules import Frozen
from tollgate.catalog.model import Plan, Price
from tollgate.errors import IdempotencyMismatch, LevelMeter, NoLevelMeter, QuantityTooLarge, UnknownMeter
from tollgate.gate.apply_rules import apply_rules
from tollgate.gate.levels import Refused, Standing, price_levels, settle_levels, standing
from tollgate.gate.record import Reported, record
from tollgate.gate.recount import recount
from tollgate.gate.reserve import Granted
from tollgate.gate.sweep import Swept, sweep_gate
from tollgate.ids import key_hash, uuid7_time_of

UUID7 = "0199e0a0-0000-7000-8000-000000000001"


UNPAID = Frozen("unpaid", 0)


class Stopped(BaseException):
    """The process ends here."""


@pytest.fixture
def made() -> World:
    return world(level_plan("100", limit("daily", 10)), CREDITS, STORAGE, SEATS)


def stands(made: World, meter: str = "storage") -> tuple[int, Any]:
    found = standing(made.rules("acme"), made.gates.get("acme"), meter)
    return found.number, found.units


def freeze(made: World, frozen: Frozen | None = UNPAID) -> None:
    row = made.row("acme")
    made.rows["acme"] = replace(row, frozen=frozen, rev=row.rev + 1)
    apply_rules(made.deps(), made.rules("acme"))


def done(found: Standing | Refused) -> Any:
    assert isinstance(found, Standing), found
    return found


def refusal(found: Standing | Refused) -> tuple[str, Any, Any]:
    assert isinstance(found, Refused), found
    return found.denied.code, found.denied.requested, found.denied.remaining


def test_a_level_is_set_and_raised_up_to_its_limit(made: World) -> None:
    deps = made.deps()
    assert stands(made) == (0, 0)
    first = done(put(deps, "60.5", "a", member="ann"))
    assert (first.number, first.units, first.maximum, first.set_ms) == (1, Decimal("60.5"), 100, made.now_ms)
    assert first.event is not None
    assert (first.event.member, first.event.plan, first.event.plan_version) == ("ann", "test", 1)
    assert isinstance(put(deps, 100, "b"), Standing)
    assert refusal(put(deps, "100.001", "c")) == ("limit_reached", Decimal("100.001"), 0)
    assert stands(made) == (2, 100)
    assert [state.used for state in first.limits] == [Decimal("60.5")]
    assert_levels_recorded(made)


def test_a_refusal_says_what_stands_and_what_is_left_and_is_not_remembered(made: World) -> None:
    deps = made.deps()
    put(deps, 40, "a")
    found = put(deps, 101, "b")
    assert refusal(found) == ("limit_reached", 101, 60)
    assert isinstance(found, Refused)
    assert [found.standing.units, found.standing.number] == [40, 1]
    assert found.denied.state is not None
    assert found.denied.state.ruled.limit.id == "disk"
    assert found.denied.state.remaining == 60
    made.move_to("acme", level_plan("200", version=2))
    apply_rules(deps, made.rules("acme"))
    assert isinstance(put(deps, 101, "b"), Standing), "asked again once there is room"


def test_lowering_is_always_allowed(made: World) -> None:
    deps = made.deps()
    put(deps, 90, "a")
    made.move_to("acme", level_plan("10", version=2))
    apply_rules(deps, made.rules("acme"))
    assert isinstance(put(deps, 80, "b"), Standing), "still above the maximum"
    assert isinstance(put(deps, 80, "same"), Standing)
    assert refusal(put(deps, 81, "c"))[0] == "limit_reached"
    freeze(made)
    assert isinstance(put(deps, 5, "d"), Standing)
    assert refusal(put(deps, 6, "e")) == ("frozen", 6, 0)
    freeze(made, None)
    assert isinstance(put(deps, 6, "e"), Standing)
    assert_levels_recorded(made)


def test_a_meter_outside_the_plan_is_not_raised(made: World) -> None:
    deps = made.deps()
    assert refusal(put(deps, 1, "a", meter="seats"))[0] == "not_in_plan"
    assert isinstance(put(deps, 0, "b", meter="seats"), Standing)
    made.move_to("acme", replace(level_plan(version=2), unlimited=True))
    apply_rules(deps, made.rules("acme"))
    assert isinstance(put(deps, 5, "c", meter="seats"), Standing)


def test_the_same_call_again_gets_the_same_answer(made: World) -> None:
    deps = made.deps()
    first = done(put(deps, 5, "a"))
    writes = len(made.outcomes)
    made.now_ms += 60_000
    again = done(put(deps, 5, "a"))
    assert (again.number, again.units, again.set_ms, again.event) == (1, 5, first.set_ms, first.event)
    assert len(made.outcomes) == writes
    put(deps, 7, "b")
    late = done(put(deps, 5, "a"))
    assert (late.number, late.units, late.current) == (1, 5, 7), "it does not come back over a later change"
    assert stands(made) == (2, 7)
    with pytest.raises(IdempotencyMismatch):
        put(deps, 6, "a")
    assert stands(made) == (2, 7)


def test_a_key_that_is_a_uuid_names_its_origin(made: World) -> None:
    origin = uuid7_time_of(UUID7)
    put(made.deps(), 5, UUID7, origin_ms=origin)
    assert not made.origins, "no dedupe row"
    (row,) = rows(made)
    assert (row.at.origin_ms, row.at.key) == (origin, key_hash("level", UUID7))
    assert isinstance(put(made.deps(), 5, UUID7, origin_ms=origin), Standing)
    assert len(rows(made)) == 1


def test_levels_are_rounded_to_the_scale_and_never_weighed(made: World) -> None:
    found = done(put(made.deps(), "1.0005", "a"))
    assert found.units == Decimal("1.001")
    with pytest.raises(QuantityTooLarge):
        put(made.deps(), "9" * 19, "b")


def test_only_level_meters_have_a_level(made: World) -> None:
    deps = made.deps()
    with pytest.raises(NoLevelMeter):
        put(deps, 1, "a", meter="ai_credits")
    with pytest.raises(UnknownMeter):
        put(deps, 1, "b", meter="other")
    assert not made.outcomes
    done(put(deps, 1, "c"))
    with pytest.raises(UnknownMeter):  # now there is a gate to look it up on
        put(deps, 1, "d", meter="other")
    assert len(rows(made)) == 1


def test_a_level_meter_is_not_reserved_and_not_reported(made: World) -> None:
    client = Client(made)
    with pytest.raises(LevelMeter):
        client.reserve(1, meter="storage")
    event = Reported("e", key_hash("usage", "e"), None, b"f", "acme", None, "storage", Decimal(1), {})
    (found,) = record(made.deps(), [event])
    assert (found.status, getattr(found.error, "code", None)) == ("rejected", "level_meter")
    assert not made.outcomes


def test_levels_touch_no_counter_and_no_money(made: World) -> None:
    client = Client(made)
    held = client.granted(4)
    put(made.deps(), 50, "a")
    client.commit(held)
    put(made.deps(), 60, "b")
    assert list(client.counts("daily")) == [4, 0]
    assert made.rules("acme").terms is None, "a price of a level is no price of usage"
    assert not [key for key, _ in made.row("acme").counters if "storage" in key.meters]
    recount(made.deps(), made.rules("acme"), "acme", None)
    assert list(client.counts("daily")) == [4, 0]
    assert stands(made) == (2, 60)
    assert_consistent(made, "acme")


def test_the_price_of_usage_is_capped_and_that_of_a_level_is_not() -> None:
    price = Price("ai_credits", "per_unit", unit_price=Decimal(1))
    plan = replace(level_plan("1000"), prices=(price, level_plan().prices[0]), spend_cap=Decimal(5))
    made = world(plan, CREDITS, STORAGE)
    assert isinstance(put(made.deps(), 900, "a"), Standing)
    client = Client(made)
    assert isinstance(client.reserve(5), Granted)
    assert not isinstance(client.reserve(1), Granted)
    terms = made.rules("acme").terms
    assert terms is not None
    assert [one.meter for one in terms.fundings.values()] == ["ai_credits"]
    assert_consistent(made, "acme")


def test_two_level_meters_of_one_account_stand_apart() -> None:
    plan = level_plan("100", level_limit("people", "5", "seats"))
    made = world(plan, CREDITS, STORAGE, SEATS)
    deps = made.deps()
    put(deps, 3, "a", meter="seats")
    put(deps, 30, "b")
    put(deps, 5, "c", meter="seats")
    assert refusal(put(deps, 6, "d", meter="seats")) == ("limit_reached", 6, 0)
    assert (stands(made, "seats"), stands(made)) == ((2, 5), (1, 30))
    assert_levels_recorded(made)


def test_a_change_is_never_recorded_before_the_one_it_follows(made: World) -> None:
    put(made.deps(skew_ms=4_000), 5, "a")
    put(made.deps(), 6, "b")
    one, other = rows(made)
    assert one.recorded_ms == other.recorded_ms == made.now_ms + 4_000


def test_a_level_that_comes_to_have_a_price_is_set_to_what_it_is(made: World) -> None:
    made.move_to("acme", level_plan(prices=(), version=2))
    apply_rules(made.deps(), made.rules("acme"))
    put(made.deps(), 5, "a")
    put(made.deps(), 3, "b", meter="seats")
    price_levels(made.deps(), made.rules("acme"))
    assert [row.items[0].priced for row in rows(made)] == [False]
    made.move_to("acme", level_plan("2", version=3))
    apply_rules(made.deps(), made.rules("acme"))
    for _ in range(2):
        price_levels(made.deps(), made.rules("acme"))
        sweep_gate(made.deps(), made.gates["acme"], Swept(), audit=True)
    assert [row.items[0].priced for row in rows(made)] == [False, True]
    assert [row.items[0].units for row in rows(made)] == [5, 5]
    assert stands(made) == (2, 5), "also above its limit"
    assert_levels_recorded(made)


def test_a_level_is_set_anew_in_a_period_that_was_told_of_late(made: World) -> None:
    put(made.deps(), 5, "a")
    made.now_ms += 60_000
    row, now = made.row("acme"), made.now_ms // 1000
    made.rows["acme"] = replace(row, rev=row.rev + 1, calendar=row.calendar.begun(now, now - 20))
    apply_rules(made.deps(), made.rules("acme"))
    for _ in range(2):
        price_levels(made.deps(), made.rules("acme"))
        sweep_gate(made.deps(), made.gates["acme"], Swept(), audit=True)
    assert [[one.items[0].units, one.recorded_s] for one in rows(made)] == [[5, now - 60], [5, now]]
    assert_levels_recorded(made)


def test_the_sweep_prices_what_a_change_of_plan_left(made: World) -> None:
    made.move_to("acme", level_plan(prices=(), version=2))
    put(made.deps(), 5, "a")
    made.move_to("acme", level_plan(version=3))
    apply_rules(made.deps(), made.rules("acme"))
    sweep_gate(made.deps(), made.gates["acme"], Swept(), audit=True)
    assert [row.items[0].priced for row in rows(made)] == [False, True]


# -- crashes -----------------------------------------------------------------------------------------------------------


def stopped_at(made: World, call: str, body: Callable[[], object], nth: int = 1) -> None:
    """Run `body` and stop before its n-th call of that name."""
    left = [nth]

    def step(name: str) -> None:
        left[0] -= name == call
        if left[0] == 0 and name == call:
            raise Stopped

    made.step = step
    with pytest.raises(Stopped):
        body()
    made.step = lambda name: None


def unrecorded(made: World) -> None:
    stopped_at(made, "outcome.put_event", lambda: put(made.deps(), 5, "a"))
    assert (stands(made), rows(made)) == ((1, 5), [])
    made.now_ms += 90_000


@pytest.mark.parametrize("heal", ["again", "next", "sweep", "other meter"])
def test_a_row_that_a_crash_kept_back_is_put_as_it_was(made: World, heal: str) -> None:
    unrecorded(made)
    at_ms = made.now_ms - 90_000
    if heal == "again":
        found = put(made.deps(), 5, "a")
        assert isinstance(found, Standing)
        assert (found.number, found.set_ms) == (1, at_ms)
    elif heal == "next":
        assert isinstance(put(made.deps(), 6, "b"), Standing)
    else:
        if heal == "other meter":
            put(made.deps(), 0, "c", meter="seats")
        sweep_gate(made.deps(), made.gates["acme"], Swept(), audit=False)
        assert not made.gates["acme"].levels[made.row("acme").meters.index("storage")].open
    first = rows(made)[0]
    assert [first.items[0].units, first.recorded_ms, first.items[0].priced] == [5, at_ms, True]
    assert_levels_recorded(made)


def test_a_key_whose_change_was_replaced_after_a_crash_counts_once(made: World) -> None:
    unrecorded(made)
    put(made.deps(), 6, "b")
    found = done(put(made.deps(), 5, "a"))
    assert (found.number, found.units, found.current) == (1, 5, 6)
    assert stands(made) == (2, 6)
    assert_levels_recorded(made)


def test_a_row_put_late_is_marked_again_for_seal(made: World) -> None:
    marked: list[tuple[int, bool]] = []

    class Markers:
        def ensure(self, account: str, recorded_ms: int, origins_ms: Any, *, again: bool = False) -> None:
            marked.append((recorded_ms, again))

        def ranges(self, account: str, since_s: int) -> list[tuple[int, int]]:
            raise AssertionError("nothing is counted here")

    unrecorded(made)
    deps = replace(made.deps(), markers=Markers())
    settle_levels(deps, made.rules("acme"), made.gates["acme"])
    assert marked == [(made.now_ms - 90_000, False), (made.now_ms - 90_000, True)]
    marked.clear()
    put(deps, 7, "b")
    assert marked == [(made.now_ms, False)]


def test_a_level_is_set_while_a_recount_is_under_way(made: World) -> None:
    client = Client(made)
    client.granted(3)
    stopped_at(made, "gate.finish_recount", lambda: recount(made.deps(), made.rules("acme"), "acme", None))
    assert made.gates["acme"].rev < 0
    assert isinstance(put(made.deps(), 5, "a"), Standing)
    assert list(client.counts("daily")) == [3, 3]
    assert_levels_recorded(made)


def test_an_unknown_account_is_made_only_for_what_fits(made: World) -> None:
    asked: list[str] = []

    class Sources:
        def get(self, account: str, accept: Any = None) -> Any:
            asked.append(account)
            accept(made.rules(account))
            return made.rules(account)

        def fresh(self, account: str) -> Any:
            raise AssertionError("refused before anything is made")

        def stored(self, account: str) -> Any:
            raise AssertionError("refused before anything is made")

    with pytest.raises(NoLevelMeter):
        put(replace(made.deps(), rules=Sources()), 1, "a", meter="ai_credits")
    assert asked == ["acme"]


def test_plans_without_levels_are_as_before() -> None:
    made = world(Plan("p", 1, "P", limits=(limit("daily", 5),)), CREDITS)
    assert made.rules("acme").level_limits == ()
