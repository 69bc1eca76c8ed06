"""Seal and flush on moto's tables, with the clock, the rules, the queue and the sink in the test's hands."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import lru_cache
from typing import Any

from moto import mock_aws

from tests.infra.translated import Stack
from tollgate import dynamo
from tollgate.accounts.rules import AccountRow, Rules, compile_rules, with_plan
from tollgate.alerts.outbox_store import OutboxTable
from tollgate.billing import queue_store
from tollgate.billing.batch import Batch, BatchKey
from tollgate.billing.batch_store import BatchTable, batch_of
from tollgate.billing.close_store import CloseTable
from tollgate.billing.customer_store import CustomerTable
from tollgate.billing.flush import FlushDeps, flush
from tollgate.billing.run import run_seal
from tollgate.billing.seal import Counts, SealDeps
from tollgate.billing.sealed import SealedWindow
from tollgate.billing.sealed_store import SealTable, sealed_of
from tollgate.billing.sink import Accepted, Duplicate, SendResult, Sink, SinkEvent
from tollgate.catalog.model import Meter, Plan, Price
from tollgate.errors import UnknownAccount
from tollgate.ids import key_hash
from tollgate.usage.marker_store import MarkerTable
from tollgate.usage.markers import SHARDS, shard_of
from tollgate.usage.outcome import Event, OutcomeKey, UsedItem
from tollgate.usage.store import EventTable
from tollgate.windows import Calendar

NOON = 1_795_262_400
"""2026-11-21 12:00:00 UTC, an edge of all windows that the tests use."""
SEAL_S = 300
GRACE_S = 60
METERS = {
    "ai_credits": Meter("ai_credits", "AI credits", "credit", stripe_event_name="credits_used"),
    "llm_tokens": Meter("llm_tokens", "Tokens", "token", stripe_event_name="tokens_used"),
    "nameless": Meter("nameless", "Nameless", "thing"),
    "storage": Meter("storage", "Gigabytes stored", "gigabyte", stripe_event_name="gigabytes", kind="level"),
}
FREE = Plan("free", 1, "Free", unlimited=True)
PRO = Plan(
    "pro",
    1,
    "Pro",
    prices=tuple(Price(meter, "per_unit", unit_price=Decimal("0.01")) for meter in ("ai_credits", "llm_tokens")),
)
EVENTS, BILLING, CONFIG, ACCOUNTS = "events", "billing", "config", "accounts"


class Crash(BaseException):
    """The process ends here. No `except Exception` catches it."""


class Cut:
    """Ends the process at one of its calls to the outside: `at` counts calls, `after` says on which side of it."""

    def __init__(self, at: int = -1, *, after: bool = False) -> None:
        self.at, self.after, self.calls = at, after, 0

    def around(self, target: Any) -> Any:
        return _Watched(target, self)


class _Watched:
    def __init__(self, target: Any, cut: Cut) -> None:
        self._target, self._cut = target, cut

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._target, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            here = self._cut.calls == self._cut.at
            self._cut.calls += 1
            if here and not self._cut.after:
                raise Crash
            answer = method(*args, **kwargs)
            if here:
                raise Crash
            return answer

        return call


def no_gate(write: object) -> dict[str, Any]:
    raise AssertionError("sealing writes no gate")


def fixed(seconds: int) -> int:
    """No jitter."""
    return seconds


@contextmanager
def tables() -> Iterator[None]:
    """The template's own event and billing tables in moto, empty."""
    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    os.environ.setdefault("AWS_ACCESS_KEY_ID", "test")
    os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "test")
    with mock_aws():
        forget_clients()
        properties = template()
        for name, resource in (
            (EVENTS, "EventsTable"),
            (BILLING, "BillingTable"),
            (CONFIG, "ConfigTable"),
            (ACCOUNTS, "AccountsTable"),
        ):
            table = properties[resource]["Properties"]
            dynamo.client().create_table(
                TableName=name,
                **{
                    key: table[key]
                    for key in ("AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes", "BillingMode")
                    if key in table
                },
            )
        yield
    forget_clients()


@lru_cache(maxsize=1)
def template() -> dict[str, Any]:
    return Stack().resources


def forget_clients() -> None:
    """Clients are made once per process; moto wants one of its own."""
    for module in (dynamo, queue_store):
        for made_once in vars(module).values():
            if hasattr(made_once, "cache_clear"):
                made_once.cache_clear()


