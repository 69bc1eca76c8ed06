"""The period close over the Stripe double, with the official SDK: what is invoiced is what our rating makes of rows.

Three accounts, two months and the days before, a change of plan in mid-month, usage around the boundary second, an
outage over the end of a period.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal

import pytest

from local.stripe_double.server import running
from local.stripe_double.state import Double
from local.stripe_double.testing import Account, sdk
from tests.support.months import DAY, DECEMBER, FEBRUARY, HOUR, JANUARY, PRO, TEAM, Months
from tests.unit.billing.world import NOON, Crash, Cut, World, tables
from tollgate.billing.close import begin
from tollgate.billing.close_row import BACKSTOP_S, CLOSED, CLOSING
from tollgate.billing.invoice import propose_credit_note
from tollgate.errors import StripeRefused


@pytest.fixture
def months() -> Iterator[Months]:
    with tables():
        world = World()
        double = Double(world.clock, latency_seconds=0)
        with running(double) as url:
            yield Months(world, Account(double, url, sdk(url)))


def test_two_months_are_invoiced_to_the_cent(months: Months) -> None:
    for account in ("acme", "beta", "gamma"):
        months.subscribe(account)
    months.minute()
    months.use("acme", "40", NOON + DAY)
    months.to(NOON + DAY + HOUR)
    months.to(DECEMBER + 60, by=3 * DAY)
    months.to(DECEMBER + 2 * HOUR, by=1200)

    # December: usage of all; beta moves up in the middle of it.
    months.use("acme", "120.5", DECEMBER + 2 * DAY)
    months.use("beta", "130", DECEMBER + 2 * DAY + 5)
    months.use("gamma", "333", DECEMBER + 2 * DAY + 10, meter="llm_tokens")
    months.to(DECEMBER + 2 * DAY + HOUR)
    months.to(DECEMBER + 15 * DAY, by=5 * DAY)
    months.change("beta", PRO, TEAM)
    months.use("beta", "510.25", DECEMBER + 15 * DAY + 60)
    months.to(DECEMBER + 15 * DAY + HOUR)

    # The last second of December and the first of January, while Stripe is down.
    months.to(JANUARY - HOUR, by=5 * DAY)
    months.faults({"match": {}, "kind": "500_before"})
    for account in ("acme", "beta", "gamma"):
        months.use(account, "7.125", JANUARY - 1)
    for account in ("acme", "beta", "gamma"):
        months.use(account, "9", JANUARY)
    months.to(JANUARY + 2400, by=1200)
    months.faults({"match": {"path": "/v1/billing/*"}, "kind": "500_before"})
    months.minute()  # before Stripe's own hour is over
    months.to(JANUARY + 4 * HOUR, by=HOUR)
    assert {close.state for close in months.closes() if close.end == JANUARY} == {CLOSING}
    months.faults()
    months.to(JANUARY + 9 * HOUR, by=1800)

    # January, with a change of nothing.
    months.use("gamma", "999.999", JANUARY + 9 * DAY, meter="llm_tokens")
    months.to(JANUARY + 9 * DAY + HOUR)
    months.to(FEBRUARY + 60, by=3 * DAY)
    months.to(FEBRUARY + 2 * HOUR, by=1200)

    amounts = {account: months.check(account) for account in months.customers}
    # acme: December 127.625 credits, 100 of them free; January 9. beta: 130 under pro, then 517.375 under team.
    assert amounts["acme"] == Decimal("1.11")
    assert amounts["beta"] == Decimal("1.20") + Decimal("0.52")
    assert amounts["gamma"] == Decimal("0.17") + Decimal("0.50")
    assert [close.state for close in months.closes()] == [CLOSED] * 9
    assert {close.outcome for close in months.closes()} == {"matched"}
    assert {batch.state for batch in months.world.all_batches()} == {"flushed"}
    assert months.world.alerts() == []
    for account in months.customers:
        for invoice in months.of(account)[1:]:
            base = [line.amount for line in invoice.lines if months.invoices.price(line.price or "").meter is None]
            assert invoice.total == sum(base, Decimal(0)) + (invoice.subtotal - sum(base, Decimal(0)))


def test_a_month_costs_few_calls_to_stripe(months: Months) -> None:
    months.subscribe("acme")
    months.minute()
    months.use("acme", "120", NOON + DAY)
    months.to(NOON + DAY + HOUR)
    months.to(DECEMBER - HOUR, by=3 * DAY)
    months.account.double.requests.clear()
    months.to(DECEMBER + 60, by=HOUR)
    months.to(DECEMBER + 3 * HOUR, by=1200)
    assert [close.state for close in months.closes()] == [CLOSED]
    # Invoice, two prices (the base fee's is known), the list of meters (once per process); invoice, two totals, the
    # invoice before; and, for the word of the finalization, nothing.
    assert months.requests() == {"reads": 8, "writes": 2}


def test_an_invoice_goes_out_at_the_deadline_without_what_is_missing(months: Months) -> None:
    months.subscribe("acme")
    months.minute()
    months.use("acme", "120", NOON + DAY)
    months.to(NOON + DAY + HOUR)
    months.to(DECEMBER - HOUR, by=3 * DAY)
    months.faults({"match": {"path": "/v1/billing/meter_events"}, "kind": "429"})
    months.use("acme", "50", DECEMBER - 10)
    months.to(DECEMBER + 60)
    months.to(DECEMBER + 2 * DAY + 2 * HOUR, by=2 * HOUR)
    months.faults()
    (close,) = months.closes()
    assert (close.state, close.outcome) == (CLOSED, "deadline")
    (invoice,) = [one for one in months.of("acme") if one.billing_reason == "subscription_cycle"]
    lines = {months.invoices.price(line.price or "").meter: line for line in invoice.lines}
    assert (lines["ai_credits"].quantity, lines["ai_credits"].amount) == (Decimal(120), Decimal("0.80"))
    late = [batch for batch in months.world.all_batches() if batch.state != "flushed"]
    assert [(batch.units, batch.state, batch.reason) for batch in late] == [
        (Decimal(50), "expired", "late_after_finalization")
    ]
    assert sorted(alert["kind"] for alert in months.world.alerts()) == ["close_deadline", "expired"]


def test_left_alone_the_invoice_finalizes_by_itself(months: Months) -> None:
    """We die right after the first word to Stripe; what comes later is not sent into a final invoice."""
    months.subscribe("acme")
    months.minute()
    months.use("acme", "120", NOON + DAY)
    months.to(NOON + DAY + HOUR)
    months.world.now = DECEMBER + 60
    months.account.control("clock", {"advance_seconds": 0})
    (draft,) = [
        one["data"]["object"]["id"] for one in months.account.double.events if one["type"] == "invoice.created"
    ][-1:]
    with pytest.raises(Crash):
        begin(months.deps(Cut(5, after=True)), draft)
    assert months.closes() == []
    held = months.invoices.read(draft)
    assert held is not None
    assert held.finalizes_at == held.created + 2 * DAY + BACKSTOP_S
    months.world.now = held.finalizes_at + 60
    final = months.invoices.read(draft)
    assert final is not None
    assert not final.draft
    months.world.record("5", at=DECEMBER - 60)
    months.to(held.finalizes_at + HOUR)
    assert [close.outcome for close in months.closes()] == ["elsewhere"]
    assert [batch.state for batch in months.world.all_batches() if batch.units == 5] == ["expired"]


def test_an_invoice_much_higher_than_the_last_is_held(months: Months) -> None:
    months.settings = replace(months.settings, percent=50)
    months.subscribe("acme")
    months.minute()
    months.to(DECEMBER + 60, by=3 * DAY)
    months.to(DECEMBER + HOUR, by=1200)
    months.use("acme", "2000", DECEMBER + DAY)
    months.to(DECEMBER + DAY + HOUR)
    months.to(JANUARY + 60, by=5 * DAY)
    months.to(JANUARY + HOUR)
    (close,) = [one for one in months.closes() if one.end == JANUARY]
    assert close.state == "review"
    (alert,) = [one for one in months.world.alerts() if f"invoice_review#{close.invoice}" in one["sk"]]
    assert "ai_credits from 0 to 76 usd" in alert["message"]
    months.to(JANUARY + 8 * HOUR, by=1800)
    assert {one.state for one in months.closes()} == {CLOSED}
    assert months.check("acme") == 76


# --- the calls one by one --------------------------------------------------------------------------------------------


def test_an_invoice_with_many_lines_is_read_whole(months: Months) -> None:
    months.subscribe("acme")
    invoice = months.of("acme")[0]
    draft = months.stripe.v1.invoices.create({"customer": months.customers["acme"]})
    for number in range(1, 13):
        months.stripe.v1.invoice_items.create(
            {"customer": months.customers["acme"], "invoice": draft.id, "amount": number, "currency": "usd"}
        )
    read = months.invoices.read(draft.id or "")
    assert read is not None
    assert (len(read.lines), read.subtotal) == (12, Decimal("0.78"))
    assert {line.subscription_item for line in read.lines} == {None}
    assert (read.draft, invoice.draft) == (True, False)


def test_what_is_no_draft_is_refused_and_what_is_not_there_is_none(months: Months) -> None:
    months.subscribe("acme")
    invoice = months.of("acme")[0]
    with pytest.raises(StripeRefused):
        months.invoices.finalize(invoice.id)
    with pytest.raises(StripeRefused):
        months.invoices.hold(invoice.id, NOON + DAY)
    assert months.invoices.read("in_nothing") is None
    assert months.invoices.before(invoice) is None


def test_a_credit_note_is_proposed_inside_what_was_billed(months: Months) -> None:
    months.subscribe("acme")
    invoice = months.of("acme")[0]
    line = invoice.lines[0]
    proposal = propose_credit_note(invoice, {line.id: line.amount}, "counted twice")
    assert (proposal.total, proposal.currency) == (line.amount, "usd")
    for wrong in ({line.id: line.amount + 1}, {line.id: Decimal(0)}, {"il_nothing": Decimal(1)}):
        with pytest.raises(ValueError, match="cannot be credited"):
            propose_credit_note(invoice, wrong, "x")
    with pytest.raises(ValueError, match="draft"):
        propose_credit_note(invoice._replace(status="draft"), {}, "x")
