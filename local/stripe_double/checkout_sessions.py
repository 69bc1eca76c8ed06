"""Checkout sessions on Stripe's own page: create, retrieve, list, expire, their line items.

Nobody looks at the page: the control `POST /_double/checkout/{id}/complete` stands for a customer who pays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from local.stripe_double.charges import pay
from local.stripe_double.checkout_params import CREATE, EXPIRE, LIST, LIST_LINE_ITEMS, RETRIEVE
from local.stripe_double.errors import ApiError, invalid, missing_resource
from local.stripe_double.events import emit
from local.stripe_double.forms import Form
from local.stripe_double.ids import new_id
from local.stripe_double.internal import call as internal
from local.stripe_double.lists import page, within
from local.stripe_double.operations import Call, Operation
from local.stripe_double.params import DecimalText
from local.stripe_double.wire import JsonObject, plain

if TYPE_CHECKING:
    from local.stripe_double.state import Double

DAY_SECONDS = 86_400
SHORTEST_SECONDS = 30 * 60
"""Sessions end after 24 hours, or at a time between 30 minutes and 24 hours from creation [SDK: expires_at]."""


@dataclass
class Session:
    """A session as it is shown, and what it was asked to do."""

    view: JsonObject
    asked: Mapping[str, Any]
    items: list[JsonObject]


def create(double: Double, call: Call) -> JsonObject:
    """POST /v1/checkout/sessions [SDK: SessionCreateParams]; what is refused:

    - no `mode`, no `line_items` [docs]; a mode `subscription` without a recurring price, a mode `payment` with one
      [observed]; prices in several currencies or intervals [docs].
    - a quantity for a metered price, none for another one [observed].
    - `customer` together with `customer_email` or `customer_creation` [observed]; a deleted customer [docs].
    - `subscription_data` in mode `payment`, `payment_intent_data` and `customer_creation` in mode `subscription`
      [SDK: "can only be set in ..."].
    - addresses that are no URL [docs: url_invalid].
    """
    params, now = call.params, double.clock.now()
    mode = params.get("mode")
    if mode is None:
        raise invalid("Missing required param: mode.", "mode", "parameter_missing")
    if not params.get("line_items"):
        raise invalid("Missing required param: line_items.", "line_items", "parameter_missing")
    if "success_url" not in params:
        raise invalid("Missing required param: success_url.", "success_url", "parameter_missing")
    _check_names(mode, params)
    _check_urls(params)
    _check_customer(double, params)
    expires_at = params.get("expires_at", now + DAY_SECONDS)
    if not now + SHORTEST_SECONDS <= expires_at <= now + DAY_SECONDS:
        raise invalid(
            "The `expires_at` timestamp must be between 30 minutes and 24 hours from Checkout Session creation.",
            "expires_at",
        )
    prices = [_price(double, one, index) for index, one in enumerate(params["line_items"])]
    _check_prices(mode, prices)
    items = [
        _line_item(one, price, index)
        for index, (one, price) in enumerate(zip(params["line_items"], prices, strict=True))
    ]
    session_id = new_id("cs_test")
    total = sum(item["amount_total"] for item in items)
    view: JsonObject = {
        "id": session_id,
        "object": "checkout.session",
        "amount_subtotal": total,
        "amount_total": total,
        "automatic_tax": {"enabled": False, "liability": None, "provider": None, "status": None},
        "cancel_url": params.get("cancel_url"),
        "client_reference_id": params.get("client_reference_id"),
        "client_secret": None,
        "created": now,
        "currency": prices[0]["currency"],
        "custom_fields": [],
        "custom_text": {
            "after_submit": None,
            "shipping_address": None,
            "submit": None,
            "terms_of_service_acceptance": None,
        },
        "customer": params.get("customer"),
        "customer_creation": _customer_creation(mode, params),
        "customer_details": None,
        "customer_email": params.get("customer_email"),
        "discounts": [],
        "expires_at": expires_at,
        "invoice": None,
        "livemode": False,
        "locale": None,
        "metadata": dict(params.get("metadata", {})),
        "mode": mode,
        "payment_intent": None,
        "payment_link": None,
        "payment_method_types": ["card"],
        "payment_status": "unpaid" if total else "no_payment_required",
        "setup_intent": None,
        "shipping_options": [],
        "status": "open",
        "subscription": None,
        "success_url": params["success_url"],
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
        "ui_mode": "hosted_page",
        "url": f"https://checkout.stripe.com/c/pay/{session_id}",
    }
    double.checkout_sessions[session_id] = Session(view, dict(params), items)
    return view


def retrieve(double: Double, call: Call) -> JsonObject:
    """GET /v1/checkout/sessions/{id} [SDK]."""
    settle(double)
    return _known(double, call.args["id"]).view


def list_all(double: Double, call: Call) -> JsonObject:
    """GET /v1/checkout/sessions: newest first [SDK]."""
    settle(double)
    params = call.params
    filters = ("customer", "payment_intent", "status", "subscription")
    found = [
        session.view
        for session in reversed(double.checkout_sessions.values())
        if all(session.view[name] == params[name] for name in filters if name in params)
        and within(session.view["created"], params.get("created"))
    ]
    return page(found, params, call.path, "checkout.session")


def line_items(double: Double, call: Call) -> JsonObject:
    """GET /v1/checkout/sessions/{id}/line_items [SDK]."""
    return page(_known(double, call.args["id"]).items, call.params, call.path, "item")


def expire(double: Double, call: Call) -> JsonObject:
    """POST /v1/checkout/sessions/{id}/expire: only an open one [docs]."""
    settle(double)
    session = _known(double, call.args["id"])
    if session.view["status"] != "open":
        raise invalid(
            'Only Checkout Sessions with a status in ["open"] can be expired. This Checkout Session has a status of '
            f"{session.view['status']}."
        )
    _expired(double, session)
    return session.view


def settle(double: Double) -> None:
    """Open sessions whose time is over have expired."""
    now = double.clock.now()
    for session in double.checkout_sessions.values():
        if session.view["status"] == "open" and session.view["expires_at"] <= now:
            _expired(double, session)


def _expired(double: Double, session: Session) -> None:
    session.view.update(status="expired", url=None)
    emit(double, "checkout.session.expired", session.view)


def complete(double: Double, body: JsonObject) -> JsonObject:
    """A control: `{id, email?, name?}`: a customer fills in the page and pays. The customer is created where Stripe
    would (always for a subscription), then the subscription, or the payment; last `checkout.session.completed`.
    Answers the session. Raises ValueError where the session is not open or Stripe would refuse."""
    settle(double)
    session = double.checkout_sessions.get(str(body.get("id")))
    if session is None or set(body) - {"id", "email", "name"}:
        raise ValueError("completing takes {id, email?, name?} of a known session")
    view, asked = session.view, session.asked
    if view["status"] != "open":
        raise ValueError(f"the session is {view['status']}")
    email = body.get("email") or view["customer_email"] or "payer@example.com"
    try:
        if view["customer"] is not None and not double.customers.is_live(view["customer"]):
            raise ValueError("the session's customer was deleted")
        if view["customer"] is None and view["customer_creation"] == "always":
            made: Form = {"email": email, **({"name": str(body["name"])} if body.get("name") else {})}
            view["customer"] = internal(double, "POST", "/v1/customers", made)["id"]
        if view["mode"] == "subscription":
            subscription = internal(double, "POST", "/v1/subscriptions", _subscription(session))
            view.update(subscription=subscription["id"], invoice=subscription.get("latest_invoice"))
        elif view["amount_total"]:
            data = asked.get("payment_intent_data", {})
            intent = pay(
                double,
                view["amount_total"],
                view["currency"],
                customer=view["customer"],
                metadata=data.get("metadata"),
                description=data.get("description"),
                receipt_email=data.get("receipt_email"),
            )
            view["payment_intent"] = intent["id"]
    except ApiError as problem:
        raise ValueError(problem.message) from problem
    view.update(
        status="complete",
        payment_status="paid" if view["amount_total"] else "no_payment_required",
        url=None,
        customer_details={
            "address": {
                "city": None,
                "country": "US",
                "line1": None,
                "line2": None,
                "postal_code": None,
                "state": None,
            },
            "email": email,
            "name": body.get("name"),
            "phone": None,
            "tax_exempt": "none",
            "tax_ids": [],
        },
    )
    emit(double, "checkout.session.completed", view)
    return view


def _subscription(session: Session) -> Form:
    """The form of the subscription that the session sells."""
    form: Form = {"customer": session.view["customer"], "items": {}}
    for index, item in enumerate(session.items):
        entry: Form = {"price": item["price"]["id"]}
        if item["quantity"] is not None:
            entry["quantity"] = str(item["quantity"])
        if item["metadata"]:
            entry["metadata"] = dict(item["metadata"])
        form["items"][str(index)] = entry  # type: ignore[index]
    for name, value in session.asked.get("subscription_data", {}).items():
        form[name] = {key: str(one) for key, one in value.items()} if isinstance(value, dict) else str(value)
    return form


def _check_names(mode: str, params: Mapping[str, Any]) -> None:
    wrong = {"subscription": ("payment_intent_data", "customer_creation"), "payment": ("subscription_data",)}[mode]
    for name in wrong:
        if name in params:
            raise invalid(f"You can not pass `{name}` in `{mode}` mode.", name)


def _check_urls(params: Mapping[str, Any]) -> None:
    for name in ("success_url", "cancel_url"):
        if name in params and (
            urlsplit(params[name]).scheme not in ("http", "https") or not urlsplit(params[name]).netloc
        ):
            raise invalid("Not a valid URL", name, "url_invalid")


def _check_customer(double: Double, params: Mapping[str, Any]) -> None:
    if "customer" not in params:
        return
    for name in ("customer_email", "customer_creation"):
        if name in params:
            raise invalid(f"You may only specify one of these parameters: customer, {name}.", name)
    if not double.customers.is_live(params["customer"]):
        raise missing_resource("customer", params["customer"], "customer", 400)


def _customer_creation(mode: str, params: Mapping[str, Any]) -> str | None:
    if "customer" in params:
        return None
    creation: str = "always" if mode == "subscription" else params.get("customer_creation", "if_required")
    return creation


def _price(double: Double, item: Mapping[str, Any], index: int) -> JsonObject:
    """The price of a line item; one given as `price_data` is made for it, and is not active [docs: inline prices]."""
    at = f"line_items[{index}]"
    if ("price" in item) == ("price_data" in item):
        raise invalid(f"Exactly one of {at}[price] and {at}[price_data] must be given.", at)
    if "price" in item:
        try:
            price = internal(double, "GET", f"/v1/prices/{item['price']}")
        except ApiError as problem:
            raise missing_resource("price", item["price"], f"{at}[price]", 400) from problem
        if not price["active"]:
            raise invalid("The price specified is inactive. This field only accepts active prices.", f"{at}[price]")
        return price
    return internal(double, "POST", "/v1/prices", {**_form(item["price_data"]), "active": "false"})


def _form(value: Mapping[str, Any]) -> Form:
    """Checked values as the form that they came from."""
    return {name: _form(one) if isinstance(one, dict) else _text(one) for name, one in value.items()}


def _text(value: Any) -> str:
    return str(value) if isinstance(value, str | int) else plain(value)


def _check_prices(mode: str, prices: list[JsonObject]) -> None:
    recurring = [price["recurring"] for price in prices if price["recurring"] is not None]
    if mode == "subscription" and not recurring:
        raise invalid(
            "You must provide at least one recurring price in `subscription` mode when using prices.", "line_items"
        )
    if mode == "payment" and recurring:
        raise invalid(
            "You specified `payment` mode but passed a recurring price. Either switch to `subscription` mode or use "
            "only one-time prices.",
            "line_items",
        )
    if len({price["currency"] for price in prices}) > 1:
        raise invalid("All prices on a Checkout Session must have the same currency.", "line_items")
    if len({(one["interval"], one["interval_count"]) for one in recurring}) > 1:
        raise invalid("Checkout does not support multiple prices with different billing intervals.", "line_items")


def _line_item(asked: Mapping[str, Any], price: JsonObject, index: int) -> JsonObject:
    metered = price["recurring"] is not None and price["recurring"]["usage_type"] == "metered"
    at = f"line_items[{index}][quantity]"
    if metered and "quantity" in asked:
        raise invalid("You cannot set the quantity of a metered price.", at)
    if not metered and "quantity" not in asked:
        raise invalid("Quantity is required. Add `quantity` to your line item.", at)
    quantity = asked.get("quantity")
    unit = price["unit_amount_decimal"]
    amount = 0
    if quantity is not None and unit is not None:
        amount = int((DecimalText().read(str(unit), at) * quantity).to_integral_value("ROUND_HALF_UP"))
    return {
        "id": new_id("li"),
        "object": "item",
        "amount_discount": 0,
        "amount_subtotal": amount,
        "amount_tax": 0,
        "amount_total": amount,
        "currency": price["currency"],
        "description": price["nickname"],
        "metadata": dict(asked.get("metadata", {})),
        "price": price,
        "quantity": quantity,
    }


def _known(double: Double, session_id: str) -> Session:
    session = double.checkout_sessions.get(session_id)
    if session is None:
        raise missing_resource("checkout.session", session_id)
    return session


OPERATIONS = (
    Operation("POST", "/v1/checkout/sessions", create, CREATE),
    Operation("GET", "/v1/checkout/sessions", list_all, LIST),
    Operation("GET", "/v1/checkout/sessions/{id}", retrieve, RETRIEVE),
    Operation("GET", "/v1/checkout/sessions/{id}/line_items", line_items, LIST_LINE_ITEMS),
    Operation("POST", "/v1/checkout/sessions/{id}/expire", expire, EXPIRE),
)
