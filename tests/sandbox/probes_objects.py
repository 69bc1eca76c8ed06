"""Probes of the catalogue, customers, events, Idempotency-Keys and webhook destinations."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from functools import partial

from tests.sandbox.points import Probe, Seen
from tests.sandbox.probes_usage import shown
from tests.sandbox.side import Side
from tests.unit.rating.making import graduated, per_unit
from tollgate.catalog.frozen import PlanVersion
from tollgate.catalog.model import Meter as CatalogMeter
from tollgate.catalog.model import Plan
from tollgate.customers.ports import Customer
from tollgate.errors import StripeRefused
from tollgate.stripe_api.catalog import StripeCatalog
from tollgate.stripe_api.client import STRIPE_VERSION
from tollgate.stripe_api.customers import StripeCustomers
from tollgate.stripe_api.endpoints import StripeDestinations
from tollgate.stripe_api.events import StripeEvents
from tollgate.sync.apply import apply, look
from tollgate.sync.desired import Desired, desired
from tollgate.sync.diff import diff
from tollgate.sync.objects import Meter, Price, Product, Terms
from tollgate.webhooks.connect import wanted
from tollgate.webhooks.dispatch import TYPES

D = Decimal


def catalogue(side: Side) -> Seen:
    meter = CatalogMeter("m", "Things", "thing", scale=2, stripe_event_name=side.name("sum"))
    prices = (graduated((1_000, "0"), (None, "0.0125", "2.00")),)
    plans = [
        Plan("steps", 1, "Steps", base_fee=D("29.00"), prices=prices),
        Plan("units", 1, "Units", prices=(per_unit("0.000005"),)),
    ]
    wished = desired([PlanVersion(plan, {meter.id: meter}) for plan in plans], side.stack)
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


def _customer(side: Side, key: str) -> Customer:
    """Made as the product makes one."""
    made = StripeCustomers(side.stripe).create(side.stack, key, key)
    side.later(f"customer {made.id}", lambda: side.asked(lambda client: client.v1.customers.delete(made.id)))
    return made


def customer_list(side: Side) -> Seen:
    made = _customer(side, side.name("customer"))
    listed = [one.id for one in StripeCustomers(side.stripe).all(made.created)]
    return Seen("listed at once" if made.id in listed else "not in the list", made.id in listed)


def customer_search(side: Side) -> Probe:
    customers, key = StripeCustomers(side.stripe), side.name("customer")
    made, begun = _customer(side, key), side.now()
    came = yield lambda: [one.id for one in customers.search(side.stack, key)] == [made.id]
    return Seen(f"{'after at most' if came else 'not within'} {side.now() - begun} s", came)


def idempotency(side: Side) -> Seen:
    customers, key = StripeCustomers(side.stripe), side.name("customer")
    first, second = _customer(side, key), customers.create(side.stack, key, key)
    try:
        customers.create(side.stack, "another", key)
        other = "taken"
    except StripeRefused:
        other = "refused"
    same = "the same customer" if first.id == second.id else "another customer"
    return Seen(f"again: {same}; with another body: {other}", first.id == second.id and other == "refused")


def events(side: Side) -> Probe:
    made, begun = _customer(side, side.name("customer")), side.now()
    found = StripeEvents(side.stripe)

    def there() -> bool:
        return any(
            event["type"] == "customer.created" and event["data"]["object"]["id"] == made.id
            for event in found.since(made.created)
        )

    came = yield there
    return Seen(f"{'after at most' if came else 'not within'} {side.now() - begun} s", came)


def destinations(side: Side) -> Seen:
    port = StripeDestinations(side.stripe)
    wishes = wanted(f"https://example.com/{side.stack}", TYPES, STRIPE_VERSION)
    made = []
    for wish in wishes:
        try:
            one, secret = port.create(wish, side.stack)
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
