"""Probes of invoices, subscriptions, the catalogue, customers and webhook destinations."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from functools import partial
from typing import Any, Final, NamedTuple

import stripe

from tests.sandbox.points import NotProbed, Probe, Seen
from tests.sandbox.probes_usage import HOUR, move, settled, shown
from tests.sandbox.side import Side
from tests.unit.rating.making import graduated, per_unit
from tollgate.billing.invoice import Invoice, InvoiceLine
from tollgate.catalog.frozen import PlanVersion
from tollgate.catalog.model import Meter as CatalogMeter
from tollgate.catalog.model import Plan
from tollgate.errors import StripeRefused
from tollgate.stripe_api.catalog import StripeCatalog
from tollgate.stripe_api.checkout import StripeShop
from tollgate.stripe_api.client import STRIPE_VERSION
from tollgate.stripe_api.customers import StripeCustomers
from tollgate.stripe_api.endpoints import StripeDestinations
from tollgate.stripe_api.invoices import StripeInvoices, line_of
from tollgate.subscriptions.anchor import anchor_of
from tollgate.subscriptions.checkout import Line
from tollgate.sync.apply import apply, look
from tollgate.sync.desired import Desired, desired
from tollgate.sync.diff import diff
from tollgate.sync.objects import Meter, Price, Product, Terms, Tier
from tollgate.webhooks.connect import wanted
from tollgate.webhooks.dispatch import TYPES

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
    shop = StripeShop(side.stripe, side.run)
    plan = Plan("p", 1, "P")
    made = shop.subscribe(customer, (Line(price, None),), {}, anchor_of(plan.period, now), side.name("subscription"))
    found = side.asked(lambda client: client.v1.subscriptions.retrieve(made.id))
    assert made.period is not None
    whole = made.period[1] % 60 == 0
    text = (
        f"{found.status}, {'an' if found.latest_invoice else 'no'} invoice, ends {made.period[1] % 60} s past a minute"
    )
    return Seen(text, found.status == "active" and not found.latest_invoice and whole)


STACK: Final = "tollgate-probe-"


def catalogue(side: Side) -> Seen:
    meter = CatalogMeter("m", "Things", "thing", scale=2, stripe_event_name=side.name("sum"))
    prices = (graduated((1_000, "0"), (None, "0.0125", "2.00")),)
    plans = [
        Plan("steps", 1, "Steps", base_fee=D("29.00"), prices=prices),
        Plan("units", 1, "Units", prices=(per_unit("0.000005"),)),
    ]
    wished = desired([PlanVersion(plan, {meter.id: meter}) for plan in plans], STACK + side.run)
    first, second = _sync(side, wished), _sync(side, wished)
    side.later("catalogue", lambda: _put_away(side, wished))
    text = f"first: {_counted(first)}; again: {_counted(second)}"
    return Seen(text, set(first) == {"create"} and set(second) == {"match"})


def _sync(side: Side, wished: Desired) -> Counter[str]:
    port = StripeCatalog(side.stripe, side.name("sync"))
    steps = diff(wished, look(port, wished), live=False)
    apply(port, steps)
    return Counter(step.kind for step in steps)


def _counted(kinds: Counter[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))


def _put_away(side: Side, wished: Desired) -> None:
    for product in wished.products:
        for price in side.catalog.prices_of(product.id):
            side.catalog.archive_price(price.id)
        side.archive_product(product.id)
    names = {meter.event_name for meter in wished.meters}
    for found in side.catalog.meters():
        if found.meter.event_name in names:
            side.archive(found.id)


def unique(side: Side) -> Seen:
    meter, product, key = side.meter("sum"), side.name("product"), side.name("price")
    again = StripeCatalog(side.stripe, side.name("again"))
    priced = Price(key, key, {}, Terms(product, "usd", "month", unit_amount=D(100)))
    side.catalog.create_product(Product(product, product, {}))
    side.later(f"product {product}", lambda: side.archive_product(product))
    made = side.catalog.create_price(priced, None, takes_key=False)
    side.later(f"price {made}", lambda: side.catalog.archive_price(made))
    doubled = []
    for what, create in (
        ("meter", lambda: again.create_meter(Meter(meter.event_name, "again", "sum"))),
        ("product", lambda: again.create_product(Product(product, "again", {}))),
        ("price", lambda: again.create_price(priced, None, takes_key=False)),
    ):
        try:
            create()
            doubled.append(what)
        except StripeRefused:
            continue
    return Seen(f"made twice: {shown(doubled) or 'nothing'}", not doubled)


def customer_list(side: Side) -> Seen:
    customers = StripeCustomers(side.stripe)
    made = customers.create(STACK + side.run, side.run, side.name("customer"))
    side.later(f"customer {made.id}", lambda: side.asked(lambda client: client.v1.customers.delete(made.id)))
    listed = [one.id for one in customers.all(made.created)]
    return Seen("listed at once" if made.id in listed else "not in the list", made.id in listed)


def destinations(side: Side) -> Seen:
    port = StripeDestinations(side.stripe)
    wishes = wanted(f"https://example.com/{STACK}{side.run}", TYPES, STRIPE_VERSION)
    made = []
    for wish in wishes:
        try:
            one, secret = port.create(wish, STACK + side.run)
        except StripeRefused as refused:
            return Seen(f"{wish.payload} refused: {refused}", False)
        side.later(f"webhook destination {one.id}", partial(port.remove, one))
        assert secret, "a destination without a secret"
        made.append(one)
    listed = {one.id: one for one in port.all()}
    for one in made:
        port.remove(one)  # at once: nothing of this account is to be sent there
    pairs = zip(wishes, made, strict=True)
    same = [wish.payload for wish, one in pairs if one.id in listed and listed[one.id].events == wish.events]
    return Seen(f"made and listed: {shown(same) or 'none'}", same == [wish.payload for wish in wishes])
