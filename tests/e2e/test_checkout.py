"""A customer buys: a page is asked for, paid in the double, and what Stripe tells brings the plan or the credits."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local.testing import StackProcess, wait_until
from tests.support.stack import running

pytestmark = pytest.mark.stack

ROOT = Path(__file__).parents[2]
CATALOG = """
currency: usd
default_plan: free
meters:
  ai_credits: {name: AI credits, unit: credit, stripe_event_name: ai_credits}
plans:
  free:
    name: Free
    limits: [{id: daily, meter: ai_credits, per: account, window: day, max: 10}]
  pro:
    name: Pro
    base_fee: "29.00"
    period: {interval: month, anchor: subscription}
    prices: [{meter: ai_credits, scheme: per_unit, unit_price: "0.01"}]
    packs: [{id: small, name: Small pack, meter: ai_credits, units: 500, price: "5.00"}]
"""
URLS = {"success_url": "http://127.0.0.1/ok", "cancel_url": "http://127.0.0.1/no"}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackProcess]:
    """A stack whose catalogue sells a pack, and a Stripe that has its prices."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "catalog.yaml").write_text(CATALOG)
    stacks = running(folder, {"TOLLGATE_CATALOG": str(folder / "catalog.yaml")})
    stack = next(stacks)
    synced = stack.command("stripe", "sync", "--apply")
    assert synced.returncode == 0, synced.stderr
    yield stack
    for _ in stacks:
        pass


def account(stack: StackProcess, plan: str) -> str:
    name = f"shop-{uuid.uuid4().hex[:10]}"
    stack.api("PUT", f"/v1/accounts/{name}", {"plan": plan}).raise_for_status()
    return name


def page(stack: StackProcess, name: str, **sold: Any) -> str:
    """A page's session."""
    answer = stack.api("POST", f"/v1/accounts/{name}/checkout", {**sold, **URLS})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["session_id"])


def pay(stack: StackProcess, session: str) -> Any:
    return stack.double("POST", f"/_double/checkout/{session}/complete", {"email": "payer@example.com"})


def credits(stack: StackProcess, name: str) -> list[Any]:
    found = stack.api("GET", f"/v1/accounts/{name}/usage").json()["credits"]
    return [(one["meter"], one["available"]) for one in found]


def test_a_paid_pack_brings_its_credits_once(shop: StackProcess) -> None:
    name = account(shop, "pro")
    session = page(shop, name, pack="small")
    assert credits(shop, name) == []
    pay(shop, session)
    wait_until(lambda: credits(shop, name) == [("ai_credits", "500")], 30)
    deliveries = shop.double("GET", "/_double/deliveries?type=checkout.session.completed")["data"]
    assert deliveries
    shop.double("POST", "/_double/deliveries/send", {"ids": [one["id"] for one in deliveries] * 2})
    wait_until(lambda: not shop.double("GET", "/_double/deliveries?state=waiting")["data"], 30)
    wait_until(lambda: all(row["waiting"] + row["in_flight"] == 0 for row in shop.queues().values()), 30)
    assert credits(shop, name) == [("ai_credits", "500")], "a repeated delivery gives nothing more"


def test_a_paid_plan_moves_the_account(shop: StackProcess) -> None:
    name = account(shop, "free")
    session = page(shop, name, plan="pro")
    assert shop.api("GET", f"/v1/accounts/{name}").json()["plan"]["id"] == "free"
    done = pay(shop, session)
    wait_until(lambda: shop.api("GET", f"/v1/accounts/{name}").json()["plan"]["id"] == "pro", 30)
    again = shop.api("POST", f"/v1/accounts/{name}/checkout", {"plan": "pro", **URLS})
    assert (again.status_code, again.json()["code"]) == (409, "already_subscribed")
    assert done["subscription"] in again.json()["detail"]
    period = shop.api("GET", f"/v1/accounts/{name}/usage").json()["period"]
    assert period["start"].endswith(":00Z") or period["end"].endswith(":00Z"), "periods are of whole minutes"
