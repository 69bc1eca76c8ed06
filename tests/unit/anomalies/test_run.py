"""The scheduled look: what it goes through and when, one alert for each trouble, and what a crash leaves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import pytest

from tests.unit.anomalies.test_detect import TODAY, day
from tests.unit.billing.world import BILLING, Crash, Cut, World, tables
from tollgate import dynamo
from tollgate.alerts.outbox_store import OutboxTable
from tollgate.anomalies import run
from tollgate.anomalies.memory_store import AnomalyTable
from tollgate.anomalies.run import (
    PAIRS,
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
from tollgate.usage.markers import SHARDS, shard_of

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

    def look(self, in_time: Callable[[], bool] = lambda: True, *, at: int | None = None, **changes: Any) -> Looked:
        self.world.now = at or self.world.now
        return look(self.deps(**changes), in_time)

    def another_process(self) -> None:
        """One that knows nothing of what the one before it did."""
        self.world.outbox = OutboxTable(BILLING, self.world.clock)

    def erase(self, account: str) -> None:
        """An account goes, with its rollups."""
        del self.world.rules.rows[account]
        for row in self.world.rows(f"rollup#{account}"):
            _delete(row)

    def forget(self) -> None:
        """Only rollups are left."""
        for row in dynamo.client().scan(TableName=BILLING)["Items"]:
            if not row["pk"]["S"].startswith("rollup#"):
                _delete(row)

    def told(self) -> list[str]:
        return sorted(alert["id"] for alert in self.alerts())

    def alerts(self) -> list[dict[str, Any]]:
        return [json.loads(row["message"]["S"]) for row in self.world.rows("outbox")]


def _delete(row: dynamo.Item) -> None:
    dynamo.client().delete_item(TableName=BILLING, Key={"pk": row["pk"], "sk": row["sk"]})


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


class _DiesAtItsNote(AnomalyTable):
    def note(self, account: str, day: int, kind: str, noted: Noted) -> None:
        raise Crash


def test_a_crash_between_the_alert_and_its_note_tells_nothing_twice(stage: Stage) -> None:
    stage.account("acme", 12_000)
    with pytest.raises(Crash):
        stage.look(memory=_DiesAtItsNote(BILLING))
    assert stage.told() == ["anomaly#acme#level#2026-11-21"]
    stage.today("acme", 13_000)
    stage.another_process()
    assert stage.look().told == 0
    assert stage.told() == ["anomaly#acme#level#2026-11-21"]
    # How bad it was when it was told, nobody knows any more: bad enough to be told of.
    assert AnomalyTable(BILLING).noted("acme", TODAY) == {"level": Noted(Decimal(1), 0)}


def test_a_crash_between_the_alert_and_its_note_hides_nothing_that_grows_after_it(stage: Stage) -> None:
    stage.account("acme", 12_000)
    with pytest.raises(Crash):
        stage.look(memory=_DiesAtItsNote(BILLING))
    stage.another_process()
    stage.today("acme", 100_000)
    assert stage.look().told == 1
    assert stage.told() == ["anomaly#acme#level#2026-11-21", "anomaly#acme#level#2026-11-21#1"]
    assert AnomalyTable(BILLING).noted("acme", TODAY) == {"level": Noted(Decimal(10), 1)}
    stage.today("acme", 201_000)
    with pytest.raises(Crash):
        stage.look(at=stage.world.now + HOUR, memory=_DiesAtItsNote(BILLING))
    stage.another_process()
    stage.today("acme", 500_000)
    assert stage.look(at=stage.world.now + HOUR).told == 1
    assert stage.told()[-1] == "anomaly#acme#level#2026-11-21#3"


def test_a_crash_at_any_call_leaves_what_the_next_run_completes(stage: Stage) -> None:
    """Alerts, notes and sums are those of a run without one."""
    stage.account("acme", 12_000)
    stage.put(replace(day(12_000, 1), account="acme"))

    def left() -> tuple[list[str], State, list[int]]:
        memory = AnomalyTable(BILLING)
        numbers = [memory.noted("acme", at)["level"].number for at in (TODAY - DAY_S, TODAY)]
        return stage.told(), memory.state(), numbers

    def cut_at(cut: Cut) -> Looked:
        stage.another_process()
        outbox, memory = cut.around(stage.world.outbox), cut.around(AnomalyTable(BILLING))
        return stage.look(outbox=outbox, memory=memory, rules=cut.around(stage.world.rules))

    whole = Cut()
    assert cut_at(whole).told == 2
    right = left()
    assert len(right[0]) == 2
    assert whole.calls == 2 * 4 + 3  # rules, notes, alert and note of each day; the state, read once and saved twice
    for at in range(whole.calls):
        for after in (False, True):
            stage.forget()
            with pytest.raises(Crash):
                cut_at(Cut(at, after=after))
            stage.another_process()
            assert stage.look().failures == []
            assert left() == right, f"call {at}, {'after' if after else 'before'} it"


# --- two at once -----------------------------------------------------------------------------------------------------


class _RunsBeside:
    """Rules; another whole run happens as they are read for the `at`th time."""

    def __init__(self, stage: Stage, at: int) -> None:
        self._stage, self._at, self.other = stage, at, Looked()

    def fresh(self, account: str) -> Any:
        self._at -= 1
        if self._at == 0:
            self.other = self._stage.look(outbox=OutboxTable(BILLING, self._stage.world.clock))
        return self._stage.world.rules.fresh(account)


@pytest.mark.parametrize("at", [1, 2, 3, 4, 5, 6])
def test_two_runs_at_once_tell_once_and_add_no_account_twice(stage: Stage, at: int) -> None:
    names = ("acme", "beta", "calm")
    for name in names:
        stage.account(name, 12_000)
        stage.put(replace(day(12_000, 1), account=name))
    beside = _RunsBeside(stage, at)
    looked = stage.look(rules=beside)
    assert looked.failures == beside.other.failures == []
    assert looked.told + beside.other.told == 6
    assert stage.told() == [f"anomaly#{name}#level#2026-11-{date}" for name in names for date in (20, 21)]
    state = AnomalyTable(BILLING).state()
    assert state.sums == {("pro", "tokens"): (Decimal(3), Decimal(36_000))}
    assert (state.under_way, state.over_until, state.hour) == (None, TODAY - DAY_S, TODAY + 12 * HOUR)
    stage.world.now += HOUR
    assert stage.look().told == 0


@pytest.mark.parametrize("seconds", [1, 2, 3, 4])
def test_a_run_out_of_time_beside_one_that_ends_takes_nothing_back(stage: Stage, seconds: int) -> None:
    """What the slower one saves is older, and right all the same: the next run does it once more."""
    for name in ("acme", "beta", "calm"):
        stage.account(name, 12_000, at=TODAY - DAY_S)
    turns = iter([True] * seconds + [False] * 9)
    looked = stage.look(turns.__next__, rules=_RunsBeside(stage, 1))
    assert looked.left is (seconds < 3)
    assert stage.look().left is False
    assert len(stage.told()) == 3
    assert AnomalyTable(BILLING).state().sums == {("pro", "tokens"): (Decimal(3), Decimal(36_000))}


def test_of_two_notes_the_further_one_stands(world: World) -> None:
    memory = AnomalyTable(BILLING)
    for noted, stands in (
        (Noted(Decimal(5), 0), Noted(Decimal(5), 0)),
        (Noted(Decimal(1), 0), Noted(Decimal(5), 0)),
        (Noted(Decimal(6), 0), Noted(Decimal(6), 0)),
        (Noted(Decimal(2), 1), Noted(Decimal(2), 1)),
        (Noted(Decimal(9), 0), Noted(Decimal(2), 1)),
    ):
        memory.note("acme", TODAY, "level", noted)
        assert memory.noted("acme", TODAY) == {"level": stands}


# --- accounts that go ------------------------------------------------------------------------------------------------


def test_an_account_that_is_gone_is_passed_over(stage: Stage) -> None:
    stage.account("acme", 12_000)
    stage.account("beta", 12_000)
    del stage.world.rules.rows["acme"]
    looked = stage.look()
    assert (looked.told, looked.failures) == (1, [])
    assert stage.told() == ["anomaly#beta#level#2026-11-21"]


def test_an_account_that_goes_where_a_run_stopped_loses_no_place(stage: Stage) -> None:
    names = [name for number in range(999) if shard_of(name := f"a{number:03d}") == 7][:4]
    for name in names:
        stage.account(name, 12_000, at=TODAY - DAY_S)
    stage.look(iter((True, True, False)).__next__)
    stopped = AnomalyTable(BILLING).state().under_way
    assert stopped is not None
    assert stopped.after == names[1]
    assert len(stage.told()) == 2
    # The account after which to go on goes, with all that it used; so does the one that is next.
    stage.erase(names[1])
    stage.erase(names[2])
    assert stage.look().failures == []
    assert stage.told() == [f"anomaly#{name}#level#2026-11-20" for name in (*names[:2], names[3])]


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


def test_the_state_fits_into_an_item_however_many_plans_and_meters_there_are(stage: Stage) -> None:
    """200 plans and 200 meters are what a catalogue may have."""
    many = {
        (f"{plan:064}", f"{meter:064}"): (Decimal("123456.123456"), Decimal("123456789012345678901.123456"))
        for plan in range(60)
        for meter in range(60)
    }
    large = {("pro", "tokens"): (Decimal(10**6), Decimal(10**9)), ("pro", "few"): (Decimal(2), Decimal(9))}
    for name in ("a", "b", "c"):
        stage.account(name, 1000, at=TODAY - DAY_S)
    memory = AnomalyTable(BILLING)
    under_way = Pass(TODAY - DAY_S, True, TODAY + 2 * HOUR, sums={**many, **large})
    times = iter([True])
    state = State(under_way, sums=dict(list(many.items())[:PAIRS]))
    left = run._go_on(stage.deps(), state, under_way, Looked(), lambda: next(times, False))
    memory.save(replace(state, under_way=left))
    done = ended(replace(state, sums={**many, **large}), replace(under_way, sums=many))
    memory.save(done)
    assert len(done.sums) == PAIRS
    assert ("pro", "tokens") in done.sums
    assert ("pro", "few") not in done.sums


def test_only_accounts_with_use_on_the_day_are_looked_at(stage: Stage) -> None:
    stage.account("acme", 12_000, at=TODAY - 3 * DAY_S)
    assert stage.look() == Looked()
