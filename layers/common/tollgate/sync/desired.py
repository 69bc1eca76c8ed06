"""What Stripe should hold for plan versions: meters, products and prices (pure).

One product for each part of a plan (its base fee, its seats, each priced meter, each pack), the same for all versions,
as it is what customers read on their invoices; one price for each part and version, as a version is immutable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Final, NamedTuple

from tollgate.catalog.frozen import PlanVersion
from tollgate.catalog.model import Meter as CatalogMeter
from tollgate.catalog.model import Plan
from tollgate.catalog.model import Price as CatalogPrice
from tollgate.sync.expressed import Expressed, NotExpressible, metered, unit_amount, whole_amount
from tollgate.sync.objects import (
    BASE,
    PART,
    PLAN,
    SEATS,
    STACK,
    VERSION,
    Meter,
    Price,
    Product,
    Terms,
    lookup_key,
    meter_part,
    pack_part,
    product_id,
)

MOST_ITEMS: Final = 20
"""Prices on one subscription at Stripe [docs: subscription items]."""
MOST_LOOKUP_KEY: Final = 200
"""Characters of a lookup key [SDK]."""


class Refusal(NamedTuple):
    """What of the catalogue cannot be at Stripe, and why, in a sentence."""

    what: str
    reason: str


@dataclass(frozen=True, slots=True)
class Desired:
    """All that a stack wants at Stripe. `folded`: by lookup key, what Stripe has no words for and how it is said."""

    meters: tuple[Meter, ...]
    products: tuple[Product, ...]
    prices: tuple[Price, ...]
    folded: dict[str, tuple[str, ...]]
    refusals: tuple[Refusal, ...]


class _Wish(NamedTuple):
    """A part of a plan version: what it is called in the price, on invoices, and how Stripe says its price."""

    part: str
    name: str
    on_invoice: str
    said: Callable[[Terms], Expressed]


def desired(versions: Iterable[PlanVersion], stack: str) -> Desired:
    """What plan versions, of one catalogue and in the order of their numbers, want at Stripe under a stack's name."""
    meters: dict[str, Meter] = {}
    products: dict[str, Product] = {}
    prices: list[Price] = []
    folded: dict[str, tuple[str, ...]] = {}
    refusals: list[Refusal] = []
    for version in versions:
        for counted in version.meters.values():
            refusals += _add_meter(meters, counted, version.plan)
        plan = version.plan
        recurring = 0
        for wish in _wishes(version):
            key = lookup_key(stack, plan.id, plan.version, wish.part)
            product = product_id(stack, plan.id, wish.part)
            try:
                if len(key) > MOST_LOOKUP_KEY:
                    raise NotExpressible(f"its lookup key would have over {MOST_LOOKUP_KEY} characters: shorten names")
                found = wish.said(Terms(product, plan.currency, plan.period.interval))
            except NotExpressible as reason:
                refusals.append(Refusal(_where(plan, wish.part), str(reason)))
                continue
            recurring += found.terms.interval is not None
            metadata = {STACK: stack, PLAN: plan.id, VERSION: str(plan.version), PART: wish.part}
            # The newest version names the product: versions come in their order.
            products[product] = Product(product, wish.on_invoice, metadata)
            title = f"{plan.name or plan.id}, version {plan.version}: {wish.name}"
            prices.append(Price(key, title, metadata, found.terms))
            if found.folded:
                folded[key] = found.folded
        if recurring > MOST_ITEMS:
            refusals.append(Refusal(_where(plan), f"{recurring} prices; a subscription at Stripe takes {MOST_ITEMS}"))
    return Desired(tuple(meters.values()), tuple(products.values()), tuple(prices), folded, tuple(refusals))


def _add_meter(meters: dict[str, Meter], counted: CatalogMeter, plan: Plan) -> Iterator[Refusal]:
    event_name = counted.stripe_event_name
    if event_name is None:
        return
    # Of a level Stripe takes the last value that it was told in a billing period.
    wanted = Meter(event_name, counted.name or counted.id, "last" if counted.kind == "level" else "sum")
    known = meters.get(event_name)
    if known is not None and known.formula != wanted.formula:
        reason = f"`{event_name}` is a {known.formula} in another plan version and a {wanted.formula} here"
        yield Refusal(f"{_where(plan)}, meter {counted.id}", f"{reason}: use another stripe_event_name")
        return
    meters[event_name] = wanted


def _wishes(version: PlanVersion) -> Iterator[_Wish]:
    plan = version.plan
    title, currency = plan.name or plan.id, plan.currency
    if plan.base_fee:
        yield _Wish(BASE, "base fee", title, _licensed(partial(whole_amount, plan.base_fee, currency)))
    if plan.seats is not None:
        price = partial(unit_amount, plan.seats.unit_price, currency)
        yield _Wish(SEATS, "seats", f"{title}: seats", _licensed(price))
    for metered_price in plan.prices:
        counted = version.meters[metered_price.meter]
        name = counted.name or counted.id
        said = partial(_metered, metered_price, counted)
        yield _Wish(meter_part(counted.id), name, f"{title}: {name}", said)
    for pack in plan.packs:
        name = pack.name or pack.id
        sold = _licensed(partial(whole_amount, pack.price, currency), once=True)
        yield _Wish(pack_part(pack.id), name, f"{title}: {name}", sold)


def _licensed(amount: Callable[[], Decimal], once: bool = False) -> Callable[[Terms], Expressed]:
    def said(base: Terms) -> Expressed:
        return Expressed(base._replace(unit_amount=amount(), interval=None if once else base.interval))

    return said


def _metered(price: CatalogPrice, counted: CatalogMeter, base: Terms) -> Expressed:
    if counted.stripe_event_name is None:
        raise NotExpressible("the meter has no stripe_event_name to bill it under")
    return metered(price, base._replace(event_name=counted.stripe_event_name))


def _where(plan: Plan, part: str | None = None) -> str:
    where = f"plan {plan.id}, version {plan.version}"
    return where if part is None else f"{where}, {part}"
