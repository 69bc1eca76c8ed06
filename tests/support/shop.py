"""Stripe as far as selling needs it, in memory: what the routes and their rules are tested against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tollgate.errors import StripeUnavailable
from tollgate.subscriptions.anchor import Anchor
from tollgate.subscriptions.checkout import Item, Line, Page, PageAsked, Proration, SoldPrice, Subscription

NOON = 1_795_176_000
"""2026-11-20T12:00:00Z."""


@dataclass
class MemoryShop:
    """Has every price that it is asked for, in `currency`, except `missing`. `calls`: what was made, by key."""

    currency: str = "usd"
    missing: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    there: dict[str, Subscription] = field(default_factory=dict)
    pages: dict[str, PageAsked] = field(default_factory=dict)
    anchors: dict[str, Anchor] = field(default_factory=dict)
    expired: list[str] = field(default_factory=list)
    quantities: list[int | None] = field(default_factory=list)
    """Of the subscription that was asked for last."""
    lost: int = 0
    """So many creations take effect, and their answers get lost."""

    def prices(self, lookup_keys: Sequence[str]) -> Mapping[str, SoldPrice]:
        return {
            key: SoldPrice(f"price_{key}", self.currency)
            for key in lookup_keys
            if key.rpartition(":")[2] not in self.missing
        }

    def customer_exists(self, customer: str) -> bool:
        return customer not in self.deleted

    def subscriptions(self, customer: str) -> list[Subscription]:
        return [one for one in self.there.values() if one.customer == customer and not one.ended]

    def subscription(self, subscription: str) -> Subscription | None:
        return next((one for one in self.there.values() if one.id == subscription), None)

    def expire_pages(self, customer: str) -> None:
        self.expired.append(customer)

    def page(self, asked: PageAsked, key: str) -> Page:
        known = self.pages.setdefault(key, asked)
        assert known == asked, "Stripe refuses other parameters under the same key"
        self._maybe_lost()
        session = f"cs_test_{list(self.pages).index(key)}"
        return Page(session, f"https://checkout.stripe.com/c/pay/{session}", NOON + 86_400)

    def subscribe(
        self, customer: str, lines: tuple[Line, ...], metadata: Mapping[str, str], anchor: Anchor, key: str
    ) -> Subscription:
        self.quantities = [line.quantity for line in lines]
        if key not in self.there:
            items = tuple(_item(line) for line in lines)
            made = Subscription(
                f"sub_{len(self.there)}",
                "active",
                customer,
                self.currency,
                items,
                (NOON, NOON + 1),
                request=metadata["tollgate_request"],
            )
            self.there[key], self.anchors[key] = made, anchor
        assert self.anchors[key] == anchor, "Stripe refuses other parameters under the same key"
        self._maybe_lost()
        return self.there[key]

    def add(
        self, subscription: str, lines: tuple[Line, ...], metadata: Mapping[str, str], proration: Proration, key: str
    ) -> Subscription:
        (name,) = (name for name, one in self.there.items() if one.id == subscription)
        before = self.there[name]
        new = tuple(_item(line) for line in lines if line.price not in {item.price for item in before.items})
        self.there[name] = before._replace(items=before.items + new)
        self._maybe_lost()
        return self.there[name]

    def cancel(self, subscription: str) -> None:
        (name,) = (name for name, one in self.there.items() if one.id == subscription)
        self.there[name] = self.there[name]._replace(status="canceled", ended=True)

    def flat(self, customer: str, interval: str = "month", currency: str = "usd") -> str:
        """A subscription to a fee that is none of ours; its id."""
        items = (Item("price_flat", None, False, interval),)
        made = Subscription(f"sub_flat{len(self.there)}", "active", customer, currency, items, None)
        self.there[made.id] = made
        return made.id

    def _maybe_lost(self) -> None:
        if self.lost:
            self.lost -= 1
            raise StripeUnavailable(None, "no answer")


def _item(line: Line) -> Item:
    return Item(line.price, line.price.rpartition(":")[2], line.quantity is None, "month")
