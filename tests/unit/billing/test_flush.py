"""Flushing: every way between the states, and that no unit is sent for a second time unless the sink would know it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import pytest

from tests.unit.billing.world import NOON, Crash, Cut, ScriptedSink, World, fresh_world
from tollgate.billing.batch import EXPIRES_S, Batch, BatchKey, identifier_of, successor
from tollgate.billing.flush import DOUBT_S, LEASE_S, flush
from tollgate.billing.repair import repair
from tollgate.billing.sink import (
    Duplicate,
    NotSent,
    Refused,
    SendResult,
    SinkEvent,
    SinkUnavailable,
    Unknown,
)

BUSY = Refused(429, "rate_limit", "Too many requests", retryable=True)
WRONG = Refused(400, "no_active_meter", "No active meter found", retryable=False)
LOST = Unknown("no answer")


def try_now(world: World) -> str:
    """Flush the only batch as a message would."""
    return flush(world.flush_deps(), world.batch().key)


def counted(world: World) -> Decimal:
    return sum((event.value for event in world.sink.counted.values()), Decimal(0))


def takes_and_loses(world: World) -> Callable[[SinkEvent], SendResult]:
    """The sink counts it, and the answer is lost."""

    def step(event: SinkEvent) -> SendResult:
        world.sink.take(event)
        return LOST

    return step


# --- never in doubt --------------------------------------------------------------------------------------------------


def test_sealed_to_flushed_with_what_it_was_sent_as(world: World) -> None:
    sealed = world.one_sealed()
    assert try_now(world) == "flushed"
    batch = world.batch()
    (event,) = world.sink.sent
    assert (batch.state, batch.attempts, batch.due_at, batch.state_at) == ("flushed", 1, None, world.now)
    assert batch.identifier == event.identifier == identifier_of("tollgate-test", sealed)
    assert event.idempotency_key == f"{event.identifier}:1"
    assert (event.value, event.timestamp, event.customer) == (batch.units, batch.timestamp, "cus_1")


def test_the_fast_path_is_one_read_two_writes_one_send(world: World) -> None:
    world.one_sealed()
    world.record(1, at=world.now)
    world.close_window()
    world.seal()
    world.flush_all()
    world.record(1, at=world.now)
    world.close_window()
    world.seal()
    cut = Cut()
    deps = world.flush_deps()
    sends = len(world.sink.sent)
    (key,) = world.queue.waiting
    flush(replace(deps, batches=cut.around(deps.batches)), key)
    assert (cut.calls, len(world.sink.sent) - sends) == (3, 1)


@pytest.mark.parametrize("state", ["flushed", "rejected", "expired", "unconfirmed", "no_customer"])
def test_nothing_is_sent_from_a_state_that_is_not_for_sending(world: World, state: str) -> None:
    world.force(world.one_sealed(), state=state)
    assert try_now(world) == state
    assert world.sink.sent == []


def test_a_message_without_a_row_is_done_with(world: World) -> None:
    assert flush(world.flush_deps(), BatchKey("batch#acme", "x#0#0#000.0")) == "missing"


def test_a_repeated_message_sends_nothing_more(world: World) -> None:
    world.one_sealed()
    assert [try_now(world), try_now(world)] == ["flushed", "flushed"]
    assert len(world.sink.sent) == 1


def test_a_duplicate_means_flushed(world: World) -> None:
    world.one_sealed()
    world.sink.script = [Duplicate()]
    assert try_now(world) == "flushed"
    assert world.batch().state == "flushed"


def test_a_rate_limit_sends_it_back_to_wait(world: World) -> None:
    world.one_sealed()
    world.sink.script = [BUSY]
    assert try_now(world) == "retry"
    batch = world.batch()
    assert (batch.state, batch.attempts, batch.doubt_since, batch.sent_at) == ("sealed", 1, None, None)
    assert batch.retry_at == batch.due_at == world.now + 5
    assert batch.detail == "429 rate_limit: Too many requests"
    world.now += 4 - 5  # the clock of this flush is behind by more than the skew allowed
    assert try_now(world) == "waiting"
    world.now += 6
    assert try_now(world) == "flushed"
    first, second = world.sink.sent
    assert first.identifier == second.identifier
    assert first.idempotency_key != second.idempotency_key


def test_waits_grow_to_half_an_hour(world: World) -> None:
    world.one_sealed()
    waits = []
    for _ in range(12):
        world.sink.script = [BUSY]
        assert try_now(world) == "retry"
        waits.append((world.batch().retry_at or 0) - world.now)
        world.now += waits[-1]
    assert waits == [5, 10, 20, 40, 80, 160, 320, 640, 1280, 1800, 1800, 1800]


def test_a_refusal_for_good_is_rejected_with_reason_and_alert(world: World) -> None:
    world.one_sealed()
    world.sink.script = [WRONG]
    assert try_now(world) == "rejected"
    batch = world.batch()
    assert (batch.state, batch.reason, batch.due_at, batch.untold) == ("rejected", "no_active_meter", None, False)
    (alert,) = world.alerts()
    assert alert["kind"] == "rejected"
    assert "No active meter found" in alert["message"]


def test_what_never_left_is_never_in_doubt(world: World) -> None:
    """Three days without a connection: nothing was sent, so everything still can be."""
    world.one_sealed()
    for _ in range(100):
        world.sink.script = [NotSent("no connection")]
        assert try_now(world) == "retry"
        assert world.batch().doubt_since is None
        world.now = world.batch().retry_at or 0
    assert world.now > NOON + 20 * 3600
    assert try_now(world) == "flushed"
    assert counted(world) == 5


@pytest.mark.parametrize(("age", "state"), [(EXPIRES_S, "flushed"), (EXPIRES_S + 1, "expired")])
def test_past_34_days_nothing_is_sent(world: World, age: int, state: str) -> None:
    world.one_sealed()
    world.now = NOON + age
    assert try_now(world) == state
    assert len(world.sink.sent) == (state == "flushed")
    assert [alert["kind"] for alert in world.alerts()] == ([] if state == "flushed" else ["expired"])
    if state == "expired":
        assert (world.batch().reason, world.batch().due_at) == ("too_old", None)


# --- in doubt --------------------------------------------------------------------------------------------------------


def test_a_lost_answer_is_doubt_and_a_resend_settles_it(world: World) -> None:
    world.one_sealed()
    world.sink.script = [takes_and_loses(world)]
    assert try_now(world) == "doubt"
    batch = world.batch()
    assert (batch.state, batch.doubt_since, batch.lease_until) == ("sending", world.now, None)
    assert batch.retry_at == batch.due_at == world.now + 60
    assert try_now(world) == "waiting"
    world.now += 60
    assert try_now(world) == "flushed"
    first, second = world.sink.sent
    assert first.identifier == second.identifier
    assert (first.idempotency_key[-2:], second.idempotency_key[-2:]) == (":1", ":2")
    assert counted(world) == 5


def test_a_crash_after_the_claim_is_doubt_once_the_lease_is_over(world: World) -> None:
    world.one_sealed()
    world.sink.script = [_crash]
    with pytest.raises(Crash):
        try_now(world)
    claimed_at = world.now
    batch = world.batch()
    assert (batch.state, batch.doubt_since, batch.due_at) == ("sending", None, claimed_at + LEASE_S)
    world.now += LEASE_S - 1
    assert try_now(world) == "leased"
    world.now += 1
    world.sink.script = [LOST]
    assert try_now(world) == "doubt"
    assert world.batch().doubt_since == claimed_at
    world.now += 60
    assert try_now(world) == "flushed"


def _crash(event: SinkEvent) -> SendResult:
    raise Crash


@pytest.mark.parametrize(
    "refusal",
    [WRONG, BUSY, Refused(401, "unauthorized", "bad key", retryable=True), Refused(400, "x", "y", retryable=False)],
)
def test_any_refusal_in_doubt_makes_it_unconfirmed(world: World, refusal: Refused) -> None:
    world.one_sealed()
    world.sink.script = [takes_and_loses(world), refusal]
    try_now(world)
    world.now += 60
    assert try_now(world) == "unconfirmed"
    batch = world.batch()
    assert (batch.state, batch.reason, batch.due_at) == ("unconfirmed", "refused_in_doubt", None)
    assert batch.doubt_since is not None
    assert [alert["kind"] for alert in world.alerts()] == ["unconfirmed"]
    world.now += 10**5
    assert try_now(world) == "unconfirmed"
    assert len(world.sink.sent) == 2


@pytest.mark.parametrize(("age", "state"), [(DOUBT_S - 1, "flushed"), (DOUBT_S, "unconfirmed")])
def test_20_hours_after_the_first_doubtful_attempt_nothing_is_sent_again(world: World, age: int, state: str) -> None:
    world.one_sealed()
    world.sink.script = [takes_and_loses(world), LOST]
    try_now(world)
    first = world.now
    world.now += 60
    assert try_now(world) == "doubt"  # a second lost answer does not move the beginning of the doubt
    assert world.batch().doubt_since == first
    world.now = first + age
    assert try_now(world) == state
    assert len(world.sink.sent) == (3 if state == "flushed" else 2)
    if state == "unconfirmed":
        assert world.batch().reason == "no_answer_in_time"
        assert [alert["kind"] for alert in world.alerts()] == ["unconfirmed"]


def test_doubt_begins_with_the_attempt_and_not_with_its_end(world: World) -> None:
    world.one_sealed()
    started = world.now

    def slow(event: SinkEvent) -> SendResult:
        world.now += 50
        return LOST

    world.sink.script = [slow]
    try_now(world)
    assert world.batch().doubt_since == started


def test_no_connection_while_in_doubt_changes_nothing(world: World) -> None:
    world.one_sealed()
    world.sink.script = [LOST, NotSent("no connection")]
    try_now(world)
    since = world.batch().doubt_since
    world.now += 60
    assert try_now(world) == "doubt"
    assert (world.batch().state, world.batch().doubt_since) == ("sending", since)
    world.now += 100
    assert try_now(world) == "flushed"


def test_after_a_definite_refusal_a_later_doubt_has_its_own_beginning(world: World) -> None:
    world.one_sealed()
    world.sink.script = [BUSY, LOST]
    try_now(world)
    world.now += 3000
    try_now(world)
    assert world.batch().doubt_since == world.now


def test_too_old_in_doubt_is_unconfirmed_as_it_may_have_arrived(world: World) -> None:
    world.one_sealed()
    world.now = NOON + EXPIRES_S
    world.sink.script = [LOST]
    try_now(world)
    world.now += 60
    assert try_now(world) == "unconfirmed"
    assert world.batch().reason == "too_old_in_doubt"
    assert len(world.sink.sent) == 1


# --- several flushes -------------------------------------------------------------------------------------------------


def test_two_flushes_of_one_batch_send_it_once(world: World) -> None:
    """The second comes between the first one's read and its claim, and while it sends."""
    world.one_sealed()
    answers: list[str] = []

    class Second:
        def __getattr__(self, name: str) -> object:
            return getattr(world.batches, name)

        def get(self, key: BatchKey) -> Batch | None:
            found = world.batches.get(key)
            if not answers:
                answers.append("")
                answers.append(try_now(world))
            return found

    assert flush(replace(world.flush_deps(), batches=Second()), world.batch().key) == "flushed"  # type: ignore[arg-type]
    assert answers == ["", "flushed"]
    assert len(world.sink.sent) == 1