class FakeRules:
    """RulesReader: rules rows by account, changed by tests."""

    def __init__(self) -> None:
        self.rows: dict[str, AccountRow] = {}
        self.plans = {plan.id: plan for plan in (FREE, PRO)}
        self.asked = 0

    def fresh(self, account: str) -> Rules:
        self.asked += 1
        if account not in self.rows:
            raise UnknownAccount(account)
        row = self.rows[account]
        if row.merged_into is not None:
            row = self.rows[row.merged_into]
        return compile_rules(row, self.plans[row.plan], METERS)

    def add(
        self, account: str, plan: Plan = PRO, customer: str | None = "cus_1", calendar: Calendar | None = None
    ) -> None:
        row = AccountRow(account, 1, plan.id, 1, 0, calendar or Calendar.of("UTC"), (), ())
        self.rows[account] = replace(with_plan(row, plan, METERS, 0), stripe_customer_id=customer)

    def change(self, account: str, **changes: Any) -> None:
        self.rows[account] = replace(self.rows[account], **changes)


class ListQueue:
    """Queue: keeps what is sent, as SQS's deduplication would leave it."""

    def __init__(self) -> None:
        self.waiting: list[BatchKey] = []
        self.ids: set[str] = set()
        self.sent = 0
        self.failing = False

    def send(self, batches: Iterable[Batch]) -> int:
        count = 0
        for batch in batches:
            if self.failing:
                raise queue_store.QueueRefused("test")
            count += 1
            name = queue_store.deduplication_id(batch)
            if name not in self.ids:
                self.ids.add(name)
                self.waiting.append(batch.key)
        self.sent += count
        return count


class ScriptedSink:
    """Sink that plays prepared results, then accepts; it counts an identifier once, as Stripe does for a day."""

    def __init__(self) -> None:
        self.script: list[SendResult | Callable[[SinkEvent], SendResult]] = []
        self.sent: list[SinkEvent] = []
        self.counted: dict[str, SinkEvent] = {}
        self.unknown_customers: set[str] = set()
        self.asked_customers: list[str] = []
        self.customer_answer: Exception | None = None

    def take(self, event: SinkEvent) -> SendResult:
        """As the sink answers with nothing in the way."""
        if event.identifier in self.counted:
            return Duplicate()
        self.counted[event.identifier] = event
        return Accepted()

    def send(self, event: SinkEvent) -> SendResult:
        self.sent.append(event)
        if not self.script:
            return self.take(event)
        step = self.script.pop(0)
        return step(event) if callable(step) else step

    def customer_exists(self, customer: str) -> bool:
        self.asked_customers.append(customer)
        if self.customer_answer is not None:
            raise self.customer_answer
        return customer not in self.unknown_customers

    def total(self, customer: str, event_name: str, start: int, end: int) -> Decimal:
        raise AssertionError("flush asks for no totals")


