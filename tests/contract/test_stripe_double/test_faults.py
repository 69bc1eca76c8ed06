from __future__ import annotations

from typing import Any

import pytest
import requests
import stripe

from local.stripe_double.testing import Account, sdk

EVENTS = {"method": "POST", "path": "/v1/billing/meter_events"}


@pytest.fixture
def customer(stripe_account: Account) -> str:
    stripe_account.meter()
    return stripe_account.customer()


def inject(stripe_account: Account, kind: str, **more: Any) -> None:
    fault = {"match": EVENTS, "kind": kind, "times": 1, **more}
    assert stripe_account.control("faults", {"faults": [fault]}) == {"faults": 1}


def accepted(stripe_account: Account) -> int:
    return len(stripe_account.look("meter_events")["data"])


def test_429_with_its_reason_and_no_effect(stripe_account: Account, customer: str) -> None:
    inject(stripe_account, "429", reason="global-concurrency")
    with pytest.raises(stripe.RateLimitError) as limited:
        stripe_account.send(customer, idempotency_key="key")
    assert limited.value.headers is not None
    assert limited.value.headers["Stripe-Rate-Limited-Reason"] == "global-concurrency"
    assert accepted(stripe_account) == 0
    stripe_account.send(customer, idempotency_key="key")


def test_the_sdk_does_not_retry_a_429_but_retries_a_500_under_one_key(stripe_account: Account, customer: str) -> None:
    stripe_account.client = sdk(stripe_account.url, retries=2)
    inject(stripe_account, "429")
    with pytest.raises(stripe.RateLimitError):
        stripe_account.send(customer)
    assert stripe_account.look("requests", path=EVENTS["path"])["count"] == 1
    inject(stripe_account, "500_before")
    with pytest.raises(stripe.APIError):
        stripe_account.send(customer)
    log = stripe_account.look("requests", path=EVENTS["path"])
    # One injected 500; both retries carry the same key and get the saved one.
    assert log["by_status"] == {"429": 1, "500": 3}
    assert [request["fault"] for request in log["recent"]] == ["429", "500_before", None, None]
    assert len({request["idempotency_key"] for request in log["recent"][1:]}) == 1


def test_500_before_has_no_effect(stripe_account: Account, customer: str) -> None:
    inject(stripe_account, "500_before")
    with pytest.raises(stripe.APIError) as failed:
        stripe_account.send(customer, identifier="batch-1")
    assert failed.value.http_status == 500
    assert accepted(stripe_account) == 0
    stripe_account.send(customer, identifier="batch-1")


def test_500_after_has_taken_effect_and_replays_as_500(stripe_account: Account, customer: str) -> None:
    inject(stripe_account, "500_after")
    for _ in range(2):
        with pytest.raises(stripe.APIError):
            stripe_account.send(customer, identifier="batch-1", idempotency_key="batch-1:1")
    assert accepted(stripe_account) == 1
    with pytest.raises(stripe.InvalidRequestError, match="already exists with identifier batch-1"):
        stripe_account.send(customer, identifier="batch-1", idempotency_key="batch-1:2")


def test_500_after_in_place_of_a_replay_leaves_the_kept_answer(stripe_account: Account, customer: str) -> None:
    stripe_account.send(customer, identifier="batch-1", idempotency_key="batch-1:1")
    inject(stripe_account, "500_after")
    with pytest.raises(stripe.APIError):
        stripe_account.send(customer, identifier="batch-1", idempotency_key="batch-1:1")
    assert stripe_account.send(customer, identifier="batch-1", idempotency_key="batch-1:1").identifier == "batch-1"
    assert accepted(stripe_account) == 1


@pytest.mark.parametrize(("kind", "effects"), [("timeout_before", 0), ("timeout_after", 1)])
def test_a_timeout_gives_no_answer(stripe_account: Account, customer: str, kind: str, effects: int) -> None:
    impatient = sdk(stripe_account.url, timeout=0.3)
    patient, stripe_account.client = stripe_account.client, impatient
    inject(stripe_account, kind)
    with pytest.raises(stripe.APIConnectionError):
        stripe_account.send(customer, identifier="batch-1", idempotency_key="batch-1:1")
    assert accepted(stripe_account) == effects
    stripe_account.client = patient
    # The same key finds the first call's answer, or carries it out now: either way it has counted once.
    stripe_account.send(customer, identifier="batch-1", idempotency_key="batch-1:1")
    assert accepted(stripe_account) == 1
    assert stripe_account.look("requests", path=EVENTS["path"])["by_status"] == {"0": 1, "200": 1}


