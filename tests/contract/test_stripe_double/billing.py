"""Plans and subscriptions for the tests of what the double bills."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

import stripe

from local.stripe_double.testing import NOON, Account

HOUR, DAY = 3_600, 86_400


def at(text: str) -> int:
    """`2026-12-01 00:00` in UTC as epoch seconds."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


@dataclass
class Shop:
    """A product with a base fee of $29 and metered credits: 1,000 included, then 4 cents each."""

    account: Account
    base: str
    usage: str
    meter: str
    customer: str

    def subscribe(self, *prices: str, **more: Any) -> stripe.Subscription:
        """A subscription to these prices, both unless given."""
        items = [{"price": price} for price in prices or (self.base, self.usage)]
        params: Any = {"customer": self.customer, "items": items, **more}
        return self.account.client.v1.subscriptions.create(params)

    def price(self, **params: Any) -> str:
        """Another monthly price of the same product in dollars."""
        given: dict[str, Any] = {"currency": "usd", "recurring": {"interval": "month"}, "product": "pro", **params}
        return self.account.client.v1.prices.create(cast(Any, given)).id

    def move_to(self, moment: int) -> None:
        """Let time pass until then, as if someone looked in meanwhile: what was due has happened."""
        self.account.control("clock", {"advance_seconds": moment - self.account.now})

    def invoices(self) -> list[stripe.Invoice]:
        """Newest first."""
        return self.account.client.v1.invoices.list({"customer": self.customer}).data

    def newest(self) -> stripe.Invoice:
        return self.invoices()[0]

    def look(self, subscription: str) -> stripe.Subscription:
        return self.account.client.v1.subscriptions.retrieve(subscription)

    def fail(self, outcome: str = "fail") -> None:
        self.account.control("payments", {"customer": self.customer, "outcome": outcome})

    def events(self, prefix: str = "") -> list[str]:
        """Types of the events since the last call that begin so."""
        found = [event["type"] for event in self.account.double.events if event["type"].startswith(prefix)]
        self.account.double.events.clear()
        return found


def shop(account: Account) -> Shop:
    """The clock stands at noon on 2026-11-20."""
    assert account.now == NOON
    meter = account.meter()
    account.client.v1.products.create({"id": "pro", "name": "Pro"})
    opened = Shop(account, "", "", meter, account.customer())
    opened.base = opened.price(unit_amount=2900, nickname="base")
    opened.usage = opened.price(
        recurring={"interval": "month", "usage_type": "metered", "meter": meter},
        billing_scheme="tiered",
        tiers_mode="graduated",
        tiers=[{"up_to": 1000, "unit_amount": 0}, {"up_to": "inf", "unit_amount": 4}],
    )
    opened.events()
    return opened


def bounds(subscription: stripe.Subscription) -> list[tuple[int, int]]:
    """The items' periods."""
    return [(item.current_period_start, item.current_period_end) for item in subscription["items"].data]


def amounts(invoice: stripe.Invoice) -> list[int]:
    return [line.amount for line in invoice.lines.data]
