from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import stripe
from stripe.events import V1BillingMeterErrorReportTriggeredEventNotification

from local.stripe_double.testing import NOON, Account
from tests.contract.test_stripe_double.receiver import Receiver, receiving, until

HOUR = 3600


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as opened:
        yield opened


def endpoint(stripe_account: Account, receiver: Receiver, *events: str) -> str:
    """A snapshot endpoint at the receiver; its secret."""
    params: Any = {"url": receiver.url, "enabled_events": list(events or ["*"])}
    made = stripe_account.client.v1.webhook_endpoints.create(params)
    assert made.secret is not None
    return made.secret


def named(got: list[tuple[str, str]]) -> list[str]:
    """The names of the customers in snapshot events, in order of arrival."""
    return [json.loads(body)["data"]["object"]["name"] for body, _ in got]


def customers(stripe_account: Account, *names: str) -> None:
    for name in names:
        stripe_account.client.v1.customers.create({"name": name})


def states(stripe_account: Account) -> list[str]:
    return [one["state"] for one in stripe_account.look("deliveries")["data"]]


def test_a_snapshot_event_comes_signed_with_the_endpoints_secret(stripe_account: Account, receiver: Receiver) -> None:
    secret = endpoint(stripe_account, receiver, "customer.created")
    customer = stripe_account.client.v1.customers.create({"name": "Acme"})
    stripe_account.client.v1.customers.update(customer.id, {"name": "not wanted"})
    ((body, header),) = receiver.wait(1)
    event = stripe.Webhook.construct_event(body, header, secret, tolerance=10**9)
    assert (event.type, event.to_dict()["data"]["object"]["id"]) == ("customer.created", customer.id)
    assert header.startswith(f"t={NOON},v1=")
    assert event.pending_webhooks == 1
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(body + " ", header, secret, tolerance=10**9)
    until(lambda: states(stripe_account) == ["delivered"])
    assert stripe_account.client.v1.events.retrieve(event.id).pending_webhooks == 0


def test_a_thin_event_comes_without_data_and_can_be_fetched(stripe_account: Account, receiver: Receiver) -> None:
    made = stripe_account.client.v2.core.event_destinations.create(
        {
            "name": "tollgate",
            "type": "webhook_endpoint",
            "event_payload": "thin",
            "enabled_events": ["v1.billing.meter.error_report_triggered"],
            "webhook_endpoint": {"url": receiver.url},
            "include": ["webhook_endpoint.signing_secret"],
        }
    )
    assert made.webhook_endpoint is not None
    secret: Any = made.webhook_endpoint.signing_secret
    stripe_account.meter()
    stripe_account.send("cus_none", idempotency_key="batch-1:1")
    stripe_account.control("clock", {"advance_seconds": 12})
    ((body, header),) = receiver.wait(1)
    assert "data" not in json.loads(body)
    seen = stripe_account.client.parse_event_notification(body, header, secret, tolerance=10**9)
    assert isinstance(seen, V1BillingMeterErrorReportTriggeredEventNotification)
    assert seen.fetch_event().data.reason.error_count == 1
    stripe_account.control("clock", {"advance_seconds": HOUR})
    until(lambda: states(stripe_account) == ["delivered"])
    assert len(receiver.got) == 1


def test_a_refused_delivery_is_tried_again_with_growing_pauses(stripe_account: Account, receiver: Receiver) -> None:
    endpoint(stripe_account, receiver)
    receiver.statuses = [500, 302]
    customers(stripe_account, "Acme")
    receiver.wait(1)
    for pause, count in ((60, 2), (300, 3)):
        until(lambda: stripe_account.look("deliveries")["data"][0]["due_ms"] == (stripe_account.now + pause) * 1000)  # noqa: B023
        stripe_account.control("clock", {"advance_seconds": pause - 1})
        assert len(receiver.got) == count - 1
        stripe_account.control("clock", {"advance_seconds": 1})
        receiver.wait(count)
    until(lambda: states(stripe_account) == ["delivered"])
    assert [one["status"] for one in stripe_account.look("deliveries")["data"][0]["attempts"]] == [500, 302, 200]
    assert len({body for body, _ in receiver.got}) == 1


def test_a_delivery_is_given_up_after_three_days(stripe_account: Account, receiver: Receiver) -> None:
    endpoint(stripe_account, receiver)
    receiver.statuses = [500] * 100
    customers(stripe_account, "Acme")
    attempts = 0
    while states(stripe_account) == ["waiting"]:
        attempts += 1
        receiver.wait(attempts)
        until(lambda: len(stripe_account.look("deliveries")["data"][0]["attempts"]) == attempts)  # noqa: B023
        stripe_account.control("clock", {"advance_seconds": 10 * HOUR})
    assert states(stripe_account) == ["failed"]
    last = stripe_account.look("deliveries")["data"][0]["attempts"][-1]["at_ms"]
    assert NOON + 2 * 24 * HOUR < last // 1000 <= NOON + 3 * 24 * HOUR