@dataclass
class World:
    """Everything together; `now` is the time in epoch seconds."""

    sink: Any = field(default_factory=ScriptedSink)
    now: int = NOON
    rules: FakeRules = field(default_factory=FakeRules)
    queue: ListQueue = field(default_factory=ListQueue)
    restored_at: int | None = None
    """As flush is told it."""

    def __post_init__(self) -> None:
        self.events = EventTable(EVENTS, no_gate)
        self.batches = BatchTable(BILLING)
        self.seals = SealTable(BILLING)
        self.markers = MarkerTable(BILLING, SEAL_S)
        self.customers = CustomerTable(BILLING)
        self.closes = CloseTable(BILLING)
        self.outbox = OutboxTable(BILLING, self.clock)
        self.recorded: list[Event] = []
        self.runs = 0

    def clock(self) -> int:
        return self.now * 1000

    # -- usage -------------------------------------------------------------------------------------------------------

    def record(
        self,
        units: str | int,
        account: str = "acme",
        meter: str = "ai_credits",
        at: int | None = None,
        origin: int | None = None,
        mark: bool = True,
        credit_funded: str = "0",
        waived: str = "0",
    ) -> Event:
        """One event row, marked as the gate does it. `at`: when it was recorded; `origin`: where its id begins."""
        recorded = self.now if at is None else at
        key = key_hash("usage", f"{account}-{len(self.recorded)}")
        item = UsedItem(
            meter,
            Decimal(units),
            Decimal(units),
            credit_funded=Decimal(credit_funded),
            waived=Decimal(waived),
            priced=account not in self.rules.rows or meter in self.rules.fresh(account).priced_meters(),
        )
        origin_ms = (recorded if origin is None else origin) * 1000
        event = Event(OutcomeKey(account, origin_ms, key), {"account": b"1" * 16}, recorded * 1000, (item,))
        if mark:
            self.markers.ensure(account, event.recorded_ms, (origin_ms,))
        assert self.events.put_event(event) is None
        self.recorded.append(event)
        return event

    def set_level(
        self, number: int, units: str | int, account: str = "acme", at: int | None = None, mark: bool = True
    ) -> Event:
        """The row of a level's change `number`, marked as the gate does it."""
        recorded = self.now if at is None else at
        at_key = OutcomeKey(account, recorded * 1000, key_hash("level", f"{account}-{number}"))
        priced = "storage" in self.rules.fresh(account).priced_meters()
        item = UsedItem("storage", Decimal(units), Decimal(units), priced=priced, level=number)
        event = Event(at_key, {}, recorded * 1000, (item,))
        if mark:
            self.markers.ensure(account, event.recorded_ms, (recorded * 1000,))
        assert self.events.put_event(event) is None
        return event

    # -- functions ---------------------------------------------------------------------------------------------------

    def seal_deps(self, **changes: Any) -> SealDeps:
        made = SealDeps(
            rules=self.rules,
            events=self.events,
            markers=self.markers,
            seals=self.seals,
            batches=self.batches,
            queue=self.queue,
            outbox=self.outbox,
            clock=self.clock,
            seal_seconds=SEAL_S,
            grace_seconds=GRACE_S,
        )
        return replace(made, **changes)

    def flush_deps(self, sink: Sink | None = None) -> FlushDeps:
        return FlushDeps(
            batches=self.batches,
            sink=sink or self.sink,
            customers=self.customers,
            closes=self.closes,
            outbox=self.outbox,
            clock=self.clock,
            stack="tollgate-test",
            restored_at=self.restored_at,
            jitter=fixed,
        )

    def seal(self, **changes: Any) -> Counts:
        # Only the shards that have accounts here: sixteen are slow on moto.
        shards = sorted({shard_of(account) for account in self.rules.rows})
        counts = run_seal(self.seal_deps(**changes), shards or range(SHARDS))
        for failure in counts.failures:
            raise failure
        return counts

    def flush_all(self) -> list[str]:
        """Deliver every waiting message once."""
        waiting, self.queue.waiting = self.queue.waiting, []
        return [flush(self.flush_deps(), key) for key in waiting]

    def run_until(self, end: int, step: int = 60) -> None:
        """Let time pass: seal each `step` seconds, and deliver what it queues."""
        while self.now < end:
            self.now = min(self.now + step, end)
            self.seal()
            self.flush_all()

    def close_window(self) -> None:
        """To the first second at which the current window may be sealed."""
        self.now = self.now // SEAL_S * SEAL_S + SEAL_S + GRACE_S

    # -- what stands there -------------------------------------------------------------------------------------------

    def rows(self, prefix: str) -> list[dynamo.Item]:
        found = []
        for page in dynamo.client().get_paginator("scan").paginate(TableName=BILLING):
            found += [raw for raw in page["Items"] if raw["pk"]["S"].startswith(prefix)]
        return sorted(found, key=lambda raw: (raw["pk"]["S"], raw["sk"]["S"]))

    def all_batches(self) -> list[Batch]:
        return [batch_of(raw) for raw in self.rows("batch#")]

    def batch(self) -> Batch:
        (only,) = self.all_batches()
        return only

    def sealed(self) -> list[SealedWindow]:
        return [sealed_of(raw) for raw in self.rows("sealed#")]

    def alerts(self) -> list[dict[str, Any]]:
        return [dynamo.unitem(raw) for raw in self.rows("outbox")]

    def one_sealed(self, units: str | int = 5, customer: str | None = "cus_1") -> Batch:
        """An account with one batch, made and queued."""
        self.rules.add("acme", customer=customer)
        self.record(units)
        self.close_window()
        self.seal()
        return self.batch()

    def force(self, batch: Batch, **changes: Any) -> Batch:
        """Put a row into a state that takes long to reach."""
        written = self.batches.replace(batch, replace(batch, **changes))
        assert written is not None
        return written


def fresh_world() -> World:
    """Another world on the same tables, emptied: quicker than new tables."""
    for table in (EVENTS, BILLING):
        for page in dynamo.client().get_paginator("scan").paginate(TableName=table):
            for raw in page["Items"]:
                dynamo.client().delete_item(TableName=table, Key={"pk": raw["pk"], "sk": raw["sk"]})
    return World()
