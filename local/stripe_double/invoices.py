"""Invoices: create, retrieve, update, delete, list, lines, finalize, pay, void, mark uncollectible, preview."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from local.stripe_double import invoicing
from local.stripe_double.changes import emit_update
from local.stripe_double.currencies import currency
from local.stripe_double.errors import ApiError, invalid, missing_resource, not_emulated
from local.stripe_double.events import emit
from local.stripe_double.expansion import expandable
from local.stripe_double.ids import new_id
from local.stripe_double.invoice_objects import Invoice
from local.stripe_double.invoice_params import (
    CREATE,
    DELETE,
    FINALIZE,
    LINES,
    LIST,
    PAY,
    PREVIEW,
    RETRIEVE,
    UPDATE,
    VOID,
)
from local.stripe_double.lists import page, within
from local.stripe_double.metadata import merged
from local.stripe_double.operations import Call, Operation
from local.stripe_double.subscription_life import period
from local.stripe_double.subscription_objects import ENDED
from local.stripe_double.usage import refresh
from local.stripe_double.wire import JsonObject

if TYPE_CHECKING:
    from local.stripe_double.state import Double

LATEST_SECONDS = 5 * 366 * 86_400
"""How far ahead a finalization may be scheduled: five years [SDK: automatically_finalizes_at]."""


def create(double: Double, call: Call) -> JsonObject:
    """POST /v1/invoices: a manual draft; pending items are left out unless asked for; it does not finalize by itself
    unless `auto_advance` is set [SDK: InvoiceCreateParams].
    """
    params = call.params
    customer = params.get("customer")
    if customer is None:
        raise invalid("Missing required param: customer.", "customer", "parameter_missing")
    if not double.customers.is_live(customer):
        raise missing_resource("customer", customer, "customer", 400)
    named = params.get("subscription")
    subscription = None if named is None else double.subscriptions.get(named, "subscription", 400)
    _refuse_sent(params)
    _check_finalizes_at(double, params)
    include = params.get("pending_invoice_items_behavior", "exclude") == "include"
    code = currency(params.get("currency", subscription.currency if subscription else "usd"))
    invoice = invoicing.create(double, customer, code, "manual", [], subscription=subscription, take_pending=include)
    if not params.get("auto_advance", False):
        invoice.auto_advance, invoice.finalizes_at = False, None
    _apply(double, invoice, params)
    return invoice.view()


def retrieve(double: Double, call: Call) -> JsonObject:
    """GET /v1/invoices/{id}. A draft shows the usage received so far."""
    return _fresh(double, call.args["id"]).view()


def update(double: Double, call: Call) -> JsonObject:
    """POST /v1/invoices/{id}. `automatically_finalizes_at`, a future time within five years, on drafts only [SDK];
    `auto_advance` stops or starts finalization by itself; description, footer and collection are fixed once finalized
    [docs: invoice edits; texts assumed].
    """
    invoice = _fresh(double, call.args["id"])
    _refuse_sent(call.params)
    if invoice.status != "draft":
        for name in ("automatically_finalizes_at", "description", "footer"):
            if name in call.params:
                raise ApiError(400, f"Finalized invoices can't be updated in this way: {name}", param=name)
    _check_finalizes_at(double, call.params)
    before = invoice.view()
    _apply(double, invoice, call.params)
    emit_update(double, "invoice.updated", before, invoice.view())
    return invoice.view()


def _apply(double: Double, invoice: Invoice, params: Mapping[str, Any]) -> None:
    for name in ("description", "footer"):
        if name in params:
            setattr(invoice, name, params[name])
    if "metadata" in params:
        invoice.metadata = merged(invoice.metadata, params["metadata"])
    if "auto_advance" in params:
        invoice.auto_advance = params["auto_advance"]
        if invoice.status == "draft":
            grace_end = max(double.clock.now(), invoice.created + invoicing.GRACE_SECONDS)
            invoice.finalizes_at = grace_end if invoice.auto_advance else None
    if "automatically_finalizes_at" in params:
        invoice.auto_advance, invoice.finalizes_at = True, params["automatically_finalizes_at"]
    double.schedule.put(invoice.next_due(), invoice.id)


def _check_finalizes_at(double: Double, params: Mapping[str, Any]) -> None:
    at = params.get("automatically_finalizes_at")
    now = double.clock.now()
    if at is not None and not now < at <= now + LATEST_SECONDS:
        raise invalid(
            "`automatically_finalizes_at` must be in the future, by at most 5 years.", "automatically_finalizes_at"
        )
    if at is not None and params.get("auto_advance") is False:
        raise invalid("`automatically_finalizes_at` goes with `auto_advance` true only.", "automatically_finalizes_at")


def _refuse_sent(params: Mapping[str, Any]) -> None:
    if params.get("collection_method") == "send_invoice":
        raise not_emulated("This double does not emulate collection_method=send_invoice", 400, "collection_method")


def delete(double: Double, call: Call) -> JsonObject:
    """DELETE /v1/invoices/{id}: a manual draft only [SDK: InvoiceService.delete]."""
    invoice = double.invoices.get(call.args["id"])
    if invoice.status != "draft" or invoice.subscription is not None:
        raise ApiError(400, "You can only delete draft invoices that no subscription made.")
    shown = invoice.view()
    for item in double.invoices.items_newest_first():
        if item.invoice == invoice.id:
            item.invoice = None
    double.invoices.remove(invoice.id)
    emit(double, "invoice.deleted", shown)
    return {"id": invoice.id, "object": "invoice", "deleted": True}


def list_all(double: Double, call: Call) -> JsonObject:
    """GET /v1/invoices: newest first [SDK: InvoiceListParams]."""
    params = call.params
    wanted = {name: params[name] for name in ("customer", "status", "subscription") if name in params}
    found = []
    for invoice in double.invoices.newest_first():
        fits = all(getattr(invoice, name) == value for name, value in wanted.items())
        sent = params.get("collection_method") == "send_invoice"
        if fits and not sent and within(invoice.created, params.get("created")):
            refresh(double, invoice)
            found.append(invoice.view())
    return page(found, params, call.path, "invoice")


def lines(double: Double, call: Call) -> JsonObject:
    """GET /v1/invoices/{id}/lines: all lines, in the invoice's order; an invoice itself shows ten [docs]."""
    invoice = _fresh(double, call.args["id"])
    return page([line.view(invoice.id) for line in invoice.lines], call.params, call.path, "line item")


