"""Invoices, their lines, and invoice items waiting for one: state and shape."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from local.stripe_double.errors import missing_resource
from local.stripe_double.prices import Price, text
from local.stripe_double.wire import JsonObject, plain

LINES_SHOWN = 10


@dataclass(frozen=True)
class Usage:
    """Usage that a line bills: of this meter and customer, `start <= timestamp < end`, epoch seconds."""

    meter: str
    customer: str
    start: int
    end: int


@dataclass
class Line:
    """One line. `amount` is whole minor units. `usage` set: quantity and amount follow the usage while the invoice is a
    draft. `tier` above 0: a further tier of the line before.
    """

    id: str
    amount: int
    currency: str
    description: str
    start: int
    end: int
    quantity: Decimal
    price: Price | None = None
    unit: Decimal | None = None
    subscription: str | None = None
    subscription_item: str | None = None
    invoice_item: str | None = None
    proration: bool = False
    usage: Usage | None = None
    tier: int = 0
    metadata: dict[str, str] = field(default_factory=dict)

    def view(self, invoice: str | None) -> JsonObject:
        return {
            "id": self.id,
            "object": "line_item",
            "amount": self.amount,
            "currency": self.currency,
            "description": self.description,
            "discount_amounts": [],
            "discountable": not self.proration,
            "discounts": [],
            "invoice": invoice,
            "livemode": False,
            "metadata": dict(self.metadata),
            "parent": self._parent(),
            "period": {"end": self.end, "start": self.start},
            "pretax_credit_amounts": [],
            "pricing": pricing_view(self.price, self.unit),
            # Truncated; the exact one is the decimal [SDK: InvoiceLineItem.quantity].
            "quantity": int(self.quantity),
            "quantity_decimal": plain(self.quantity),
            "subscription": self.subscription,
            "subtotal": self.amount,
            "taxes": [],
        }

    def _parent(self) -> JsonObject:
        if self.subscription_item is not None:
            return {
                "invoice_item_details": None,
                "subscription_item_details": {
                    "invoice_item": self.invoice_item,
                    "proration": self.proration,
                    "proration_details": {"credited_items": None},
                    "subscription": self.subscription,
                    "subscription_item": self.subscription_item,
                },
                "type": "subscription_item_details",
            }
        return {
            "invoice_item_details": {
                "invoice_item": self.invoice_item,
                "proration": self.proration,
                "proration_details": {"credited_items": None},
                "subscription": self.subscription,
            },
            "subscription_item_details": None,
            "type": "invoice_item_details",
        }


def pricing_view(price: Price | None, unit: Decimal | None) -> JsonObject | None:
    """`pricing` of a line or invoice item; tiered prices have no unit amount. None without a price or unit."""
    if price is None:
        return None
    shown = unit if unit is not None else price.pricing.unit
    return {
        "price_details": {"price": price.id, "product": price.product},
        "type": "price_details",
        "unit_amount_decimal": text(shown),
    }


@dataclass
class InvoiceItem:
    """Something to be billed on the customer's next invoice, or on the draft that it names."""

    id: str
    line: Line
    customer: str
    date: int
    invoice: str | None = None
    deleted: bool = False

    def view(self) -> JsonObject:
        if self.deleted:
            return {"id": self.id, "object": "invoiceitem", "deleted": True}
        line, parent = self.line, None
        if line.subscription is not None:
            details = {"subscription": line.subscription, "subscription_item": line.subscription_item}
            parent = {"subscription_details": details, "type": "subscription_details"}
        return {
            "id": self.id,
            "object": "invoiceitem",
            "amount": line.amount,
            "currency": line.currency,
            "customer": self.customer,
            "customer_account": None,
            "date": self.date,
            "description": line.description,
            "discountable": not line.proration,
            "discounts": [],
            "frozen_fields": [],
            "invoice": self.invoice,
            "invoicing_rules": [],
            "livemode": False,
            "metadata": dict(line.metadata),
            "net_amount": line.amount,
            "parent": parent,
            "period": {"end": line.end, "start": line.start},
            "pricing": pricing_view(line.price, line.unit),
            "proration": line.proration,
            "proration_details": {"credited_items": None, "discount_amounts": []} if line.proration else None,
            "quantity": int(line.quantity),
            "quantity_decimal": plain(line.quantity),
            "tax_rates": [],
            "test_clock": None,
        }


