"""Levels on their way to the sink: the last of a window, and what still stands when a billing period begins."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tests.unit.billing.world import FREE, GRACE_S, METERS, NOON, PRO, SEAL_S, Crash, Cut, World, fresh_world
from tollgate.accounts.rules import with_plan
from tollgate.accounts.service import anchored, begun
from tollgate.billing.batch import NO_CUSTOMER, REJECTED
from tollgate.billing.run import run_seal
from tollgate.billing.sealed import Carried, LevelMark, later
from tollgate.catalog.model import Plan, Price
from tollgate.periods import PeriodRule
from tollgate.usage.marker_store import MarkerTable
from tollgate.usage.markers import shard_of

DAY = 86_400
DECEMBER = 1_796_083_200
"""2026-12-01 00:00:00 UTC."""
JANUARY = DECEMBER + 31 * DAY
FEBRUARY = JANUARY + 31 * DAY
STORED = Plan("stored", 1, "Stored", prices=(Price("storage", "per_unit", unit_price=Decimal("0.1")), *PRO.prices))


@pytest.fixture
def stored(world: World) -> World:
    world.rules.plans["stored"] = STORED
    world.rules.add("acme", STORED)
    return world


def sent(world: World) -> list[tuple[Any, ...]]:
    """(units, second it is booked at, start of its period) of the level's batches, in the order of that second."""
    batches = [batch for batch in world.all_batches() if batch.meter == "storage"]
    return sorted(
        ((batch.units, batch.timestamp, batch.period_start) for batch in batches), key=lambda one: (one[1], one[2])
    )


def sealed_at(world: World, now: int) -> None:
    world.now = now
    world.seal()


NOVEMBER = DECEMBER - 30 * DAY


def test_the_last_level_of_a_window_is_sent_at_its_own_second(stored: World) -> None:
    stored.set_level(1, "12.5", at=NOON + 7)
    stored.set_level(2, 20, at=NOON + 33)
    stored.set_level(3, "8.25", at=NOON + 33)
    stored.record(2)
    sealed_at(stored, NOON + SEAL_S + GRACE_S)
    assert sent(stored) == [(Decimal("8.25"), NOON + 33, NOVEMBER)]
    (window,) = stored.sealed()
    total = window.total.meters["storage"]
    assert (total.events, total.level) == (3, LevelMark(3, Decimal("8.25"), NOON + 33, True))
    assert [total.units, total.billable] == [0, 0]
    usage = next(batch for batch in stored.all_batches() if batch.meter == "ai_credits")
    assert [usage.units, usage.timestamp] == [2, NOON]


def test_a_level_at_0_is_sent_too(stored: World) -> None:
    stored.set_level(1, 5)
    stored.set_level(2, 0, at=NOON + SEAL_S)
    sealed_at(stored, NOON + 2 * SEAL_S + GRACE_S)
    assert [one[0] for one in sent(stored)] == [5, 0]


def test_a_level_that_nobody_changes_is_billed_in_each_period(stored: World) -> None:
    stored.set_level(1, 5)
    sealed_at(stored, NOON + SEAL_S + GRACE_S)
    sealed_at(stored, DECEMBER + SEAL_S + GRACE_S - 1)
    assert len(sent(stored)) == 1, "not before the first window of the period is over"
    sealed_at(stored, DECEMBER + SEAL_S + GRACE_S)
    assert sent(stored)[1:] == [(5, DECEMBER, DECEMBER)]
    sealed_at(stored, JANUARY + SEAL_S + GRACE_S)
    sealed_at(stored, JANUARY + 2 * SEAL_S + GRACE_S)
    assert sent(stored)[2:] == [(5, JANUARY, JANUARY)]
    stored.set_level(2, 7, at=JANUARY + 10 * DAY)
    sealed_at(stored, FEBRUARY + SEAL_S + GRACE_S)
    assert sent(stored)[3:] == [(7, JANUARY + 10 * DAY, JANUARY), (7, FEBRUARY, FEBRUARY)]
    stored.seal()
    assert len(stored.rows("carry#")) == 1, "one waits for the next period, and nothing else is kept"


