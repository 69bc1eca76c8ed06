"""The inbox, billing states and the index of sent batches on tables: the rules of their stand-ins in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tests.unit.webhooks.stage import MemoryInbox, MemoryStates
from tollgate import dynamo
from tollgate.billing.batch import FLUSHED, REJECTED, SEALED, Batch
from tollgate.billing.batch_store import BatchTable
from tollgate.subscriptions.state import BillingState, Standing, Target
from tollgate.subscriptions.state_store import StateTable
from tollgate.webhooks.inbox import DONE, FAILED, PROCESSING
from tollgate.webhooks.inbox_store import InboxTable

pytestmark = pytest.mark.usefixtures("tables")
NOW = 1_795_262_400


def nothing(name: str) -> None:
    """No crash."""


@pytest.mark.parametrize("table", [True, False], ids=["table", "memory"])
def test_an_event_is_in_one_hand_until_it_is_done(table: bool) -> None:
    inbox: Any = InboxTable("events") if table else MemoryInbox(nothing)
    first, ours = inbox.take("evt_1", "invoice.paid", NOW, 90)
    assert (ours, first.state, first.attempts, first.lease_until) == (True, PROCESSING, 1, NOW + 90)
    there, ours = inbox.take("evt_1", "invoice.paid", NOW + 89, 90)
    assert (ours, there.attempts) == (False, 1)
    second, ours = inbox.take("evt_1", "invoice.paid", NOW + 90, 90)
    assert (ours, second.attempts) == (True, 2)
    # The first worker was slow, not dead: what it could not do ends nothing, what it did is done.
    assert not inbox.end(first, FAILED, NOW + 95, reason="late")
    assert inbox.end(first, DONE, NOW + 95, outcome="followed")
    assert not inbox.end(second, FAILED, NOW + 96, reason="no")
    done, ours = inbox.take("evt_1", "invoice.paid", NOW + 10_000, 90)
    assert (ours, done.state, done.outcome, done.reason) == (False, DONE, "followed", None)


@pytest.mark.parametrize("table", [True, False], ids=["table", "memory"])
def test_a_failed_event_is_taken_up_at_once_and_forgets_its_reason(table: bool) -> None:
    inbox: Any = InboxTable("events") if table else MemoryInbox(nothing)
    letter, _ = inbox.take("evt_2", "invoice.paid", NOW, 90)
    assert inbox.end(letter, FAILED, NOW, reason="busy: later")
    again, ours = inbox.take("evt_2", "invoice.paid", NOW, 90)
    assert (ours, again.attempts) == (True, 2)
    assert inbox.end(again, DONE, NOW, outcome="followed")
    if table:
        stored = inbox.get("evt_2")
        assert (stored.state, stored.reason, stored.type) == (DONE, None, "invoice.paid")
        assert inbox.get("evt_3") is None
        raw = dynamo.client().get_item(
            TableName="events", Key={"pk": {"S": "inbox#evt_2"}, "sk": {"S": "event"}}, ConsistentRead=True
        )["Item"]
        assert int(raw["ttl"]["N"]) > NOW + 30 * 86_400, "Stripe lists events for 30 days"


@pytest.mark.parametrize("table", [True, False], ids=["table", "memory"])
def test_a_state_is_never_written_over_a_newer_one(table: bool) -> None:
    states: Any = StateTable("accounts") if table else MemoryStates(nothing)
    before = states.read("acme")
    assert before == BillingState("acme")
    standing = Standing(
        "past_due", "sub_1", "past_due", "pro", 3, NOW, NOW, NOW + 9, NOW + 1, NOW + 2, NOW + 3, NOW - 1
    )
    target = Target("sub_1", "pro", 3, NOW + 7, "free", 1)
    first = states.write(before, replace(before, customer="cus_1", standing=standing, target=target, falls=(NOW + 7,)))
    assert first is not None
    assert states.read("acme") == first
    assert states.write(before, replace(before, customer="cus_2")) is None
    ended = Standing("ended", "sub_1", "canceled")
    second = states.write(first, replace(first, standing=ended, applied=target, falls=()))
    assert second is not None
    assert states.write(first, first) is None
    assert states.read("acme") == second
    assert (second.version, second.falls, second.applied) == (2, (), target)


# ---- sent batches


@pytest.fixture
def batches() -> Iterator[BatchTable]:
    dynamo.client().create_table(
        TableName="billing",
        AttributeDefinitions=[
            {"AttributeName": name, "AttributeType": kind}
            for name, kind in (("pk", "S"), ("sk", "S"), ("due_shard", "S"), ("due_at", "N"))
        ],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "due",
                "KeySchema": [
                    {"AttributeName": "due_shard", "KeyType": "HASH"},
                    {"AttributeName": "due_at", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            }
        ],
        BillingMode="PAY_PER_REQUEST",
    )
    yield BatchTable("billing")
    dynamo.client().delete_table(TableName="billing")


def batch(account: str) -> Batch:
    return Batch(
        account=account,
        meter="credits",
        period_start=NOW - 86_400,
        period_end=NOW + 86_400,
        window_start=NOW - 600,
        window_end=NOW - 300,
        supplement=0,
        part=0,
        event_name="credits",
        units=Decimal(3),
        timestamp=NOW - 600,
        created_at=NOW,
        state=SEALED,
        state_at=NOW,
        customer="cus_1",
        due_at=NOW,
    )


def test_sent_batches_are_found_by_their_second_and_are_never_due(batches: BatchTable) -> None:
    sent = []
    for number, at in enumerate((NOW, NOW + 10, NOW + 899, NOW + 900, NOW + 5000)):
        fresh = batch(f"a-{number}")
        assert batches.put_new(fresh) is None
        row = batches.replace(fresh, fresh.into(FLUSHED, at))
        assert row is not None
        assert batches.get(row.key) == row, "its place among the sent ones is nothing that is due"
        sent.append(row)
    waiting = batch("a-9")
    batches.put_new(waiting)
    due = [entry.key for shard in range(16) for entry in batches.due(shard)]
    assert due == [waiting.key]
    found = set(batches.sent_between(NOW + 1, NOW + 900))
    assert found == {row.key for row in sent[1:4]}
    assert set(batches.sent_between(NOW + 901, NOW + 4999)) == set()
    # One that turns out not to be counted is among them no more.
    parked = batches.replace(sent[1], sent[1].into(REJECTED, NOW + 20, reason="customer_not_found"))
    assert parked is not None
    assert sent[1].key not in set(batches.sent_between(NOW, NOW + 900))
