"""`tollgate stripe` against the stack that `make run` starts: a sync, and a backfill that is killed on its way."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter

import pytest

from local.stripe_double.testing import sdk
from local.testing import StackProcess, wait_until
from tests.unit.cli.test_running_stack import tollgate

pytestmark = pytest.mark.stack

ACCOUNTS = 40


def owners(stack: StackProcess) -> Counter[str]:
    """Live customers at Stripe by the account in their metadata."""
    found = sdk(stack.double_url).v1.customers.list({"limit": 100}).auto_paging_iter()
    metadata = [one.metadata.to_dict() for one in found if one.metadata is not None]
    return Counter(said["tollgate_account"] for said in metadata if "tollgate_account" in said)


def test_a_sync_is_shown_then_made_then_matches(stack: StackProcess) -> None:
    shown = tollgate(stack, "stripe", "sync")
    assert "create" in shown
    assert sdk(stack.double_url).v1.products.list().data == []
    checked = stack.start_command("stripe", "sync", "--check")
    assert "would change" in checked.communicate(timeout=60)[1]
    assert checked.returncode == 1
    tollgate(stack, "stripe", "sync", "--apply")
    products = sdk(stack.double_url).v1.products.list({"limit": 100}).data
    assert products
    assert all(one.metadata["tollgate_stack"] == "tollgate-local" for one in products)
    again = stack.start_command("stripe", "sync", "--check")
    assert "match" in again.communicate(timeout=60)[1]
    assert again.returncode == 0


def test_what_is_refused_changes_nothing(stack: StackProcess) -> None:
    tollgate(stack, "stripe", "sync", "--apply")
    meters = sdk(stack.double_url).v1.billing.meters
    meter = meters.list({"status": "active"}).data[0]
    meters.deactivate(meter.id)
    refused = stack.start_command("stripe", "sync", "--apply")
    shown, said = refused.communicate(timeout=60)
    assert refused.returncode == 2
    assert "it was deactivated: --reactivate takes it into use again" in " ".join(shown.split())
    assert "nothing was changed" in said
    tollgate(stack, "stripe", "sync", "--apply", "--reactivate")
    assert meters.retrieve(meter.id).status == "active"


def test_a_live_key_is_refused(stack: StackProcess) -> None:
    refused = stack.start_command("stripe", "sync", STRIPE_SECRET_KEY="sk_live_1")
    assert "takes only test mode keys" in " ".join(refused.communicate(timeout=60)[1].split())
    assert refused.returncode == 2


def test_a_backfill_that_is_killed_three_times_makes_no_second_customer(stack: StackProcess) -> None:
    accounts = [f"killed-{number:03d}" for number in range(ACCOUNTS)]
    for account in accounts:
        body = {"email": f"{account}@example.com", "name": account}
        assert stack.api("PUT", f"/v1/accounts/{account}", body).status_code in (200, 201)
    seed = random.randrange(10**6)
    draw = random.Random(seed)
    print("seed", seed)
    for _ in range(3):
        target = len(owners(stack)) + draw.randint(2, 10)
        running = stack.start_command("stripe", "backfill", "--apply", "--rate", "60")
        wait_until(lambda target=target: len(owners(stack)) >= target, 60)  # type: ignore[misc]
        time.sleep(draw.randrange(60) / 1000)
        assert running.poll() is None, running.communicate()
        running.send_signal(signal.SIGKILL)
        running.communicate()
        assert max(owners(stack).values()) == 1, f"seed {seed}"
    assert len(owners(stack)) < ACCOUNTS, "the kills came too late to show anything"
    tollgate(stack, "stripe", "backfill", "--apply", "--rate", "80")
    made = owners(stack)
    assert {account: made[account] for account in accounts} == dict.fromkeys(accounts, 1), f"seed {seed}"
    client = sdk(stack.double_url)
    for account in accounts:
        mapped = stack.api("GET", f"/v1/accounts/{account}").json()["stripe_customer_id"]
        customer = client.v1.customers.retrieve(mapped)
        assert customer.metadata is not None
        assert customer.metadata["tollgate_account"] == account
        assert customer.email == f"{account}@example.com"
    report = tollgate(stack, "stripe", "backfill")
    assert [cell.strip() for cell in report.splitlines()[-2].split("│")][1] == "had"
