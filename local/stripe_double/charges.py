"""Payment intents and charges, which come from checkouts that are paid: retrieve and list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from local.stripe_double.errors import missing_resource
from local.stripe_double.events import emit
from local.stripe_double.ids import new_id
from local.stripe_double.lists import CREATED, PAGING, page, within
from local.stripe_double.operations import Call, Operation
from local.stripe_double.params import Param, Params, SecondsOrRange, Text
from local.stripe_double.wire import JsonObject

if TYPE_CHECKING:
    from local.stripe_double.state import Double

_CREATED = Param(SecondsOrRange(CREATED))
RETRIEVE_INTENT = Params({"client_secret": Param(Text())}, frozenset({"expand"}))
LIST_INTENTS = Params(
    {**PAGING, "created": _CREATED, "customer": Param(Text())}, frozenset({"customer_account", "expand"})
)
RETRIEVE_CHARGE = Params({}, frozenset({"expand"}))
LIST_CHARGES = Params(
    {**PAGING, "created": _CREATED, "customer": Param(Text()), "payment_intent": Param(Text())},
    frozenset({"expand", "transfer_group"}),
)


class Charges:
    """Intents, charges, refunds and disputes as they are shown, by id, oldest first."""

    def __init__(self) -> None:
        self.intents: dict[str, JsonObject] = {}
        self.charges: dict[str, JsonObject] = {}
        self.refunds: dict[str, JsonObject] = {}
        self.disputes: dict[str, JsonObject] = {}


def pay(double: Double, amount: int, currency: str, **more: Any) -> JsonObject:
    """A payment that succeeds at once; its payment intent. `amount` in minor units; `more`: `customer`, `metadata`,
    `description`, `receipt_email`. The charge takes over description and metadata of the intent [docs: metadata]."""
    now, kept = double.clock.now(), double.charges
    intent_id, charge_id, method = new_id("pi"), new_id("ch"), new_id("pm")
    metadata: dict[str, str] = dict(more.get("metadata") or {})
    shared: JsonObject = {
        "amount": amount,
        "created": now,
        "currency": currency,
        "customer": more.get("customer"),
        "description": more.get("description"),
        "livemode": False,
        "metadata": metadata,
        "payment_method": method,
        "receipt_email": more.get("receipt_email"),
    }
    intent: JsonObject = {
        **shared,
        "id": intent_id,
        "object": "payment_intent",
        "amount_capturable": 0,
        "amount_received": amount,
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": "automatic_async",
        "client_secret": f"{intent_id}_secret_{new_id('x')[2:]}",
        "confirmation_method": "automatic",
        "last_payment_error": None,
        "latest_charge": charge_id,
        "next_action": None,
        "payment_method_types": ["card"],
        "setup_future_usage": None,
        "status": "succeeded",
    }
    charge: JsonObject = {
        **shared,
        "id": charge_id,
        "object": "charge",
        "metadata": dict(metadata),
        "amount_captured": amount,
        "amount_refunded": 0,
        "balance_transaction": new_id("txn"),
        "captured": True,
        "disputed": False,
        "failure_code": None,
        "failure_message": None,
        "paid": True,
        "payment_intent": intent_id,
        "refunded": False,
        "status": "succeeded",
    }
    kept.intents[intent_id], kept.charges[charge_id] = intent, charge
    emit(double, "charge.succeeded", charge)
    emit(double, "payment_intent.succeeded", intent)
    return intent


def charge_of(double: Double, params: Mapping[str, Any]) -> JsonObject | None:
    """The charge that `charge` or `payment_intent` names; None where neither is given. Raises ApiError (400)."""
    if "charge" in params:
        return _get(double.charges.charges, params["charge"], "charge", "charge")
    if "payment_intent" in params:
        intent = _get(double.charges.intents, params["payment_intent"], "payment_intent", "payment_intent")
        return double.charges.charges[intent["latest_charge"]]
    return None


def _get(kept: Mapping[str, JsonObject], found_id: str, noun: str, param: str) -> JsonObject:
    if found_id not in kept:
        raise missing_resource(noun, found_id, param, 400)
    return kept[found_id]


def retrieve_intent(double: Double, call: Call) -> JsonObject:
    """GET /v1/payment_intents/{id} [SDK]."""
    return _known(double.charges.intents, call, "payment_intent")


def list_intents(double: Double, call: Call) -> JsonObject:
    """GET /v1/payment_intents: newest first [SDK]."""
    return listed(double.charges.intents, call, "payment_intent", ("customer",))


def retrieve_charge(double: Double, call: Call) -> JsonObject:
    """GET /v1/charges/{id} [SDK]."""
    return _known(double.charges.charges, call, "charge")


def list_charges(double: Double, call: Call) -> JsonObject:
    """GET /v1/charges: newest first [SDK]."""
    return listed(double.charges.charges, call, "charge", ("customer", "payment_intent"))


def _known(kept: Mapping[str, JsonObject], call: Call, noun: str) -> JsonObject:
    if call.args["id"] not in kept:
        raise missing_resource(noun, call.args["id"])
    return kept[call.args["id"]]


def listed(kept: Mapping[str, JsonObject], call: Call, noun: str, filters: tuple[str, ...]) -> JsonObject:
    """One page of them, newest first, whose fields equal the filters that are given."""
    found = [
        one
        for one in reversed(list(kept.values()))
        if all(one[name] == call.params[name] for name in filters if name in call.params)
        and within(one["created"], call.params.get("created"))
    ]
    return page(found, call.params, call.path, noun)


OPERATIONS = (
    Operation("GET", "/v1/payment_intents", list_intents, LIST_INTENTS),
    Operation("GET", "/v1/payment_intents/{id}", retrieve_intent, RETRIEVE_INTENT),
    Operation("GET", "/v1/charges", list_charges, LIST_CHARGES),
    Operation("GET", "/v1/charges/{id}", retrieve_charge, RETRIEVE_CHARGE),
)
