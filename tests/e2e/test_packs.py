"""A pack of credits on the running stack: sold, refunded, disputed, with deliveries late, doubled and lost."""

from __future__ import annotations

import os
from collections.abc import Iterator
from decimal import Decimal

import pytest

from local.stripe_double.testing import sdk
from local.testing import StackProcess, wait_until
from tests.support.stack import running
from tests.unit.cli.test_running_stack import tollgate

pytestmark = pytest.mark.skipif(bool(os.environ.get("STRIPE_SECRET_KEY")), reason="payments are made in the double")
ACCOUNT = "buyer"
SOLD = {
    "tollgate_stack": "tollgate-local",
    "tollgate_account": ACCOUNT,
    "tollgate_pack": "pack_200",
    "tollgate_plan": "casual",
    "tollgate_plan_version": "1",
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackProcess]:
    yield from running(tmp_path_factory.mktemp("shop"), {"TOLLGATE_CATALOG": "examples/catalogs/image-app.yaml"})


def credits(stack: StackProcess) -> Decimal:
    usage = stack.api("GET", f"/v1/accounts/{ACCOUNT}/usage").json()
    return sum((Decimal(one["available"]) for one in usage["credits"]), Decimal(0))


def has(stack: StackProcess, units: int) -> None:
    wait_until(lambda: credits(stack) == units, 60)


def bought(stack: StackProcess) -> str:
    """The payment intent of a pack that was paid on Stripe's page."""
    client = sdk(stack.double_url, "sk_test_local")
    customer = stack.api("GET", f"/v1/accounts/{ACCOUNT}").json()["stripe_customer_id"]
    session = client.v1.checkout.sessions.create(
        {
            "mode": "payment",
            "customer": customer,
            "success_url": "https://app.test/ok",
            "line_items": [
                {
                    "quantity": 1,
                    "price_data": {"currency": "usd", "unit_amount": 900, "product_data": {"name": "200 credits"}},
                }
            ],
            "metadata": SOLD,
            "payment_intent_data": {"metadata": SOLD},
        }
    )
    return str(stack.double("POST", f"/_double/checkout/{session.id}/complete", {})["payment_intent"])


def test_credits_follow_their_money(shop: StackProcess) -> None:
    client = sdk(shop.double_url, "sk_test_local")
    customer = client.v1.customers.create({}).id
    account = {"plan": "casual", "stripe_customer_id": customer}
    assert shop.api("PUT", f"/v1/accounts/{ACCOUNT}", account).is_success
    shop.double("POST", "/_double/delivery", {"rules": [{"type": "*", "action": "duplicate"}]})
    first = bought(shop)
    has(shop, 200)
    client.v1.refunds.create({"payment_intent": first, "amount": 225})
    has(shop, 150)
    second = bought(shop)
    has(shop, 350)
    dispute = shop.double("POST", "/_double/disputes", {"payment_intent": second})["id"]
    has(shop, 150)
    shop.double("POST", f"/_double/disputes/{dispute}/close", {"status": "won"})
    has(shop, 350)

    # Deliveries that never come are fetched: shown first, then processed, once.
    shop.double("POST", "/_double/delivery", {"rules": [{"type": "*", "action": "drop"}]})
    bought(shop)
    assert credits(shop) == 350
    shown = tollgate(shop, "stripe", "events", "replay", "--since", "1h")
    assert "checkout.session.completed" in shown
    assert "missed" in shown
    assert credits(shop) == 350
    tollgate(shop, "stripe", "events", "replay", "--since", "1h", "--apply")
    has(shop, 550)
    wait_until(lambda: "missed" not in tollgate(shop, "stripe", "events", "replay", "--since", "1h"), 60)
    tollgate(shop, "stripe", "events", "replay", "--since", "1h", "--apply")
    assert credits(shop) == 550
    assert [message["kind"] for message in shop.outbox()] == []