def test_a_flush_that_meets_one_at_work_leaves_it_alone(world: World) -> None:
    world.one_sealed()
    met = []

    def meanwhile(event: SinkEvent) -> SendResult:
        met.append(try_now(world))
        answer: SendResult = world.sink.take(event)
        return answer

    world.sink.script = [meanwhile]
    assert try_now(world) == "flushed"
    assert met == ["leased"]


def test_an_answer_after_the_lease_is_still_an_answer(world: World) -> None:
    """A flush hangs past its lease; another one takes over and is in doubt; then the first answer comes."""
    world.one_sealed()

    def hangs(event: SinkEvent) -> SendResult:
        answer: SendResult = world.sink.take(event)
        world.now += LEASE_S
        world.sink.script = [LOST]
        assert try_now(world) == "doubt"
        return answer

    world.sink.script = [hangs]
    assert try_now(world) == "flushed"
    assert world.batch().state == "flushed"
    assert counted(world) == 5


def test_a_late_refusal_of_an_overtaken_attempt_decides_nothing(world: World) -> None:
    world.one_sealed()

    def hangs(event: SinkEvent) -> SendResult:
        world.now += LEASE_S
        world.sink.script = [takes_and_loses(world)]
        assert try_now(world) == "doubt"
        return WRONG

    world.sink.script = [hangs]
    assert try_now(world) == "leased"
    assert world.batch().state == "sending"
    world.now += 60
    assert try_now(world) == "flushed"
    assert counted(world) == 5


