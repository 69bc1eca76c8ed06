"""Flush against the Stripe double through the official SDK: every fault, and outages of any length.

At the end of each, every billable unit is in the double exactly once, or stands in a named state with a reason and an
alert.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pytest
import stripe

from local.stripe_double.server import running
from local.stripe_double.state import Double
from local.stripe_double.testing import Account, sdk
from tests.unit.billing.world import NOON, World, tables
from tollgate.billing.batch import successor
from tollgate.billing.sink import Accepted, Duplicate, NotSent, Refused, SinkEvent, SinkUnavailable, Unknown
from tollgate.billing.stripe_sink import StripeSink
from tollgate.stripe_api.client import STRIPE_VERSION, client

EVENTS = {"method": "POST", "path": "/v1/billing/meter_events"}
HOUR, DAY = 3600, 86_400


class Stage:
    """A world whose sink is the double; both have one clock."""

    def __init__(self, world: World, account: Account) -> None:
        self.world, self.account = world, account
        self.customer = account.customer()
        self.meter = account.meter("credits_used")
        account.meter("tokens_used")
        world.rules.add("acme", customer=self.customer)

    def faults(self, *faults: dict[str, Any]) -> None:
        self.account.control("faults", {"faults": list(faults)})

    def fault(self, kind: str, **more: Any) -> None:
        self.faults({"match": EVENTS, "kind": kind, **more})

    def usage(self, windows: int = 1, units: str = "2.5") -> Decimal:
        """Units recorded in as many windows, sealed and queued."""
        first = self.world.now // 300 * 300
        for window in range(windows):
            self.world.record(units, at=first + 300 * window)
        self.world.now = first + 300 * windows + 60
        self.world.seal()
        return Decimal(units) * windows

    def counted(self) -> Decimal:
        rows = self.account.look("meter_events")["data"]
        return sum((Decimal(row["value"]) for row in rows if row["counted"]), Decimal(0))

    def parked(self) -> Decimal:
        """Units in parked states; each must have its reason and its alert."""
        alerts = [json.loads(row["message"]) for row in self.world.alerts()]
        found = Decimal(0)
        for batch in self.world.all_batches():
            assert not batch.untold
            if batch.state == "flushed":
                continue
            assert batch.state in ("no_customer", "rejected", "expired", "unconfirmed"), batch
            assert batch.reason
            assert [a for a in alerts if a["kind"] == batch.state and a["account"] == batch.account], batch
            found += batch.units
        return found

    def states(self) -> set[str]:
        return {batch.state for batch in self.world.all_batches()}

    def settle(self, seconds: int, step: int = 60) -> None:
        self.world.run_until(self.world.now + seconds, step)


@contextmanager
def served(world: World) -> Iterator[Account]:
    double = Double(world.clock, latency_seconds=0)
    with running(double) as url:
        yield Account(double, url, sdk(url))


@pytest.fixture
def stage() -> Iterator[Stage]:
    with tables():
        world = World()
        with served(world) as account:
            world.sink = StripeSink(lambda: impatient(account.url))
            yield Stage(world, account)


def impatient(url: str, key: str = "sk_test_flush") -> stripe.StripeClient:
    """The product's client, but one that waits for a quarter of a second only."""
    return client(key, url, read_timeout_ms=1000)


def event(stage: Stage, **more: Any) -> SinkEvent:
    fields: dict[str, Any] = {
        "identifier": "tg_1",
        "idempotency_key": "tg_1:1",
        "customer": stage.customer,
        "event_name": "credits_used",
        "value": Decimal("1.5"),
        "timestamp": NOON,
    }
    return SinkEvent(**{**fields, **more})


# --- the sink --------------------------------------------------------------------------------------------------------


def test_an_event_arrives_as_it_was_meant(stage: Stage) -> None:
    assert stage.world.sink.send(event(stage, value=Decimal("1E+3"))) == Accepted()
    (row,) = stage.account.look("meter_events")["data"]
    arrived = [row[name] for name in ("identifier", "customer", "value", "timestamp")]
    assert arrived == ["tg_1", stage.customer, "1000", NOON]
    (request,) = stage.account.look("requests", path=EVENTS["path"])["recent"]
    assert request["idempotency_key"] == "tg_1:1"


def test_the_api_version_is_pinned(stage: Stage) -> None:
    made = client("sk_test_x", stage.account.url)
    assert made._requestor._options.stripe_version == STRIPE_VERSION == "2026-10-28.endive"
    assert made._requestor._options.max_network_retries == 0


