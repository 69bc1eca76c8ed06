"""The period close over the Stripe double, with the official SDK: what is invoiced is what our rating makes of rows.

Three accounts, two months and the days before, a change of plan in mid-month, usage around the boundary second, an
outage over the end of a period.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any, cast

import pytest
import stripe

from local.stripe_double.server import running
from local.stripe_double.state import Double
from local.stripe_double.testing import Account, sdk
from tests.unit.billing.closing import Tasks
from tests.unit.billing.world import GRACE_S, METERS, NOON, Crash, Cut, World, tables
from tollgate.billing.close import CloseDeps, CloseSettings, begin, finalized, step
from tollgate.billing.close_due import CloseDueDeps
from tollgate.billing.close_row import BACKSTOP_S, CLOSED, CLOSING, Close
from tollgate.billing.invoice import Invoice, propose_credit_note
from tollgate.billing.run import run_seal
from tollgate.billing.stripe_sink import StripeSink
from tollgate.catalog.model import Plan, Price, Tier
from tollgate.errors import StripeRefused, StripeUnavailable
from tollgate.rating.lines import total, usage_lines
from tollgate.stripe_api.client import client
from tollgate.stripe_api.invoices import StripeInvoices
from tollgate.stripe_api.reading import Connection
from tollgate.stripe_api.totals import StripeTotals
from tollgate.usage.markers import shard_of

HOUR, DAY = 3_600, 86_400
DECEMBER = 1_796_083_200
"""2026-12-01 00:00:00 UTC."""
JANUARY, FEBRUARY = DECEMBER + 31 * DAY, DECEMBER + 62 * DAY


def graduated(meter: str, free: int, unit: str) -> Price:
    tiers = (Tier(Decimal(free), Decimal(0), Decimal(0)), Tier(None, Decimal(unit), Decimal(0)))
    return Price(meter, "graduated", tiers=tiers)


PRO = Plan(
    "pro",
    1,
    "Pro",
    base_fee=Decimal(29),
    prices=(graduated("ai_credits", 100, "0.04"), Price("llm_tokens", "per_unit", unit_price=Decimal("0.0005"))),
)
TEAM = Plan(
    "team",
    1,
    "Team",
    base_fee=Decimal(99),
    prices=(graduated("ai_credits", 500, "0.03"), Price("llm_tokens", "per_unit", unit_price=Decimal("0.0004"))),
)
PLANS = {plan.id: plan for plan in (PRO, TEAM)}


class Months:
    """A world, its Stripe and the close between them, all on one clock."""

    def __init__(self, world: World, account: Account) -> None:
        self.world, self.account, self.stripe = world, account, account.client
        self.customers: dict[str, str] = {}
        self.subscriptions: dict[str, stripe.Subscription] = {}
        self.meters = {
            meter: account.meter(METERS[meter].stripe_event_name or "") for meter in ("ai_credits", "llm_tokens")
        }
        self.meters["storage"] = account.meter("gigabytes", "last")
        self.prices: dict[tuple[str, str], str] = {}
        for plan in PLANS.values():
            world.rules.plans[plan.id] = plan
            self.stripe.v1.products.create({"id": plan.id, "name": plan.name})
            self.prices[plan.id, "base"] = self.price(plan, "base", unit_amount=int((plan.base_fee or 0) * 100))
            for price in plan.prices:
                self.prices[plan.id, price.meter] = self.metered(plan, price)
        self.connection = Connection(lambda: client("sk_test_close", account.url), wait=lambda tried: None)
        world.sink = StripeSink(lambda: client("sk_test_flush", account.url))
        self.invoices = StripeInvoices(self.connection)
        self.seen = 0
        self.settings = CloseSettings(GRACE_S, 2 * DAY, 6 * HOUR, percent=10_000)

    # -- Stripe's side -----------------------------------------------------------------------------------------------

    def price(self, plan: Plan, part: str, **params: Any) -> str:
        given = {
            "currency": "usd",
            "product": plan.id,
            "recurring": {"interval": "month"},
            "metadata": {"tollgate_plan": plan.id, "tollgate_plan_version": "1", "tollgate_part": part},
            **params,
        }
        return self.stripe.v1.prices.create(cast(Any, given)).id

    def metered(self, plan: Plan, price: Price) -> str:
        recurring = {"interval": "month", "usage_type": "metered", "meter": self.meters[price.meter]}
        if price.unit_price is not None:
            cents = str(price.unit_price * 100)
            return self.price(plan, f"meter:{price.meter}", recurring=recurring, unit_amount_decimal=cents)
        tiers = [
            {
                "up_to": "inf" if tier.up_to is None else int(tier.up_to),
                "unit_amount_decimal": str(tier.unit_price * 100),
            }
            for tier in price.tiers
        ]
        more = {"billing_scheme": "tiered", "tiers_mode": "graduated", "tiers": tiers}
        return self.price(plan, f"meter:{price.meter}", recurring=recurring, **more)

    def subscribe(self, account: str, plan: Plan = PRO) -> None:
        self.customers[account] = self.account.customer()
        self.world.rules.add(account, plan, customer=self.customers[account])
        params = {
            "customer": self.customers[account],
            "items": [{"price": price} for (owner, _), price in self.prices.items() if owner == plan.id],
            "billing_cycle_anchor_config": {"day_of_month": 1, "hour": 0, "minute": 0, "second": 0},
        }
        self.subscriptions[account] = self.stripe.v1.subscriptions.create(cast(Any, params))

    def change(self, account: str, before: Plan, after: Plan) -> None:
        """The customer changes plan in mid-period; the app sent all usage before it did."""
        items = self.stripe.v1.subscriptions.retrieve(self.subscriptions[account].id)["items"].data
        parts = {price: part for (owner, part), price in self.prices.items() if owner == before.id}
        changed = [{"id": item.id, "price": self.prices[after.id, parts[item.price.id]]} for item in items]
        self.stripe.v1.subscriptions.update(self.subscriptions[account].id, cast(Any, {"items": changed}))
        self.world.rules.change(account, plan=after.id)

    def faults(self, *faults: dict[str, Any]) -> None:
        self.account.control("faults", {"faults": list(faults)})

    # -- ours --------------------------------------------------------------------------------------------------------

    def deps(self, cut: Cut | None = None) -> CloseDeps:
        around = cut.around if cut is not None else lambda target: target
        world = self.world
        return CloseDeps(
            closes=around(world.closes),
            batches=around(world.batches),
            markers=around(world.markers),
            levels=around(world.seals),
            rules=world.rules,
            accounts=self,
            events=world.events,
            invoices=around(self.invoices),
            totals=around(StripeTotals(self.connection, lambda reads: None)),
            outbox=around(world.outbox),
            clock=world.clock,
            settings=self.settings,
        )

    def holder(self, customer: str) -> str | None:
        return next((account for account, held in self.customers.items() if held == customer), None)

    def minute(self, cut: Cut | None = None) -> None:
        """What the schedule, the queues and Stripe's deliveries do at this moment."""
        self.account.control("clock", {"advance_seconds": 0})  # what fell due at Stripe happens
        deps = self.deps(cut)
        events = self.account.double.events
        for event in list(events)[self.seen :]:
            try:
                if event["type"] == "invoice.created":
                    begin(deps, event["data"]["object"]["id"])
                elif event["type"] == "invoice.finalized":
                    finalized(deps, event["data"]["object"]["id"], event["data"]["object"]["customer"])
            except StripeUnavailable:
                break  # the queue delivers it again
            self.seen += 1
        tasks = Tasks()
        shards = {*map(shard_of, self.customers), *map(shard_of, self.customers.values())}
        closes = CloseDueDeps(self.world.closes, tasks, self.world.clock)
        counts = run_seal(self.world.seal_deps(), sorted(shards), closes=closes)
        assert not counts.failures
        self.world.flush_all()
        for key in tasks.queued:
            step(deps, key)

    def to(self, moment: int, by: int = 600) -> None:
        while self.world.now < moment:
            self.world.now = min(self.world.now + by, moment)
            self.minute()

    def use(self, account: str, units: str, at: int, meter: str = "ai_credits") -> None:
        """Usage at its moment, sealed and sent."""
        assert self.world.now <= at
        self.world.now = at
        self.world.record(units, account=account, meter=meter, at=at)

    # -- what came of it ---------------------------------------------------------------------------------------------

    def of(self, account: str) -> list[Invoice]:
        """Finalized invoices, oldest first."""
        listed = self.stripe.v1.invoices.list({"customer": self.customers[account], "limit": 100}).data
        found = [self.invoices.read(one.id) for one in reversed(listed)]
        return [one for one in found if one is not None and not one.draft]

    def recorded(self, account: str, meter: str, start: int, end: int) -> Decimal:
        return sum(
            (
                item.units
                for event in self.world.recorded
                for item in event.items
                if event.at.account == account and item.meter == meter and start <= event.recorded_s < end
            ),
            Decimal(0),
        )

    def check(self, account: str) -> Decimal:
        """Every metered line is what our rating makes of the rows in its period; returns what they come to."""
        amount = Decimal(0)
        for invoice in self.of(account):
            for line in invoice.lines:
                price = self.invoices.price(line.price or "")
                if price.meter is None or line.subscription_item is None:
                    continue
                ours = next(one for one in PLANS[price.plan or ""].prices if one.meter == price.meter)
                units = self.recorded(account, price.meter, line.period_start, line.period_end)
                assert line.quantity == units, (account, line)
                assert line.amount == total(usage_lines(ours, units, "usd")), (account, line)
                amount += line.amount
            assert invoice.subtotal == sum((line.amount for line in invoice.lines), Decimal(0))
        return amount

    def closes(self) -> list[Close]:
        return [close for customer in self.customers.values() for close in self.world.closes.of_customer(customer)]

    def requests(self) -> Counter[str]:
        """Requests of the close, by kind; the log of the double keeps the last thousand."""
        found: Counter[str] = Counter()
        for one in self.account.look("requests")["recent"]:
            if one["path"].startswith(("/v1/invoices", "/v1/prices", "/v1/billing/meters")):
                found["reads" if one["method"] == "GET" else "writes"] += 1
        return found


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
    months.account.double.requests.__init__()  # type: ignore[misc]
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
