"""The worker on stores in memory, a Stripe in the test's hands, and crashes between any two calls."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from tests.support.memory import World
from tollgate.accounts.audit import Entry
from tollgate.accounts.rules import AccountRow
from tollgate.accounts.service import AccountDeps, AccountPatch, put_account
from tollgate.accounts.store import AccountTable, RulesTable
from tollgate.alerts.outbox import Alert
from tollgate.billing.batch import Batch, BatchKey
from tollgate.catalog.frozen import PlanVersion
from tollgate.catalog.model import Catalog
from tollgate.catalog.schema import parse_catalog
from tollgate.catalog.store import CatalogTable, Current
from tollgate.errors import CustomerInUse, StripeRefused, UnknownPlan
from tollgate.subscriptions.follow import FollowDeps
from tollgate.subscriptions.state import BillingState, Item, Subscription
from tollgate.webhooks.dispatch import EventDeps, receive
from tollgate.webhooks.inbox import DONE, FAILED, LEASE_S, PROCESSING, InboxDeps, InHand, Letter, Processed
from tollgate.webhooks.meter_errors import MeterErrorDeps, MeterErrors
from tollgate.webhooks.packs import CheckoutSession, PackDeps, Payment

NOON_MS = 1_795_262_400_000
NOON = NOON_MS // 1000
DAY = 86_400
STACK, ACCOUNT, CUSTOMER = "tollgate-test", "acme", "cus_1"
CATALOG = """
currency: usd
default_plan: free
grace_days: 7
meters:
  credits: {name: Credits, unit: credit, scale: 2, stripe_event_name: credits}
plans:
  free: {name: Free, limits: [{id: monthly, meter: credits, window: period, max: 10}]}
  pro:
    name: Pro
    base_fee: "29.00"
    prices: [{meter: credits, scheme: per_unit, unit_price: "0.02"}]
    packs: [{id: small, meter: credits, units: 100, price: "5.00", expires_days: 90}]
    limits: [{id: monthly, meter: credits, window: period, max: 1000}]
  team:
    name: Team
    base_fee: "99.00"
    prices: [{meter: credits, scheme: per_unit, unit_price: "0.01"}]
    limits: [{id: monthly, meter: credits, window: period, max: 5000}]
  limited: {name: Limited, limits: [{id: monthly, meter: credits, window: period, max: 1}]}
"""


class Crash(BaseException):
    """The process is gone: nothing of it runs any more."""


class MemoryCatalog:
    """CatalogTable: each plan in version 1, later ones by `publish`."""

    def __init__(self, catalog: Catalog) -> None:
        self.versions: dict[tuple[str, int], PlanVersion] = {}
        self.catalog = catalog
        self.publish(catalog)

    def publish(self, catalog: Catalog) -> None:
        self.catalog = catalog
        for plan in catalog.plans.values():
            version = 1 + max((v for p, v in self.versions if p == plan.id), default=0)
            self.versions[plan.id, version] = PlanVersion(replace(plan, version=version), dict(catalog.meters))

    def current(self) -> Current:
        newest: dict[str, int] = {}
        for plan, version in sorted(self.versions):
            newest[plan] = version
        known = self.catalog
        return Current(known.currency, known.default_plan, True, newest, known.grace_days, known.fallback_plan)

    def version(self, plan: str, version: int) -> PlanVersion:
        if (plan, version) not in self.versions:
            raise UnknownPlan(plan)
        return self.versions[plan, version]

    def current_version(self, plan: str) -> PlanVersion:
        return self.version(plan, self.current().versions.get(plan, 0))


class MemoryAccounts:
    """AccountTable: rules rows by account, unique customers, the audit's entries."""

    def __init__(self, called: Callable[[str], None]) -> None:
        self._called = called
        self.rows: dict[str, AccountRow] = {}
        self.customers: dict[str, str] = {}
        self.entries: list[Entry] = []

    def read(self, account: str) -> AccountRow | None:
        self._called("accounts.read")
        return self.rows.get(account)

    def holder(self, customer: str) -> str | None:
        self._called("accounts.holder")
        return self.customers.get(customer)

    def create(self, row: AccountRow, entry: Entry | None = None) -> bool:
        if row.account in self.rows:
            return False
        return self._put(row, None, entry)

    def update(self, row: AccountRow, before: AccountRow, entry: Entry | None = None) -> bool:
        self._called("accounts.update")
        if self.rows[row.account].rev != before.rev:
            return False
        return self._put(row, before.stripe_customer_id, entry)

    def _put(self, row: AccountRow, was: str | None, entry: Entry | None) -> bool:
        customer = row.stripe_customer_id
        if customer is not None and self.customers.get(customer, row.account) != row.account:
            raise CustomerInUse(customer)
        if was != customer and was is not None:
            del self.customers[was]
        if customer is not None:
            self.customers[customer] = row.account
        self.rows[row.account] = row
        self.entries += [] if entry is None else [entry]
        return True