def test_the_same_identifier_again_is_a_duplicate(stage: Stage) -> None:
    stage.world.sink.send(event(stage))
    assert stage.world.sink.send(event(stage, idempotency_key="tg_1:2")) == Duplicate()
    assert stage.counted() == Decimal("1.5")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"event_name": "unheard_of"}, "no_active_meter"),
        ({"timestamp": NOON - 36 * DAY}, "timestamp_too_old"),
        ({"timestamp": NOON + HOUR}, "timestamp_in_future"),
        ({"value": Decimal("1234567890123456")}, "too_many_digits"),
    ],
)
def test_refusals_have_reasons(stage: Stage, change: dict[str, Any], code: str) -> None:
    refused = stage.world.sink.send(event(stage, **change))
    assert isinstance(refused, Refused)
    assert (refused.status, refused.code, refused.retryable) == (400, code, False)
    assert refused.message


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"kind": "429"}, Refused),
        ({"kind": "status", "status": 409}, Refused),
        ({"kind": "status", "status": 403}, Refused),
        ({"kind": "500_before"}, Unknown),
        ({"kind": "500_after"}, Unknown),
        ({"kind": "status", "status": 503}, Unknown),
        ({"kind": "timeout_before"}, Unknown),
        ({"kind": "timeout_after"}, Unknown),
        ({"kind": "connection_reset"}, Unknown),
    ],
)
def test_each_fault_is_understood_and_never_repeated_by_the_client(
    stage: Stage, fault: dict[str, Any], expected: type
) -> None:
    stage.faults({"match": EVENTS, **fault})
    result = stage.world.sink.send(event(stage))
    assert isinstance(result, expected)
    if isinstance(result, Refused):
        assert result.retryable
    assert stage.account.look("requests", path=EVENTS["path"])["count"] == 1


def test_no_connection_is_known_as_such() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{taken.getsockname()[1]}"
    sink = StripeSink(lambda: client("sk_test_x", closed))
    sent = SinkEvent("tg_1", "tg_1:1", "cus_1", "credits_used", Decimal(1), NOON)
    assert isinstance(sink.send(sent), NotSent)
    with pytest.raises(SinkUnavailable):
        sink.customer_exists("cus_1")


def test_a_wrong_key_is_asked_for_again(stage: Stage) -> None:
    keys = ["wrong", "sk_test_new"]
    sink = StripeSink(lambda: impatient(stage.account.url, keys.pop(0)))
    refused = sink.send(event(stage))
    assert isinstance(refused, Refused)
    assert (refused.status, refused.retryable) == (401, True)
    assert sink.send(event(stage)) == Accepted()
    assert keys == []


def test_customers_that_are_there_unknown_and_deleted(stage: Stage) -> None:
    sink = stage.world.sink
    assert sink.customer_exists(stage.customer)
    assert not sink.customer_exists("cus_unknown")
    stage.account.client.v1.customers.delete(stage.customer)
    assert not sink.customer_exists(stage.customer)
    stage.faults({"match": {"method": "GET"}, "kind": "500_before"})
    with pytest.raises(SinkUnavailable):
        sink.customer_exists("cus_other")


def test_totals_are_exact_decimals(stage: Stage) -> None:
    for name, value in (("a", "123456789.000001"), ("b", "0.000002")):
        stage.world.sink.send(event(stage, identifier=name, idempotency_key=name, value=Decimal(value)))
    total = stage.world.sink.total(stage.customer, "credits_used", NOON - 60, NOON + 60)
    assert isinstance(total, Decimal)
    assert total == Decimal("123456789.000003")
    assert stage.world.sink.total(stage.customer, "tokens_used", NOON - 60, NOON + 60) == 0
    with pytest.raises(LookupError):
        stage.world.sink.total(stage.customer, "unheard_of", NOON - 60, NOON + 60)
    with pytest.raises(SinkUnavailable):
        stage.world.sink.total(stage.customer, "credits_used", NOON - 59, NOON + 60)


# --- one fault, then recovery ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["429", "500_before", "500_after", "timeout_before", "timeout_after", "connection_reset"]
)
@pytest.mark.parametrize("times", [1, 3])
def test_after_passing_trouble_every_unit_is_there_once(stage: Stage, kind: str, times: int) -> None:
    units = stage.usage(windows=2)
    stage.fault(kind, times=times)
    stage.settle(2 * HOUR)
    assert stage.states() == {"flushed"}
    assert stage.counted() == units
    assert stage.world.alerts() == []


def test_a_saved_500_is_not_met_again(stage: Stage) -> None:
    """Under its first Idempotency-Key Stripe replays a 500 for a day."""
    units = stage.usage()
    stage.fault("500_before", times=1)
    stage.settle(600)
    assert stage.counted() == units


def test_no_two_calls_of_a_batch_share_an_idempotency_key(stage: Stage) -> None:
    stage.usage()
    stage.fault("500_after", times=4)
    stage.settle(2 * HOUR)
    recent = stage.account.look("requests", path=EVENTS["path"])["recent"]
    keys = [request["idempotency_key"] for request in recent]
    assert len(keys) == 5
    assert len(set(keys)) == 5
    assert len({key.rpartition(":")[0] for key in keys}) == 1


# --- outages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["429", "500_before", "500_after", "connection_reset"])
@pytest.mark.parametrize("seconds", [30, 2 * HOUR])
def test_outages_shorter_than_the_doubt_cost_nothing(stage: Stage, kind: str, seconds: int) -> None:
    units = stage.usage(windows=3)
    stage.fault(kind, until_seconds=seconds)
    stage.settle(seconds + 2 * HOUR, step=300 if seconds > HOUR else 60)
    assert stage.states() == {"flushed"}
    assert stage.counted() == units


