"""Subscriptions and their items: state and shape. Period bounds live on the items [docs: basil 2025-03-31]."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from local.stripe_double.errors import missing_resource
from local.stripe_double.prices import Price
from local.stripe_double.wire import JsonObject

WILL_END_SECONDS = 3 * 86_400
INCOMPLETE_SECONDS = 23 * 3_600
CYCLING = frozenset({"active", "past_due", "trialing", "unpaid"})
ENDED = frozenset({"canceled", "incomplete_expired"})


@dataclass
class Debit:
    """What a licensed item was last charged, in minor units, and for which time: credits are shares of it."""

    amount: int
    start: int
    end: int


@dataclass
class Item:
    """One price on a subscription. `quantity` None: metered. `usage_from`: usage before it is not this item's."""

    id: str
    created: int
    price: Price
    quantity: int | None
    anchor: int
    start: int
    end: int
    usage_from: int
    anchor_day: int | None = None
    debit: Debit | None = None
    metadata: dict[str, str] = field(default_factory=dict)

    def view(self, subscription: str) -> JsonObject:
        return {
            "id": self.id,
            "object": "subscription_item",
            "billed_until": None,
            "billing_thresholds": None,
            "created": self.created,
            "current_period_end": self.end,
            "current_period_start": self.start,
            "current_trial": None,
            "discounts": [],
            "metadata": dict(self.metadata),
            "plan": self.price.plan_view(),
            "price": self.price.view(),
            # A metered item has no quantity [docs: usage-based billing].
            **({} if self.quantity is None else {"quantity": self.quantity}),
            "subscription": subscription,
            "tax_rates": [],
        }


@dataclass
class Subscription:
    """One subscription in flexible billing mode. Times are epoch seconds."""

    id: str
    customer: str
    created: int
    start_date: int
    anchor: int
    currency: str
    status: str = "active"
    items: list[Item] = field(default_factory=list)
    anchor_config: dict[str, int] | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    description: str | None = None
    default_payment_method: str | None = None
    trial_start: int | None = None
    trial_end: int | None = None
    will_end_told: bool = False
    trial_settings: JsonObject | None = None
    cancel_at: int | None = None
    cancel_at_period_end: bool = False
    canceled_at: int | None = None
    ended_at: int | None = None
    cancellation: dict[str, Any] = field(
        default_factory=lambda: {"comment": None, "feedback": None, "feedback_option": None, "reason": None}
    )
    latest_invoice: str | None = None
    pause_collection: JsonObject | None = None
    paused_at: int | None = None

    def item(self, item_id: str, param: str) -> Item:
        """Raises ApiError (400) for an item of another subscription."""
        for item in self.items:
            if item.id == item_id:
                return item
        raise missing_resource("subscription_item", item_id, param, 400)

    @property
    def period_end(self) -> int:
        """When the next item's period ends."""
        return min(item.end for item in self.items)

    def next_due(self) -> int | None:
        """When time changes this subscription next."""
        times: list[int] = []
        if self.status in CYCLING:
            times.append(self.period_end)
            if self.cancel_at is not None:
                times.append(self.cancel_at)
        if self.status == "trialing" and self.trial_end is not None and not self.will_end_told:
            times.append(self.trial_end - WILL_END_SECONDS)
        if self.status == "incomplete":
            times.append(self.created + INCOMPLETE_SECONDS)
        if self.pause_collection is not None and self.pause_collection["resumes_at"] is not None:
            times.append(self.pause_collection["resumes_at"])
        return min(times, default=None)

    def view(self) -> JsonObject:
        paused = None
        if self.paused_at is not None:
            reason = {"type": "pause_requested"}
            paused = {
                "paused": {"subscription": reason, "transitioned_at": self.paused_at, "type": "subscription"},
            }
        return {
            "id": self.id,
            "object": "subscription",
            "application": None,
            "application_fee_percent": None,
            "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None},
            "billing_cycle_anchor": self.anchor,
            "billing_cycle_anchor_config": None
            if self.anchor_config is None
            else {name: self.anchor_config.get(name) for name in ("day_of_month", "hour", "minute", "month", "second")},
            "billing_mode": {
                "flexible": {"proration_discounts": "included"},
                "type": "flexible",
                "updated_at": self.created,
            },
            "billing_schedules": [],
            "billing_thresholds": None,
            "cancel_at": self.cancel_at,
            "cancel_at_period_end": self.cancel_at_period_end,
            "canceled_at": self.canceled_at,
            "cancellation_details": dict(self.cancellation),
            "collection_method": "charge_automatically",
            "created": self.created,
            "currency": self.currency,
            "customer": self.customer,
            "customer_account": None,
            "days_until_due": None,
            "default_payment_method": self.default_payment_method,
            "default_source": None,
            "default_tax_rates": [],
            "description": self.description,
            "discounts": [],
            "ended_at": self.ended_at,
            "invoice_settings": {
                "account_tax_ids": None,
                "custom_fields": None,
                "description": None,
                "footer": None,
                "issuer": {"type": "self"},
            },
            "items": {
                "object": "list",
                "data": [item.view(self.id) for item in self.items],
                "has_more": False,
                "url": f"/v1/subscription_items?subscription={self.id}",
            },
            "latest_invoice": self.latest_invoice,
            "livemode": False,
            "managed_payments": None,
            "metadata": dict(self.metadata),
            "next_pending_invoice_item_invoice": None,
            "on_behalf_of": None,
            "pause_collection": self.pause_collection,
            "payment_settings": {
                "payment_method_options": None,
                "payment_method_types": None,
                "save_default_payment_method": "off",
            },
            "pending_invoice_item_interval": None,
            "pending_setup_intent": None,
            "pending_update": None,
            "presentment_details": None,
            "schedule": None,
            "start_date": self.start_date,
            "status": self.status,
            "status_details": paused,
            "test_clock": None,
            "transfer_data": None,
            "trial_end": self.trial_end,
            "trial_settings": self.trial_settings or {"end_behavior": {"missing_payment_method": "create_invoice"}},
            "trial_start": self.trial_start,
        }


class Subscriptions:
    """All subscriptions."""

    def __init__(self) -> None:
        self._by_id: dict[str, Subscription] = {}

    def add(self, subscription: Subscription) -> None:
        self._by_id[subscription.id] = subscription

    def find(self, subscription_id: str) -> Subscription | None:
        return self._by_id.get(subscription_id)

    def get(self, subscription_id: str, param: str = "id", status: int = 404) -> Subscription:
        """Raises ApiError naming `param` for an unknown id."""
        subscription = self._by_id.get(subscription_id)
        if subscription is None:
            raise missing_resource("subscription", subscription_id, param, status)
        return subscription

    def of_item(self, item_id: str) -> tuple[Subscription, Item]:
        """The subscription that has this item. Raises ApiError (404)."""
        for subscription in self._by_id.values():
            for item in subscription.items:
                if item.id == item_id:
                    return subscription, item
        raise missing_resource("subscription_item", item_id)

    def newest_first(self) -> Iterator[Subscription]:
        return reversed(self._by_id.values())
