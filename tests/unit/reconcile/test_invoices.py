"""Invoices beside Stripe's totals and what was used, over the double: each difference has a class and a proposal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from local.stripe_double.server import running
from local.stripe_double.state import Double
from local.stripe_double.testing import Account, sdk
from tests.support.months import DAY, DECEMBER, HOUR, JANUARY, PLANS, PRO, TEAM, Months
from tests.unit.billing.world import BILLING, NOON, fresh_world
from tests.unit.reconcile.stage import deps_of
from tollgate.catalog.frozen import PlanVersion
from tollgate.errors import UnknownPlan
from tollgate.gate.sweep_store import AuditLog, GateAudits
from tollgate.reconcile.account import PairReport, Wanted, reconcile_account
from tollgate.reconcile.budget import ReadBudget
from tollgate.reconcile.invoiced import final_invoices, invoices_between, reconcile_invoice
from tollgate.reconcile.ports import ReconcileDeps
from tollgate.reconcile.report import Run
from tollgate.reconcile.report_store import ReportTable
from tollgate.reconcile.run import Part, start_run, work
from tollgate.stripe_api.invoices import StripeInvoices


class Plans:
    def version(self, plan: str, version: int) -> PlanVersion:
        if version != 1 or plan not in PLANS:
            raise UnknownPlan(plan)
        return PlanVersion(PLANS[plan], {})


class Invoiced(Months):
    """Months of invoices, and reconciliation beside them."""

    def reconciling(self, monthly: int = 1_000) -> tuple[ReconcileDeps, ReadBudget]:
        budget = ReadBudget(ReportTable(BILLING), monthly, self.world.clock)
        return deps_of(self.world, self.connection, budget.spend, Plans()), budget

    def nightly(self, monthly: int = 1_000) -> Run:
        deps, budget = self.reconciling(monthly)
        reports = ReportTable(BILLING)
        sent: list[Part] = []
        run, _, _ = start_run(deps, reports, sent.extend)
        for part in sent:
            assert not work(deps, reports, budget, Part.of(part.body())).failures
        found = reports.get(run)
        assert found is not None
        return found

    def listed(self) -> list[str]:
        return [key.invoice for key in final_invoices(self.reconciling()[0], self.world.now)]

    def compared(self, account: str = "acme", end: int = DECEMBER, meter: str = "ai_credits") -> Any:
        """The report of the invoice of the period that ends then."""
        deps, _ = self.reconciling()
        (key,) = invoices_between(deps, account, end - HOUR, end)
        (found,) = [one for one in reconcile_invoice(deps, key, settle=False) if one.meter == meter]
        explained = sum((one.units for one in found.findings), Decimal(0)) + found.unexplained
        assert found.invoices is not None
        assert explained == found.invoices - found.events, found
        return found

    def month(self, *units: str, account: str = "acme") -> None:
        """November's usage, up to where its invoice is about to be made."""
        self.minute()
        for number, amount in enumerate(units):
            self.use(account, amount, NOON + DAY + number * HOUR)
            self.to(NOON + DAY + number * HOUR + 1800)
        self.to(DECEMBER - HOUR, by=3 * DAY)

    def closed(self) -> None:
        self.to(DECEMBER + 60)
        self.to(DECEMBER + 3 * HOUR, by=600)

    def alerts(self) -> list[dict[str, Any]]:
        told = [json.loads(row["message"]) for row in self.world.alerts()]
        return [one for one in told if one["kind"] == "invoice_differs"]

    def stray(self, units: str, at: int) -> None:
        self.account.send(self.customers["acme"], units, "credits_used", timestamp=at, identifier=f"stray-{at}")


@pytest.fixture
def stage(made: None) -> Iterator[Invoiced]:
    world = fresh_world()
    double = Double(world.clock, latency_seconds=0)
    with running(double) as url:
        yield Invoiced(world, Account(double, url, sdk(url)))


def kinds(report: PairReport) -> list[Any]:
    return [(one.kind, one.repair, one.units) for one in report.findings]


# --- what agrees -----------------------------------------------------------------------------------------------------


