"""Deliveries to the running stack, signed as Stripe signs them: from the function URL to plans, credits and parked
usage."""

from __future__ import annotations

import json
import os
from typing import Any

import httpx
import pytest

from local.settings import LOCAL_WEBHOOK_SECRET
from local.stripe_double.testing import sdk
from local.testing import StackProcess, wait_until
from tollgate.webhooks.signature import sign

pytestmark = pytest.mark.skipif(
    bool(os.environ.get("STRIPE_SECRET_KEY")), reason="the double's own objects are looked at"
)


def deliver(
    stack: StackProcess,
    event: dict[str, Any],
    secret: str = LOCAL_WEBHOOK_SECRET,
    age: int = 0,
    cut: int = 0,
    kind: str = "application/json; charset=utf-8",
) -> int:
    """The status that Stripe would see. `cut`: bytes that are missing at the end."""
    raw = json.dumps(event).encode()
    header = sign(raw, secret, stack.seconds() - age)
    return httpx.post(
        f"{stack.base_url}/_local/url/stripe_webhook",
        content=raw[: len(raw) - cut],
        headers={"Stripe-Signature": header, "Content-Type": kind},
        timeout=30,
        trust_env=False,
    ).status_code


def event(event_id: str, kind: str, obj: dict[str, Any]) -> dict[str, Any]:
    return {"id": event_id, "object": "event", "type": kind, "livemode": False, "data": {"object": obj}}


def account(stack: StackProcess, name: str) -> dict[str, Any]:
    found: dict[str, Any] = stack.api("GET", f"/v1/accounts/{name}").json()
    return found


def idle(stack: StackProcess) -> bool:
    row = stack.queues()["StripeEventsQueue"]
    return bool(row["waiting"] == row["in_flight"] == 0)


def test_a_deleted_customer_is_delivered_to_the_account_once(stack: StackProcess) -> None:
    stripe = sdk(stack.double_url, "sk_test_local")
    customer = stripe.v1.customers.create({}).id
    assert stack.api("PUT", "/v1/accounts/hooked", {"stripe_customer_id": customer}).status_code in (200, 201)
    deleted = event("evt_e2e_deleted", "customer.deleted", {"id": customer, "object": "customer"})

    # Forged, stale, truncated, under another secret: refused, and nothing happens.
    assert deliver(stack, deleted, "whsec_forged") == 400
    assert deliver(stack, deleted, age=400) == 400
    assert deliver(stack, deleted, age=-120) == 400
    assert deliver(stack, deleted, cut=1) == 400
    url = f"{stack.base_url}/_local/url/stripe_webhook"
    assert httpx.get(url, trust_env=False).status_code == 405
    assert httpx.post(f"{stack.base_url}/_local/url/gate", content=b"{}", trust_env=False).status_code == 404
    large = {**deleted, "more": "x" * 250_000}
    assert deliver(stack, large) == 413
    wait_until(lambda: idle(stack))
    assert account(stack, "hooked")["stripe_customer_id"] == customer

    stripe.v1.customers.delete(customer)
    # Lambda hands over a body of no text type as base64; the signature is of the bytes.
    for kind in ("application/json; charset=utf-8", "application/octet-stream", "text/plain"):
        assert deliver(stack, deleted, kind=kind) == 202
    wait_until(lambda: account(stack, "hooked")["stripe_customer_id"] is None)
    wait_until(lambda: idle(stack))
    told = [message for message in stack.outbox() if message["kind"] == "customer_deleted"]
    assert [message["account"] for message in told] == ["hooked"]
    assert stack.queues()["StripeEventsDeadLetterQueue"]["waiting"] == 0


def test_an_unknown_event_is_taken_and_forgotten(stack: StackProcess) -> None:
    assert deliver(stack, event("evt_e2e_unknown", "customer.tax_id.created", {"id": "txi_1"})) == 202
    wait_until(lambda: "unknown_type" in stack.log("stripe_events"))
    wait_until(lambda: idle(stack))
