"""What the worker reads of Stripe, read by the official SDK from the double."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from local.stripe_double.testing import NOON, Account, account
from tollgate.errors import StripeRefused
from tollgate.stripe_api.events import StripeEvents
from tollgate.stripe_api.payments import Payments
from tollgate.stripe_api.reading import Connection
from tollgate.stripe_api.subscriptions import Subscriptions


@pytest.fixture
def stripe() -> Iterator[Account]:
    with account() as made:
        yield made


@pytest.fixture
def connection(stripe: Account) -> Connection:
    return Connection(lambda: stripe.client, wait=lambda tried: None)


def test_a_report_is_read_whole(stripe: Account, connection: Connection) -> None:
    customer, meter = stripe.customer(), stripe.meter()
    stripe.client.v1.customers.delete(customer)
    for number in range(7):
        stripe.send(customer, identifier=f"tg_{number}", idempotency_key=f"tg_{number}:1")
    stripe.advance(60)
    events = StripeEvents(connection)
    (listed,) = [one for one in events.since(NOON - 10) if one["object"] == "v2.core.event"]
    assert listed["type"] == "v1.billing.meter.error_report_triggered"
    found = events.meter_errors(listed["id"])
    assert (found.meter, found.total, found.codes) == (meter, 7, ("meter_event_customer_not_found",))
    assert 1 <= len(found.samples) < 7
    assert {name for _, name in found.samples} <= {f"tg_{number}" for number in range(7)}
    assert found.first_ms <= NOON * 1000 < found.last_ms
    assert events.event_name(meter) == "ai_credits"
    assert not events.customer_exists(customer)
    assert not events.customer_exists("cus_never")
    assert events.customer_exists(stripe.customer())


def test_snapshot_events_are_listed_page_by_page(stripe: Account, connection: Connection) -> None:
    for _ in range(3):
        stripe.customer()
    stripe.advance(100)
    later = [stripe.customer() for _ in range(102)]
    found = [one for one in StripeEvents(connection).since(NOON + 100) if one["type"] == "customer.created"]
    assert [one["data"]["object"]["id"] for one in found] == later[::-1]
    assert all(one["id"].startswith("evt_") for one in found)


def test_an_unknown_customer_has_no_subscriptions_and_an_unknown_payment_is_refused(connection: Connection) -> None:
    assert Subscriptions(connection).of_customer("cus_never") == []
    with pytest.raises(StripeRefused):
        Payments(connection).payment("pi_never")