def test_an_invoice_that_agrees_is_read_once_and_never_again(stage: Invoiced) -> None:
    stage.subscribe("acme")
    stage.month("120", "7.5")
    stage.nightly()  # the days
    stage.closed()
    assert stage.listed() == [close.invoice for close in stage.closes()]
    stage.account.double.requests.clear()
    run = stage.nightly()
    assert (run.counts["invoices"], run.counts["differing"], run.counts["settled"]) == (1, 0, 2)
    assert run.meters == {}  # the days are added up already
    # The invoice, its three prices, the list of meters and a total for each of its two meters.
    assert run.counts["reads"] == stage.requests()["reads"] == 7
    report = stage.compared()
    assert (report.events, report.batches, report.sink, report.invoices) == (Decimal("127.5"),) * 4
    assert report.agrees
    assert report.proposal is None
    assert stage.listed() == []
    stage.world.now += 1
    assert stage.nightly().counts["invoices"] == 0


def test_a_close_is_listed_an_hour_after_it_ended_and_not_for_seal(stage: Invoiced) -> None:
    stage.subscribe("acme")
    stage.month("120")
    stage.to(DECEMBER + 60)
    assert stage.listed() == []
    stage.to(DECEMBER + 1800, by=300)
    (close,) = stage.closes()
    assert (close.state, close.due_shard is not None and close.due_shard.endswith(".final")) == ("closed", True)
    assert stage.listed() == []
    stage.world.now += HOUR
    assert stage.listed() == [close.invoice]


def test_a_change_of_plan_in_mid_period_is_two_lines_that_agree(stage: Invoiced) -> None:
    stage.subscribe("acme")
    stage.month("120")
    stage.closed()
    stage.use("acme", "130", DECEMBER + 2 * DAY)
    stage.to(DECEMBER + 2 * DAY + HOUR)
    stage.change("acme", PRO, TEAM)
    stage.use("acme", "510.25", DECEMBER + 3 * DAY)
    stage.to(DECEMBER + 3 * DAY + HOUR)
    stage.to(JANUARY + 60, by=3 * DAY)
    stage.to(JANUARY + 3 * HOUR, by=600)
    run = stage.nightly()
    assert (run.classes, run.counts["differing"]) == ({}, 0)
    assert run.counts["invoices"] == len(stage.closes()) == 2
    deps, _ = stage.reconciling()
    (key,) = invoices_between(deps, "acme", JANUARY - HOUR, JANUARY)
    credits_ = [one for one in reconcile_invoice(deps, key) if one.meter == "ai_credits"]
    spans = [(one.start, one.end, one.invoices) for one in credits_]
    change = DECEMBER + 2 * DAY + HOUR
    assert spans == [(DECEMBER, change, 130), (change, JANUARY, Decimal("510.25"))]
    assert stage.alerts() == []


def test_a_draft_is_in_flight(stage: Invoiced) -> None:
    stage.subscribe("acme")
    stage.month("120")
    stage.faults({"match": {"path": "/v1/invoices/*", "method": "POST"}, "kind": "500_before"})
    stage.to(DECEMBER + 60)
    stage.faults()
    stage.to(DECEMBER + 120, by=60)
    (close,) = stage.closes()
    deps, _ = stage.reconciling()
    assert close.state == "closing"

    class Behind(StripeInvoices):
        """Stripe's draft does not have all that Stripe counts."""

        def read(self, invoice: str) -> Any:
            found = super().read(invoice)
            assert found is not None
            lines = [line._replace(quantity=line.quantity and line.quantity - 20) for line in found.lines]
            return found._replace(lines=tuple(lines))

    behind = replace(deps, invoices=Behind(stage.connection))
    (report,) = [one for one in reconcile_invoice(behind, close.key) if one.meter == "ai_credits"]
    assert kinds(report) == [("in_flight", "wait", -20)]
    assert report.proposal is None
    assert report.lasting == 0
    assert stage.listed() == []


# --- what does not ---------------------------------------------------------------------------------------------------


