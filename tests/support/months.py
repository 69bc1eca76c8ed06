"""Months of usage, subscriptions and invoices over the Stripe double: a world, Stripe and the close on one clock."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any, cast

import stripe

from local.stripe_double.testing import Account
from tests.unit.billing.closing import Tasks
from tests.unit.billing.world import GRACE_S, METERS, Cut, World
from tollgate.billing.close import CloseDeps, CloseSettings, begin, finalized, step
from tollgate.billing.close_due import CloseDueDeps
from tollgate.billing.close_row import Close
from tollgate.billing.invoice import Invoice
from tollgate.billing.run import run_seal
from tollgate.billing.stripe_sink import StripeSink
from tollgate.catalog.model import Plan, Price, Tier
from tollgate.errors import StripeUnavailable
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
