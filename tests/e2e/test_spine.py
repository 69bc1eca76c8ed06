"""One unit's way, from the HTTP request to the meter event that Stripe bills, on the running stack."""

from __future__ import annotations

import calendar
import time
import uuid
from decimal import Decimal
from typing import Any

import httpx
import pytest

from local.testing import StackProcess, wait_until

pytestmark = pytest.mark.stack

STRIPE_KEY = "sk_test_local"


class Stripe:
    """What a person would look at in Stripe: customers and summaries, over the API."""

    def __init__(self, stack: StackProcess) -> None:
        self.http = httpx.Client(base_url=stack.double_url, auth=(STRIPE_KEY, ""), trust_env=False, timeout=20)
        listed = self.http.get("/v1/billing/meters", params={"limit": 100}).raise_for_status().json()["data"]
        self.meters = {meter["event_name"]: meter["id"] for meter in listed}

    def customer(self, name: str) -> str:
        return str(self.http.post("/v1/customers", data={"name": name}).raise_for_status().json()["id"])

    def total(self, event_name: str, customer: str, start: int, end: int) -> Decimal:
        answer = self.http.get(
            f"/v1/billing/meters/{self.meters[event_name]}/event_summaries",
            params={"customer": customer, "start_time": start, "end_time": end},
        )
        data = answer.raise_for_status().json()["data"]
        return sum((Decimal(str(row["aggregated_value"])) for row in data), Decimal(0))


@pytest.fixture
def stripe(stack: StackProcess) -> Stripe:
    return Stripe(stack)


def month(at: int) -> tuple[int, int]:
    now = time.gmtime(at)
    start = calendar.timegm((now.tm_year, now.tm_mon, 1, 0, 0, 0))
    year, following = (now.tm_year + 1, 1) if now.tm_mon == 12 else (now.tm_year, now.tm_mon + 1)
    return start, calendar.timegm((year, following, 1, 0, 0, 0))


def account(stack: StackProcess, plan: str = "pro", **more: Any) -> str:
    name = f"e2e-{uuid.uuid4().hex[:10]}"
    stack.api("PUT", f"/v1/accounts/{name}", {"plan": plan, **more}).raise_for_status()
    return name


def use(stack: StackProcess, name: str, quantity: str, **more: Any) -> Any:
    body = {"account": name, "meter": "ai_credits", "quantity": quantity, "commit": True, **more}
    answer = stack.api("POST", "/v1/reservations", body)
    assert answer.status_code == 201, answer.text
    return answer.json()


def settle(stack: StackProcess) -> None:
    """Past the grace, the queue and Stripe's lag."""
    stack.advance(20)
    stack.run("seal")
    queue = "FlushQueue"  # what other suites left on others is none of this one's
    wait_until(lambda: stack.queues()[queue]["waiting"] + stack.queues()[queue]["in_flight"] == 0, 30)
    stack.advance(100)


def test_a_unit_reaches_stripe_exactly_once(stack: StackProcess, stripe: Stripe) -> None:
    customer = stripe.customer("Acme")
    name = account(stack, stripe_customer_id=customer)
    reserved = stack.api(
        "POST", "/v1/reservations", {"account": name, "meter": "ai_credits", "quantity": "7.5", "member": "u1"}
    ).json()
    committed = stack.api("POST", f"/v1/reservations/{reserved['id']}/commit", {"quantity": "6.25"}).json()
    assert committed["units"] == "6.25"
    shown = stack.api("GET", f"/v1/accounts/{name}/usage").json()
    assert {meter["id"]: meter["used"] for meter in shown["meters"]}["ai_credits"] == "6.25"
    listed = stack.api("GET", f"/v1/accounts/{name}/events").json()["data"]
    assert [event["units"] for event in listed] == ["6.25"]
    start, end = month(stack.seconds())
    settle(stack)
    settle(stack)
    assert stripe.total("ai_credits", customer, start, end) == Decimal("6.25")


def test_usage_before_the_customer_is_mapped_waits_and_is_billed_then(stack: StackProcess, stripe: Stripe) -> None:
    name = account(stack)
    use(stack, name, "3")
    start, end = month(stack.seconds())
    settle(stack)
    told = [message for message in stack.outbox() if name in str(message)]
    assert told, "a batch without a customer is told to the operator"
    customer = stripe.customer("Late")
    stack.api("PUT", f"/v1/accounts/{name}", {"stripe_customer_id": customer}).raise_for_status()
    settle(stack)
    assert stripe.total("ai_credits", customer, start, end) == 3


def test_units_are_billed_in_the_period_they_were_recorded_in(stack: StackProcess, stripe: Stripe) -> None:
    customer = stripe.customer("Boundary")
    name = account(stack, stripe_customer_id=customer)
    now = stack.seconds()
    first = month(now)
    second = month(first[1] + 86_400)
    use(stack, name, "2")
    stack.advance(first[1] - now - 30)
    use(stack, name, "4")
    stack.advance(40)
    use(stack, name, "8")
    settle(stack)
    assert stripe.total("ai_credits", customer, *first) == 6
    assert stripe.total("ai_credits", customer, *second) == 8


def test_a_stripe_outage_delays_and_neither_loses_nor_doubles(stack: StackProcess, stripe: Stripe) -> None:
    customer = stripe.customer("Outage")
    name = account(stack, stripe_customer_id=customer)
    start, end = month(stack.seconds())
    match = {"method": "POST", "path": "/v1/billing/meter_events"}
    stack.faults([{"match": match, "kind": "500_after", "times": 1}, {"match": match, "kind": "500_before"}])
    use(stack, name, "5")
    settle(stack)
    stack.faults([])
    for _ in range(6):
        stack.advance(900)
        settle(stack)
    assert stripe.total("ai_credits", customer, start, month(end + 1)[1]) == 5


def test_free_plans_are_never_sent(stack: StackProcess, stripe: Stripe) -> None:
    customer = stripe.customer("Free")
    name = account(stack, plan="free", stripe_customer_id=customer)
    use(stack, name, "3", member="u1")
    start, end = month(stack.seconds())
    settle(stack)
    assert stripe.total("ai_credits", customer, start, end) == 0


def test_a_revoked_key_stops_working_within_a_minute(stack: StackProcess) -> None:
    made = stack.api("POST", "/v1/keys", {"name": "temp", "scopes": ["read"]}).json()
    assert stack.api("GET", "/v1/keys", key=made["secret"]).status_code == 403
    name = account(stack)
    assert stack.api("GET", f"/v1/accounts/{name}", key=made["secret"]).status_code == 200
    assert stack.api("DELETE", f"/v1/keys/{made['id']}").status_code == 200
    stack.advance(61)
    assert stack.api("GET", f"/v1/accounts/{name}", key=made["secret"]).status_code == 401
