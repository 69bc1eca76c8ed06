"""Refunds of charges: create, retrieve, list. They succeed at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from local.stripe_double.charges import charge_of, listed
from local.stripe_double.errors import ApiError, invalid, missing_resource
from local.stripe_double.events import emit
from local.stripe_double.ids import new_id
from local.stripe_double.lists import CREATED, PAGING
from local.stripe_double.operations import Call, Operation
from local.stripe_double.params import OneOf, Param, Params, SecondsOrRange, Text, TextMap, Whole
from local.stripe_double.wire import JsonObject

if TYPE_CHECKING:
    from local.stripe_double.state import Double

CREATE = Params(
    {
        "amount": Param(Whole(1)),
        "charge": Param(Text()),
        "metadata": Param(TextMap(unsettable=True, max_keys=50, max_key=40, max_value=500)),
        "payment_intent": Param(Text()),
        "reason": Param(OneOf(("duplicate", "fraudulent", "requested_by_customer"))),
    },
    frozenset(
        {
            "currency",
            "customer",
            "expand",
            "instructions_email",
            "origin",
            "refund_application_fee",
            "reverse_transfer",
        }
    ),
)
RETRIEVE = Params({}, frozenset({"expand"}))
LIST = Params(
    {
        **PAGING,
        "charge": Param(Text()),
        "created": Param(SecondsOrRange(CREATED)),
        "payment_intent": Param(Text()),
    },
    frozenset({"expand"}),
)


def create(double: Double, call: Call) -> JsonObject:
    """POST /v1/refunds [SDK: RefundCreateParams]: the rest of the charge unless `amount` says less; no more than was
    charged (`charge_already_refunded`, 400) [docs: error codes]. A disputed charge cannot be refunded
    (`charge_disputed`) [docs]."""
    params = call.params
    charge = charge_of(double, params)
    if charge is None:
        raise invalid("One of the following params should be provided for this request: payment_intent or charge.")
    left = charge["amount"] - charge["amount_refunded"]
    if charge["disputed"]:
        raise ApiError(400, f"Charge {charge['id']} has been charged back.", code="charge_disputed")
    if not left:
        raise ApiError(400, f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded")
    amount = params.get("amount", left)
    if amount > left:
        raise ApiError(
            400, f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left})", param="amount"
        )
    refund: JsonObject = {
        "id": new_id("re"),
        "object": "refund",
        "amount": amount,
        "balance_transaction": new_id("txn"),
        "charge": charge["id"],
        "created": double.clock.now(),
        "currency": charge["currency"],
        "customer": charge["customer"],
        "metadata": {key: value for key, value in (params.get("metadata") or {}).items() if value},
        "payment_intent": charge["payment_intent"],
        "payment_method": charge["payment_method"],
        "reason": params.get("reason"),
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": "succeeded",
        "transfer_reversal": None,
    }
    double.charges.refunds[refund["id"]] = refund
    before = {"amount_refunded": charge["amount_refunded"], "refunded": charge["refunded"]}
    charge["amount_refunded"] += amount
    charge["refunded"] = charge["amount_refunded"] == charge["amount"]
    emit(double, "refund.created", refund)
    emit(double, "charge.refunded", charge, before)
    return refund


def retrieve(double: Double, call: Call) -> JsonObject:
    """GET /v1/refunds/{id} [SDK]."""
    if call.args["id"] not in double.charges.refunds:
        raise missing_resource("refund", call.args["id"])
    return double.charges.refunds[call.args["id"]]


def list_all(double: Double, call: Call) -> JsonObject:
    """GET /v1/refunds: newest first [SDK]."""
    return listed(double.charges.refunds, call, "refund", ("charge", "payment_intent"))


OPERATIONS = (
    Operation("POST", "/v1/refunds", create, CREATE),
    Operation("GET", "/v1/refunds", list_all, LIST),
    Operation("GET", "/v1/refunds/{id}", retrieve, RETRIEVE),
)
