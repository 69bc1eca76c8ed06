"""Stripe in trouble, from the usage call to the meter event: never a double count, and never silence.

The handlers run as in the crash suite; hours and days pass, seal runs, the queue is delivered. In the end every unit is
counted once, or stands parked with a reason and a message to the operator (`audit` proves it).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import pytest

from tests.crash.scenarios import CREDITS, FREE, PRO, SENT, TEAM, UNMAPPED, usage, used
from tests.support.crash_audit import audit
from tests.support.crash_run import Scenario as Scene
from tests.support.crash_run import Suite, deliver, do, expect, prepare
from tests.support.crash_wire import LOST, NOT_SENT, RESET
from tests.support.crash_world import World
from tollgate.billing.batch import Batch
from tollgate.billing.batch_store import BatchTable, batch_of
from tollgate.billing.repair import repair

pytestmark = pytest.mark.filterwarnings("ignore:No application metrics to publish")

HOUR, DAY = 3600, 86_400
TEN = usage("u", {"id": "one", "account": PRO, "quantity": "10"})


@pytest.fixture
def world(suite: Suite) -> World:
    """The accounts, and ten units of one of them used."""
    suite.world.restore(prepare(suite.world, suite.base, Scene("", (), (TEN,))))
    return suite.world


def live(world: World, seconds: int, step: int = 60) -> None:
    """Time passes as it does in an account: seal runs each `step` seconds, messages are delivered."""
    end = world.now + seconds
    while world.now < end:
        world.wait(step)
        sealed = world.invoke("seal", {"shards": [0]})
        expect(sealed.status == 200, "seal", sealed)
        for _ in range(len(world.wire.queue.waiting)):
            if world.wire.queue.waiting:
                deliver(world)


def report(world: World) -> None:
    """What Stripe reports by now of meter events that it did not count reaches the worker, as thin events do."""
    double = world.stripe.double
    with double.lock:
        found = double.error_reports.published(world.ms)
    records = [
        {"messageId": event["id"], "body": json.dumps({name: event[name] for name in event if name != "data"})}
        for event in found
    ]
    answer = world.invoke("stripe_events", {"Records": records})
    expect(answer.status == 200 and not answer.body["batchItemFailures"], "reports", answer)


def batches(world: World) -> list[Batch]:
    return [batch_of(row) for row in world.rows("billing", "batch#")]


def total(world: World) -> Decimal:
    return sum((Decimal(row["value"]) for row in world.counted()), Decimal(0))


def right(world: World, **units: str) -> None:
    audit(world, [], used(**(units or {"pro": "10"})), True, ())


def until(world: World, seconds: int, kind: str) -> Callable[[str], str | None]:
    """Trouble of one kind, for so long from now on."""
    end = world.now + seconds
    return lambda name: kind if world.now < end else None


@pytest.fixture(autouse=True)
def no_outage_left(suite: Suite) -> Any:
    yield
    suite.world.wire.outage = lambda name: None
    suite.world.faults()


@pytest.mark.parametrize(
    "faults",
    [
        [{"match": SENT, "kind": "429", "times": 8}],
        [{"match": SENT, "kind": "429", "times": 3, "reason": "endpoint-concurrency"}],
        [{"match": SENT, "kind": "500_before", "times": 4}],
        [{"match": SENT, "kind": "500_after", "times": 1}],
        [{"match": SENT, "kind": "500_before", "times": 2}, {"match": SENT, "kind": "500_after", "times": 3}],
        [{"match": SENT, "kind": "status", "status": 503, "times": 3}],
        [{"match": SENT, "kind": "status", "status": 409, "times": 3}],
        [{"match": SENT, "kind": "status", "status": 401, "times": 3}],
        [{"kind": "500_before", "times": 3}, {"kind": "429", "times": 3}],
    ],
    ids=lambda faults: " ".join(f"{fault['kind']}x{fault['times']}" for fault in faults),
)
def test_errors_that_pass(world: World, faults: list[Mapping[str, Any]]) -> None:
    world.faults(*faults)
    live(world, 4 * HOUR)
    assert [batch.state for batch in batches(world)] == ["flushed"]
    assert total(world) == 10
    right(world)


@pytest.mark.parametrize("seconds", [30, 2 * HOUR])
@pytest.mark.parametrize("kind", [NOT_SENT, RESET, LOST])
def test_outages_that_are_over_in_time(world: World, kind: str, seconds: int) -> None:
    live(world, 360)  # the window has ended and is about to be sent
    world.wire.outage = until(world, seconds, kind)
    live(world, 5 * HOUR, 30)
    assert [batch.state for batch in batches(world)] == ["flushed"]
    assert total(world) == 10
    right(world)


@pytest.mark.parametrize(
    ("kind", "state", "counted"),
    [(NOT_SENT, "flushed", 10), (RESET, "unconfirmed", 0), (LOST, "unconfirmed", 10)],
)
def test_three_days_without_stripe(world: World, kind: str, state: str, counted: int) -> None:
    """What certainly never left is sent when it can be; what may have arrived is never sent again after 20 hours, when
    Stripe may have forgotten its identifier: it is parked, and told."""
    asked = {"tries": 0}

    def trouble(name: str) -> str | None:
        if "customers" in name or world.now >= end:
            return None
        asked["tries"] += 1
        return kind

    end = world.now + 3 * DAY
    world.wire.outage = trouble
    live(world, 4 * DAY, 600)
    assert [batch.state for batch in batches(world)] == [state]
    assert total(world) == counted
    assert 3 < asked["tries"] < 300, "it goes on trying, and not in a hurry"
    right(world)


def test_usage_that_comes_in_an_outage_is_all_sent_after_it(world: World) -> None:
    world.wire.outage = until(world, 2 * HOUR, NOT_SENT)
    for number in range(8):
        more = usage(
            f"u{number}",
            {"id": f"team-{number}", "account": TEAM, "member": "m", "quantity": "3"},
            {"id": f"pro-{number}", "account": PRO, "quantity": "2"},
        )
        assert do(world, more).status == 200
        live(world, 900)
    live(world, 2 * HOUR)
    assert {batch.state for batch in batches(world)} == {"flushed"}
    right(world, pro="26", team="24")


def test_one_customers_trouble_holds_up_nobody_else(world: World) -> None:
    assert do(world, usage("t", {"id": "t", "account": TEAM, "member": "m", "quantity": "4"})).status == 200
    mine = {"payload[stripe_customer_id]": world.memory["customers"][PRO]}
    world.faults({"match": {**SENT, "params": mine}, "kind": "500_before", "until_seconds": 2 * HOUR})
    live(world, 900)
    assert {batch.account: batch.state for batch in batches(world)} == {PRO: "sending", TEAM: "flushed"}
    live(world, 4 * HOUR)
    right(world, pro="10", team="4")


def test_an_unknown_customer(world: World) -> None:
    world.stripe.client.v1.customers.delete(world.memory["customers"][PRO])
    live(world, HOUR)
    (batch,) = batches(world)
    assert (batch.state, batch.reason) == ("rejected", "customer_not_found")
    assert not world.counted(everything=True), "nothing was sent for a customer who is not there"
    right(world)


def test_a_customer_who_goes_after_the_first_batch(world: World) -> None:
    live(world, HOUR)
    world.stripe.client.v1.customers.delete(world.memory["customers"][PRO])
    assert do(world, usage("more", {"id": "more", "account": PRO, "quantity": "5"})).status == 200
    live(world, HOUR)
    for _ in range(2):  # delivered twice
        report(world)
    first, second = batches(world)
    assert (first.state, second.state, second.reason) == ("flushed", "rejected", "customer_not_found")
    right(world, pro="15")


def test_an_archived_meter_is_told_and_repaired_once(world: World) -> None:
    meters = {meter.event_name: meter.id for meter in world.stripe.client.v1.billing.meters.list().data}
    world.stripe.client.v1.billing.meters.deactivate(meters[CREDITS])
    live(world, HOUR)
    (batch,) = batches(world)
    assert (batch.state, batch.reason) == ("rejected", "no_active_meter")
    right(world)
    world.stripe.client.v1.billing.meters.reactivate(meters[CREDITS])
    table = BatchTable("billing")
    for _ in range(2):  # asked for twice, it is one successor
        repair(table, batch, world.now)
    live(world, HOUR)
    assert sorted(found.state for found in batches(world)) == ["flushed", "rejected"]
    assert total(world) == 10
    right(world)


def test_a_batch_that_became_too_old(world: World) -> None:
    world.wire.outage = until(world, 40 * DAY, NOT_SENT)
    live(world, HOUR)
    live(world, 36 * DAY, DAY // 2)
    world.wire.outage = lambda name: None
    live(world, HOUR)
    (batch,) = batches(world)
    assert (batch.state, batch.reason) == ("expired", "too_old")
    assert not world.counted(everything=True)
    right(world)


def test_a_timestamp_in_stripes_future(world: World) -> None:
    double = world.stripe.double
    clock = double.clock
    double.clock = type(clock)(lambda: world.ms - 2 * HOUR * 1000)
    try:
        live(world, HOUR)
    finally:
        double.clock = clock
    (batch,) = batches(world)
    assert (batch.state, batch.reason) == ("rejected", "timestamp_in_future")
    right(world)


def test_no_customer_is_told_and_billed_once_mapped(world: World) -> None:
    found = usage("x", {"id": "x", "account": UNMAPPED, "quantity": "6"}, {"id": "f", "account": FREE, "quantity": "1"})
    assert do(world, found).status == 200
    live(world, HOUR)
    states = {batch.account: batch.state for batch in batches(world)}
    assert states == {PRO: "flushed", UNMAPPED: "no_customer"}, "a plan without prices is never sent"
    right(world, pro="10", unmapped="6", free="1")
