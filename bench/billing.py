"""Seal and flush on the Stripe double: one Stripe call for each customer, meter, period and seal window."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple
from unittest.mock import patch

import boto3

from bench.calls import RESERVATIONS, Scenarios, asked
from bench.ledger import Tally
from bench.report import Check, Listing, Section
from bench.sizing import item_size
from bench.stage import GRACE_SECONDS, SEAL_SECONDS, LambdaContext, Stage
from local.stripe_double import testing
from local.stripe_double.server import running
from local.stripe_double.state import Double
from tollgate.usage.markers import shard_of

PAIRS = 60
"""Reserve + commit of the account whose window is sealed for the cost: one every five seconds."""
_SHARDS = ([0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15])
"""As the template's four schedules name them."""
_METER_EVENTS = "/v1/billing/meter_events"


class Cost(NamedTuple):
    """Requests to DynamoDB and their units."""

    requests: int
    write: int
    read: Decimal

    @classmethod
    def of(cls, tally: Tally) -> Cost:
        return cls(tally.requests, tally.write, tally.read)

    def beyond(self, other: Cost) -> Cost:
        """What this asked more than the other."""
        return Cost(self.requests - other.requests, self.write - other.write, self.read - other.read)


@dataclass(frozen=True, slots=True)
class WindowCost:
    """What one window of one account and meter costs from its end to Stripe; and an idle minute of seal."""

    seal: Cost
    flush: Cost
    idle: Cost
    row_bytes: int
    log_lines: tuple[str, ...]
    """What the functions logged from the window's end to Stripe."""


def section(stage: Stage) -> tuple[Section, WindowCost]:
    """Count Stripe's calls over two windows of three customers, then the cost of one window."""
    with _stripe(stage) as stripe:
        for meter in ("ai_credits", "llm_tokens"):
            stripe.meter(meter)
        expected, calls, customers = _two_windows(stage, stripe)
        again = _redelivered(stage, stripe)
        cost = _one_window(stage, stripe)
    listing = Listing(
        ("one window of one account and meter, sealed and sent", "requests", "write units", "read units"),
        [
            (f"seal, {PAIRS} rows, half a day of windows before", *cost.seal),
            ("flush, 1 batch", *cost.flush),
            ("seal with nothing to do, all 16 shards", *cost.idle),
        ],
    )
    return (
        Section(
            "From events to Stripe",
            [listing],
            [
                Check("Stripe calls for 5 (customer, meter) pairs in 2 windows", calls, expected, "calls", exact=True),
                Check("customers looked up, once each", customers, 3, "calls", exact=True),
                Check("Stripe calls when every message is delivered again", again, 0, "calls", exact=True),
            ],
            ["On the Stripe double, through the official SDK; each account committed several times a window."],
        ),
        cost,
    )


@contextmanager
def _stripe(stage: Stage) -> Iterator[testing.Account]:
    double = Double(lambda: stage.clock.ms, latency_seconds=0)
    with running(double) as url, patch.dict(os.environ, {"TOLLGATE_STRIPE_API_BASE": url}):
        yield testing.Account(double, url, testing.sdk(url, "sk_test_bench"))


def _two_windows(stage: Stage, stripe: testing.Account) -> tuple[int, int, int]:
    """(expected, counted) meter events, and customer look-ups."""
    run = Scenarios(stage)
    meters = {
        "ws_one": ("ai_credits", "llm_tokens"),
        "ws_two": ("ai_credits", "llm_tokens"),
        "ws_three": ("ai_credits",),
    }
    for account in meters:
        stage.account(account, "pair", stripe.customer())
    sent, looked = _calls(stripe), _looked_up(stripe)
    expected = 0
    for _ in range(2):
        for account, names in meters.items():
            expected += len(names)
            for meter in (*names, *names, *names):
                run.quiet(RESERVATIONS, asked(account, 7, meter=meter, commit=True), key=run.key())
        _pass_window(stage)
        seal(stage)
        flush(stage)
    return expected, _calls(stripe) - sent, _looked_up(stripe) - looked


def _redelivered(stage: Stage, stripe: testing.Account) -> int:
    """Stripe calls when SQS delivers messages of flushed batches once more."""
    before = _calls(stripe)
    pages = [_rows(stage, "billing", f"batch#{account}") for account in ("ws_one", "ws_two", "ws_three")]
    bodies = [f'{{"pk":"{row["pk"]["S"]}","sk":"{row["sk"]["S"]}"}}' for page in pages for row in page]
    if not bodies:
        raise AssertionError("no batches")
    _deliver(stage, bodies)
    return _calls(stripe) - before


