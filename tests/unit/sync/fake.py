"""Stripe's catalogue in memory, behind the port; it refuses what Stripe refuses and can be killed at any call."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from tollgate.errors import StripeRefused
from tollgate.sync.objects import FoundMeter, FoundPrice, FoundProduct, Meter, Price, Product


class Killed(Exception):
    """The process died: after the call's effect, before its answer was used."""


@dataclass
class FakeStripe:
    """`dies_after`: that many writes happen, then the process is gone."""

    live: bool = False
    dies_after: int | None = None
    writes: list[str] = field(default_factory=list)
    all_meters: dict[str, FoundMeter] = field(default_factory=dict)
    products: dict[str, FoundProduct] = field(default_factory=dict)
    prices: dict[str, FoundPrice] = field(default_factory=dict)

    def meters(self) -> list[FoundMeter]:
        return list(self.all_meters.values())

    def product(self, product: str) -> FoundProduct | None:
        return self.products.get(product)

    def prices_of(self, product: str) -> list[FoundPrice]:
        return [one for one in self.prices.values() if one.price.terms.product == product]

    def prices_with(self, lookup_keys: Iterable[str]) -> list[FoundPrice]:
        keys = set(lookup_keys)
        return [one for one in self.prices.values() if one.price.lookup_key in keys]

    def create_meter(self, meter: Meter) -> str:
        if any(one.active and one.meter.event_name == meter.event_name for one in self.all_meters.values()):
            raise StripeRefused(400, "", "There is already an active meter with this event name")
        found = f"mtr_{len(self.all_meters) + 1}"
        self.all_meters[found] = FoundMeter(found, True, self.live, len(self.writes), meter)
        self._wrote(f"create_meter {meter.event_name}")
        return found

    def update_meter(self, meter: str, wanted: Meter, reactivate: bool) -> None:
        there = self.all_meters[meter]
        self.all_meters[meter] = there._replace(
            active=there.active or reactivate, meter=there.meter._replace(name=wanted.name)
        )
        self._wrote(f"update_meter {meter}")

    def create_product(self, product: Product) -> None:
        if product.id in self.products:
            raise StripeRefused(400, "resource_already_exists", "Product already exists")
        self.products[product.id] = FoundProduct(True, self.live, product)
        self._wrote(f"create_product {product.name}")

    def update_product(self, product: Product) -> None:
        self.products[product.id] = self.products[product.id]._replace(active=True, product=product)
        self._wrote(f"update_product {product.name}")

    def create_price(self, price: Price, meter: str | None, takes_key: bool) -> str:
        assert price.terms.product in self.products
        for id_, one in self.prices.items():
            if one.price.lookup_key == price.lookup_key:
                if not takes_key:
                    raise StripeRefused(400, "resource_already_exists", "A price has this lookup key")
                self.prices[id_] = one._replace(price=one.price._replace(lookup_key=None))
        found = f"price_{len(self.prices) + 1}"
        shown = price._replace(terms=price.terms._replace(event_name=None))
        self.prices[found] = FoundPrice(found, True, self.live, len(self.writes), meter, shown)
        self._wrote(f"create_price {price.lookup_key}")
        return found

    def update_price(self, found: str, wanted: Price) -> None:
        there = self.prices[found]
        shown = wanted._replace(terms=there.price.terms)
        self.prices[found] = there._replace(active=True, price=shown)
        self._wrote(f"update_price {found}")

    def archive_price(self, found: str) -> None:
        self.prices[found] = self.prices[found]._replace(active=False)
        self._wrote(f"archive_price {found}")

    def on_sale(self) -> dict[str | None, Price]:
        """Active prices by lookup key."""
        active = [one.price for one in self.prices.values() if one.active]
        assert len({one.lookup_key for one in active}) == len(active), "two prices on sale for one thing"
        return {one.lookup_key: one for one in active}

    def _wrote(self, what: str) -> None:
        self.writes.append(what)
        if self.dies_after is not None and len(self.writes) >= self.dies_after:
            self.dies_after = None
            raise Killed
