"""What the worker reads of Stripe, read by the official SDK from the double."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from local.stripe_double.testing import NOON, Account, account
from tests.contract.test_stripe_double.billing import HOUR, bounds, shop
from tollgate.errors import StripeRefused
from tollgate.stripe_api.events import StripeEvents
from tollgate.stripe_api.payments import Payments
from tollgate.stripe_api.reading import Connection
from tollgate.stripe_api.subscriptions import Subscriptions
from tollgate.webhooks.packs import MoneyBack


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


def test_a_subscription_is_read_with_the_metadata_of_its_prices(stripe: Account, connection: Connection) -> None:
    sold = shop(stripe)
    made = sold.subscribe(metadata={"tollgate_account": "acme"})
    (found,) = Subscriptions(connection).of_customer(sold.customer)
    assert (found.id, found.status, found.metadata) == (made.id, "active", {"tollgate_account": "acme"})
    assert (found.created, found.anchor) == (made.created, made.billing_cycle_anchor)
    assert [(item.period_start, item.period_end) for item in found.items] == bounds(made)
    assert [item.price for item in found.items] == [item.price.id for item in made["items"].data]
    assert (found.cancel_at, found.unpaid_since) == (None, None)
    ends = sold.account.client.v1.subscriptions.update(made.id, {"cancel_at_period_end": True})
    (found,) = Subscriptions(connection).of_customer(sold.customer)
    assert found.cancel_at == bounds(ends)[0][1]
    sold.account.client.v1.subscriptions.cancel(made.id)
    (found,) = Subscriptions(connection).of_customer(sold.customer)
    assert found.status == "canceled", "ended ones are read, too"


def test_past_due_since_is_the_invoices_own_time(stripe: Account, connection: Connection) -> None:
    sold = shop(stripe)
    made = sold.subscribe()
    sold.fail()
    sold.move_to(bounds(made)[0][1] + 2 * HOUR)
    (found,) = Subscriptions(connection).of_customer(sold.customer)
    assert found.status == "past_due"
    invoice = sold.newest()
    assert found.unpaid_since == invoice.status_transitions.finalized_at
    stripe.advance(HOUR)
    (again,) = Subscriptions(connection).of_customer(sold.customer)
    assert again.unpaid_since == found.unpaid_since


def test_a_payment_is_read_with_its_refunds_and_disputes(stripe: Account, connection: Connection) -> None:
    session = stripe.client.v1.checkout.sessions.create(
        {
            "mode": "payment",
            "customer": stripe.customer(),
            "success_url": "https://app.test/ok",
            "metadata": {"tollgate_pack": "small"},
            "line_items": [
                {
                    "quantity": 1,
                    "price_data": {"currency": "usd", "unit_amount": 500, "product_data": {"name": "Pack"}},
                }
            ],
        }
    )
    payments = Payments(connection)
    assert not payments.session(session.id).paid
    intent = str(stripe.control(f"checkout/{session.id}/complete", {})["payment_intent"])
    done = payments.session(session.id)
    assert (done.payment, done.paid, done.metadata) == (intent, True, {"tollgate_pack": "small"})
    assert done.customer == session.customer
    paid = payments.payment(intent)
    assert (paid.id, paid.customer, paid.received, paid.refunds, paid.disputes) == (intent, done.customer, 500, (), ())
    refund = stripe.client.v1.refunds.create({"payment_intent": intent, "amount": 200})
    assert payments.payment(intent).refunds == (MoneyBack(refund.id, 200, "succeeded"),)
