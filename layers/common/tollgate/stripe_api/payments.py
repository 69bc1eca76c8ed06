"""Payments, refunds, disputes and checkout sessions, read from Stripe (API 2026-10-28.endive)."""

from __future__ import annotations

from typing import Any

import stripe

from tollgate.stripe_api.reading import Connection
from tollgate.webhooks.packs import CheckoutSession, MoneyBack, Payment


class Payments:
    """The port of `webhooks/packs.py`. A payment is three GETs."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def payment(self, payment: str) -> Payment:
        """Raises StripeUnavailable, StripeRefused."""
        raw, refunds, disputes = self._connection.once(lambda client: _all_of(client, payment))
        return Payment(
            id=raw["id"],
            customer=_id(raw.get("customer")),
            received=int(raw.get("amount_received") or 0) if raw["status"] == "succeeded" else 0,
            created=raw["created"],
            metadata=dict(raw.get("metadata") or {}),
            refunds=_sorted(refunds),
            disputes=_sorted(disputes),
        )

    def session(self, session: str) -> CheckoutSession:
        """Raises StripeUnavailable, StripeRefused."""
        raw = self._connection.once(lambda client: client.v1.checkout.sessions.retrieve(session).to_dict())
        return CheckoutSession(
            id=raw["id"],
            customer=_id(raw.get("customer")),
            payment=_id(raw.get("payment_intent")),
            paid=raw.get("payment_status") in ("paid", "no_payment_required"),
            metadata=dict(raw.get("metadata") or {}),
        )


def _all_of(
    client: stripe.StripeClient, payment: str
) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
    refunds = client.v1.refunds.list({"payment_intent": payment, "limit": 100}).auto_paging_iter()
    disputes = client.v1.disputes.list({"payment_intent": payment, "limit": 100}).auto_paging_iter()
    # The payment last: what it says is not older than what its refunds say.
    listed = [one.to_dict() for one in refunds], [one.to_dict() for one in disputes]
    return client.v1.payment_intents.retrieve(payment).to_dict(), *listed


def _sorted(found: list[dict[str, Any]]) -> tuple[MoneyBack, ...]:
    """In the order in which they were made, so that each takes from the same."""
    ordered = sorted(found, key=lambda raw: (raw["created"], raw["id"]))
    return tuple(MoneyBack(raw["id"], raw["amount"], raw.get("status") or "pending") for raw in ordered)


def _id(value: Any) -> str | None:
    """The id of an object that may be expanded."""
    return None if value is None else str(value["id"] if isinstance(value, dict) else value)
