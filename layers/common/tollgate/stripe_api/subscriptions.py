"""A customer's subscriptions, read from Stripe (API 2026-10-28.endive, stripe-python 16).

Periods stand on the items, not on the subscription [SDK: since basil]. Each read is a GET of Stripe's read budget.
"""

from __future__ import annotations

from typing import Any

from tollgate.stripe_api.reading import Connection, StripeRefused
from tollgate.subscriptions.anchor import counted_from
from tollgate.subscriptions.state import Item, Subscription


class Subscriptions:
    """Reads subscriptions; also the port of `subscriptions/follow.py`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def of_customer(self, customer: str) -> list[Subscription]:
        """All of them, ended ones too; [] for a customer that is not there. Raises StripeUnavailable, StripeRefused."""
        try:
            found = self._connection.once(
                lambda client: [
                    one.to_dict()
                    for one in client.v1.subscriptions.list(
                        {"customer": customer, "status": "all", "limit": 100}
                    ).auto_paging_iter()
                ]
            )
        except StripeRefused as refused:
            if refused.missing:
                return []
            raise
        return [self._read(raw) for raw in found]

    def _read(self, raw: dict[str, Any]) -> Subscription:
        late = raw["status"] == "past_due"
        config = raw.get("billing_cycle_anchor_config") or {}
        return Subscription(
            id=raw["id"],
            status=raw["status"],
            created=raw["created"],
            started=raw["start_date"],
            anchor=counted_from(raw["billing_cycle_anchor"], config.get("day_of_month"), config.get("month")),
            items=tuple(_item(item) for item in raw["items"]["data"]),
            metadata=dict(raw.get("metadata") or {}),
            cancel_at=_ends(raw),
            trial_end=raw.get("trial_end"),
            unpaid_since=self._unpaid_since(raw["id"]) if late else None,
        )

    def _unpaid_since(self, subscription: str) -> int | None:
        """When the oldest of its invoices that wait for payment was finalized: an invoice's own time, so that it is
        the same whichever event made us look."""
        found = self._connection.once(
            lambda client: [
                one.to_dict()
                for one in client.v1.invoices.list(
                    {"subscription": subscription, "status": "open", "limit": 100}
                ).auto_paging_iter()
            ]
        )
        times = [
            invoice["status_transitions"]["finalized_at"] or invoice["created"]
            for invoice in found
            if invoice.get("amount_remaining") != 0
        ]
        return min(times) if times else None


def _ends(raw: dict[str, Any]) -> int | None:
    """When it ends by itself. `cancel_at` is set along with `cancel_at_period_end` [docs]; where it is not, the items'
    period says when."""
    if raw.get("cancel_at") is not None:
        return int(raw["cancel_at"])
    ends = [item["current_period_end"] for item in raw["items"]["data"]]
    return max(ends) if raw.get("cancel_at_period_end") and ends else None


def _item(raw: dict[str, Any]) -> Item:
    price = raw["price"]
    return Item(
        price=price["id"],
        period_start=raw["current_period_start"],
        period_end=raw["current_period_end"],
        metadata=dict(price.get("metadata") or {}),
    )
