"""Two months of three accounts on the running stack: what Stripe invoices is what our rating makes of what was used.

A change of plan in mid-month, usage around the boundary second, an outage over the end of a period. At the end the
reconciliation explains everything, and the reads and writes of the run are printed.
"""

from __future__ import annotations

import calendar
import os
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from local.testing import StackProcess, wait_until
from tests.support.stack import running
from tollgate.catalog.model import Plan
from tollgate.catalog.schema import parse_catalog
from tollgate.clock import parse_rfc3339
from tollgate.rating.lines import total, usage_lines

pytestmark = [
    pytest.mark.stack,
    pytest.mark.skipif(bool(os.environ.get("STRIPE_SECRET_KEY")), reason="a sandbox's time is not moved by us"),
]

ROOT = Path(__file__).parents[2]
HOUR, DAY = 3_600, 86_400
_METHODS = ("GET", "POST", "DELETE")
CATALOG = """
currency: usd
default_plan: free
meters:
  ai_credits: {name: AI credits, unit: credit, stripe_event_name: ai_credits}
  llm_tokens: {name: Tokens, unit: token, stripe_event_name: llm_tokens}
plans:
  free:
    name: Free
    unlimited: true
  pro:
    name: Pro
    base_fee: "29.00"
    period: {interval: month, anchor: calendar}
    prices:
      - meter: ai_credits
        scheme: graduated
        tiers: [{up_to: 100, unit_price: "0"}, {up_to: inf, unit_price: "0.04"}]
      - {meter: llm_tokens, scheme: per_unit, unit_price: "0.0005"}
  team:
    name: Team
    base_fee: "99.00"
    period: {interval: month, anchor: calendar}
    prices:
      - meter: ai_credits
        scheme: graduated
        tiers: [{up_to: 500, unit_price: "0"}, {up_to: inf, unit_price: "0.03"}]
      - {meter: llm_tokens, scheme: per_unit, unit_price: "0.0004"}
"""
PLANS: dict[str, Plan] = {plan.id: plan for plan in parse_catalog(CATALOG).plans.values()}


