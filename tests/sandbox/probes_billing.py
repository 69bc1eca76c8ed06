"""Probes of invoices, subscriptions and checkout pages."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, NamedTuple

import stripe

from tests.sandbox.points import NotProbed, Probe, Seen
from tests.sandbox.probes_usage import HOUR, move, settled, shown
from tests.sandbox.side import Side
from tollgate.billing.invoice import Invoice, InvoiceLine
from tollgate.catalog.model import Plan
from tollgate.stripe_api.checkout import StripeShop
from tollgate.stripe_api.invoices import StripeInvoices, line_of
from tollgate.subscriptions.anchor import anchor_of
from tollgate.subscriptions.checkout import Line, PageAsked
from tollgate.sync.objects import STACK, Tier

D = Decimal


class _Preview(NamedTuple):
    """Of an invoice's lines, in their order: quantities, and amounts in dollars."""

    quantities: list[Decimal]
    amounts: list[Decimal]


def _preview(side: Side, subscription: str) -> _Preview:
    """What the invoice would be by now; nothing is kept of it. It may lag behind."""
    found = side.asked(lambda client: client.v1.invoices.create_preview({"subscription": subscription}))
    lines: list[InvoiceLine] = [line_of(line) for line in found.to_dict()["lines"]["data"]]
    return _Preview([line.quantity or D(0) for line in lines], [line.amount for line in lines])


def _begun(subscription: stripe.Subscription) -> int:
    """A second of its period that is now, by Stripe's own clock."""
    start: int = subscription["items"].data[0].current_period_start
    return start + 1


def tier_lines(side: Side) -> Probe:
    meter, customer = side.meter("sum"), side.customer()
    tiers = (Tier(D(10), D("0.15")), Tier(None, D("0.15")))
    made = side.subscribe(customer, side.price(meter, tiers_mode="graduated", tiers=tiers))
    side.count(meter, customer, "20", _begun(made))
    if not (yield lambda: sum(_preview(side, made.id).quantities) == 20):
        raise NotProbed("no preview of the invoice showed the usage in time")
    seen = _preview(side, made.id)
    text = f"{len(seen.amounts)} line(s) of {shown(seen.quantities)} units: ${shown(seen.amounts)}"
    return Seen(text, seen == ([D(20)], [D("0.03")]))


def lines(side: Side) -> Probe:
    meter = side.meter("sum")
    volume = (Tier(D(5), D(700)), Tier(D(10), D(650)), Tier(None, D(600)))
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("150", {"unit_amount": D(1_000), "divide_by": 60, "round": "up"}, "30.00"),
        ("30", {"unit_amount": D("0.05")}, "0.02"),
        ("1.5", {"unit_amount": D(100)}, "1.50"),
        ("0", {"tiers_mode": "graduated", "tiers": (Tier(D(5), D(500), D(1_000)), Tier(None, D(400)))}, "10.00"),
        ("6", {"tiers_mode": "volume", "tiers": volume}, "39.00"),
    ]
    made = []
    for quantity, terms, _ in cases:
        customer = side.customer()
        subscribed = side.subscribe(customer, side.price(meter, **terms))
        made.append(subscribed.id)
        if quantity != "0":
            side.count(meter, customer, quantity, _begun(subscribed))
    expected = [D(total) for _, _, total in cases]

    def totals() -> list[Decimal]:
        return [sum(_preview(side, subscription).amounts, D(0)) for subscription in made]

    return (yield from settled(side, totals, expected))


def finalizes_at(side: Side) -> Probe:
    aside = side.on_clock()
    meter, customer = aside.meter("sum"), aside.customer()
    made = aside.subscribe(customer, aside.price(meter, "day", unit_amount=D(100)))
    # Its first second is now in real time, too: how a clock and timestamps go together is another probe's question.
    at, end = _begun(made), made["items"].data[0].current_period_end
    aside.count(meter, customer, "3", at)
    yield from move(aside, end + 120)
    invoices = StripeInvoices(aside.stripe)
    if not (yield lambda: _cycle(aside, customer) is not None):
        raise NotProbed("the end of the period made no invoice in time")
    invoice = _cycle(aside, customer)
    assert invoice is not None
    deadline = end + 4 * HOUR
    invoices.hold(invoice, deadline)
    aside.count(meter, customer, "4", at)
    minute = at // 60 * 60
    if not (yield lambda: aside.total(meter, customer, minute, minute + 60) == 7):
        raise NotProbed("the summaries did not show the usage in time")
    yield from move(aside, end + 2 * HOUR)
    held = _read(invoices, invoice).status
    yield from move(aside, deadline + HOUR)
    yield lambda: _read(invoices, invoice).status != "draft"
    done = _read(invoices, invoice)
    quantity = sum((line.quantity or D(0) for line in done.lines), D(0))
    text = f"two hours after the period: {held}; after the deadline: {done.status}, with {shown(quantity)} of 7 units"
    return Seen(text, held == "draft" and done.status != "draft" and quantity == 7)


def _cycle(side: Side, customer: str) -> str | None:
    found = side.asked(lambda client: client.v1.invoices.list({"customer": customer, "limit": 10})).data
    return next((one.id for one in found if one.billing_reason == "subscription_cycle"), None)


def _read(invoices: StripeInvoices, invoice: str) -> Invoice:
    found = invoices.read(invoice)
    assert found is not None, "the invoice is gone"
    return found


def subscription(side: Side) -> Seen:
    customer, price, now = side.customer(), side.price(side.meter("sum"), unit_amount=D(1)), side.now()
    shop = StripeShop(side.stripe, side.stack)
    plan = Plan("p", 1, "P")
    made = shop.subscribe(customer, (Line(price, None),), {}, anchor_of(plan.period, now), side.name("subscription"))
    found = side.asked(lambda client: client.v1.subscriptions.retrieve(made.id))
    assert made.period is not None
    whole = made.period[1] % 60 == 0
    text = (
        f"{found.status}, {'an' if found.latest_invoice else 'no'} invoice, ends {made.period[1] % 60} s past a minute"
    )
    return Seen(text, found.status == "active" and not found.latest_invoice and whole)


def checkout(side: Side) -> Seen:
    customer, meter = side.customer(), side.meter("sum")
    shop = StripeShop(side.stripe, side.stack)
    usage, once = Line(side.price(meter, unit_amount=D(1)), None), Line(side.price(None, None, unit_amount=D(1_000)), 1)
    url = "https://example.com/"
    pages = []
    for line, anchor in ((usage, anchor_of(Plan("p", 1, "P").period, side.now())), (once, None)):
        asked = PageAsked(customer, (line,), {STACK: side.stack}, url, url, side.run, anchor)
        pages.append(shop.page(asked, side.name("page")))
    shop.expire_pages(customer)
    statuses = [_status(side, page.session) for page in pages]
    side.asked(lambda client: client.v1.checkout.sessions.expire(pages[1].session))
    return Seen(f"made; after ending the plan's: {shown(statuses)}", statuses == ["expired", "open"])


def _status(side: Side, session: str) -> str | None:
    return side.asked(lambda client: client.v1.checkout.sessions.retrieve(session)).status