def test_seal_may_push_a_row_while_it_is_sent(world: World) -> None:
    world.one_sealed()

    def meanwhile(event: SinkEvent) -> SendResult:
        world.now += LEASE_S
        assert world.seal().requeued == 1
        answer: SendResult = world.sink.take(event)
        return answer

    world.sink.script = [meanwhile]
    assert try_now(world) == "flushed"
    assert world.batch().state == "flushed"


@pytest.mark.parametrize(
    "answers",
    [
        (),
        (BUSY,),
        (WRONG,),
        (LOST,),
        ("lost after effect",),
        ("lost after effect", WRONG),
        (LOST, BUSY),
        (NotSent("x"), LOST),
    ],
)
def test_a_crash_at_any_call_bills_once_or_parks_in_sight(world: World, answers: tuple[object, ...]) -> None:
    cuts = 0
    while True:
        world = fresh_world()
        world.one_sealed()
        lost = takes_and_loses(world)
        world.sink.script = [lost if isinstance(answer, str) else answer for answer in answers]
        cut = Cut(cuts // 2, after=bool(cuts % 2))
        deps = world.flush_deps()
        watched = replace(
            deps, **{name: cut.around(getattr(deps, name)) for name in ("batches", "sink", "customers", "outbox")}
        )
        crashed = False
        for _ in range(40):
            (key,) = [batch.key for batch in world.all_batches()]
            try:
                flush(deps if crashed else watched, key)
            except Crash:
                crashed = True
            if world.batch().due_at is None:
                break
            world.now = max(world.now + 1, world.batch().due_at or 0)
            world.seal()
        batch = world.batch()
        assert batch.due_at is None
        if batch.state == "flushed":
            assert counted(world) == 5
            assert world.alerts() == []
        else:
            assert batch.state in ("rejected", "unconfirmed")
            assert batch.reason
            assert [alert["kind"] for alert in world.alerts()] == [batch.state]
            if batch.state == "rejected":
                assert counted(world) == 0
        if not crashed:
            break
        cuts += 1
    assert cuts >= 10


# --- customers -------------------------------------------------------------------------------------------------------


def test_a_customer_is_asked_for_once_ever(world: World) -> None:
    world.one_sealed()
    try_now(world)
    assert world.sink.asked_customers == ["cus_1"]
    world.customers = type(world.customers)("billing")  # another process
    world.record(1)
    world.close_window()
    world.seal()
    assert world.flush_all()[-1] == "flushed"
    assert world.sink.asked_customers == ["cus_1"]


def test_usage_of_a_customer_that_stripe_does_not_know_is_not_sent(world: World) -> None:
    world.one_sealed(customer="cus_gone")
    world.sink.unknown_customers = {"cus_gone"}
    assert try_now(world) == "rejected"
    assert (world.batch().reason, world.sink.sent) == ("customer_not_found", [])
    assert [alert["kind"] for alert in world.alerts()] == ["rejected"]
    world.sink.unknown_customers = set()
    repaired = successor(world.batch(), world.now)
    assert world.batches.put_new(repaired) is None
    assert flush(world.flush_deps(), repaired.key) == "flushed"


def test_an_outage_while_asking_for_the_customer_is_no_doubt(world: World) -> None:
    world.one_sealed()
    world.sink.customer_answer = SinkUnavailable("status 500")
    assert try_now(world) == "retry"
    batch = world.batch()
    assert (batch.state, batch.attempts, batch.doubt_since) == ("sealed", 0, None)
    assert batch.retry_at == batch.due_at
    world.sink.customer_answer = None
    world.now = batch.retry_at or 0
    assert try_now(world) == "flushed"


# --- time, repair, neighbours ----------------------------------------------------------------------------------------


def test_without_time_for_a_send_it_is_put_off(world: World) -> None:
    world.one_sealed()
    assert flush(world.flush_deps(), world.batch().key, lambda: False) == "retry"
    assert world.sink.sent == []
    assert world.batch().due_at == world.now + 30


def test_the_repair_of_a_rejected_batch_counts_once(world: World) -> None:
    world.one_sealed()
    world.sink.script = [WRONG]
    try_now(world)
    parked = world.batch()
    repaired = successor(parked, world.now)
    assert world.batches.put_new(repaired) is None
    assert world.batches.put_new(successor(parked, world.now + 5)) is not None  # repaired twice: one row
    world.run_until(world.now + 120)
    assert counted(world) == 5
    states = {batch.revision: batch.state for batch in world.all_batches()}
    assert states == {0: "rejected", 1: "flushed"}


def test_one_customers_trouble_does_not_hold_up_another(world: World) -> None:
    world.rules.add("acme", customer="cus_slow")
    world.rules.add("other", customer="cus_fast")
    world.record(1)
    world.record(2, "other")
    world.close_window()
    world.seal()

    class Slow(ScriptedSink):
        def send(self, event: SinkEvent) -> SendResult:
            return BUSY if event.customer == "cus_slow" else super().send(event)

    world.sink = Slow()
    assert sorted(world.flush_all()) == ["flushed", "retry"]
    assert counted(world) == 2


def test_nobody_is_told_twice_and_each_trouble_is_told(world: World) -> None:
    world.rules.add("acme")
    for window in range(3):
        world.record(1, at=NOON + 300 * window)
        world.record(1, meter="llm_tokens", at=NOON + 300 * window)
    world.now = NOON + 3000
    world.seal()
    world.sink.script = [WRONG] * 6
    assert world.flush_all() == ["rejected"] * 6
    assert len(world.alerts()) == 2  # one for each meter
    world.now += 86_400
    world.record(1)
    world.close_window()
    world.seal()
    world.sink.script = [WRONG]
    world.flush_all()
    assert len(world.alerts()) == 3  # the next day, again


# --- shadow mode -----------------------------------------------------------------------------------------------------


def in_shadow(world: World) -> str:
    return flush(replace(world.flush_deps(), shadow=True), world.batch().key)


def test_a_stack_that_only_watches_sends_nothing_and_asks_nothing(world: World) -> None:
    world.one_sealed()
    assert in_shadow(world) == "shadowed"
    batch = world.batch()
    assert (batch.state, batch.reason, batch.due_at, batch.untold) == ("shadowed", "shadow_mode", None, False)
    assert (world.sink.sent, batch.attempts) == ([], 0)
    assert try_now(world) == "shadowed", "nor once it no longer only watches: another system billed this"
    assert world.sink.sent == []


def test_a_batch_in_doubt_waits_in_shadow_mode_and_is_parked_in_time(world: World) -> None:
    world.one_sealed()
    world.sink.script = [takes_and_loses(world)]
    assert try_now(world) == "doubt"
    sent = len(world.sink.sent)
    world.now += LEASE_S + 3600
    assert in_shadow(world) == "doubt"
    assert world.batch().state == "sending"
    world.now += DOUBT_S
    assert in_shadow(world) == "unconfirmed"
    assert len(world.sink.sent) == sent


# --- tables restored from a backup -----------------------------------------------------------------------------------


def test_what_the_backup_does_not_show_as_sent_is_settled_by_the_totals_alone(world: World) -> None:
    world.one_sealed()
    world.restored_at = world.now
    assert try_now(world) == "unconfirmed"
    batch = world.batch()
    assert (batch.reason, batch.attempts, world.sink.sent) == ("restored", 0, [])
    assert [alert["kind"] for alert in world.alerts()] == ["unconfirmed"]


def test_what_is_repaired_or_recorded_since_the_restore_is_sent(world: World) -> None:
    world.one_sealed()
    world.restored_at = world.now
    try_now(world)
    world.now += 3600
    anew = repair(world.batches, world.batch(), world.now)
    assert flush(world.flush_deps(), anew.key) == "flushed"
    world.record("1")
    world.close_window()
    world.seal()
    assert world.flush_all()[-1] == "flushed"


def test_a_repair_of_before_the_backup_is_in_doubt_like_all_else(world: World) -> None:
    world.one_sealed()
    world.sink.script = [WRONG]
    world.flush_all()
    anew = repair(world.batches, world.batch(), world.now)
    world.now += 60
    world.restored_at = world.now
    assert flush(world.flush_deps(), anew.key) == "unconfirmed"