def test_periods_that_pass_while_seal_is_down_are_all_billed(stored: World) -> None:
    stored.set_level(1, 5)
    stored.now = FEBRUARY + DAY
    for _ in range(4):
        stored.seal()
    assert sent(stored)[1:] == [(5, month, month) for month in (DECEMBER, JANUARY, FEBRUARY)]


def test_a_level_that_went_to_0_is_billed_no_more(stored: World) -> None:
    stored.set_level(1, 5)
    stored.set_level(2, 0, at=NOON + SEAL_S)
    for now in (NOON + 2 * SEAL_S + GRACE_S, DECEMBER + SEAL_S + GRACE_S, JANUARY + SEAL_S + GRACE_S):
        sealed_at(stored, now)
    assert sent(stored)[2:] == [(0, DECEMBER, DECEMBER)], "said once more, and then no more"
    assert stored.rows("carry#") == []


def test_a_change_in_the_first_window_comes_after_what_stood(stored: World) -> None:
    stored.set_level(1, 5)
    sealed_at(stored, NOON + SEAL_S + GRACE_S)
    stored.set_level(2, 9, at=DECEMBER + 20)
    sealed_at(stored, DECEMBER + SEAL_S + GRACE_S)
    stored.seal()
    assert sent(stored)[1:] == [(9, DECEMBER + 20, DECEMBER)], "the last of the window stands for the period"


def test_a_window_across_the_edge_of_a_period(world: World) -> None:
    seconds = 420  # the end of November lies inside a window
    start = DECEMBER // seconds * seconds
    world.markers = MarkerTable("billing", seconds)
    world.rules.plans["stored"] = STORED
    world.rules.add("acme", STORED)
    world.set_level(1, 5, at=start - 7 * seconds)
    world.now = start - 6 * seconds + GRACE_S
    world.seal(seal_seconds=seconds)
    world.set_level(2, 6, at=DECEMBER - 1)
    world.now = start + seconds + GRACE_S
    for _ in range(3):
        world.seal(seal_seconds=seconds)
    assert sent(world)[1:] == [(6, DECEMBER - 1, NOVEMBER), (6, DECEMBER, DECEMBER)]
    assert len(world.rows("carry#")) == 1


def test_a_row_found_late_is_sent_only_if_it_is_the_last(stored: World) -> None:
    stored.set_level(2, 7, at=NOON + 20)
    sealed_at(stored, NOON + SEAL_S + GRACE_S)
    stored.set_level(1, 5, at=NOON + 10, mark=False)
    MarkerTable("billing", SEAL_S).ensure("acme", (NOON + 10) * 1000, ((NOON + 10) * 1000,))
    stored.seal()
    assert [one[0] for one in sent(stored)] == [7]
    assert [item.total.rows for item in stored.sealed()] == [1, 1], "the row is sealed all the same"
    stored.set_level(3, 6, at=NOON + 30, mark=False)
    MarkerTable("billing", SEAL_S).ensure("acme", (NOON + 30) * 1000, ((NOON + 30) * 1000,))
    stored.seal()
    assert [one[:2] for one in sent(stored)] == [(7, NOON + 20), (6, NOON + 30)]


def test_a_row_found_after_its_period_is_carried_over_once_more(stored: World) -> None:
    stored.set_level(1, 5)
    sealed_at(stored, NOON + SEAL_S + GRACE_S)
    sealed_at(stored, DECEMBER + SEAL_S + GRACE_S)
    stored.set_level(2, 8, at=DECEMBER - DAY)
    stored.seal()
    stored.seal()
    assert sent(stored) == [
        (5, NOON, NOVEMBER),
        (8, DECEMBER - DAY, NOVEMBER),
        (5, DECEMBER, DECEMBER),
        (8, DECEMBER, DECEMBER),
    ]
    last = max((batch for batch in stored.all_batches() if batch.timestamp == DECEMBER), key=lambda b: b.supplement)
    assert last.units == 8, "sent later, at the same second: the sink takes the last it received"
    sealed_at(stored, JANUARY + SEAL_S + GRACE_S)
    assert sent(stored)[4:] == [(8, JANUARY, JANUARY)]


