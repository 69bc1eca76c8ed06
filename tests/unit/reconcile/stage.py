"""Reconciliation on moto's tables and the Stripe double, one clock for all, damage at the test's will."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from typing import Any

from local.stripe_double.server import running
from local.stripe_double.state import Double
from local.stripe_double.testing import Account, sdk
from tests.unit.billing.world import BILLING, CONFIG, GRACE_S, NOON, SEAL_S, World
from tollgate import dynamo
from tollgate.billing.batch import Batch
from tollgate.billing.invoice_audit import PlanVersions
from tollgate.billing.stripe_sink import StripeSink
from tollgate.catalog.store import CatalogTable
from tollgate.gate.sweep_store import AuditLog
from tollgate.reconcile.account import DAY_S, PairReport, Wanted, reconcile_account
from tollgate.reconcile.budget import ReadBudget
from tollgate.reconcile.loose_store import LooseTable
from tollgate.reconcile.pair_store import PairTable
from tollgate.reconcile.ports import ReconcileDeps
from tollgate.reconcile.report import Run
from tollgate.reconcile.report_store import ReportTable
from tollgate.reconcile.run import Part, start_run, work
from tollgate.stripe_api.client import client
from tollgate.stripe_api.invoices import StripeInvoices
from tollgate.stripe_api.reading import Connection
from tollgate.stripe_api.totals import StripeTotals

HOUR = 3_600


def deps_of(world: World, connection: Connection, spend: Callable[[int], None], plans: PlanVersions) -> ReconcileDeps:
    """Reconciliation on a world's tables and a Stripe."""
    return ReconcileDeps(
        rules=world.rules,
        events=world.events,
        windows=world.seals,
        markers=world.markers,
        batches=world.batches,
        totals=StripeTotals(connection, spend),
        pairs=PairTable(BILLING),
        invoices=StripeInvoices(connection, spend),
        closes=world.closes,
        plans=plans,
        loose=LooseTable(BILLING),
        audits=AuditLog(BILLING),
        outbox=world.outbox,
        clock=world.clock,
        stack="tollgate-test",
        seal_seconds=SEAL_S,
        grace_seconds=GRACE_S,
    )


class Stage:
    """`acme` with a customer and a priced meter; windows of usage come and go."""

    def __init__(self, world: World, account: Account) -> None:
        self.world, self.stripe = world, account
        self.customer, self.other = account.customer(), account.customer()
        self.meter = account.meter("credits_used")
        account.meter("tokens_used")
        world.sink = StripeSink(lambda: client("sk_test_recon", account.url))
        world.rules.add("acme", customer=self.customer)
        self.reads = 0

    def deps(self, **changes: Any) -> ReconcileDeps:
        def spend(reads: int) -> None:
            self.reads += reads

        connection = Connection(lambda: client("sk_test_recon", self.stripe.url), lambda _: None)
        return replace(deps_of(self.world, connection, spend, CatalogTable(CONFIG)), **changes)

    # -- time and usage ------------------------------------------------------------------------------------------------

    def usage(self, *units: str, mark: bool = True) -> None:
        """One row a window, sealed and sent."""
        for amount in units:
            self.world.record(amount, mark=mark)
            self.world.close_window()
            self.world.seal()
            self.world.flush_all()

    def later(self, seconds: int) -> None:
        """Let time pass, and do what comes due in it."""
        self.world.now += seconds
        self.world.seal()
        self.world.flush_all()

    def send(self, units: str, at: int, customer: str | None = None, identifier: str = "stray") -> None:
        """A meter event that is none of ours."""
        self.stripe.send(customer or self.customer, units, "credits_used", timestamp=at, identifier=identifier)

    def lose(self, batch: Batch) -> None:
        """Stripe took it, and does not count it."""
        event = self.stripe.double.meter_events.latest(batch.identifier or "")
        assert event is not None
        event.cancelled_ms = 0

    def nightly(self, monthly: int = 8_000) -> Run:
        """A whole run, as the schedule and the queue do it."""
        reports = ReportTable(BILLING)
        budget = ReadBudget(reports, monthly, self.world.clock)
        connection = Connection(lambda: client("sk_test_recon", self.stripe.url), lambda _: None)
        deps = self.deps(totals=StripeTotals(connection, budget.spend))
        sent: list[Part] = []
        run, _, _ = start_run(deps, reports, sent.extend)
        for part in sent:
            work(deps, reports, budget, Part.of(part.body()))
        found = reports.get(run)
        assert found is not None
        return found

    # -- reconciling ---------------------------------------------------------------------------------------------------

    def reconcile(
        self,
        *,
        person: bool = False,
        repair: bool = True,
        deps: ReconcileDeps | None = None,
        account: str = "acme",
    ) -> PairReport:
        """All days up to now of an account and its first meter."""
        first = NOON // DAY_S * DAY_S
        days = {day: {"ai_credits"} for day in range(first, self.world.now + 1, DAY_S)}
        (report,) = reconcile_account(deps or self.deps(), Wanted(account, days), person=person, repair=repair)
        return report

    def heal(self, rounds: int = 4, *, person: bool = False) -> PairReport:
        """Reconcile, let two hours pass, again; until nothing is left to do."""
        report = self.reconcile(person=person)
        for _ in range(rounds):
            if not report.findings and not report.unexplained:
                break
            self.later(2 * HOUR)
            report = self.reconcile(person=person)
        return report

    def kinds(self, report: PairReport) -> list[str]:
        return sorted(one.kind for one in report.findings)

    def delete(self, batch: Batch) -> None:
        dynamo.client().delete_item(TableName=BILLING, Key={"pk": dynamo.s(batch.key.pk), "sk": dynamo.s(batch.key.sk)})

    def counted(self, customer: str | None = None) -> Decimal:
        rows = self.stripe.look("meter_events")["data"]
        mine = [row for row in rows if row["counted"] and row["customer"] == (customer or self.customer)]
        return sum((Decimal(row["value"]) for row in mine), Decimal(0))

    def batches(self) -> list[Batch]:
        return sorted(self.world.all_batches(), key=lambda one: one.window_start)


@contextmanager
def staged(world: World) -> Iterator[Stage]:
    double = Double(world.clock, latency_seconds=0)
    with running(double) as url:
        yield Stage(world, Account(double, url, sdk(url)))
