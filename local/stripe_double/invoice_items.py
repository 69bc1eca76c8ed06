"""Invoice items: create, retrieve, delete, list. Something to bill once, on the next invoice or on a draft."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from local.stripe_double import invoicing
from local.stripe_double.currencies import currency
from local.stripe_double.errors import ApiError, invalid, missing_resource
from local.stripe_double.events import emit
from local.stripe_double.ids import new_id
from local.stripe_double.invoice_objects import Invoice, Line
from local.stripe_double.invoice_params import ITEM_CREATE, ITEM_DELETE, ITEM_LIST, ITEM_RETRIEVE
from local.stripe_double.lists import page, within
from local.stripe_double.metadata import merged
from local.stripe_double.operations import Call, Operation
from local.stripe_double.rating import rounded
from local.stripe_double.wire import JsonObject

if TYPE_CHECKING:
    from local.stripe_double.state import Double


def create(double: Double, call: Call) -> JsonObject:
    """POST /v1/invoiceitems: an amount, a one-time price with a quantity, or a unit amount with a quantity; on the
    draft named by `invoice`, else pending for the customer's next invoice [SDK: InvoiceItemCreateParams].
    """
    params = call.params
    draft = _draft(double, params)
    customer = params.get("customer", draft.customer if draft else None)
    if customer is None:
        raise invalid("Missing required param: customer.", "customer", "parameter_missing")
    if not double.customers.is_live(customer):
        raise missing_resource("customer", customer, "customer", 400)
    line = _line(double, params)
    if draft is not None and (draft.customer != customer or draft.currency != line.currency):
        raise invalid("The invoice is another customer's, or in another currency.", "invoice")
    named = params.get("subscription", draft.subscription if draft else None)
    if named is not None:
        line.subscription = double.subscriptions.get(named, "subscription", 400).id
    line.metadata = merged({}, params.get("metadata", {}))
    item = invoicing.add_pending(double, customer, line)
    if draft is not None:
        item.invoice = draft.id
        draft.lines.append(line)
    return item.view()


def _draft(double: Double, params: Mapping[str, Any]) -> Invoice | None:
    if "invoice" not in params:
        return None
    invoice = double.invoices.get(params["invoice"], "invoice", 400)
    if invoice.status != "draft":
        raise ApiError(400, "Invoice items can only be added to a draft invoice.", param="invoice")
    return invoice


def _line(double: Double, params: Mapping[str, Any]) -> Line:
    now = double.clock.now()
    start, end = params.get("period", {}).get("start", now), params.get("period", {}).get("end", now)
    if "quantity" in params and "quantity_decimal" in params:
        raise invalid("You may only specify one of these parameters: quantity, quantity_decimal.", "quantity")
    count = Decimal(params.get("quantity", params.get("quantity_decimal", 1)))
    price_id, amount, unit = params.get("pricing", {}).get("price"), params.get("amount"), None
    if sum(given is not None for given in (price_id, amount, params.get("unit_amount_decimal"))) != 1:
        raise invalid("You must specify exactly one of these parameters: amount, pricing, unit_amount_decimal.")
    if price_id is not None:
        price = double.prices.get(price_id, "pricing[price]", 400)
        if price.interval is not None:
            raise invalid(
                "The price specified is set to `type=recurring` but this field only accepts prices with "
                "`type=one_time`.",
                "pricing[price]",
            )
        return invoicing.priced_line(price, count, params.get("description"), start, end)
    if "currency" not in params:
        raise invalid("Missing required param: currency.", "currency", "parameter_missing")
    if amount is None:
        unit = params["unit_amount_decimal"]
        amount = rounded(unit * count)
    return Line(
        id=new_id("il"),
        amount=amount,
        currency=currency(params["currency"]),
        description=params.get("description", ""),
        start=start,
        end=end,
        quantity=count,
        unit=unit,
    )


def retrieve(double: Double, call: Call) -> JsonObject:
    """GET /v1/invoiceitems/{id} [SDK]."""
    return double.invoices.get_item(call.args["id"]).view()


def delete(double: Double, call: Call) -> JsonObject:
    """DELETE /v1/invoiceitems/{id}: pending, or on a draft [SDK]."""
    item = double.invoices.get_item(call.args["id"])
    if item.invoice is not None:
        invoice = double.invoices.get(item.invoice)
        if invoice.status != "draft":
            raise ApiError(400, "An invoice item on a finalized invoice can't be deleted.")
        invoice.lines.remove(item.line)
    shown = item.view()
    item.deleted = True
    emit(double, "invoiceitem.deleted", shown)
    return item.view()


def list_all(double: Double, call: Call) -> JsonObject:
    """GET /v1/invoiceitems: newest first [SDK: InvoiceItemListParams]."""
    params = call.params
    found = [
        item.view()
        for item in double.invoices.items_newest_first()
        if params.get("customer") in (None, item.customer)
        and params.get("invoice") in (None, item.invoice)
        and ("pending" not in params or params["pending"] == (item.invoice is None))
        and within(item.date, params.get("created"))
    ]
    return page(found, params, call.path, "invoiceitem")


OPERATIONS = (
    Operation("POST", "/v1/invoiceitems", create, ITEM_CREATE),
    Operation("GET", "/v1/invoiceitems", list_all, ITEM_LIST),
    Operation("GET", "/v1/invoiceitems/{id}", retrieve, ITEM_RETRIEVE),
    Operation("DELETE", "/v1/invoiceitems/{id}", delete, ITEM_DELETE),
)
