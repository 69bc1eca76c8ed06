"""Selling at Stripe: checkout pages and subscriptions (stripe-python 16). The port of `subscriptions.checkout`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import stripe

from tollgate.errors import StripeRefused
from tollgate.stripe_api.reading import Connection
from tollgate.subscriptions.anchor import Anchor
from tollgate.subscriptions.checkout import (
    REQUEST,
    Item,
    Line,
    Page,
    PageAsked,
    Proration,
    SoldPrice,
    Subscription,
)
from tollgate.sync.objects import PART, STACK

_KEYS_A_LIST: Final = 10
"""Lookup keys that one list call takes [SDK: PriceListParams]."""
_MOST: Final = 100
_ENDED: Final = frozenset({"canceled", "incomplete_expired"})
TRIES: Final = 2
"""A person waits for the answer: one repetition, the rest is the caller's."""


class StripeShop:
    """`Shop` on Stripe. `stack`: whose parts are recognised in a subscription's prices."""

    def __init__(self, connection: Connection, stack: str) -> None:
        self._stripe = connection
        self._stack = stack

    def prices(self, lookup_keys: Sequence[str]) -> Mapping[str, SoldPrice]:
        found: dict[str, SoldPrice] = {}
        for start in range(0, len(lookup_keys), _KEYS_A_LIST):
            for price in self._active(lookup_keys[start : start + _KEYS_A_LIST]):
                if price.lookup_key is not None:
                    found[price.lookup_key] = SoldPrice(price.id, price.currency)
        return found

    def _active(self, ten: Sequence[str]) -> list[stripe.Price]:
        return self._stripe.patiently(
            lambda client: client.v1.prices.list({"lookup_keys": list(ten), "active": True, "limit": _MOST}), TRIES
        ).data

    def customer_exists(self, customer: str) -> bool:
        try:
            found = self._stripe.patiently(lambda client: client.v1.customers.retrieve(customer), TRIES)
        except StripeRefused as refused:
            if refused.missing:
                return False
            raise
        return not getattr(found, "deleted", False)

    def subscriptions(self, customer: str) -> list[Subscription]:
        listed = self._stripe.patiently(
            # Without a status the list leaves out those that have ended [SDK: SubscriptionListParams.status].
            lambda client: client.v1.subscriptions.list({"customer": customer, "limit": _MOST}),
            TRIES,
        )
        return [self._read(found) for found in listed.data if found.status not in _ENDED]

    def subscription(self, subscription: str) -> Subscription | None:
        try:
            found = self._stripe.patiently(lambda client: client.v1.subscriptions.retrieve(subscription), TRIES)
        except StripeRefused as refused:
            if refused.missing:
                return None
            raise
        return self._read(found)

    def expire_pages(self, customer: str) -> None:
        listed = self._stripe.patiently(
            lambda client: client.v1.checkout.sessions.list({"customer": customer, "status": "open", "limit": _MOST}),
            TRIES,
        )
        for session in listed.data:
            if session.mode == "subscription" and _metadata(session).get(STACK) == self._stack:
                self._expire(session.id)

    def _expire(self, session: str) -> None:
        try:
            self._stripe.patiently(lambda client: client.v1.checkout.sessions.expire(session), TRIES)
        except StripeRefused:
            # It was paid, or its time was over, since it was listed. One that was paid has made a subscription, which
            # Stripe's events bring; it cannot be told here from one that is over.
            return

    def page(self, asked: PageAsked, key: str) -> Page:
        metadata = dict(asked.metadata)
        params: Any = {
            "ui_mode": "hosted_page",
            "customer": asked.customer,
            "client_reference_id": asked.account,
            "line_items": [_line(line) for line in asked.lines],
            "metadata": metadata,
            "success_url": asked.success_url,
            "cancel_url": asked.cancel_url,
        }
        if asked.anchor is None:
            params |= {"mode": "payment", "payment_intent_data": {"metadata": metadata}}
        else:
            params |= {
                "mode": "subscription",
                "subscription_data": {
                    "metadata": metadata,
                    "billing_cycle_anchor_config": _anchor(asked.anchor),
                    "proration_behavior": asked.proration,
                },
            }
        session = self._stripe.patiently(
            lambda client: client.v1.checkout.sessions.create(params, {"idempotency_key": key}),
            TRIES,
        )
        return Page(session.id, str(session.url), session.expires_at)

    def subscribe(
        self, customer: str, lines: tuple[Line, ...], metadata: Mapping[str, str], anchor: Anchor, key: str
    ) -> Subscription:
        params: Any = {
            "customer": customer,
            "items": [_line(line) for line in lines],
            "metadata": dict(metadata),
            "billing_cycle_anchor_config": _anchor(anchor),
            "proration_behavior": "create_prorations",
        }
        made = self._stripe.patiently(
            lambda client: client.v1.subscriptions.create(params, {"idempotency_key": key}), TRIES
        )
        return self._read(made)

    def add(
        self, subscription: str, lines: tuple[Line, ...], metadata: Mapping[str, str], proration: Proration, key: str
    ) -> Subscription:
        params: Any = {
            # Items that are not named stay as they are [docs: subscriptions, update].
            "items": [_line(line) for line in lines],
            "metadata": dict(metadata),
            "proration_behavior": proration,
        }
        changed = self._stripe.patiently(
            lambda client: client.v1.subscriptions.update(subscription, params, {"idempotency_key": key}), TRIES
        )
        return self._read(changed)

    def _read(self, found: stripe.Subscription) -> Subscription:
        items = found.items.data
        customer = found.customer if isinstance(found.customer, str) else found.customer.id
        # Since basil each item has its own period; all items of our subscriptions share one.
        period = (items[0].current_period_start, items[0].current_period_end) if items else None
        return Subscription(
            id=found.id,
            status=found.status,
            customer=customer,
            currency=found.currency,
            items=tuple(self._item(item) for item in items),
            period=period,
            ended=found.status in _ENDED,
            request=_metadata(found).get(REQUEST),
        )

    def _item(self, item: Any) -> Item:
        price = item.price
        metadata = _metadata(price)
        recurring = price.recurring
        return Item(
            price=price.id,
            part=metadata.get(PART) if metadata.get(STACK) == self._stack else None,
            metered=recurring is not None and recurring.usage_type == "metered",
            interval="" if recurring is None else str(recurring.interval),
        )


def _line(line: Line) -> dict[str, Any]:
    return {"price": line.price} if line.quantity is None else {"price": line.price, "quantity": line.quantity}


def _anchor(anchor: Anchor) -> dict[str, int]:
    config = {"day_of_month": anchor.day_of_month, "hour": anchor.hour, "minute": anchor.minute, "second": 0}
    return config if anchor.month is None else {**config, "month": anchor.month}


def _metadata(found: Any) -> dict[str, str]:
    return {} if found.metadata is None else dict(found.metadata.to_dict())