class MemoryStates:
    def __init__(self, called: Callable[[str], None]) -> None:
        self._called = called
        self.rows: dict[str, BillingState] = {}

    def read(self, account: str) -> BillingState:
        self._called("states.read")
        return self.rows.get(account, BillingState(account))

    def write(self, before: BillingState, after: BillingState) -> BillingState | None:
        self._called("states.write")
        if self.rows.get(before.account, BillingState(before.account)).version != before.version:
            return None
        self.rows[before.account] = replace(after, version=before.version + 1)
        return self.rows[before.account]


class MemoryInbox:
    def __init__(self, called: Callable[[str], None]) -> None:
        self._called = called
        self.rows: dict[str, Letter] = {}

    def take(self, event: str, kind: str, now: int, lease_s: int) -> tuple[Letter, bool]:
        self._called("inbox.take")
        there = self.rows.get(event)
        if there is not None and (there.state == DONE or (there.state == PROCESSING and there.lease_until > now)):
            return there, False
        attempts = 1 if there is None else there.attempts + 1
        self.rows[event] = Letter(event, kind, PROCESSING, attempts, now + lease_s)
        return self.rows[event], True

    def end(
        self, letter: Letter, state: str, now: int, *, reason: str | None = None, outcome: str | None = None
    ) -> bool:
        self._called("inbox.end")
        there = self.rows[letter.id]
        if there.state == DONE or (there.attempts != letter.attempts and state != DONE):
            return False
        self.rows[letter.id] = there._replace(state=state, lease_until=0, reason=reason, outcome=outcome)
        return True


class MemoryOutbox:
    def __init__(self, called: Callable[[str], None]) -> None:
        self._called = called
        self.alerts: dict[str, Alert] = {}

    def put(self, alert: Alert) -> bool:
        self._called("outbox.put")
        new = alert.id not in self.alerts
        self.alerts.setdefault(alert.id, alert)
        return new


@dataclass
class FakeStripe:
    """What Stripe has now: the port of every subject."""

    called: Callable[[str], None]
    subscriptions: dict[str, list[Subscription]] = field(default_factory=dict)
    payments: dict[str, Payment] = field(default_factory=dict)
    sessions: dict[str, CheckoutSession] = field(default_factory=dict)
    reports: dict[str, MeterErrors] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    trouble: list[Exception] = field(default_factory=list)

    def _asked(self, what: str) -> None:
        self.called(f"stripe.{what}")
        if self.trouble:
            raise self.trouble.pop(0)

    def of_customer(self, customer: str) -> list[Subscription]:
        self._asked("subscriptions")
        return list(self.subscriptions.get(customer, ()))

    def payment(self, payment: str) -> Payment:
        self._asked("payment")
        if payment not in self.payments:
            raise StripeRefused(404, "resource_missing", f"No such payment_intent: '{payment}'")
        return self.payments[payment]

    def session(self, session: str) -> CheckoutSession:
        self._asked("session")
        return self.sessions[session]

    def meter_errors(self, event: str) -> MeterErrors:
        self._asked("event")
        return self.reports[event]

    def event_name(self, meter: str) -> str:
        self._asked("meter")
        return meter.removeprefix("mtr_")

    def customer_exists(self, customer: str) -> bool:
        self._asked("customer")
        return customer not in self.gone


class MemoryBatches:
    """The batch store, with the index of sent ones."""

    def __init__(self, called: Callable[[str], None]) -> None:
        self._called = called
        self.rows: dict[BatchKey, Batch] = {}

    def sent_between(self, first: int, last: int) -> Iterator[BatchKey]:
        self._called("batches.sent_between")
        sent = [b for b in self.rows.values() if b.state == "flushed" and first <= b.state_at <= last]
        yield from [batch.key for batch in sent]

    def get(self, key: BatchKey) -> Batch | None:
        return self.rows.get(key)

    def replace(self, before: Batch, after: Batch) -> Batch | None:
        self._called("batches.replace")
        if self.rows[before.key].version != before.version:
            return None
        self.rows[before.key] = replace(after, version=before.version + 1)
        return self.rows[before.key]