def test_usage_that_stripe_took_after_the_invoice_was_final_is_an_invoice_item(stage: Invoiced) -> None:
    stage.subscribe("acme")
    stage.month("120")
    stage.use("acme", "50", DECEMBER - 10)
    stage.world.now = DECEMBER + 20
    stage.account.control("clock", {"advance_seconds": 0})
    (draft,) = stage.stripe.v1.invoices.list({"customer": stage.customers["acme"], "status": "draft"}).data
    stage.stripe.v1.invoices.finalize_invoice(draft.id or "")  # by a person; nobody here has heard of it
    stage.world.now = DECEMBER + 400
    stage.world.seal()
    assert stage.world.flush_all() == ["flushed"]
    stage.closed()
    stage.world.now += HOUR
    run = stage.nightly()
    assert run.classes == {"late_after_finalization": 1}
    report = stage.compared()
    assert kinds(report) == [("late_after_finalization", "invoice_item", -50)]
    assert (report.events, report.sink, report.invoices) == (170, 170, 120)
    assert report.proposal is not None
    assert (report.proposal.total, report.proposal.currency) == (Decimal("2.00"), "usd")  # 50 at 0.04
    (told,) = stage.alerts()
    assert "Proposed: invoice item of 2 usd" in told["text"]
    (shown,) = ReportTable(BILLING).pairs(run.id, 10)
    assert (shown["invoice"], shown["proposal"]["repair"]) == (draft.id, "invoice_item")
    stage.world.now += DAY
    assert stage.nightly().counts["invoices"] == 0  # told once: a final invoice does not change


def test_usage_that_was_shut_out_is_an_invoice_item(stage: Invoiced) -> None:
    stage.subscribe("acme")
    stage.month("120")
    stage.closed()
    stage.world.record("30", account="acme", at=DECEMBER - 100, origin=DECEMBER - 100)
    stage.to(DECEMBER + 4 * HOUR)
    report = stage.compared()
    assert kinds(report) == [("late_after_finalization", "invoice_item", -30)]
    assert report.proposal is not None
    assert report.proposal.total == Decimal("1.20")


def test_foreign_units_that_were_billed_are_a_credit_note(stage: Invoiced) -> None:
    stage.subscribe("acme")
    stage.month("120")
    stage.stray("80", NOON + 2 * DAY)
    stage.to(DECEMBER + 60)
    stage.stripe.v1.invoices.finalize_invoice(stage.closes()[0].invoice)
    stage.closed()
    stage.world.now += HOUR
    report = stage.compared()
    assert kinds(report) == [("foreign_event", "credit_note", 80)]
    proposal = stage.compared().proposal
    assert proposal is not None
    (line,) = [one for one in stage.of("acme")[-1].lines if one.quantity == 200]
    assert (proposal.total, getattr(proposal, "lines", None)) == (Decimal("3.20"), {line.id: Decimal("3.20")})
    # The day says the same, and sends no negative into a final invoice.
    deps, _ = stage.reconciling()
    day = (NOON + 2 * DAY) // DAY * DAY
    (of_day,) = reconcile_account(deps, Wanted("acme", {day: {"ai_credits"}}), person=True, repair=True)
    assert kinds(of_day) == [("foreign_event", "credit_note", 80)]


def test_foreign_units_inside_the_included_ones_cost_nothing_and_propose_nothing(stage: Invoiced) -> None:
    stage.subscribe("acme")
    stage.month("20")
    stage.stray("30", NOON + 2 * DAY)
    stage.to(DECEMBER + 60)
    stage.stripe.v1.invoices.finalize_invoice(stage.closes()[0].invoice)
    stage.closed()
    stage.world.now += HOUR
    report = stage.compared()
    assert (report.lasting, report.proposal) == (30, None)


def test_foreign_units_that_came_later_are_on_no_invoice_and_need_nothing(stage: Invoiced) -> None:
    stage.subscribe("acme")
    stage.month("120")
    stage.closed()
    stage.stray("80", DECEMBER - 600)
    stage.world.now += 2 * HOUR
    report = stage.compared()
    assert sorted(kinds(report)) == [("foreign_event", "none", -80), ("foreign_event", "none", 80)]
    assert (report.sink, report.invoices, report.lasting, report.proposal) == (200, 120, 0, None)
    stage.nightly()
    assert stage.alerts() == []


def test_an_event_that_is_cancelled_after_the_invoice_was_billed_rightly(stage: Invoiced) -> None:
    stage.subscribe("acme")
    stage.month("120")
    stage.use("acme", "30", DECEMBER - 600)
    stage.closed()
    batch = max(stage.world.all_batches(), key=lambda one: one.timestamp)
    event = stage.account.double.meter_events.latest(batch.identifier or "")
    assert event is not None
    event.cancelled_ms = 0
    stage.world.now += 2 * HOUR
    report = stage.compared()
    assert {one.repair for one in report.findings} == {"none"}
    assert (report.sink, report.invoices, report.lasting) == (120, 150, 0)