def _one_window(stage: Stage, stripe: testing.Account) -> WindowCost:
    with stage.ledger.counting() as idle:
        seal(stage)
    run = Scenarios(stage)
    account = _alone_in_its_shard(stage)
    shards = [shard_of(account)]
    stage.account(account, "pair", stripe.customer())
    # One window before, so that the flush container knows the customer.
    run.quiet(RESERVATIONS, asked(account, commit=True), key=run.key())
    _pass_window(stage)
    seal(stage)
    flush(stage)
    for _ in range(PAIRS):
        held = run.quiet(RESERVATIONS, asked(account), key=run.key())
        stage.call("gate", "POST", f"{RESERVATIONS}/{held['id']}/commit", {})
    row = max(item_size(item) for item in _rows(stage, "events", account))
    _half_a_day_of_windows(stage, account)
    _pass_window(stage)
    first_line = len(stage.logs.lines)
    with stage.ledger.counting() as sealed:
        seal(stage, [shards])
    with stage.ledger.counting() as flushed:
        flush(stage)
    lines = tuple(stage.logs.lines[first_line:])
    with stage.ledger.counting() as nothing:
        seal(stage, [shards])
    return WindowCost(Cost.of(sealed).beyond(Cost.of(nothing)), Cost.of(flushed), Cost.of(idle), row, lines)


def _alone_in_its_shard(stage: Stage) -> str:
    """An account name whose shard no other account is in: its seal then does nothing else."""
    others = {row["pk"]["S"] for row in stage.look.scan(TableName="accounts")["Items"]}
    taken = {shard_of(name) for name in others}
    return next(name for name in (f"ws_cost_{at}" for at in range(10_000)) if shard_of(name) not in taken)


def _rows(stage: Stage, table: str, pk: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = stage.look.query(
        TableName=table, KeyConditionExpression="pk = :pk", ExpressionAttributeValues={":pk": {"S": pk}}
    )["Items"]
    return found


def _half_a_day_of_windows(stage: Stage, account: str) -> None:
    """Sealed windows of the day so far: the daily rollup sums them up at each seal."""
    sealed = _rows(stage, "billing", f"sealed#{account}")[0]
    window, rest = sealed["sk"]["S"].split("#", 1)
    for back in range(1, 144):
        key = {"S": f"{int(window) - back * SEAL_SECONDS:012d}#{rest}"}
        stage.look.put_item(TableName="billing", Item={**sealed, "sk": key})


def _pass_window(stage: Stage) -> None:
    stage.clock.advance((SEAL_SECONDS + GRACE_SECONDS + 1) * 1000)


def seal(stage: Stage, runs: Sequence[Sequence[int]] = _SHARDS) -> None:
    """One minute's runs of seal, as the four schedules start them, or of other shards."""
    for shards in runs:
        stage.app("seal").handler({"shards": list(shards)}, LambdaContext())


def flush(stage: Stage) -> None:
    """Everything that is queued, as Lambda hands it to flush."""
    sqs = boto3.session.Session().client("sqs")
    while True:
        found = sqs.receive_message(QueueUrl=stage.queue_url, MaxNumberOfMessages=10).get("Messages", [])
        if not found:
            return
        _deliver(stage, [message["Body"] for message in found])
        for message in found:
            sqs.delete_message(QueueUrl=stage.queue_url, ReceiptHandle=message["ReceiptHandle"])


def _deliver(stage: Stage, bodies: list[str]) -> None:
    for first in range(0, len(bodies), 10):
        records = [
            {"messageId": str(index), "body": body, "eventSource": "aws:sqs", "attributes": {}}
            for index, body in enumerate(bodies[first : first + 10])
        ]
        answer = stage.app("flush").handler({"Records": records}, LambdaContext())
        if answer["batchItemFailures"]:
            raise AssertionError(f"flush failed: {answer}")


def _calls(stripe: testing.Account) -> int:
    return int(stripe.look("requests", path=_METER_EVENTS, method="POST")["count"])


def _looked_up(stripe: testing.Account) -> int:
    return sum(1 for one in stripe.look("requests", method="GET")["recent"] if one["path"].startswith("/v1/customers/"))