def finalize(double: Double, call: Call) -> JsonObject:
    """POST .../finalize: at once; `auto_advance: false` leaves collection to the caller [SDK]."""
    invoice = double.invoices.get(call.args["id"])
    if "auto_advance" in call.params and invoice.status == "draft":
        invoice.auto_advance = call.params["auto_advance"]
    invoicing.finalize(double, invoice)
    return invoice.view()


def pay(double: Double, call: Call) -> JsonObject:
    """POST .../pay: an attempt now; a decline is a 402 [SDK]."""
    invoice = double.invoices.get(call.args["id"])
    invoicing.pay(double, invoice, out_of_band=call.params.get("paid_out_of_band", False))
    return invoice.view()


def void(double: Double, call: Call) -> JsonObject:
    """POST .../void [SDK]."""
    invoice = double.invoices.get(call.args["id"])
    invoicing.void(double, invoice)
    return invoice.view()


def mark_uncollectible(double: Double, call: Call) -> JsonObject:
    """POST .../mark_uncollectible [SDK]."""
    invoice = double.invoices.get(call.args["id"])
    invoicing.mark_uncollectible(double, invoice)
    return invoice.view()


def create_preview(double: Double, call: Call) -> JsonObject:
    """POST /v1/invoices/create_preview: what the subscription's next invoice would be by now; nothing is kept [SDK:
    InvoiceCreatePreviewParams]. Only of an existing subscription, without changes to it.
    """
    named = call.params.get("subscription")
    if named is None:
        raise not_emulated("This double previews subscriptions only", 400, "subscription")
    subscription = double.subscriptions.get(named, "subscription", 400)
    if call.params.get("customer", subscription.customer) != subscription.customer:
        raise invalid("The subscription belongs to another customer.", "customer")
    if subscription.status in ENDED:
        raise ApiError(404, "No upcoming invoices for customer", code="invoice_upcoming_none")
    at = subscription.period_end
    ended = [item for item in subscription.items if item.end == at]
    invoice = Invoice(
        id=new_id("upcoming_in"),
        customer=subscription.customer,
        created=at,
        currency=subscription.currency,
        reason="upcoming",
        start=min(item.start for item in ended),
        end=at,
        subscription=subscription.id,
        subscription_metadata=dict(subscription.metadata),
        auto_advance=False,
    )
    trial = subscription.status == "trialing"
    for item in ended:
        if item.price.metered:
            if not trial:
                invoice.lines.append(invoicing.usage_line(double, subscription, item, item.usage_from, at))
        elif subscription.cancel_at is None or subscription.cancel_at > at:
            kept, (start, end) = item.debit, period(item, at)
            invoice.lines.append(invoicing.licensed_line(subscription, item, start, end, end - start))
            item.debit = kept
    invoice.lines += [
        pending.line
        for pending in double.invoices.pending(subscription.customer, subscription.id, subscription.currency)
    ]
    invoice.starting_balance = double.balances.get(invoice.customer, 0)
    refresh(double, invoice)
    return invoice.view()


def _fresh(double: Double, invoice_id: str) -> Invoice:
    invoice = double.invoices.get(invoice_id)
    refresh(double, invoice)
    return invoice


def _subscription(double: Double, details: JsonObject) -> JsonObject:
    return double.subscriptions.get(details["subscription"]).view()


expandable("line_item", "subscription", _subscription)

OPERATIONS = (
    Operation("POST", "/v1/invoices/create_preview", create_preview, PREVIEW),
    Operation("POST", "/v1/invoices", create, CREATE),
    Operation("GET", "/v1/invoices", list_all, LIST),
    Operation("GET", "/v1/invoices/{id}", retrieve, RETRIEVE),
    Operation("POST", "/v1/invoices/{id}", update, UPDATE),
    Operation("DELETE", "/v1/invoices/{id}", delete, DELETE),
    Operation("GET", "/v1/invoices/{id}/lines", lines, LINES),
    Operation("POST", "/v1/invoices/{id}/finalize", finalize, FINALIZE),
    Operation("POST", "/v1/invoices/{id}/pay", pay, PAY),
    Operation("POST", "/v1/invoices/{id}/void", void, VOID),
    Operation("POST", "/v1/invoices/{id}/mark_uncollectible", mark_uncollectible, VOID),
)
