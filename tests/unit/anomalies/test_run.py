"""The scheduled look: what it goes through and when, one alert for each trouble, and what a crash leaves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import pytest

from tests.unit.anomalies.test_detect import TODAY, day
from tests.unit.billing.world import BILLING, World, tables
from tollgate import dynamo
from tollgate.anomalies.memory_store import AnomalyTable
from tollgate.anomalies.run import (
    AnomalyDeps,
    Looked,
    Noted,
    Pass,
    State,
    ended,
    look,
    next_pass,
    typical_of,
)
from tollgate.billing.rollup import DAY_S, Rollup
from tollgate.billing.rollup_store import RollupTable, rollup_item
from tollgate.usage.markers import SHARDS

HOUR = 3600


@pytest.fixture
def world() -> Iterator[World]:
    with tables():
        made = World()
        made.now = TODAY + 12 * HOUR + 60
        yield made


@dataclass
class Stage:
    """Accounts with twenty days behind them, on the tables; `clock` as the world's."""

    world: World

    def put(self, rollup: Rollup) -> None:
        dynamo.client().put_item(TableName=BILLING, Item=rollup_item(rollup))

    def account(self, name: str, units: int, *, days: int = 20, at: int = TODAY) -> None:
        self.world.rules.add(name)
        for back in range(days, 0, -1):
            self.put(replace(day(1000, back), account=name, day=at - back * DAY_S))
        self.today(name, units, at)

    def today(self, name: str, units: int, at: int = TODAY) -> None:
        self.put(replace(day(units), account=name, day=at))

    def deps(self, **changes: Any) -> AnomalyDeps:
        memory, rollups = AnomalyTable(BILLING), RollupTable(BILLING)
        return replace(
            AnomalyDeps(rollups, self.world.rules, memory, self.world.outbox, self.world.clock),
            **changes,
        )

    def look(self, in_time: Callable[[], bool] = lambda: True, **changes: Any) -> Looked:
        return look(self.deps(**changes), in_time)

    def told(self) -> list[str]:
        return sorted(alert["id"] for alert in self.alerts())

    def alerts(self) -> list[dict[str, Any]]:
        return [json.loads(row["message"]["S"]) for row in self.world.rows("outbox")]


@pytest.fixture
def stage(world: World) -> Stage:
    return Stage(world)


# --- what is due -----------------------------------------------------------------------------------------------------


def test_first_the_days_that_are_over_then_the_day_so_far() -> None:
    now = TODAY + 12 * HOUR + 60
    yesterday = next_pass(State(), now)
    assert yesterday == Pass(TODAY - DAY_S, True, TODAY + 12 * HOUR)
    state = ended(State(), yesterday)
    so_far = next_pass(state, now)
    assert so_far == Pass(TODAY, False, TODAY + 12 * HOUR)
    state = ended(state, so_far)
    assert next_pass(state, now) is None
    assert next_pass(state, TODAY + 13 * HOUR) == Pass(TODAY, False, TODAY + 13 * HOUR)


def test_a_day_is_over_an_hour_after_its_end() -> None:
    state = State(over_until=TODAY - DAY_S)
    tomorrow = TODAY + DAY_S
    found = next_pass(state, tomorrow + HOUR - 1)
    assert found is not None
    assert (found.day, found.over) == (tomorrow, False)
    assert next_pass(state, tomorrow + HOUR) == Pass(TODAY, True, tomorrow + HOUR)