def test_an_endpoint_that_is_not_there_is_noted_and_tried_again(stripe_account: Account) -> None:
    stripe_account.client.v1.webhook_endpoints.create({"url": "http://127.0.0.1:1/x", "enabled_events": ["*"]})
    customers(stripe_account, "Acme")
    until(lambda: bool(stripe_account.look("deliveries")["data"][0]["attempts"]))
    (delivery,) = stripe_account.look("deliveries", state="waiting")["data"]
    assert delivery["attempts"][0]["status"] == 0
    assert "refused" in delivery["attempts"][0]["error"]


def test_deliveries_are_doubled_delayed_and_dropped_by_rule(stripe_account: Account, receiver: Receiver) -> None:
    endpoint(stripe_account, receiver)
    stripe_account.control("delivery", {"rules": [{"type": "customer.*", "action": "duplicate", "times": 1}]})
    customers(stripe_account, "twice", "once")
    assert named(receiver.wait(3)) == ["twice", "twice", "once"]
    assert receiver.got[0][0] == receiver.got[1][0]
    stripe_account.control("delivery", {"rules": [{"type": "*", "action": "drop", "times": 1}]})
    customers(stripe_account, "lost", "kept")
    assert named(receiver.wait(4))[3:] == ["kept"]
    assert len(stripe_account.look("deliveries", state="dropped")["data"]) == 1
    stripe_account.control("delivery", {"rules": [{"type": "*", "action": "delay", "seconds": 60, "times": 1}]})
    customers(stripe_account, "later", "sooner")
    assert named(receiver.wait(5))[4:] == ["sooner"]
    stripe_account.control("clock", {"advance_seconds": 60})
    assert named(receiver.wait(6))[5:] == ["later"]


def test_held_deliveries_leave_in_any_order(stripe_account: Account, receiver: Receiver) -> None:
    endpoint(stripe_account, receiver)
    stripe_account.control("delivery", {"paused": True, "order": "reversed"})
    customers(stripe_account, "a", "b", "c")
    assert states(stripe_account) == ["waiting"] * 3
    stripe_account.control("delivery", {"paused": False})
    assert named(receiver.wait(3)) == ["c", "b", "a"]


def test_chosen_deliveries_leave_in_the_chosen_order_and_again(stripe_account: Account, receiver: Receiver) -> None:
    endpoint(stripe_account, receiver)
    stripe_account.control("delivery", {"paused": True})
    customers(stripe_account, "a", "b", "c")
    a, b, c = (one["id"] for one in stripe_account.look("deliveries")["data"])
    assert stripe_account.control("deliveries/send", {"ids": [b, a, b]}) == {"sent": 3}
    assert named(receiver.wait(3)) == ["b", "a", "b"]
    until(lambda: states(stripe_account).count("delivered") == 3)
    assert [one["id"] for one in stripe_account.look("deliveries", state="waiting")["data"]] == [c]
    with pytest.raises(requests.HTTPError):
        stripe_account.control("deliveries/send", {"ids": ["dlv_none"]})


def test_a_disabled_or_deleted_endpoint_gets_nothing(stripe_account: Account, receiver: Receiver) -> None:
    endpoint(stripe_account, receiver)
    endpoints = stripe_account.client.v1.webhook_endpoints
    (known,) = endpoints.list().data
    stripe_account.control("delivery", {"paused": True})
    customers(stripe_account, "waits")
    endpoints.update(known.id, {"disabled": True})
    customers(stripe_account, "not even noted")
    stripe_account.control("delivery", {"paused": False})
    until(lambda: states(stripe_account) == ["dropped"])
    assert receiver.got == []


def test_the_local_stacks_endpoints_have_a_given_secret_and_outlive_a_reset(
    stripe_account: Account, receiver: Receiver
) -> None:
    wanted = {"url": receiver.url, "secret": "whsec_local", "payload": "snapshot"}
    made = stripe_account.control("endpoints", wanted)
    assert stripe_account.control("endpoints", wanted) == made
    stripe_account.control("reset")
    customers(stripe_account, "Acme")
    ((body, header),) = receiver.wait(1)
    assert stripe.Webhook.construct_event(body, header, "whsec_local", tolerance=10**9).type == "customer.created"
    stripe_account.client.v1.webhook_endpoints.delete(made["id"])


@pytest.mark.parametrize(
    ("control", "body"),
    [
        ("delivery", {"order": "random"}),
        ("delivery", {"paused": 1}),
        ("delivery", {"rules": [{"type": "*", "action": "delay"}]}),
        ("delivery", {"rules": [{"type": "*", "action": "drop", "times": -1}]}),
        ("delivery", {"speed": 1}),
        ("endpoints", {"url": "nowhere", "secret": "s", "payload": "thin"}),
        ("endpoints", {"url": "http://a.b/", "secret": "s", "payload": "fat"}),
        ("deliveries/send", {}),
    ],
)
def test_a_control_that_makes_no_sense_is_refused(stripe_account: Account, control: str, body: Any) -> None:
    with pytest.raises(requests.HTTPError):
        stripe_account.control(control, body)