@dataclass
class Invoice:
    """One invoice. Amounts are whole minor units, times epoch seconds."""

    id: str
    customer: str
    created: int
    currency: str
    reason: str
    start: int
    end: int
    subscription: str | None = None
    subscription_metadata: dict[str, str] = field(default_factory=dict)
    customer_values: JsonObject = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)
    status: str = "draft"
    auto_advance: bool = True
    finalizes_at: int | None = None
    description: str | None = None
    footer: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    number: str | None = None
    attempt_count: int = 0
    next_attempt: int | None = None
    paid: int = 0
    credited_before: int = 0
    credited_after: int = 0
    starting_balance: int = 0
    ending_balance: int | None = None
    finalized_at: int | None = None
    paid_at: int | None = None
    voided_at: int | None = None
    uncollectible_at: int | None = None
    uncollectible_reason: str | None = None

    @property
    def total(self) -> int:
        return sum(line.amount for line in self.lines)

    @property
    def due(self) -> int:
        """What is to be paid after the customer's balance; never below 0."""
        return max(0, self.total + self.starting_balance)

    @property
    def remaining(self) -> int:
        return 0 if self.status == "paid" else max(0, self.due - self.paid - self.credited_before)

    def next_due(self) -> int | None:
        """When time changes this invoice next."""
        if self.status == "draft":
            return self.finalizes_at
        return self.next_attempt if self.status == "open" else None

    def view(self) -> JsonObject:
        total, shown = self.total, self.lines[:LINES_SHOWN]
        parent = None
        if self.subscription is not None:
            parent = {
                "quote_details": None,
                "subscription_details": {
                    "metadata": dict(self.subscription_metadata),
                    "subscription": self.subscription,
                    "subscription_proration_date": None,
                },
                "type": "subscription_details",
            }
        hosted = None if self.finalized_at is None else f"https://invoice.stripe.com/i/acct_double/{self.id}"
        return {
            "id": self.id,
            "object": "invoice",
            "account_country": "US",
            "account_name": "Stripe double",
            "account_tax_ids": None,
            "amount_due": self.due,
            "amount_overpaid": 0,
            "amount_paid": self.paid,
            "amount_paid_off_stripe": 0,
            "amount_remaining": self.remaining,
            "amount_shipping": 0,
            "application": None,
            "attempt_count": self.attempt_count,
            "attempted": self.attempt_count > 0 or self.status == "paid",
            "auto_advance": self.auto_advance,
            "automatic_tax": {
                "disabled_reason": None,
                "enabled": False,
                "liability": None,
                "provider": None,
                "status": None,
            },
            "automatically_finalizes_at": self.finalizes_at if self.status == "draft" else None,
            "billing_reason": self.reason,
            "collection_method": "charge_automatically",
            "created": self.created,
            "currency": self.currency,
            "custom_fields": None,
            "customer": self.customer,
            "customer_account": None,
            "customer_address": self.customer_values.get("address"),
            "customer_email": self.customer_values.get("email"),
            "customer_name": self.customer_values.get("name"),
            "customer_phone": self.customer_values.get("phone"),
            "customer_shipping": None,
            "customer_tax_exempt": "none",
            "customer_tax_ids": [],
            "default_payment_method": None,
            "default_source": None,
            "default_tax_rates": [],
            "description": self.description,
            "discounts": [],
            "due_date": None,
            "effective_at": self.finalized_at,
            "ending_balance": self.ending_balance,
            "footer": self.footer,
            "from_invoice": None,
            "hosted_invoice_url": hosted,
            "invoice_pdf": None if hosted is None else f"{hosted}/pdf",
            "issuer": {"type": "self"},
            "last_finalization_error": None,
            "latest_revision": None,
            "lines": {
                "object": "list",
                "data": [line.view(self.id) for line in shown],
                "has_more": len(self.lines) > len(shown),
                "url": f"/v1/invoices/{self.id}/lines",
            },
            "livemode": False,
            "metadata": dict(self.metadata),
            "next_payment_attempt": self.next_due(),
            "number": self.number,
            "on_behalf_of": None,
            "parent": parent,
            "payment_settings": {
                "default_mandate": None,
                "payment_method_options": None,
                "payment_method_types": None,
            },
            "period_end": self.end,
            "period_start": self.start,
            "post_payment_credit_notes_amount": self.credited_after,
            "pre_payment_credit_notes_amount": self.credited_before,
            "receipt_number": None,
            "rendering": None,
            "shipping_cost": None,
            "shipping_details": None,
            "starting_balance": self.starting_balance,
            "statement_descriptor": None,
            "status": self.status,
            "status_details": None
            if self.uncollectible_reason is None
            else {"uncollectible": {"reason": self.uncollectible_reason}},
            "status_transitions": {
                "finalized_at": self.finalized_at,
                "marked_uncollectible_at": self.uncollectible_at,
                "paid_at": self.paid_at,
                "voided_at": self.voided_at,
            },
            "subtotal": total,
            "subtotal_excluding_tax": total,
            "test_clock": None,
            "threshold_reason": None,
            "total": total,
            "total_discount_amounts": [],
            "total_excluding_tax": total,
            "total_pretax_credit_amounts": [],
            "total_taxes": [],
            "webhooks_delivered_at": None if self.status == "draft" else self.created,
        }


