"""Disputes of charges: retrieve and list. A bank opens and closes them, which two controls do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from local.stripe_double.charges import charge_of, listed
from local.stripe_double.errors import ApiError, missing_resource
from local.stripe_double.events import emit
from local.stripe_double.ids import new_id
from local.stripe_double.lists import CREATED, PAGING
from local.stripe_double.operations import Call, Operation
from local.stripe_double.params import Param, Params, SecondsOrRange, Text
from local.stripe_double.wire import JsonObject

if TYPE_CHECKING:
    from local.stripe_double.state import Double

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


def retrieve(double: Double, call: Call) -> JsonObject:
    """GET /v1/disputes/{id} [SDK]."""
    if call.args["id"] not in double.charges.disputes:
        raise missing_resource("dispute", call.args["id"])
    return double.charges.disputes[call.args["id"]]


def list_all(double: Double, call: Call) -> JsonObject:
    """GET /v1/disputes: newest first [SDK]."""
    return listed(double.charges.disputes, call, "dispute", ("charge", "payment_intent"))


def opened(double: Double, body: JsonObject) -> JsonObject:
    """A control: `{charge | payment_intent, amount?, reason?}`. The money leaves the balance at once [docs: disputes].
    Raises ValueError."""
    try:
        charge = charge_of(double, body)
    except ApiError as problem:
        raise ValueError(problem.message) from problem
    if charge is None or set(body) - {"charge", "payment_intent", "amount", "reason"}:
        raise ValueError("a dispute is {charge | payment_intent, amount?, reason?}")
    if charge["disputed"]:
        raise ValueError(f"{charge['id']} is disputed already")
    dispute: JsonObject = {
        "id": new_id("du"),
        "object": "dispute",
        "amount": int(body.get("amount", charge["amount"] - charge["amount_refunded"])),
        "balance_transactions": [],
        "charge": charge["id"],
        "created": double.clock.now(),
        "currency": charge["currency"],
        "evidence": {},
        "evidence_details": {"due_by": double.clock.now() + 7 * 86_400, "has_evidence": False, "past_due": False},
        "is_charge_refundable": False,
        "livemode": False,
        "metadata": {},
        "payment_intent": charge["payment_intent"],
        "reason": str(body.get("reason", "general")),
        "status": "needs_response",
    }
    double.charges.disputes[dispute["id"]] = dispute
    charge["disputed"] = True
    emit(double, "charge.dispute.created", dispute)
    emit(double, "charge.dispute.funds_withdrawn", dispute)
    return dispute


def closed(double: Double, body: JsonObject) -> JsonObject:
    """A control: `{id, status: won|lost}`. A won dispute's money comes back. Raises ValueError."""
    dispute = double.charges.disputes.get(str(body.get("id")))
    status = body.get("status")
    if dispute is None or set(body) != {"id", "status"} or status not in ("won", "lost"):
        raise ValueError("closing takes {id, status: won|lost} of a known dispute")
    if dispute["status"] in ("won", "lost"):
        raise ValueError(f"{dispute['id']} is closed already")
    before = {"status": dispute["status"]}
    dispute["status"] = status
    emit(double, "charge.dispute.closed", dispute, before)
    if status == "won":
        emit(double, "charge.dispute.funds_reinstated", dispute)
    return dispute


OPERATIONS = (
    Operation("GET", "/v1/disputes", list_all, LIST),
    Operation("GET", "/v1/disputes/{id}", retrieve, RETRIEVE),
)
