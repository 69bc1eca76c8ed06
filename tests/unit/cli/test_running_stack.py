"""The command line against the stack that `make run` starts."""

from __future__ import annotations

import json

import boto3
import pytest

from local.testing import StackProcess
from tests.e2e.test_spine import Stripe, account, settle, use

pytestmark = pytest.mark.stack


def tollgate(stack: StackProcess, *arguments: str, shown: str = "stdout") -> str:
    """What a command printed; it must succeed."""
    found = stack.command(*arguments)
    assert found.returncode == 0, found.stderr
    return str(getattr(found, shown))


def test_keys_plans_and_accounts(stack: StackProcess) -> None:
    secret = tollgate(stack, "keys", "create", "--name", "from the command line", "--scope", "usage").strip()
    call = {"account": "cli", "member": "u-1", "meter": "ai_credits", "quantity": 2, "commit": True}
    assert stack.api("POST", "/v1/reservations", call, key=secret).status_code == 201
    assert stack.api("GET", "/v1/keys", key=secret).status_code == 403
    assert "from the command line" in tollgate(stack, "keys", "list")
    assert "free (default)" in tollgate(stack, "plans", "list")
    shown = tollgate(stack, "accounts", "show", "cli", "--member", "u-1")
    assert "Free (free, version 1)" in shown
    daily = next(line for line in shown.splitlines() if " daily " in line)
    assert [cell.strip() for cell in daily.split("│")][4:7] == ["2", "0", "10"]
    assert tollgate(stack, "catalog", "load", "catalog.yaml").count("unchanged") == 3


def test_reconcile_finds_a_stray_event_and_takes_it_back(stack: StackProcess) -> None:
    stripe = Stripe(stack)
    customer = stripe.customer("Strayed")
    name = account(stack, stripe_customer_id=customer)
    use(stack, name, "6")
    settle(stack)
    stray = {"event_name": "ai_credits", "payload[stripe_customer_id]": customer, "payload[value]": "50"}
    stray["timestamp"] = str(stack.seconds() - 60)
    stripe.http.post("/v1/billing/meter_events", data=stray).raise_for_status()
    stack.advance(3600)
    shown = tollgate(stack, "reconcile", "--account", name)
    assert "foreign_event" in shown
    assert [cell.strip() for cell in next(row for row in shown.splitlines() if name in row).split("│")][5:8] == [
        "6",
        "6",
        "56",
    ]
    assert "Counters of the gate equal the events" in tollgate(stack, "reconcile", "--account", name, shown="stderr")
    assert "correct: done" in tollgate(stack, "reconcile", "--account", name, "--apply")
    settle(stack)
    stack.advance(4000)
    assert " equal " in tollgate(stack, "reconcile", "--account", name)
    runs = stack.api("GET", "/v1/reconciliations").json()["data"]
    assert {"class": "foreign_event", "count": 1} in runs[2]["differences"]
    assert stack.run("reconcile")["parts"] == 0


def test_dead_letters_are_shown_and_sent_back_where_the_row_says_so(stack: StackProcess) -> None:
    stripe = Stripe(stack)
    name = account(stack, stripe_customer_id=stripe.customer("Dead"))
    use(stack, name, "2")
    settle(stack)
    batch = next(
        row for row in tollgate(stack, "batches", "list", name, "--state", "flushed").splitlines() if "#" in row
    )
    sort_key = batch.split("│")[1].strip()
    sqs = boto3.client(
        "sqs",
        endpoint_url=stack.aws_url,
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
    )
    (url,) = (one for one in sqs.list_queues()["QueueUrls"] if one.endswith("-flush-dead-letter.fifo"))
    for at, body in enumerate((json.dumps({"pk": f"batch#{name}", "sk": sort_key}), "poison")):
        sqs.send_message(QueueUrl=url, MessageBody=body, MessageGroupId=str(at), MessageDeduplicationId=str(at))
    assert [cell.strip() for cell in tollgate(stack, "dlq", "list").splitlines() if "flush" in cell][0].split("│")[
        2
    ].strip() == "2"
    shown = tollgate(stack, "dlq", "redrive", "--queue", "flush")
    assert "its batch is flushed: nothing to send" in shown
    assert "poison: names no batch" in shown
    assert "poison" in tollgate(stack, "dlq", "show", "--queue", "flush")
    assert "1 were dropped, 1 stay" in tollgate(stack, "dlq", "redrive", "--queue", "flush", "--apply", shown="stderr")
    assert "1 stay" in tollgate(stack, "dlq", "redrive", "--queue", "flush", shown="stderr")
