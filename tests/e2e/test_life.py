"""A subscription's life on the running stack, from its first day to its end: the account has what Stripe says."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from local.stripe_double.testing import sdk
from local.testing import StackProcess, wait_until
from tests.support.stack import running
from tests.unit.cli.test_running_stack import tollgate

pytestmark = pytest.mark.skipif(bool(os.environ.get("STRIPE_SECRET_KEY")), reason="time and payments are the double's")
DAY, HOUR = 86_400, 3600
NAME = "life"


@pytest.fixture(scope="module")
def sold(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackProcess]:
    """A stack whose plans are at Stripe."""
    for stack in running(tmp_path_factory.mktemp("life"), {}):
        tollgate(stack, "stripe", "sync", "--apply")
        yield stack


def until(stack: StackProcess, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The account once it is as wanted."""

    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = stack.api("GET", f"/v1/accounts/{NAME}").json()
        return found if wanted(found) else None

    found = wait_until(look, 60)
    assert found is not None
    return found


def messages(stack: StackProcess, kind: str) -> list[dict[str, Any]]:
    return [message for message in stack.outbox() if message["kind"] == kind]


def on(plan: str) -> Callable[[dict[str, Any]], bool]:
    return lambda account: bool(account["plan"]["id"] == plan)


def test_a_life(sold: StackProcess) -> None:
    client = sdk(sold.double_url, "sk_test_local")
    customer = client.v1.customers.create({}).id
    assert sold.api("PUT", f"/v1/accounts/{NAME}", {"stripe_customer_id": customer}).is_success

    def prices(plan: str) -> list[Any]:
        keys = [f"tollgate:tollgate-local:{plan}:1:{part}" for part in ("base", "meter:ai_credits")]
        found = {price.lookup_key: price.id for price in client.v1.prices.list({"lookup_keys": keys}).data}
        return [{"price": found[key]} for key in keys]

    until(sold, on("free"))
    made = client.v1.subscriptions.create({"customer": customer, "items": prices("pro")})
    until(sold, on("pro"))

    # The renewal is not paid: past due, with a day on which the plan ends.
    sold.double("POST", "/_double/payments", {"customer": customer, "outcome": "fail"})
    period_end = client.v1.subscriptions.retrieve(made.id)["items"].data[0].current_period_end
    sold.advance(period_end - made.created + 2 * HOUR)
    late = until(sold, lambda account: account["next_plan"] is not None)
    assert late["plan"]["id"] == "pro"
    assert late["next_plan"]["id"] == "free"
    (told,) = wait_until(lambda: messages(sold, "past_due"))
    assert told["account"] == NAME

    # Paid after all, then a week without: both are the subscription's own word.
    sold.double("POST", "/_double/payments", {"customer": customer, "outcome": "succeed"})
    (invoice,) = client.v1.invoices.list({"customer": customer, "status": "open"}).data
    sold.double("POST", "/_double/collect", {"invoice": invoice.id})
    until(sold, lambda account: account["next_plan"] is None and on("pro")(account))

    client.v1.subscriptions.cancel(made.id)
    until(sold, on("free"))
    wait_until(lambda: messages(sold, "subscription_ended"))
    assert sold.queues()["StripeEventsDeadLetterQueue"]["waiting"] == 0