def test_two_prices_of_one_meter_are_a_credit_note_over_the_one_that_is_not_ours(stage: Invoiced) -> None:
    stage.subscribe("acme")
    recurring: Any = {"interval": "month", "usage_type": "metered", "meter": stage.meters["ai_credits"]}
    foreign = stage.stripe.v1.prices.create(
        {"currency": "usd", "product": "pro", "recurring": recurring, "unit_amount_decimal": Decimal(5)}
    )
    stage.stripe.v1.subscription_items.create({"subscription": stage.subscriptions["acme"].id, "price": foreign.id})
    stage.month("120")
    stage.closed()
    stage.world.now += HOUR
    report = stage.compared()
    assert kinds(report) == [("wrong_price", "credit_note", 120)]
    assert foreign.id in report.findings[0].evidence
    proposal = report.proposal
    assert proposal is not None
    (line,) = [one for one in stage.of("acme")[-1].lines if one.price == foreign.id]
    assert (proposal.total, getattr(proposal, "lines", None)) == (6, {line.id: 6})


def test_a_meter_without_a_price_at_stripe_is_billed_to_nobody(stage: Invoiced) -> None:
    stage.subscribe("acme")
    items = stage.stripe.v1.subscriptions.retrieve(stage.subscriptions["acme"].id)["items"].data
    (tokens,) = [item for item in items if item.price.id == stage.prices["pro", "llm_tokens"]]
    stage.stripe.v1.subscription_items.delete(tokens.id, {"clear_usage": True})
    stage.minute()
    stage.use("acme", "400", NOON + DAY, meter="llm_tokens")
    stage.to(NOON + DAY + HOUR)
    stage.to(DECEMBER - HOUR, by=3 * DAY)
    stage.closed()
    stage.world.now += HOUR
    report = stage.compared(meter="llm_tokens")
    assert kinds(report) == [("wrong_price", "invoice_item", -400)]
    assert "no line" in report.findings[0].evidence
    assert stage.nightly().classes == {"wrong_price": 1}
    assert len(stage.alerts()) == 1


def test_usage_before_the_second_in_which_the_first_line_begins_is_on_no_line(stage: Invoiced) -> None:
    stage.world.now = NOON + 30
    stage.subscribe("acme")
    stage.minute()
    stage.use("acme", "101", NOON + 50)  # booked at noon, when its window began
    stage.to(NOON + HOUR)
    stage.month("120")
    stage.closed()
    stage.world.now += HOUR
    report = stage.compared()
    assert kinds(report) == [("outside_lines", "invoice_item", -101)]
    assert (report.events, report.sink, report.invoices) == (221, 221, 120)


# --- means -----------------------------------------------------------------------------------------------------------


def test_without_reads_an_invoice_stays_listed(stage: Invoiced) -> None:
    stage.subscribe("acme")
    stage.month("120")
    stage.closed()
    run = stage.nightly(monthly=2)
    assert run.counts["put_off"] > 0
    assert len(stage.listed()) == 1
    stage.world.now += 1
    assert stage.nightly().counts["settled"] > 0
    assert stage.listed() == []


def test_the_close_decides_what_is_final_where_it_is_held_longer_than_an_hour(stage: Invoiced) -> None:
    """A stray event is taken back as long as the invoice is a draft, hours after its period."""
    stage.subscribe("acme")
    stage.month("120")
    stage.stray("80", NOON + 2 * DAY)
    stage.to(DECEMBER + 5 * HOUR, by=600)
    (close,) = stage.closes()
    assert close.state == "closing"
    deps, _ = stage.reconciling()
    days = {NOON // DAY * DAY + number * DAY: {"ai_credits"} for number in range(4)}
    (report,) = reconcile_account(deps, Wanted("acme", days), person=True)
    assert kinds(report) == [("foreign_event", "correct", 80)]
    stage.to(DECEMBER + 8 * HOUR, by=600)
    assert [one.state for one in stage.closes()] == ["closed"]
    stage.world.now += HOUR
    assert (stage.compared().invoices, stage.compared().agrees) == (120, True)


def test_gates_that_were_audited_stand_in_the_run(stage: Invoiced) -> None:
    log = AuditLog(BILLING)
    at = stage.world.now * 1000
    for ago_s, audits in ((DAY + 1, GateAudits(5, 5)), (DAY - 1, GateAudits(7, 1)), (0, GateAudits(2, 0))):
        log.add(at - ago_s * 1000, audits)
    assert stage.nightly().fields()["gates"] == {"audited": 9, "repaired": 1}