def test_a_connection_reset_has_no_effect(stripe_account: Account, customer: str) -> None:
    inject(stripe_account, "connection_reset")
    with pytest.raises(stripe.APIConnectionError) as lost:
        stripe_account.send(customer)
    assert "reset" in str(lost.value).lower()
    assert accepted(stripe_account) == 0
    stripe_account.send(customer)


@pytest.mark.parametrize(
    ("status", "error"),
    [(402, stripe.CardError), (403, stripe.PermissionError), (404, stripe.InvalidRequestError), (503, stripe.APIError)],
)
def test_any_status(stripe_account: Account, customer: str, status: int, error: type[stripe.StripeError]) -> None:
    inject(stripe_account, "status", status=status)
    with pytest.raises(error) as failed:
        stripe_account.send(customer)
    assert failed.value.http_status == status
    assert accepted(stripe_account) == 0


def test_times_counts_down_and_an_empty_list_ends_it(stripe_account: Account, customer: str) -> None:
    inject(stripe_account, "429", times=2)
    for _ in range(2):
        with pytest.raises(stripe.RateLimitError):
            stripe_account.send(customer)
    stripe_account.send(customer)
    inject(stripe_account, "429", times=None)
    for _ in range(3):
        with pytest.raises(stripe.RateLimitError):
            stripe_account.send(customer)
    stripe_account.control("faults", {"faults": []})
    stripe_account.send(customer)


@pytest.mark.parametrize("seconds", [30, 2 * 3600, 3 * 86_400])
def test_an_outage_ends_by_the_doubles_clock(stripe_account: Account, customer: str, seconds: int) -> None:
    inject(stripe_account, "500_before", times=None, until_seconds=seconds)
    for wait in (0, seconds - 1):
        stripe_account.control("clock", {"advance_seconds": wait})
        with pytest.raises(stripe.APIError):
            stripe_account.send(customer)
    stripe_account.control("clock", {"advance_seconds": 1})
    stripe_account.send(customer)
    assert accepted(stripe_account) == 1


def test_a_fault_meets_only_what_it_matches(stripe_account: Account, customer: str) -> None:
    other = stripe_account.customer()
    match = {**EVENTS, "params": {"payload[stripe_customer_id]": customer}}
    stripe_account.control("faults", {"faults": [{"match": match, "kind": "429"}]})
    stripe_account.send(other)
    stripe_account.client.v1.customers.retrieve(customer)
    with pytest.raises(stripe.RateLimitError):
        stripe_account.send(customer)
    stripe_account.control("faults", {"faults": [{"match": {"path": "/v1/customers/*"}, "kind": "429"}]})
    stripe_account.send(customer)
    with pytest.raises(stripe.RateLimitError):
        stripe_account.client.v1.customers.retrieve(customer)
    assert stripe_account.look("health")["status"] == "ok"


def test_the_first_matching_fault_is_used(stripe_account: Account, customer: str) -> None:
    stripe_account.control(
        "faults", {"faults": [{"kind": "429", "times": 1}, {"kind": "500_before", "times": 1}, {"kind": "429"}]}
    )
    statuses = []
    for _ in range(3):
        with pytest.raises(stripe.StripeError) as failed:
            stripe_account.send(customer)
        statuses.append(failed.value.http_status)
    assert statuses == [429, 500, 429]


@pytest.mark.parametrize(
    "faults",
    [
        "all",
        [{"kind": "explosion"}],
        [{"kind": "status"}],
        [{"kind": "429", "status": 500}],
        [{"kind": "status", "status": 200}],
        [{"kind": "429", "times": -1}],
        [{"kind": "429", "times": "2"}],
        [{"kind": "429", "match": {"header": "x"}}],
        [{"kind": "429", "when": "now"}],
        [{"kind": "429", "match": "all"}],
        [7],
    ],
)
def test_a_fault_that_makes_no_sense_is_refused_and_changes_nothing(
    stripe_account: Account, customer: str, faults: Any
) -> None:
    inject(stripe_account, "429")
    answer = requests.post(f"{stripe_account.url}/_double/faults", json={"faults": faults}, timeout=5)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]
    with pytest.raises(stripe.RateLimitError):
        stripe_account.send(customer)