@pytest.mark.parametrize("kind", ["500_before", "500_after"])
def test_three_days_of_lost_answers_park_what_was_sent_and_send_what_was_not(stage: Stage, kind: str) -> None:
    units = stage.usage(windows=2)
    stage.fault(kind, until_seconds=3 * DAY)
    stage.settle(3 * DAY, step=1800)
    units += stage.usage(units="7")
    stage.settle(2 * HOUR, step=600)
    assert stage.states() == {"flushed", "unconfirmed"}
    assert stage.parked() == 5
    # Whether the parked ones arrived is what only Stripe's totals can say: never more than once.
    assert stage.counted() == (units if kind == "500_after" else 7)
    calls = stage.account.look("requests", path=EVENTS["path"])["recent"]
    first = min(call["at"] for call in calls)
    assert max(call["at"] for call in calls if call["status"] != 200) < first + 20 * HOUR


def test_three_days_of_rate_limits_lose_nothing(stage: Stage) -> None:
    units = stage.usage(windows=2)
    stage.fault("429", until_seconds=3 * DAY)
    stage.settle(3 * DAY + 2 * HOUR, step=1800)
    assert stage.states() == {"flushed"}
    assert stage.counted() == units


def test_an_outage_of_36_days_expires_loudly(stage: Stage) -> None:
    units = stage.usage()
    stage.fault("429", until_seconds=36 * DAY)
    stage.settle(37 * DAY, step=6 * HOUR)
    assert stage.states() == {"expired"}
    assert stage.parked() == units
    assert stage.counted() == 0


def test_the_unconfirmed_are_repaired_by_a_successor_once_totals_prove_them_missing(stage: Stage) -> None:
    units = stage.usage()
    stage.fault("500_before", until_seconds=DAY)
    stage.settle(DAY + HOUR, step=1800)
    (parked,) = stage.world.all_batches()
    assert parked.state == "unconfirmed"
    assert stage.world.sink.total(stage.customer, "credits_used", NOON - 60, NOON + 600) == 0
    stage.world.batches.put_new(successor(parked, stage.world.now))
    stage.settle(600)
    assert stage.counted() == units


# --- what Stripe will not take ---------------------------------------------------------------------------------------


def test_an_unknown_customer_is_parked_before_stripe_swallows_its_usage(stage: Stage) -> None:
    stage.world.rules.change("acme", stripe_customer_id="cus_unknown")
    units = stage.usage()
    stage.settle(600)
    assert stage.states() == {"rejected"}
    assert stage.parked() == units
    assert stage.account.look("requests", path=EVENTS["path"])["count"] == 0


def test_an_archived_meter_is_parked_and_repaired(stage: Stage) -> None:
    stage.account.client.v1.billing.meters.deactivate(stage.meter)
    units = stage.usage(windows=2)
    stage.settle(600)
    assert stage.states() == {"rejected"}
    assert {batch.reason for batch in stage.world.all_batches()} == {"no_active_meter"}
    assert stage.parked() == units
    stage.account.client.v1.billing.meters.reactivate(stage.meter)
    for batch in stage.world.all_batches():
        stage.world.batches.put_new(successor(batch, stage.world.now))
    stage.settle(600)
    assert stage.counted() == units


def test_usage_older_than_34_days_is_parked_and_never_refused_by_stripe(stage: Stage) -> None:
    units = stage.usage()
    stage.world.queue.waiting.clear()
    stage.world.now += 34 * DAY
    stage.settle(600)
    assert stage.states() == {"expired"}
    assert stage.parked() == units
    assert stage.account.look("requests", path=EVENTS["path"])["count"] == 0


def test_a_stripe_clock_behind_ours_parks_nothing_silently(stage: Stage) -> None:
    """Windows are in the past by the time they are sent; a clock an hour behind refuses them as future ones."""
    units = stage.usage()
    with stage.account.double.lock:
        stage.account.double.clock.offset_ms = -HOUR * 1000
    stage.settle(600)
    assert stage.states() == {"rejected"}
    assert stage.parked() == units


def test_values_of_many_digits_arrive_to_the_last(stage: Stage) -> None:
    units = stage.usage(units="999999999999.123456")
    stage.settle(120)
    assert stage.counted() == units


def test_trouble_of_one_customer_holds_up_no_other(stage: Stage) -> None:
    other = stage.account.customer()
    stage.world.rules.add("other", customer=other)
    stage.world.record(4, "other")
    stage.usage()
    bad = {**EVENTS, "params": {"payload[stripe_customer_id]": stage.customer}}
    stage.faults({"match": bad, "kind": "500_before"})
    stage.settle(60)
    states = {batch.account: batch.state for batch in stage.world.all_batches()}
    assert states == {"acme": "sending", "other": "flushed"}


def test_one_call_for_each_customer_meter_and_window(stage: Stage) -> None:
    for _ in range(20):
        stage.world.record("0.1")
        stage.world.record("1", meter="llm_tokens")
    stage.usage(windows=3)
    stage.settle(600)
    assert stage.account.look("requests", path=EVENTS["path"])["count"] == 4
    assert stage.account.look("requests", path=f"/v1/customers/{stage.customer}")["count"] == 1