def test_sealing_again_sends_nothing_again(stored: World) -> None:
    stored.set_level(1, 5)
    for now in (NOON + SEAL_S + GRACE_S, DECEMBER + SEAL_S + GRACE_S, JANUARY + SEAL_S + GRACE_S):
        sealed_at(stored, now)
    before = sent(stored)
    for at in (NOON, DECEMBER, JANUARY):
        MarkerTable("billing", SEAL_S).ensure("acme", at * 1000, (at * 1000,))
    for _ in range(5):
        stored.seal()
    assert sent(stored) == before
    assert len(stored.rows("carry#")) == 1


def test_a_stale_level_is_not_carried_past_a_0(stored: World) -> None:
    stored.set_level(1, 5)
    sealed_at(stored, NOON + SEAL_S + GRACE_S)
    sealed_at(stored, DECEMBER + SEAL_S + GRACE_S)
    stored.set_level(2, 0, at=DECEMBER + DAY)
    sealed_at(stored, JANUARY + SEAL_S + GRACE_S)
    before = sent(stored)
    MarkerTable("billing", SEAL_S).ensure("acme", NOON * 1000, (NOON * 1000,))  # a marker written again, long after
    for now in (JANUARY + DAY, FEBRUARY + DAY, FEBRUARY + 2 * DAY):
        sealed_at(stored, now)
        stored.seal()
    assert sent(stored) == before
    assert stored.rows("carry#") == []


def test_the_plan_that_a_period_begins_with_says_whether_it_is_billed(stored: World) -> None:
    stored.rules.add("acme", FREE)
    stored.set_level(1, 5)
    sealed_at(stored, NOON + SEAL_S + GRACE_S)
    assert sent(stored) == []
    row = stored.rules.rows["acme"]
    stored.rules.rows["acme"] = with_plan(row, STORED, METERS, NOON + DAY)
    sealed_at(stored, DECEMBER + SEAL_S + GRACE_S)
    assert sent(stored) == [(5, DECEMBER, DECEMBER)]
    stored.rules.rows["acme"] = with_plan(stored.rules.rows["acme"], FREE, METERS, DECEMBER + DAY)
    sealed_at(stored, JANUARY + SEAL_S + GRACE_S)
    assert len(sent(stored)) == 1
    stored.rules.rows["acme"] = with_plan(stored.rules.rows["acme"], STORED, METERS, JANUARY + DAY)
    sealed_at(stored, FEBRUARY + SEAL_S + GRACE_S)
    assert sent(stored)[1:] == [(5, FEBRUARY, FEBRUARY)], "it stood on all the while"


def test_what_the_sink_cannot_take_as_one_value_is_parked(stored: World) -> None:
    stored.set_level(1, "1234567890123.456")
    sealed_at(stored, NOON + SEAL_S + GRACE_S)
    batch = stored.batch()
    assert (batch.state, batch.reason) == (REJECTED, "too_many_digits")


def test_accounts_without_a_customer_and_other_accounts(stored: World) -> None:
    stored.rules.add("later", STORED, customer=None)
    stored.set_level(1, 3, "later")
    stored.set_level(1, 4)
    sealed_at(stored, NOON + SEAL_S + GRACE_S)
    sealed_at(stored, DECEMBER + SEAL_S + GRACE_S)
    found = {b.period_start: b.state for b in stored.all_batches() if b.account == "later"}
    assert found == {NOVEMBER: NO_CUSTOMER, DECEMBER: NO_CUSTOMER}
    assert sorted(one[0] for one in sent(stored)) == [3, 3, 4, 4]


