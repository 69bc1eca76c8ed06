"""Stripe's invoices: read with all their lines, held, finalized.

[SDK] `Invoice`, `InvoiceLineItem`, `InvoiceUpdateParams`, `InvoiceFinalizeInvoiceParams` of stripe-python 16.1: since
basil a line's price stands in `pricing.price_details.price`, its subscription item in
`parent.subscription_item_details`, and the invoice's subscription in `parent.subscription_details`. `quantity` is
truncated, `quantity_decimal` is exact.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from tollgate.billing.invoice import METER_PART, Invoice, InvoiceLine, InvoicePrice
from tollgate.rating.currency import EXACT, stripe_places
from tollgate.stripe_api.reading import Connection, StripeRefused

Json = dict[str, Any]

_PAGE: Final = 100
_BEFORE: Final = 10
"""Invoices of a subscription looked at for the one before; voids and drafts between two are rare."""
_STANDING: Final = frozenset({"open", "paid", "uncollectible"})


class StripeInvoices:
    """`Invoices` on Stripe. Prices never change where it matters here, so each is read once per process. `spend` is
    asked before each GET, and raises where the month's reads are spent."""

    def __init__(self, connection: Connection, spend: Callable[[int], None] = lambda _: None) -> None:
        self._stripe, self._spend = connection, spend
        self._prices: dict[str, InvoicePrice] = {}

    def read(self, invoice: str) -> Invoice | None:
        try:
            raw = self._asked(lambda client: client.v1.invoices.retrieve(invoice))
        except StripeRefused as refused:
            if refused.missing:
                return None
            raise
        if raw.get("deleted"):
            return None
        return self._complete(raw)

    def before(self, invoice: Invoice) -> Invoice | None:
        if invoice.subscription is None:
            return None
        subscription = invoice.subscription
        page = self._asked(
            lambda client: client.v1.invoices.list(
                {"subscription": subscription, "created": {"lte": invoice.created}, "limit": _BEFORE}
            )
        )
        for raw in page["data"]:  # newest first [docs: pagination]
            if raw["id"] != invoice.id and raw["status"] in _STANDING:
                return self._complete(raw)
        return None

    def price(self, price: str) -> InvoicePrice:
        if price not in self._prices:
            self._prices[price] = price_of(self._asked(lambda client: client.v1.prices.retrieve(price)))
        return self._prices[price]

    def hold(self, invoice: str, finalizes_at: int) -> None:
        self._stripe.once(
            lambda client: client.v1.invoices.update(
                invoice, {"auto_advance": True, "automatically_finalizes_at": finalizes_at}
            )
        )

    def finalize(self, invoice: str) -> None:
        self._stripe.once(lambda client: client.v1.invoices.finalize_invoice(invoice, {"auto_advance": True}))

    def _complete(self, raw: Json) -> Invoice:
        """An invoice carries its first lines only."""
        lines = list(raw["lines"]["data"])
        more = raw["lines"].get("has_more", False)
        while more:
            last = lines[-1]["id"]
            page = self._asked(
                lambda client, last=last: client.v1.invoices.line_items.list(
                    raw["id"], {"limit": _PAGE, "starting_after": last}
                )
            )
            lines += page["data"]
            more = page["has_more"]
        return invoice_of(raw, lines)

    def _asked(self, request: Callable[..., Any]) -> Json:
        """A read's answer as it came: the SDK reads some numbers as binary fractions."""
        self._spend(1)
        answer = self._stripe.once(request)
        found: Json = json.loads(answer.last_response.body, parse_float=Decimal)
        return found


def invoice_of(raw: Json, lines: list[Json]) -> Invoice:
    """An invoice of Stripe's JSON. Raises KeyError where it is none."""
    currency = raw["currency"]
    parent = (raw.get("parent") or {}).get("subscription_details") or {}
    return Invoice(
        id=raw["id"],
        customer=_id(raw["customer"]),
        subscription=_id(parent["subscription"]) if parent.get("subscription") else None,
        status=raw["status"] or "draft",
        currency=currency,
        created=raw["created"],
        subtotal=major(raw["subtotal"], currency),
        total=major(raw["total"], currency),
        lines=tuple(line_of(line) for line in lines),
        billing_reason=raw.get("billing_reason"),
        finalizes_at=raw.get("automatically_finalizes_at"),
        finalized_at=(raw.get("status_transitions") or {}).get("finalized_at"),
    )


def line_of(raw: Json) -> InvoiceLine:
    details = (raw.get("pricing") or {}).get("price_details") or {}
    parent = raw.get("parent") or {}
    item = parent.get("subscription_item_details") or {}
    other = parent.get("invoice_item_details") or {}
    quantity = raw.get("quantity_decimal")
    if quantity is None:
        quantity = raw.get("quantity")
    return InvoiceLine(
        id=raw["id"],
        amount=major(raw["amount"], raw["currency"]),
        quantity=None if quantity is None else Decimal(quantity),
        price=_id(details["price"]) if details.get("price") else None,
        period_start=raw["period"]["start"],
        period_end=raw["period"]["end"],
        subscription_item=item.get("subscription_item"),
        proration=bool(item.get("proration") or other.get("proration")),
    )


def price_of(raw: Json) -> InvoicePrice:
    metadata = raw.get("metadata") or {}
    part, version = metadata.get("tollgate_part", ""), metadata.get("tollgate_plan_version", "")
    return InvoicePrice(
        id=raw["id"],
        stripe_meter=(raw.get("recurring") or {}).get("meter"),
        meter=part.removeprefix(METER_PART) if part.startswith(METER_PART) else None,
        plan=metadata.get("tollgate_plan"),
        plan_version=int(version) if version.isdecimal() else None,
    )


def major(amount: int, currency: str) -> Decimal:
    """An amount in the integers that Stripe's API gives, in major units."""
    return EXACT.scaleb(Decimal(amount), -stripe_places(currency))


def _id(value: Any) -> str:
    """The id of a reference, expanded or not."""
    return str(value["id"] if isinstance(value, dict) else value)
