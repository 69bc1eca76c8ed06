"""Doing the steps of a diff at Stripe, one call at a time, in their order: meters, products, prices.

A crash between two calls leaves a shorter way to the same end: the next diff finds what was made, and nothing can be
made twice. Stripe itself refuses a second active meter of an event name, a second product of an id and a second price
of a lookup key. The one step of two calls is a replacement: the new price takes the lookup key over as it is made, and
the old one is archived after. A crash between leaves the old one on sale without a key; the next diff archives it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from tollgate.sync.desired import Desired
from tollgate.sync.diff import CHANGES, Step
from tollgate.sync.objects import Found, FoundMeter, FoundPrice, FoundProduct, Meter, Price, Product


class CatalogPort(Protocol):
    """Stripe's catalogue. Creations are repeated by the port itself while Stripe is unavailable, each under one
    Idempotency-Key. Every method raises StripeRefused and StripeUnavailable."""

    def meters(self) -> list[FoundMeter]:
        """All of the account, inactive ones too."""
        ...

    def product(self, product: str) -> FoundProduct | None: ...

    def prices_of(self, product: str) -> list[FoundPrice]:
        """All of a product, archived ones too."""
        ...

    def prices_with(self, lookup_keys: Iterable[str]) -> list[FoundPrice]:
        """Those that have one of these lookup keys, archived ones too."""
        ...

    def create_meter(self, meter: Meter) -> str: ...

    def update_meter(self, meter: str, wanted: Meter, reactivate: bool) -> None: ...

    def create_product(self, product: Product) -> None: ...

    def update_product(self, product: Product) -> None:
        """Its name and metadata, and that it is active."""
        ...

    def create_price(self, price: Price, meter: str | None, takes_key: bool) -> str:
        """`meter`: the id of its meter. `takes_key`: the lookup key is taken from the price that has it."""
        ...

    def update_price(self, found: str, wanted: Price) -> None:
        """Its nickname, metadata and lookup key, and that it is active."""
        ...

    def archive_price(self, found: str) -> None: ...


class Refused(Exception):
    """A diff that refuses something is not applied: what it asks for would be half a catalogue."""


def look(port: CatalogPort, wanted: Desired) -> Found:
    """What there is at Stripe that the wanted objects may meet: reads one list of meters, each product with its prices,
    and the lookup keys by tens."""
    products: dict[str, FoundProduct] = {}
    prices: dict[str, FoundPrice] = {}
    for product in wanted.products:
        found = port.product(product.id)
        if found is not None:
            products[product.id] = found
            prices |= {price.id: price for price in port.prices_of(product.id)}
    keys = [price.lookup_key for price in wanted.prices if price.lookup_key is not None]
    prices |= {price.id: price for price in port.prices_with(keys)}
    return Found(tuple(port.meters()), products, tuple(prices.values()))


def apply(port: CatalogPort, steps: Iterable[Step], done: Callable[[Step], None] = lambda step: None) -> int:
    """Do the steps and say how many changed something; `done` is told of each of those. Raises Refused before anything
    is changed, StripeRefused, StripeUnavailable."""
    steps = list(steps)
    if any(step.kind == "refuse" for step in steps):
        raise Refused
    meters: dict[str, str] = {}
    changed = 0
    for step in steps:
        if step.kind in CHANGES:
            _do(port, step, meters)
            done(step)
            changed += 1
        elif isinstance(step.wanted, Meter) and step.found is not None:
            meters[step.wanted.event_name] = step.found
    return changed


def _do(port: CatalogPort, step: Step, meters: dict[str, str]) -> None:
    wanted, found = step.wanted, step.found
    if isinstance(wanted, Meter):
        if found is None:
            found = port.create_meter(wanted)
        else:
            port.update_meter(found, wanted, step.reactivate)
        meters[wanted.event_name] = found
    elif isinstance(wanted, Product):
        if found is None:
            port.create_product(wanted)
        else:
            port.update_product(wanted)
    elif isinstance(wanted, Price):
        _price(port, step, wanted, meters)
    elif found is not None:
        port.archive_price(found)


def _price(port: CatalogPort, step: Step, wanted: Price, meters: Mapping[str, str]) -> None:
    if step.kind == "update" and step.found is not None:
        port.update_price(step.found, wanted)
        return
    event_name = wanted.terms.event_name
    meter = None if event_name is None else meters[event_name]
    port.create_price(wanted, meter, takes_key=step.found is not None)
    if step.found is not None:
        # A crash here leaves the old price on sale, without its lookup key: the next diff archives it.
        port.archive_price(step.found)