def test_rollups_keep_the_last_level_of_a_day(stored: World) -> None:
    stored.set_level(1, 5)
    stored.set_level(2, 7, at=NOON + 3 * SEAL_S)
    sealed_at(stored, NOON + 4 * SEAL_S + GRACE_S)
    (row,) = stored.rows("rollup#acme")
    level = row["level"]["M"]
    assert (level["n"]["N"], level["v"]["N"], row["events"]["N"], row["units"]["N"]) == ("2", "7", "2", "0")


def test_a_later_change_is_not_overwritten_by_an_earlier_one(world: World) -> None:
    one, two = (Carried("acme", DECEMBER, "storage", LevelMark(n, Decimal(n), NOON, True)) for n in (1, 2))
    world.seals.carry(two)
    world.seals.carry(one)
    shard = shard_of("acme")
    assert list(world.seals.carried(shard, DECEMBER)) == [two]
    assert list(world.seals.carried(shard, DECEMBER - 1)) == []
    world.seals.carried_over(one)
    assert list(world.seals.carried(shard, DECEMBER)) == [two], "a later change took its place"
    world.seals.carried_over(two)
    assert list(world.seals.carried(shard, DECEMBER)) == []
    assert later(one.level, two.level) == later(two.level, one.level) == two.level


def test_a_crash_anywhere_bills_each_period_once(world: World) -> None:
    """Before or after every call that sealing makes, in the window of a change and in the first window of a period."""
    ports = ("events", "markers", "seals", "batches", "queue", "outbox")
    cuts = 0
    shards = [shard_of("acme")]
    while True:
        world = fresh_world()
        world.rules.plans["stored"] = STORED
        world.rules.add("acme", STORED)
        world.set_level(1, 5)
        cut, crashed = Cut(cuts // 2, after=bool(cuts % 2)), False
        deps = world.seal_deps()
        watched = replace(deps, **{name: cut.around(getattr(deps, name)) for name in ports})
        for now in (NOON + SEAL_S + GRACE_S, DECEMBER + SEAL_S + GRACE_S):
            world.now = now
            try:
                assert not run_seal(watched, shards).failures
            except Crash:
                crashed = True
                assert not run_seal(deps, shards).failures
        assert not run_seal(deps, shards).failures
        assert sent(world) == [(5, NOON, NOVEMBER), (5, DECEMBER, DECEMBER)], cuts
        assert set(world.queue.waiting) == {batch.key for batch in world.all_batches()}
        (kept,) = world.rows("carry#")
        assert kept["sk"]["S"].startswith(f"{JANUARY:012d}#")
        if not crashed:
            break
        cuts += 1
    assert cuts >= 40


def test_a_period_that_begins_early_takes_the_place_of_the_one_that_a_level_was_kept_for(stored: World) -> None:
    stored.set_level(1, 5)
    sealed_at(stored, NOON + SEAL_S + GRACE_S)
    started = NOON + DAY + 7
    stored.now = started + 20
    row = anchored(stored.rules.rows["acme"], started, stored.now)
    stored.rules.rows["acme"] = begun(row, started, started, stored.now)
    stored.set_level(2, 5)  # as the follower has it set
    for month in (DECEMBER, JANUARY):
        sealed_at(stored, month + SEAL_S + GRACE_S)
    # A plan of the calendar: the period that was begun ends with the month.
    assert sent(stored)[1:] == [(5, started + 20, started), (5, DECEMBER, DECEMBER), (5, JANUARY, JANUARY)]
    again = stored.now + 9
    stored.now = again + 30
    stored.rules.rows["acme"] = replace(
        stored.rules.rows["acme"],
        calendar=stored.rules.rows["acme"]
        .calendar.moved(stored.now, period=PeriodRule("month", 1, "subscription", again))
        .begun(stored.now, again),
    )
    stored.set_level(3, 6)
    sealed_at(stored, FEBRUARY + SEAL_S + GRACE_S)
    assert sent(stored)[4:] == [(6, again + 30, again)], "February's never came"
