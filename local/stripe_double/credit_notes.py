"""Credit notes: create, retrieve, list, lines. What is taken off an invoice after it was finalized."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from local.stripe_double import invoicing
from local.stripe_double.errors import ApiError, invalid, missing_resource
from local.stripe_double.events import emit
from local.stripe_double.expansion import expandable
from local.stripe_double.ids import new_id
from local.stripe_double.invoice_objects import Invoice
from local.stripe_double.invoice_params import CREDIT_CREATE, CREDIT_LIST, CREDIT_RETRIEVE, LINES
from local.stripe_double.lists import page, within
from local.stripe_double.metadata import merged
from local.stripe_double.operations import Call, Operation
from local.stripe_double.prices import text
from local.stripe_double.rating import rounded
from local.stripe_double.wire import JsonObject

if TYPE_CHECKING:
    from local.stripe_double.state import Double


@dataclass
class CreditNote:
    """One credit note. `before` reduces an open invoice, `after` what a paid one has paid; minor units."""

    id: str
    number: str
    created: int
    currency: str
    customer: str
    invoice: str
    before: int
    after: int
    out_of_band: int
    memo: str | None
    reason: str | None
    lines: list[JsonObject] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)

    def view(self) -> JsonObject:
        amount = self.before + self.after
        kind = "mixed" if self.before and self.after else "post_payment" if self.after else "pre_payment"
        return {
            "id": self.id,
            "object": "credit_note",
            "amount": amount,
            "amount_shipping": 0,
            "created": self.created,
            "currency": self.currency,
            "customer": self.customer,
            "customer_account": None,
            "customer_balance_transaction": None,
            "discount_amount": 0,
            "discount_amounts": [],
            "effective_at": self.created,
            "invoice": self.invoice,
            "lines": {
                "object": "list",
                "data": self.lines[:10],
                "has_more": len(self.lines) > 10,
                "url": f"/v1/credit_notes/{self.id}/lines",
            },
            "livemode": False,
            "memo": self.memo,
            "metadata": dict(self.metadata),
            "number": self.number,
            "out_of_band_amount": self.out_of_band or None,
            "pdf": f"https://pay.stripe.com/credit_notes/acct_double/{self.id}/pdf",
            "post_payment_amount": self.after,
            "pre_payment_amount": self.before,
            "pretax_credit_amounts": [],
            "reason": self.reason,
            "refunds": [],
            "shipping_cost": None,
            "status": "issued",
            "subtotal": amount,
            "subtotal_excluding_tax": amount,
            "total": amount,
            "total_excluding_tax": amount,
            "total_taxes": [],
            "type": kind,
            "voided_at": None,
        }


class CreditNotes:
    """All credit notes."""

    def __init__(self) -> None:
        self._by_id: dict[str, CreditNote] = {}

    def add(self, note: CreditNote) -> None:
        self._by_id[note.id] = note

    def get(self, note_id: str) -> CreditNote:
        """Raises ApiError (404) for an unknown id."""
        note = self._by_id.get(note_id)
        if note is None:
            raise missing_resource("credit note", note_id)
        return note

    def newest_first(self) -> list[CreditNote]:
        return list(reversed(self._by_id.values()))


def create(double: Double, call: Call) -> JsonObject:
    """POST /v1/credit_notes: an amount or lines, never more than the invoice has left. On an open invoice it reduces
    what is due, and one that is then nothing is paid; on a paid one credit, refund and out of band amounts must add up
    to it [SDK: CreditNoteCreateParams; docs: credit notes]. Refunds themselves are not made here.
    """
    params = call.params
    invoice = double.invoices.get(params["invoice"], "invoice", 400)
    if invoice.status not in ("open", "paid"):
        raise ApiError(400, f"Credit notes can only be created for open or paid invoices, not {invoice.status} ones.")
    if ("amount" in params) == ("lines" in params):
        raise invalid("You must specify exactly one of these parameters: amount, lines.", "amount")
    lines = [_line(invoice, given, f"lines[{number}]") for number, given in enumerate(params.get("lines", []))]
    amount = params["amount"] if "amount" in params else sum(line["amount"] for line in lines)
    credited = invoice.credited_before + invoice.credited_after
    if amount <= 0 or amount > invoice.total - credited:
        raise ApiError(
            400, f"The credit note amount must lie between 1 and {invoice.total - credited}.", param="amount"
        )
    before = amount if invoice.status == "open" else 0
    if before > invoice.remaining:
        raise ApiError(400, "The credit note amount is more than the invoice has remaining.", param="amount")
    parts = {name: params.get(name, 0) for name in ("credit_amount", "refund_amount", "out_of_band_amount")}
    if sum(parts.values()) != amount - before:
        raise ApiError(
            400,
            "The sum of credit amount, refund amount and out of band amount must equal the post payment amount "
            f"({amount - before}).",
            param="credit_amount",
        )
    if not lines:
        lines = [_custom_line(amount, None, 1, None)]
    note = CreditNote(
        id=new_id("cn"),
        number=f"{invoice.number}-CN-{len(_of_invoice(double, invoice.id)) + 1:02d}",
        created=double.clock.now(),
        currency=invoice.currency,
        customer=invoice.customer,
        invoice=invoice.id,
        before=before,
        after=amount - before,
        out_of_band=parts["out_of_band_amount"],
        memo=params.get("memo"),
        reason=params.get("reason"),
        lines=lines,
        metadata=merged({}, params.get("metadata", {})),
    )
    double.credit_notes.add(note)
    invoice.credited_before += before
    invoice.credited_after += amount - before
    balance = double.balances.get(invoice.customer, 0)
    invoicing.set_balance(double, invoice.customer, balance - parts["credit_amount"])
    emit(double, "credit_note.created", note.view())
    if invoice.status == "open" and invoice.remaining == 0:
        invoicing.pay(double, invoice, out_of_band=True)
    return note.view()


def _line(invoice: Invoice, given: Mapping[str, Any], path: str) -> JsonObject:
    unit = given.get("unit_amount", given.get("unit_amount_decimal"))
    count = given.get("quantity")
    if given["type"] == "custom_line_item":
        if unit is None or "description" not in given:
            raise invalid(f"{path} needs unit_amount and description.", path, "parameter_missing")
        amount = rounded(Decimal(unit) * Decimal(1 if count is None else count))
        return _custom_line(amount, given["description"], 1 if count is None else count, Decimal(unit))
    line = next((line for line in invoice.lines if line.id == given.get("invoice_line_item")), None)
    if line is None:
        raise missing_resource(
            "invoice line item", str(given.get("invoice_line_item")), f"{path}[invoice_line_item]", 400
        )
    if ("amount" in given) == (count is not None):
        raise invalid(f"{path} needs exactly one of amount and quantity.", path)
    if count is not None:
        whole = line.quantity or Decimal(1)
        amount = rounded(Decimal(line.amount) * Decimal(count) / whole)
    else:
        amount = given["amount"]
    if amount > line.amount:
        raise invalid(f"{path} credits more than the line's amount of {line.amount}.", f"{path}[amount]")
    return {
        **_custom_line(amount, given.get("description", line.description), count, None),
        "invoice_line_item": line.id,
        "metadata": merged({}, given.get("metadata", {})),
        "type": "invoice_line_item",
    }


def _custom_line(amount: int, description: str | None, count: int | None, unit: Decimal | None) -> JsonObject:
    return {
        "id": new_id("cnli"),
        "object": "credit_note_line_item",
        "amount": amount,
        "description": description,
        "discount_amount": 0,
        "discount_amounts": [],
        "invoice_line_item": None,
        "livemode": False,
        "metadata": {},
        "pretax_credit_amounts": [],
        "quantity": count,
        "tax_rates": [],
        "taxes": [],
        "type": "custom_line_item",
        "unit_amount": None if unit is None else int(unit),
        "unit_amount_decimal": text(unit),
    }


def _of_invoice(double: Double, invoice_id: str) -> list[CreditNote]:
    return [note for note in double.credit_notes.newest_first() if note.invoice == invoice_id]


def retrieve(double: Double, call: Call) -> JsonObject:
    """GET /v1/credit_notes/{id} [SDK]."""
    return double.credit_notes.get(call.args["id"]).view()


def list_all(double: Double, call: Call) -> JsonObject:
    """GET /v1/credit_notes: newest first [SDK: CreditNoteListParams]."""
    params = call.params
    found = [
        note.view()
        for note in double.credit_notes.newest_first()
        if params.get("invoice") in (None, note.invoice)
        and params.get("customer") in (None, note.customer)
        and within(note.created, params.get("created"))
    ]
    return page(found, params, call.path, "credit note")


def list_lines(double: Double, call: Call) -> JsonObject:
    """GET /v1/credit_notes/{id}/lines [SDK: CreditNoteLineItemListParams]."""
    return page(double.credit_notes.get(call.args["id"]).lines, call.params, call.path, "credit note line item")


def _invoice(double: Double, note: JsonObject) -> JsonObject:
    return double.invoices.get(note["invoice"]).view()


expandable("credit_note", "invoice", _invoice)

OPERATIONS = (
    Operation("POST", "/v1/credit_notes", create, CREDIT_CREATE),
    Operation("GET", "/v1/credit_notes", list_all, CREDIT_LIST),
    Operation("GET", "/v1/credit_notes/{id}", retrieve, CREDIT_RETRIEVE),
    Operation("GET", "/v1/credit_notes/{id}/lines", list_lines, LINES),
)
