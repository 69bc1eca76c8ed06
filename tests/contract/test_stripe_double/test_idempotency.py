from __future__ import annotations

import threading
from typing import Any, cast

import pytest
import requests
import stripe

from local.stripe_double.testing import Account, account

DAY = 86_400


def test_the_same_key_and_body_replays_the_first_answer(stripe_account: Account) -> None:
    customers = stripe_account.client.v1.customers
    first = customers.create({"name": "Acme"}, {"idempotency_key": "key"})
    again = customers.create({"name": "Acme"}, {"idempotency_key": "key"})
    assert first.id == again.id
    assert len(customers.list().data) == 1
    assert again.last_response is not None
    assert again.last_response.headers["Idempotent-Replayed"] == "true"
    assert again.last_response.headers["Idempotency-Key"] == "key"
    assert first.last_response is not None
    assert "Idempotent-Replayed" not in first.last_response.headers


def test_a_replayed_event_counts_once_and_is_no_duplicate(stripe_account: Account) -> None:
    stripe_account.meter()
    customer = stripe_account.customer()
    for _ in range(2):
        stripe_account.send(customer, identifier="batch-1", idempotency_key="batch-1:1")
    assert len(stripe_account.look("meter_events")["data"]) == 1


def test_another_body_or_endpoint_under_the_key_is_an_idempotency_error(stripe_account: Account) -> None:
    customers = stripe_account.client.v1.customers
    customer = customers.create({"name": "Acme"}, {"idempotency_key": "key"})
    with pytest.raises(stripe.IdempotencyError) as refused:
        customers.create({"name": "Other"}, {"idempotency_key": "key"})
    assert refused.value.http_status == 400
    with pytest.raises(stripe.IdempotencyError):
        customers.update(customer.id, {"name": "Acme"}, {"idempotency_key": "key"})
    assert len(customers.list().data) == 1


def test_a_key_is_forgotten_after_24_hours(stripe_account: Account) -> None:
    customers = stripe_account.client.v1.customers
    first = customers.create({"name": "Acme"}, {"idempotency_key": "key"})
    stripe_account.advance(DAY - 1)
    assert customers.create({"name": "Acme"}, {"idempotency_key": "key"}).id == first.id
    stripe_account.advance(1)
    assert customers.create({"name": "Acme"}, {"idempotency_key": "key"}).id != first.id


def test_a_refusal_of_the_endpoint_is_kept_and_one_of_the_parameters_is_not(stripe_account: Account) -> None:
    customer = stripe_account.customer()
    with pytest.raises(stripe.InvalidRequestError, match="No active meter"):
        stripe_account.send(customer, idempotency_key="refused")
    stripe_account.meter()
    with pytest.raises(stripe.InvalidRequestError, match="No active meter"):
        stripe_account.send(customer, idempotency_key="refused")
    customers = stripe_account.client.v1.customers
    with pytest.raises(stripe.InvalidRequestError, match="unknown parameter"):
        customers.create(cast(Any, {"nickname": "x"}), {"idempotency_key": "typo"})
    assert customers.create({"name": "x"}, {"idempotency_key": "typo"}).name == "x"


def test_keys_longer_than_255_are_refused(stripe_account: Account) -> None:
    customers = stripe_account.client.v1.customers
    customers.create({}, {"idempotency_key": "k" * 255})
    with pytest.raises(stripe.IdempotencyError):
        customers.create({}, {"idempotency_key": "k" * 256})


def test_a_key_in_use_is_a_409() -> None:
    with account(latency_seconds=1.0) as stripe_account:
        stripe_account.meter()
        customer = stripe_account.customer()
        first = threading.Thread(target=lambda: stripe_account.send(customer, idempotency_key="key"))
        first.start()
        while not stripe_account.double.in_work:
            assert first.is_alive()
        with pytest.raises(stripe.APIError) as refused:
            stripe_account.send(customer, idempotency_key="key")
        first.join()
        assert refused.value.http_status == 409
        assert refused.value.error is not None
        assert refused.value.error.code == "idempotency_key_in_use"
        assert len(stripe_account.look("meter_events")["data"]) == 1


def test_the_clock_may_move_by_days_while_a_call_runs() -> None:
    with account(latency_seconds=0.5) as stripe_account:
        stripe_account.meter()
        customer = stripe_account.customer()
        events: list[stripe.billing.MeterEvent] = []
        call = threading.Thread(target=lambda: events.append(stripe_account.send(customer, idempotency_key="key")))
        call.start()
        while not stripe_account.double.in_work:
            assert call.is_alive()
        stripe_account.advance(2 * DAY)
        stripe_account.client.v1.customers.create({}, {"idempotency_key": "other"})
        call.join()
        assert len(events) == 1


def test_get_and_delete_take_no_keys(stripe_account: Account) -> None:
    customer = stripe_account.customer()
    headers = {"Authorization": "Bearer sk_test_x", "Idempotency-Key": "key"}
    url = f"{stripe_account.url}/v1/customers/{customer}"
    assert requests.get(url, headers=headers, timeout=5).status_code == 200
    assert requests.delete(url, headers=headers, timeout=5).status_code == 200
    assert requests.delete(url, headers=headers, timeout=5).status_code == 404


def test_a_saved_500_is_replayed_for_a_day(stripe_account: Account) -> None:
    """The trap of one stable key: after an outage of seconds, its 500 stays for a day."""
    stripe_account.meter()
    customer = stripe_account.customer()
    stripe_account.control("faults", {"faults": [{"kind": "500_before", "times": 1}]})
    for _ in range(3):
        with pytest.raises(stripe.APIError) as failed:
            stripe_account.send(customer, identifier="batch-1", idempotency_key="stable")
        assert failed.value.http_status == 500
    assert stripe_account.look("meter_events")["data"] == []
    stripe_account.send(customer, identifier="batch-1", idempotency_key="batch-1:2")
    stripe_account.advance(DAY)
    stripe_account.send(customer, identifier="batch-2", idempotency_key="stable")
    assert len(stripe_account.look("meter_events")["data"]) == 2
