from __future__ import annotations

import pytest
import stripe

from local.stripe_double.testing import NOON, Account
from tests.contract.test_stripe_double.receiver import receiving, until


def test_a_change_of_a_customer_is_an_event_with_what_was_before(stripe_account: Account) -> None:
    customers, events = stripe_account.client.v1.customers, stripe_account.client.v1.events
    customer = customers.create({"name": "Acme"})
    customers.update(customer.id, {"name": "Beta"})
    customers.update(customer.id, {"name": "Beta"})
    customers.delete(customer.id)
    deleted, updated, created = events.list().data
    assert [one.type for one in (created, updated, deleted)] == [
        "customer.created",
        "customer.updated",
        "customer.deleted",
    ]
    assert created.to_dict()["data"]["object"] == customer.to_dict()
    assert updated.to_dict()["data"]["previous_attributes"] == {"name": "Acme"}
    assert updated.to_dict()["data"]["object"]["name"] == "Beta"
    assert deleted.to_dict()["data"]["object"]["name"] == "Beta"
    assert (created.object, created.created, created.livemode, created.pending_webhooks) == ("event", NOON, False, 0)
    assert events.retrieve(created.id).to_dict() == created.to_dict()


def test_events_are_filtered_paged_and_kept_for_30_days(stripe_account: Account) -> None:
    customers, events = stripe_account.client.v1.customers, stripe_account.client.v1.events
    old = customers.create({"name": "Acme"}).id
    stripe_account.advance(86_400)
    customers.delete(old)
    assert [one.type for one in events.list({"types": ["customer.created", "x.y"]}).data] == ["customer.created"]
    assert [one.type for one in events.list({"type": "customer.*"}).data] == ["customer.deleted", "customer.created"]
    assert [one.type for one in events.list({"created": {"gt": NOON}}).data] == ["customer.deleted"]
    first = events.list({"limit": 1})
    assert (first.has_more, first.data[0].type) == (True, "customer.deleted")
    assert [one.type for one in events.list({"limit": 1}).auto_paging_iter()] == [
        "customer.deleted",
        "customer.created",
    ]
    with pytest.raises(stripe.InvalidRequestError):
        events.list({"type": "a.b", "types": ["a.b"]})
    created = events.list().data[-1].id
    stripe_account.advance(29 * 86_400)
    assert [one.type for one in events.list().data] == ["customer.deleted"]
    with pytest.raises(stripe.InvalidRequestError) as refused:
        events.retrieve(created)
    assert (refused.value.http_status, refused.value.code) == (404, "resource_missing")


def test_events_are_filtered_by_whether_endpoints_took_them(stripe_account: Account) -> None:
    client = stripe_account.client
    with receiving() as receiver:
        client.v1.webhook_endpoints.create({"url": receiver.url, "enabled_events": ["customer.created"]})
        receiver.statuses = [200, 500]
        client.v1.customers.create({"name": "taken"})
        receiver.wait(1)
        until(lambda: bool(stripe_account.look("deliveries", state="delivered")["data"]))
        client.v1.customers.create({"name": "refused"})
        receiver.wait(2)
        until(lambda: any(one["attempts"] for one in stripe_account.look("deliveries", state="waiting")["data"]))
    failed = client.v1.events.list({"delivery_success": False}).data
    assert [(one.to_dict()["data"]["object"]["name"], one.pending_webhooks) for one in failed] == [("refused", 1)]
    succeeded = client.v1.events.list({"delivery_success": True}).data
    assert [one.to_dict()["data"]["object"]["name"] for one in succeeded] == ["taken"]
