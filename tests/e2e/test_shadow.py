"""A stack that watches beside another billing system: it sends nothing, and finds what the other one billed wrongly."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.testing import StackProcess, wait_until
from tests.e2e.test_spine import Stripe, account, settle, use
from tests.support.stack import running

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def shadow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackProcess]:
    yield from running(tmp_path_factory.mktemp("shadow"), {"TOLLGATE_SHADOW": "true"})


def compare(stack: StackProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    return stack.command("shadow", "compare", "--month", stack.now()[:7], *arguments)


def rows(printed: str, account: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines() if f" {account} " in line]


def test_nothing_is_sent_and_a_planted_difference_is_found(shadow: StackProcess, tmp_path: Path) -> None:
    stripe = Stripe(shadow)
    if shadow.seconds() % 86_400 > 85_000:
        shadow.advance(2_000)  # what follows stays in one month
    customers = [stripe.customer(name) for name in ("Right", "Wrong")]
    right, wrong = (account(shadow, stripe_customer_id=customer) for customer in customers)
    use(shadow, right, "3")
    use(shadow, wrong, "10")
    use(shadow, wrong, "2.5")
    settle(shadow)
    bill = tmp_path / "bill.csv"
    agreed = f"account,meter,units\n{right},ai_credits,3\n{wrong},ai_credits,12.5\n"
    bill.write_text(agreed)
    wait_until(lambda: compare(shadow, "--csv", str(bill)).returncode == 0, 60)
    assert shadow.double("GET", "/_double/meter_events")["data"] == [], "the double got a meter event"
    said = compare(shadow, "--csv", str(bill))
    assert "All 2 agree within 0 %" in said.stderr
    assert rows(said.stdout, right) == [], "only what differs is shown"
    assert rows(said.stdout, "all")[0][1:5] == ["ai_credits", "15.5", "15.5", "0"]

    bill.write_text(agreed.replace("12.5", "10"))
    said = compare(shadow, "--csv", str(bill))
    assert said.returncode == 1
    assert "1 of 2 differ by more than 0 %" in said.stderr
    assert f"tollgate batches list {wrong} --state shadowed" in said.stderr
    assert rows(said.stdout, wrong)[0][1:6] == ["ai_credits", "12.5", "10", "2.5", "25"]
    assert compare(shadow, "--csv", str(bill), "--tolerance", "25").returncode == 0
    assert compare(shadow, "--csv", str(bill), "--tolerance", "24.9").returncode == 1

    bill.write_text("account,meter,units\nacme,credits,1\n")
    said = compare(shadow, "--csv", str(bill))
    assert said.returncode == 2
    assert f"{bill}:2: meter `credits` is not in the catalogue: one of ai_credits" in said.stderr

    # The other system sends meter events of its own.
    for customer, value in zip(customers, ("3", "13"), strict=True):
        event = {"event_name": "ai_credits", "payload[stripe_customer_id]": customer, "payload[value]": value}
        stripe.http.post("/v1/billing/meter_events", data=event).raise_for_status()
    shadow.advance(200)  # Stripe's lag
    said = compare(shadow, "--stripe")
    assert said.returncode == 1
    assert rows(said.stdout, wrong)[0][1:6] == ["ai_credits", "12.5", "13", "-0.5", "-3.85"]
    assert rows(said.stdout, right) == []