class Run:
    """The stack, what was used on it, and Stripe."""

    def __init__(self, stack: StackProcess) -> None:
        self.stack = stack
        self.own: Counter[str] = Counter()
        """The test's own requests to Stripe, by method."""
        self.http = httpx.Client(
            base_url=stack.double_url,
            auth=("sk_test_local", ""),
            trust_env=False,
            timeout=20,
            event_hooks={"request": [lambda request: self.own.update([request.method])]},
        )
        self.before = self.asked()
        """What was asked of Stripe before: the catalogue's synchronisation."""
        self.used: list[tuple[int, str, str, Decimal]] = []
        """(recorded second, account, meter, units)"""
        self.customers: dict[str, str] = {}
        self.subscriptions: dict[str, str] = {}

    # -- time --------------------------------------------------------------------------------------------------------

    @property
    def now(self) -> int:
        return self.stack.seconds()

    def idle(self) -> bool:
        return all(row["waiting"] + row["in_flight"] == 0 for row in self.stack.queues().values())

    def settle(self) -> None:
        """What Stripe delivers and what is queued is done."""
        wait_until(lambda: not self.stack.double("GET", "/_double/deliveries?state=waiting")["data"], 30)
        wait_until(self.idle, 30)

    def pass_by(self, seconds: int) -> None:
        """Time passes; what the schedule, the queues and Stripe do then is done."""
        self.stack.advance(seconds)
        self.http.get("/v1/customers", params={"limit": 1})  # whoever asks meets what is due
        self.settle()
        self.stack.run("seal")
        self.settle()

    def to(self, moment: int, by: int = 5 * DAY) -> None:
        while (left := moment - self.now) > 0:
            self.pass_by(min(left, by))

    # -- what happens ------------------------------------------------------------------------------------------------

    def subscribe(self, name: str, plan: str) -> None:
        self.stack.api("PUT", f"/v1/accounts/{name}", {"name": name}).raise_for_status()
        body = {"plan": plan, "idempotency_key": f"subscribe-{name}"}
        answer = self.stack.api("POST", f"/v1/accounts/{name}/subscription", body)
        assert answer.status_code == 201, answer.text
        self.subscriptions[name] = answer.json()["subscription_id"]
        wait_until(lambda: self.account(name)["plan"]["id"] == plan, 30)
        self.customers[name] = self.account(name)["stripe_customer_id"]

    def account(self, name: str) -> Any:
        return self.stack.api("GET", f"/v1/accounts/{name}").json()

    def use(self, name: str, units: str, meter: str = "ai_credits") -> None:
        body = {"account": name, "meter": meter, "quantity": units, "commit": True}
        answer = self.stack.api("POST", "/v1/reservations", body)
        assert answer.status_code == 201, answer.text
        assert answer.json()["allowed"], answer.text
        (newest,) = self.stack.api("GET", f"/v1/accounts/{name}/events?limit=1").json()["data"]
        self.used.append((parse_rfc3339(newest["recorded_at"]) // 1000, name, meter, Decimal(units)))

    def change(self, name: str, plan: str) -> None:
        """The customer changes plan at Stripe; the stack follows."""
        found = self.get(f"/v1/subscriptions/{self.subscriptions[name]}")
        form: dict[str, str] = {}
        for number, item in enumerate(found["items"]["data"]):
            key = f"{item['price']['lookup_key']}".replace(":pro:", f":{plan}:")
            (price,) = self.get("/v1/prices", **{"lookup_keys[0]": key})["data"]
            form |= {f"items[{number}][id]": item["id"], f"items[{number}][price]": price["id"]}
        self.http.post(f"/v1/subscriptions/{self.subscriptions[name]}", data=form).raise_for_status()
        wait_until(lambda: self.account(name)["plan"]["id"] == plan, 30)

    # -- what came of it ---------------------------------------------------------------------------------------------

    def get(self, path: str, **query: Any) -> Any:
        return self.http.get(path, params=query).raise_for_status().json()

    def invoices(self, name: str) -> list[Any]:
        """Final invoices, oldest first."""
        found = self.get("/v1/invoices", customer=self.customers[name], limit=100)["data"]
        return [one for one in reversed(found) if one["status"] != "draft"]

    def units(self, name: str, meter: str, start: int, end: int) -> Decimal:
        found = [units for at, who, what, units in self.used if (who, what) == (name, meter) and start <= at < end]
        return sum(found, Decimal(0))

    def check(self, name: str) -> Decimal:
        """Each metered line is what our rating makes of what was used; returns what the lines come to."""
        amount = Decimal(0)
        for invoice in self.invoices(name):
            for line in invoice["lines"]["data"]:
                price = self.get(f"/v1/prices/{line['pricing']['price_details']['price']}")
                part, plan = price["metadata"]["tollgate_part"], PLANS[price["metadata"]["tollgate_plan"]]
                if not part.startswith("meter:"):
                    continue
                meter = part.removeprefix("meter:")
                ours = next(one for one in plan.prices if one.meter == meter)
                units = self.units(name, meter, line["period"]["start"], line["period"]["end"])
                assert Decimal(line["quantity_decimal"]) == units, (name, line)
                assert Decimal(line["amount"]) / 100 == total(usage_lines(ours, units, "usd")), (name, line)
                amount += Decimal(line["amount"]) / 100
        return amount

    def nights(self) -> list[Any]:
        """All runs of reconciliation."""
        found: list[Any] = []
        query: str | None = ""
        while query is not None:
            page = self.stack.api("GET", f"/v1/reconciliations?limit=100{query}").json()
            found += page["data"]
            query = page["next_cursor"] and f"&cursor={page['next_cursor']}"
        return found

    def asked(self) -> Counter[str]:
        """The double's exact counts of requests."""
        counts = {kind: self.stack.double("GET", f"/_double/requests?method={kind}")["count"] for kind in _METHODS}
        return Counter(counts)

    def counted(self) -> Counter[str]:
        """The stack's requests to Stripe in this run."""
        return self.asked() - self.before - self.own


def month_after(at: int) -> int:
    now = time.gmtime(at)
    year, month = (now.tm_year + 1, 1) if now.tm_mon == 12 else (now.tm_year, now.tm_mon + 1)
    return calendar.timegm((year, month, 1, 0, 0, 0))


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    (tmp_path / "catalog.yaml").write_text(CATALOG)
    stacks = running(tmp_path, {"TOLLGATE_CATALOG": str(tmp_path / "catalog.yaml")})
    stack = next(stacks)
    synced = stack.command("stripe", "sync", "--apply")
    assert synced.returncode == 0, synced.stderr
    yield Run(stack)
    for _ in stacks:
        pass


def test_two_months_are_invoiced_to_the_cent(run: Run) -> None:
    acme, beta, gamma = (f"{name}-{uuid.uuid4().hex[:8]}" for name in ("acme", "beta", "gamma"))
    for name in (acme, beta, gamma):
        run.subscribe(name, "pro")
    first = month_after(run.now)
    second = month_after(first)
    run.use(acme, "40")  # in the very minute of the subscription
    run.pass_by(60)
    run.to(first + 30)
    run.pass_by(1200)
    run.pass_by(1200)

    # The first month: usage of all; beta moves up in the middle of it.
    run.use(acme, "120.5")
    run.use(beta, "130")
    run.use(gamma, "333", "llm_tokens")
    run.pass_by(60)
    run.to(first + 15 * DAY)
    run.change(beta, "team")
    run.pass_by(60)  # usage is booked at whole minutes: in the minute of the new price, before it
    run.use(beta, "510.25")
    run.pass_by(60)

    # The last seconds of it and the first of the next, while Stripe takes and tells no usage.
    run.to(second - HOUR)
    run.to(second - 20)
    run.stack.faults([{"match": {"path": "/v1/billing/*"}, "kind": "500_before"}])
    for name in (acme, beta, gamma):
        run.use(name, "7.125")
    while run.now < second:
        time.sleep(0.05) if second - run.now < 3 else run.stack.advance(second - 2 - run.now)
    for name in (acme, beta, gamma):
        run.use(name, "9")
    run.pass_by(60)
    run.pass_by(1200)
    run.to(second + 3 * HOUR, by=2 * HOUR)
    run.stack.faults([])
    for _ in range(6):
        run.pass_by(1800)

    # The second month.
    run.to(second + 9 * DAY)
    run.use(gamma, "999.999", "llm_tokens")
    run.pass_by(60)
    third = month_after(second)
    run.to(third + 30)
    for _ in range(3):
        run.pass_by(1200)

    amounts = {name: run.check(name) for name in (acme, beta, gamma)}
    assert amounts[acme] == Decimal("1.11")
    assert amounts[beta] == Decimal("1.20") + Decimal("0.52")
    assert amounts[gamma] == Decimal("0.17") + Decimal("0.50")
    for name in (acme, beta, gamma):
        cycles = [one for one in run.invoices(name) if one["billing_reason"] == "subscription_cycle"]
        assert len(cycles) == 3
        for invoice in cycles:
            audited = run.stack.api("GET", f"/v1/accounts/{name}/invoices/{invoice['id']}/audit").json()
            assert audited["agrees"], audited
    # Reconciliation, by its schedule as time passed: all days and all invoices agree in the end, and what differed on
    # the way passed by itself.
    run.to(third + DAY + 4 * HOUR, by=8 * HOUR)
    run.stack.run("reconcile")
    run.settle()
    assert run.stack.run("reconcile")["parts"] == 0
    nights = run.nights()
    assert all(night["finished_at"] is not None and night["failed"] == 0 for night in nights), nights
    assert {one["class"] for night in nights for one in night["differences"]} <= {"in_flight", "lag", "rounding"}, (
        nights
    )
    assert [one for night in nights for one in night["reports"] if one["invoice"] is not None] == []
    assert sum(night["invoices"] for night in nights) == 9  # three periods of three accounts, each once
    assert sum(night["settled"] for night in nights) > 9
    kinds = Counter(message["kind"] for message in run.stack.outbox())
    assert not kinds.keys() & {"expired", "unconfirmed", "rejected", "close_deadline"}, kinds
    print(f"requests to Stripe: {dict(run.counted())}")