def test_days_that_nobody_looked_at_are_looked_at_for_a_week() -> None:
    state, days = State(over_until=TODAY - 30 * DAY_S), []
    while (found := next_pass(state, TODAY + 2 * HOUR)) is not None and found.over:
        days.append((TODAY - found.day) // DAY_S)
        state = ended(state, found)
    assert days == [7, 6, 5, 4, 3, 2, 1]


# --- telling ---------------------------------------------------------------------------------------------------------


def test_an_account_far_above_its_days_is_told_of_once(stage: Stage) -> None:
    stage.account("acme", 12_000)
    stage.account("calm", 1_100)
    looked = stage.look()
    assert (looked.told, looked.left, looked.failures) == (1, False, [])
    assert stage.told() == ["anomaly#acme#level#2026-11-21"]
    (alert,) = stage.alerts()
    assert (alert["kind"], alert["account"], alert["anomaly"], alert["meter"]) == ("anomaly", "acme", "level", "tokens")
    assert alert["subject"] == "acme: far above its typical day"
    assert "12 times its typical day" in alert["text"]
    assert alert["score"] == "1.2"
    stage.world.now += HOUR
    assert stage.look().told == 0
    stage.world.now = TODAY + DAY_S + 2 * HOUR  # the day is over, and looked at once more
    assert stage.look().told == 0


def test_it_is_told_again_when_it_has_become_twice_as_bad(stage: Stage) -> None:
    stage.account("acme", 12_000)
    stage.look()
    for units, new in ((23_000, 0), (24_000, 1), (40_000, 0), (48_000, 1)):
        stage.today("acme", units)
        stage.world.now += HOUR
        assert stage.look().told == new, units
    assert stage.told() == [f"anomaly#acme#level#2026-11-21{number}" for number in ("", "#1", "#2")]
    assert {alert["subject"] for alert in stage.alerts()} == {
        "acme: far above its typical day",
        "acme: still growing: far above its typical day",
    }


def test_two_meters_with_the_same_trouble_are_one_alert(stage: Stage) -> None:
    stage.account("acme", 12_000)
    for back in range(20, 0, -1):
        stage.put(replace(day(10, back), meter="images"))
    stage.put(replace(day(300), meter="images"))
    assert stage.look().told == 1
    assert [alert["meter"] for alert in stage.alerts()] == ["images"]


def test_what_needs_the_whole_day_is_told_when_it_is_over(stage: Stage) -> None:
    stage.account("acme", 2000)
    stage.put(replace(day(2000, peak=1500)))
    stage.look()
    assert stage.told() == []
    stage.world.now = TODAY + DAY_S + HOUR
    stage.look()
    assert stage.told() == ["anomaly#acme#burst#2026-11-21"]


def test_an_account_that_is_gone_is_passed_over(stage: Stage) -> None:
    stage.account("acme", 12_000)
    del stage.world.rules.rows["acme"]
    assert stage.look() == Looked(accounts=2)


def test_the_account_that_another_became_lends_its_plan_and_clock(stage: Stage) -> None:
    stage.account("anon", 1000)
    stage.world.rules.add("acme")
    stage.world.rules.change("anon", merged_into="acme")
    stage.look()
    assert set(AnomalyTable(BILLING).state().sums) == {("pro", "tokens")}


# --- in parts --------------------------------------------------------------------------------------------------------


def test_a_run_that_ends_early_is_gone_on_with_where_it_stood(stage: Stage) -> None:
    for number in range(9):
        stage.account(f"a{number}", 12_000, days=4, at=TODAY - DAY_S)
    seen: list[str] = []
    rules = stage.world.rules

    class Watched:
        def fresh(self, account: str) -> Any:
            seen.append(account)
            return rules.fresh(account)

    for turn in range(9):
        looked = stage.look(iter((True, False)).__next__, rules=Watched())
        assert looked.accounts == 1
        assert looked.left is (turn < 8)
    assert sorted(seen) == [f"a{number}" for number in range(9)]
    assert stage.look(rules=Watched()).accounts == 0
    assert len(stage.told()) == 9
    sums = AnomalyTable(BILLING).state().sums
    assert sums == {("pro", "tokens"): (Decimal(9), Decimal(9 * 12_000))}, "no account is added twice"


def test_a_crash_between_the_alert_and_its_note_tells_nothing_twice(stage: Stage) -> None:
    stage.account("acme", 12_000)

    class Dies(AnomalyTable):
        def note(self, account: str, day: int, kind: str, noted: Noted) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stage.look(memory=Dies(BILLING))
    assert stage.told() == ["anomaly#acme#level#2026-11-21"]
    stage.today("acme", 13_000)
    stage.world.outbox = type(stage.world.outbox)(BILLING, stage.world.clock)  # another process
    assert stage.look().told == 0
    assert stage.told() == ["anomaly#acme#level#2026-11-21"]
    assert AnomalyTable(BILLING).noted("acme", TODAY) == {"level": Noted(Decimal("1.3"), 0)}


def test_one_accounts_failure_keeps_no_other_from_its_look(stage: Stage) -> None:
    for name in ("acme", "bad", "calm"):
        stage.account(name, 12_000)
    rules = stage.world.rules

    class Breaks:
        def fresh(self, account: str) -> Any:
            if account == "bad":
                raise RuntimeError("poison")
            return rules.fresh(account)

    looked = stage.look(rules=Breaks())
    assert {"".join(error.__notes__) for error in looked.failures} == {"looking at account bad"}
    assert stage.told() == [f"anomaly#{name}#level#2026-11-21" for name in ("acme", "calm")]
    assert AnomalyTable(BILLING).state().under_way is None


# --- plans -----------------------------------------------------------------------------------------------------------


def test_a_plans_average_is_of_about_a_week(stage: Stage) -> None:
    state = State()
    key = ("pro", "tokens")
    for at in range(60):
        units = Decimal(1000 if at < 30 else 2000)
        done = Pass(TODAY + at * DAY_S, True, 0, SHARDS, None, {key: (Decimal(10), 10 * units)})
        state = ended(state, done)
        if at == 0:
            assert typical_of(state.sums, *key) == ("pro", Decimal(10), Decimal(1000))
    found = typical_of(state.sums, *key)
    assert found is not None
    assert Decimal(1985) < found.average < 2000
    assert Decimal(69) < found.days < 70
    assert typical_of(state.sums, "free", "tokens") is None
    for at in range(60, 120):
        state = ended(state, Pass(TODAY + at * DAY_S, True, 0, SHARDS))
    assert state.sums == {}, "a plan that nobody has any more"


def test_one_runaway_does_not_lift_its_plans_average_beyond_sight(stage: Stage) -> None:
    stage.account("acme", 1_000_000, at=TODAY - DAY_S)
    memory = AnomalyTable(BILLING)
    memory.save(State(over_until=TODAY - 2 * DAY_S, sums={("pro", "tokens"): (Decimal(70), Decimal(70_000))}))
    stage.look()
    _, units = memory.state().sums["pro", "tokens"]
    assert units == 60_000 + 10_000


def test_the_state_comes_back_as_it_was_saved(world: World) -> None:
    memory = AnomalyTable(BILLING)
    assert memory.state() == State()
    sums = {("pro", "tokens"): (Decimal("1.5"), Decimal("0.000001"))}
    for state in (
        State(Pass(TODAY, True, TODAY, 3, "acme", sums), TODAY, TODAY, sums),
        State(Pass(TODAY, False, TODAY), None, 5),
    ):
        memory.save(state)
        assert memory.state() == state


def test_only_accounts_with_use_on_the_day_are_looked_at(stage: Stage) -> None:
    stage.account("acme", 12_000, at=TODAY - 3 * DAY_S)
    assert stage.look() == Looked()