class Stage:
    """A stack whose worker can be made to crash at its n-th call."""

    def __init__(self, written: str = CATALOG) -> None:
        catalog = parse_catalog(written)
        self.calls = 0
        self.names: list[str] = []
        self.crash_at: int | None = None
        self.at_call: Callable[[str], None] = lambda name: None
        self.world = World(NOON_MS, dict(catalog.meters), catalog.plans["free"], step=self._called)
        self.catalog = MemoryCatalog(catalog)
        self.accounts = MemoryAccounts(self._called)
        self.states = MemoryStates(self._called)
        self.inbox = MemoryInbox(self._called)
        self.outbox = MemoryOutbox(self._called)
        self.batches = MemoryBatches(self._called)
        self.stripe = FakeStripe(self._called)
        self._ids = itertools.count(1)

    def _called(self, name: str) -> None:
        self.calls += 1
        self.names.append(name)
        if self.calls == self.crash_at:
            raise Crash(name)
        self.at_call(name)

    def deps(self) -> EventDeps:
        """A new process's."""
        table, catalog = cast(AccountTable, self.accounts), cast(CatalogTable, self.catalog)
        rules = RulesTable(table, catalog, self.world.clock)
        accounts = AccountDeps(table, catalog, rules, replace(self.world.deps(), rules=rules))
        clock = self.world.clock
        return EventDeps(
            inbox=InboxDeps(self.inbox, self.outbox, clock),
            follow=FollowDeps(accounts, self.states, self.stripe, self.outbox, STACK),
            packs=PackDeps(accounts, self.stripe, self.outbox, STACK),
            meters=MeterErrorDeps(cast(Any, self.batches), self.stripe, self.outbox, clock),
            live=False,
        )

    def account(self, account: str = ACCOUNT, plan: str = "free", customer: str | None = CUSTOMER) -> None:
        patch = AccountPatch(plan=plan) if customer is None else AccountPatch(plan=plan, stripe_customer_id=customer)
        put_account(self.deps().follow.accounts, account, patch)

    def row(self, account: str = ACCOUNT) -> AccountRow:
        """The rules row as the next reservation would read it."""
        found = self.deps().follow.accounts.rules.row(account)
        assert found is not None
        return found

    def on(self, account: str = ACCOUNT) -> tuple[str, int]:
        found = self.row(account)
        return found.plan, found.plan_version

    def event(self, kind: str, obj: dict[str, Any] | None = None, **more: Any) -> str:
        """A delivery's body."""
        thing = {"id": "sub_1", "customer": CUSTOMER} if obj is None else obj
        return json.dumps(
            {
                "id": f"evt_{next(self._ids)}",
                "object": "event",
                "type": kind,
                "livemode": False,
                "data": {"object": thing},
            }
            | more
        )

    def deliver(self, body: str) -> Processed:
        """To a new process; where that dies, or another one is at it, the queue brings it back later."""
        while True:
            try:
                return receive(self.deps(), body)
            except (Crash, InHand):
                self.wait(LEASE_S + 1)

    def died(self, body: str) -> bool:
        """Deliver once; whether the worker died of it."""
        try:
            receive(self.deps(), body)
        except Crash:
            return True
        return False

    def wait(self, seconds: int) -> None:
        self.world.now_ms += seconds * 1000

    def happened(self, kind: str, obj: dict[str, Any] | None = None, **more: Any) -> str:
        """An event, delivered; its outcome."""
        return self.deliver(self.event(kind, obj, **more)).outcome

    def told(self) -> list[str]:
        return [alert.kind for alert in self.outbox.alerts.values()]

    def failed(self) -> list[str]:
        return [letter.reason or "" for letter in self.inbox.rows.values() if letter.state == FAILED]


def subscription(status: str = "active", plan: str = "pro", version: int = 1, **more: Any) -> Subscription:
    """One of the stack's own, made at noon for the account."""
    metadata = {"tollgate_stack": STACK, "tollgate_plan": plan, "tollgate_plan_version": str(version)}
    items: Sequence[Item] = (
        Item(f"price_{plan}_base", NOON, NOON + 30 * DAY, metadata | {"tollgate_part": "base"}),
        Item(f"price_{plan}_credits", NOON, NOON + 30 * DAY, metadata | {"tollgate_part": "meter:credits"}),
    )
    made = Subscription(
        id="sub_1",
        status=status,
        created=NOON - 60,
        started=NOON,
        anchor=NOON,
        items=tuple(items),
        metadata={"tollgate_stack": STACK, "tollgate_account": ACCOUNT},
    )
    return replace(made, **more)
