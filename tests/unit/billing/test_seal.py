"""Sealing: what is frozen, which batches come of it, and that nothing is lost or counted twice on the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tests.unit.billing.world import FREE, GRACE_S, NOON, SEAL_S, Crash, Cut, World, fresh_world
from tollgate import dynamo
from tollgate.billing.batch import EXPIRES_S
from tollgate.billing.queue_store import QueueRefused
from tollgate.billing.requeue import release_account
from tollgate.billing.run import run_seal
from tollgate.billing.sealed import Inconsistent
from tollgate.errors import UnknownAccount
from tollgate.usage.marker_store import MarkerTable
from tollgate.usage.markers import SHARDS, shard_of
from tollgate.usage.outcome import Event
from tollgate.windows import Calendar

DECEMBER = 1_796_083_200
"""2026-12-01 00:00:00 UTC."""


def units_of(world: World) -> dict[str, Decimal]:
    found: dict[str, Decimal] = {}
    for batch in world.all_batches():
        found[batch.meter] = found.get(batch.meter, Decimal(0)) + batch.units
    return found


# --- when and what ---------------------------------------------------------------------------------------------------


def test_a_window_is_sealed_once_its_grace_is_over(world: World) -> None:
    world.rules.add("acme")
    world.record(1)
    world.now = NOON + SEAL_S + GRACE_S - 1
    assert world.seal().windows == 0
    world.now += 1
    assert world.seal().windows == 1


def test_windows_and_meters_make_batches_of_their_own(world: World) -> None:
    world.rules.add("acme")
    world.record(1)
    world.record(2, at=NOON + SEAL_S)
    world.record(4, meter="llm_tokens")
    world.now = NOON + 2 * SEAL_S + GRACE_S
    assert world.seal().batches == 3
    assert units_of(world) == {"ai_credits": 3, "llm_tokens": 4}


def test_a_unit_is_billed_in_the_period_of_its_second(world: World) -> None:
    seconds = 420  # the end of November lies inside a window
    start = DECEMBER // seconds * seconds
    assert start < DECEMBER
    world.markers = MarkerTable("billing", seconds)
    world.rules.add("acme")
    world.record(1, at=DECEMBER - 1)
    world.record(10, at=DECEMBER)
    world.now = start + seconds + GRACE_S
    assert world.seal(seal_seconds=seconds).windows == 2
    november, december = sorted(world.all_batches(), key=lambda batch: batch.period_start)
    assert (november.units, december.units) == (Decimal(1), Decimal(10))
    assert november.period_end == december.period_start == DECEMBER
    assert november.timestamp == start // 60 * 60
    assert december.timestamp == DECEMBER


def test_the_period_follows_the_accounts_own_calendar(world: World) -> None:
    world.rules.add("acme", calendar=Calendar.of("Asia/Kolkata"))
    world.record(1, at=DECEMBER - 5 * 3600 - 1800)
    world.now = DECEMBER
    world.seal()
    assert world.batch().period_start == DECEMBER - 5 * 3600 - 1800


def test_rows_of_an_account_that_became_another_one_are_billed_where_they_stand(world: World) -> None:
    world.rules.add("acme", customer="cus_acme", calendar=Calendar.of("Asia/Kolkata"))
    world.rules.add("guest", FREE, customer=None)
    world.record(3, account="guest")  # on a plan without a price
    world.rules.change("guest", merged_into="acme")
    world.rules.change("acme", merged=("guest",))
    world.record(4, account="guest")
    world.record(1)
    world.now = NOON + SEAL_S + GRACE_S
    world.seal()
    found = {batch.account: batch for batch in world.all_batches()}
    assert {account: batch.units for account, batch in found.items()} == {"acme": 1, "guest": 4}
    assert {batch.customer for batch in found.values()} == {"cus_acme"}
    assert found["guest"].period_start == found["acme"].period_start
    assert world.seal().windows == 0


def test_sealed_items_keep_what_recounts_and_people_need(world: World) -> None:
    world.rules.add("acme")
    world.record(10, credit_funded="3", waived="2", origin=NOON - 7_000)
    world.close_window()
    world.seal()
    (raw,) = world.rows("sealed#acme")
    row = dynamo.unitem(raw)
    november = 1_793_491_200
    assert row["sk"] == f"{NOON:012d}#{november:012d}#000"
    assert (row["seal"], row["rows"], row["period_end"]) == (SEAL_S, 1, DECEMBER)
    total = row["totals"]["ai_credits"]
    assert (total["units"], total["billable"], total["credit_funded"], total["waived"]) == (10, 5, 3, 2)
    assert world.markers.ranges("acme", NOON) == [((NOON - 7_200) * 1000, (NOON - 6_900) * 1000 - 1)]
    assert world.batch().units == 5


def test_only_the_asked_shards_are_sealed(world: World) -> None:
    world.rules.add("acme")
    world.record(1)
    world.close_window()
    others = [shard for shard in range(SHARDS) if shard != shard_of("acme")]
    assert run_seal(world.seal_deps(), others).windows == 0
    assert run_seal(world.seal_deps(), [shard_of("acme")]).windows == 1


# --- which batches ---------------------------------------------------------------------------------------------------


def test_plans_without_a_price_make_no_batch_but_are_frozen(world: World) -> None:
    world.rules.add("acme", FREE)
    world.record(3)
    world.close_window()
    counts = world.seal()
    assert (counts.windows, counts.batches) == (1, 0)
    total = world.sealed()[0].total.meters["ai_credits"]
    assert (total.units, total.billable) == (Decimal(3), Decimal(0))


def test_usage_of_a_free_plan_stays_free_when_the_plan_changes_before_it_is_sealed(world: World) -> None:
    world.rules.add("acme", FREE)
    world.record(3)
    world.rules.change("acme", plan="pro")
    world.record(4)
    world.close_window()
    world.seal()
    assert world.batch().units == 4


def test_units_paid_by_credits_or_waived_make_no_batch(world: World) -> None:
    world.rules.add("acme")
    world.record(3, credit_funded="3")
    world.record(4, meter="llm_tokens", waived="4")
    world.close_window()
    assert world.seal().batches == 0


def test_a_total_of_too_many_digits_is_split(world: World) -> None:
    world.rules.add("acme")
    world.record("123456789012.345678")
    world.record("0.000001")
    world.close_window()
    assert world.seal().batches == 2
    first, second = world.all_batches()
    assert (first.part, second.part) == (0, 1)
    assert first.units + second.units == Decimal("123456789012.345679")
    assert world.flush_all() == ["flushed"] * 2
    assert len(world.sink.counted) == 2


@pytest.mark.parametrize(
    ("units", "meter", "reason"), [(7, "nameless", "no_event_name"), (10**17 * 9, "ai_credits", "too_many_digits")]
)
def test_what_the_sink_could_never_take_is_parked_in_sight(world: World, units: int, meter: str, reason: str) -> None:
    world.rules.add("acme")
    price = replace(world.rules.plans["pro"].prices[0], meter="nameless")
    world.rules.plans["pro"] = replace(world.rules.plans["pro"], prices=(*world.rules.plans["pro"].prices, price))
    world.record(units, meter=meter)
    if units > 10:
        world.record(units, meter=meter)
    world.close_window()
    world.seal()
    batch = world.batch()
    assert (batch.state, batch.reason, batch.due_at, batch.untold) == ("rejected", reason, None, False)
    assert [alert["kind"] for alert in world.alerts()] == ["rejected"]
    assert world.flush_all() == []


def test_what_is_billed_is_decided_when_it_is_frozen(world: World) -> None:
    """A crash between freezing and batches, then a change of plan: the same batches all the same."""
    world.rules.add("acme")
    world.record(3)
    world.close_window()
    with pytest.raises(Crash):
        world.seal(batches=_Broken(world.batches, "put_new"))
    assert world.all_batches() == []
    world.rules.change("acme", plan="free")
    world.seal()
    assert world.batch().units == 3


class _Broken:
    """A store one of whose methods ends the process."""

    def __init__(self, target: Any, name: str) -> None:
        self._target, self._name = target, name

    def __getattr__(self, name: str) -> Any:
        if name == self._name:
            raise Crash
        return getattr(self._target, name)


# --- late rows -------------------------------------------------------------------------------------------------------


def test_a_row_found_later_is_a_supplement_and_never_an_edit(world: World) -> None:
    world.rules.add("acme")
    world.record(1)
    world.close_window()
    world.seal()
    first = world.rows("sealed#"), world.rows("batch#")
    world.record("0.5", at=NOON + 10, origin=NOON - 86_400)  # another range, found by its own marker
    counts = world.seal()
    assert (counts.windows, counts.batches) == (1, 1)
    assert [row for row in world.rows("sealed#") if row in first[0]] == first[0]
    assert [row for row in world.rows("batch#") if row in first[1]] == first[1]
    assert [(batch.supplement, batch.units) for batch in world.all_batches()] == [(0, 1), (1, Decimal("0.5"))]
    assert world.flush_all() == ["flushed"] * 2
    assert len(world.sink.counted) == 2


def test_a_window_marked_again_for_nothing_makes_nothing(world: World) -> None:
    world.rules.add("acme")
    world.record(1)
    world.close_window()
    world.seal()
    world.markers.ensure("acme", NOON * 1000, (NOON * 1000,), again=True)
    counts = world.seal()
    assert (counts.windows, counts.batches) == (0, 0)
    assert world.rows("marker#") == []


def test_a_marker_written_while_its_window_is_sealed_stays(world: World) -> None:
    """A slow row comes after seal has read the rows; its writer marks the window again before the marker is dropped."""
    world.rules.add("acme")
    world.record(1)
    world.close_window()

    class SlowRow:
        def events_between(self, account: str, first_ms: int, last_ms: int) -> Iterator[Event]:
            yield from list(world.events.events_between(account, first_ms, last_ms))
            if len(world.recorded) == 1:
                world.record(10, at=NOON + 1, mark=False)
                world.markers.ensure("acme", (NOON + 1) * 1000, ((NOON + 1) * 1000,), again=True)

    world.seal(events=SlowRow())
    assert units_of(world) == {"ai_credits": 1}
    assert len(world.rows("marker#")) == 1
    world.seal()
    assert units_of(world) == {"ai_credits": 11}
    assert world.rows("marker#") == []


class Blinking:
    """An event reader that does not see the last row the first `times` times."""

    def __init__(self, world: World, times: int) -> None:
        self.world, self.times, self.reads = world, times, 0

    def events_between(self, account: str, first_ms: int, last_ms: int) -> Iterator[Event]:
        rows = list(self.world.events.events_between(account, first_ms, last_ms))
        self.reads += 1
        yield from rows[:-1] if self.reads <= self.times else rows


def test_fewer_rows_than_frozen_are_read_again(world: World) -> None:
    world.rules.add("acme")
    world.record(1)
    world.record(2)
    world.close_window()
    world.seal()
    world.record(4, at=NOON + 5, origin=NOON - 900)
    reader = Blinking(world, 2)  # the newest id: one of the frozen rows
    world.seal(events=reader)
    assert reader.reads > 2
    assert units_of(world) == {"ai_credits": 7}


def test_rows_that_stay_away_freeze_nothing_and_are_reported(world: World) -> None:
    world.rules.add("acme")
    world.record(1)
    world.close_window()
    world.seal()
    before = world.rows("sealed#"), world.rows("batch#")
    world.markers.ensure("acme", NOON * 1000, (NOON * 1000,), again=True)
    counts = run_seal(world.seal_deps(events=Blinking(world, 99)), range(SHARDS))
    (failure,) = counts.failures
    assert isinstance(failure, Inconsistent)
    assert (world.rows("sealed#"), world.rows("batch#")) == before
    assert len(world.rows("marker#")) == 1
    assert counts.oldest == NOON


# --- several seals, crashes ------------------------------------------------------------------------------------------


def test_two_seals_at_once_freeze_each_row_once(world: World) -> None:
    """While one seal has read the rows, another one seals them, and a late row with them."""
    world.rules.add("acme")
    world.record(1)
    world.close_window()

    class Overtaken:
        done = False

        def events_between(self, account: str, first_ms: int, last_ms: int) -> Iterator[Event]:
            yield from list(world.events.events_between(account, first_ms, last_ms))
            if not self.done:
                self.done = True
                world.record(10, at=NOON + 1, mark=False)
                world.seal()

    world.seal(events=Overtaken())
    assert units_of(world) == {"ai_credits": 11}
    assert sum(item.total.rows for item in world.sealed()) == 2
    world.flush_all()
    assert sum(event.value for event in world.sink.counted.values()) == 11


def test_a_crash_at_any_call_loses_and_doubles_nothing(world: World) -> None:
    """Cut before and after each call to a store or the queue; then seal again, as the next minute does."""
    ports = ("rules", "events", "markers", "seals", "batches", "queue", "outbox")
    accounts = ("acme", "lost")
    shards = sorted({shard_of(account) for account in accounts})
    cuts = 0
    while True:
        world = fresh_world()
        world.rules.add("acme")
        world.rules.add("lost", customer=None)
        for account in accounts:
            world.record("1.5", account)
        world.record(2, meter="llm_tokens")
        world.close_window()
        cut = Cut(cuts // 2, after=bool(cuts % 2))
        deps = world.seal_deps()
        watched = replace(deps, **{name: cut.around(getattr(deps, name)) for name in ports})
        try:
            assert not run_seal(watched, shards).failures
            break
        except Crash:
            cuts += 1
        for _ in range(2):  # what a crash left told by halves comes due a little later
            assert not run_seal(deps, shards).failures
            world.now += deps.requeue_seconds
        made = world.all_batches()
        assert {(batch.account, batch.meter, batch.units, batch.state) for batch in made} == {
            ("acme", "ai_credits", Decimal("1.5"), "sealed"),
            ("acme", "llm_tokens", Decimal(2), "sealed"),
            ("lost", "ai_credits", Decimal("1.5"), "no_customer"),
        }
        assert set(world.queue.waiting) == {batch.key for batch in made if batch.state == "sealed"}
        assert world.rows("marker#") == []
        assert [batch for batch in made if batch.untold] == []
        assert [alert["kind"] for alert in world.alerts()] == ["no_customer"]
        assert {item["sk"]["S"][-10:]: item["units"]["N"] for item in world.rows("rollup#acme")} == {
            "ai_credits": "1.5",
            "llm_tokens": "2",
        }
        assert sum(item.total.rows for item in world.sealed()) == 3
    assert cuts >= 50


def test_batches_that_could_not_be_queued_keep_their_markers(world: World) -> None:
    world.rules.add("acme")
    world.record(1)
    world.close_window()
    world.queue.failing = True
    with pytest.raises(QueueRefused):
        world.seal()
    assert len(world.rows("marker#")) == 1
    world.queue.failing = False
    counts = world.seal()
    assert (counts.batches, counts.queued) == (0, 1)
    assert world.rows("marker#") == []
    assert world.flush_all() == ["flushed"]


def test_one_accounts_trouble_stops_no_other(world: World) -> None:
    shard = shard_of("acme")
    twin = next(name for name in (f"twin{n}" for n in range(999)) if shard_of(name) == shard)
    assert min("acme", twin) == "acme"
    world.rules.add(twin)
    world.record(1, "acme")  # an account without rules
    world.record(2, twin)
    world.close_window()
    counts = run_seal(world.seal_deps(), [shard])
    assert counts.batches == 1
    (failure,) = counts.failures
    assert isinstance(failure, UnknownAccount)
    assert "acme" in failure.__notes__[0]


def test_what_does_not_fit_into_the_time_is_left_for_the_next_run(world: World) -> None:
    world.rules.add("acme")
    world.record(1)
    world.close_window()
    counts = run_seal(world.seal_deps(), range(SHARDS), lambda: False)
    assert (counts.windows, counts.left, counts.oldest) == (0, 1, NOON)
    assert world.seal().windows == 1


# --- another length of windows ---------------------------------------------------------------------------------------


def test_a_change_of_the_windows_length_seals_each_row_once(world: World) -> None:
    """Containers of both lengths record side by side for a while, and write the same markers over each other."""
    world.rules.add("acme")
    old, new = world.markers, MarkerTable("billing", 60)
    world.seal()  # the grid begins with the old length
    expected = Decimal(0)
    for step in range(60):
        world.now = NOON + step * 30
        # The new container records once in an old window: its short marker lies over the old one's long one.
        world.markers = new if step % 10 == 1 else old
        world.record(1)
        expected += 1
        if step % 2:
            world.seal(seal_seconds=SEAL_S if step < 10 else 60)
    world.now += 2 * SEAL_S
    world.seal(seal_seconds=60)
    assert world.rows("marker#") == []
    assert units_of(world) == {"ai_credits": expected}
    assert {item.seal_seconds for item in world.sealed()} == {60, SEAL_S}
    spans = sorted((item.window_start, item.window_end) for item in world.sealed())
    assert all(one[1] <= following[0] for one, following in zip(spans, spans[1:], strict=False))


# --- rollups ---------------------------------------------------------------------------------------------------------


def test_daily_rollups_are_the_sum_of_the_days_sealed_windows(world: World) -> None:
    world.rules.add("acme")
    midnight = NOON + 12 * 3600
    world.record(1)
    world.record(2, at=NOON + SEAL_S, waived="1")
    world.record(4, at=midnight - 1)
    world.record(8, at=midnight)
    world.now = midnight + SEAL_S + GRACE_S
    world.seal()
    world.record(16, at=NOON + 3, origin=NOON - 1000)
    world.seal()
    found = {row["sk"]: row for row in map(dynamo.unitem, world.rows("rollup#acme"))}
    assert set(found) == {"2026-11-21#ai_credits", "2026-11-22#ai_credits"}
    assert found["2026-11-21#ai_credits"]["units"] == 23
    assert found["2026-11-21#ai_credits"]["billable"] == 22
    assert found["2026-11-21#ai_credits"]["events"] == 4
    assert found["2026-11-22#ai_credits"]["units"] == 8
    before = world.rows("rollup#")
    world.seals.roll_up("acme", midnight - 86_400)
    assert world.rows("rollup#") == before


def test_a_rollup_of_fewer_windows_does_not_overwrite_a_later_one(world: World) -> None:
    world.rules.add("acme")
    world.record(1)
    world.close_window()
    world.seal()
    key = {"pk": dynamo.s("rollup#acme"), "sk": dynamo.s("2026-11-21#ai_credits")}
    later = {**key, "events": dynamo.n(2), "units": dynamo.n(9)}
    dynamo.client().put_item(TableName="billing", Item=later)
    world.seals.roll_up("acme", NOON - 12 * 3600)
    assert world.rows("rollup#") == [later]


# --- accounts without a customer -------------------------------------------------------------------------------------


def test_a_batch_without_customer_waits_in_sight_and_is_released_when_one_is_mapped(world: World) -> None:
    batch = world.one_sealed(customer=None)
    assert (batch.state, batch.reason) == ("no_customer", "no_customer")
    (alert,) = world.alerts()
    assert alert["kind"] == "no_customer"
    assert world.queue.waiting == []
    world.run_until(world.now + 3 * 3600, step=300)
    assert world.batch().state == "no_customer"
    assert len(world.alerts()) == 1
    world.rules.change("acme", stripe_customer_id="cus_9")
    world.run_until(world.now + 3600, step=300)
    assert world.batch().state == "flushed"
    (event,) = world.sink.sent
    assert (event.customer, event.value) == ("cus_9", 5)


def test_mapping_a_customer_releases_at_once(world: World) -> None:
    world.one_sealed(customer=None)
    world.record(2)
    world.close_window()
    world.seal()
    released = release_account(world.batches, world.queue, "acme", "cus_9", world.now)
    assert released == 2
    assert world.flush_all() == ["flushed"] * 2
    assert release_account(world.batches, world.queue, "acme", "cus_9", world.now) == 0


def test_a_released_batch_whose_message_is_lost_comes_due(world: World) -> None:
    world.one_sealed(customer=None)
    release_account(world.batches, world.queue, "acme", "cus_9", world.now)
    world.queue.waiting.clear()
    world.run_until(world.now + 900)
    assert world.batch().state == "flushed"


def test_without_a_customer_for_34_days_a_batch_expires_loudly(world: World) -> None:
    world.one_sealed(customer=None)
    world.now = NOON + EXPIRES_S
    world.seal()
    assert world.batch().state == "no_customer"
    world.now += 7 * 3600
    world.seal()
    batch = world.batch()
    assert (batch.state, batch.reason, batch.due_at) == ("expired", "no_customer_in_time", None)
    assert [alert["kind"] for alert in world.alerts()] == ["no_customer", "expired"]


def test_waiting_batches_are_rechecked_ever_more_rarely(world: World) -> None:
    world.one_sealed(customer=None)
    waits = []
    for age in (0, 3600, 86_400, 20 * 86_400):
        world.now = NOON + SEAL_S + GRACE_S + 600 + age
        world.force(world.batch(), due_at=world.now)
        world.seal()
        waits.append((world.batch().due_at or 0) - world.now)
    assert waits == [75, 525, 10_875, 6 * 3600]