class Invoices:
    """All invoices and invoice items."""

    def __init__(self) -> None:
        self._by_id: dict[str, Invoice] = {}
        self._items: dict[str, InvoiceItem] = {}
        self._numbers = 0

    def add(self, invoice: Invoice) -> None:
        self._by_id[invoice.id] = invoice

    def find(self, invoice_id: str) -> Invoice | None:
        return self._by_id.get(invoice_id)

    def get(self, invoice_id: str, param: str = "id", status: int = 404) -> Invoice:
        """Raises ApiError naming `param` for an unknown id."""
        invoice = self._by_id.get(invoice_id)
        if invoice is None:
            raise missing_resource("invoice", invoice_id, param, status)
        return invoice

    def remove(self, invoice_id: str) -> None:
        del self._by_id[invoice_id]

    def newest_first(self) -> Iterator[Invoice]:
        return reversed(self._by_id.values())

    def of_subscription(self, subscription_id: str) -> list[Invoice]:
        """Newest first."""
        return [invoice for invoice in self.newest_first() if invoice.subscription == subscription_id]

    def next_number(self) -> str:
        """Numbers count finalized invoices."""
        self._numbers += 1
        return f"DOUBLE-{self._numbers:04d}"

    def add_item(self, item: InvoiceItem) -> None:
        self._items[item.id] = item

    def get_item(self, item_id: str) -> InvoiceItem:
        """Raises ApiError (404) for an unknown or deleted one."""
        item = self._items.get(item_id)
        if item is None or item.deleted:
            raise missing_resource("invoiceitem", item_id)
        return item

    def items_newest_first(self) -> list[InvoiceItem]:
        return [item for item in reversed(self._items.values()) if not item.deleted]

    def pending(self, customer: str, subscription: str | None, currency: str) -> list[InvoiceItem]:
        """Items that the next invoice of this subscription takes, oldest first: its own, and those of the customer that
        name none [docs: subscription invoices].
        """
        return [
            item
            for item in self._items.values()
            if item.customer == customer
            and item.invoice is None
            and not item.deleted
            and item.line.subscription in (None, subscription)
            and item.line.currency == currency
        ]
