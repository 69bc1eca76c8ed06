"""Customers: create, retrieve, update, list, search, delete. A minimal object: what a billing edge maps accounts to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from local.stripe_double import invoicing
from local.stripe_double.errors import invalid, missing_resource
from local.stripe_double.events import emit
from local.stripe_double.ids import new_id
from local.stripe_double.lists import CREATED, PAGING, page, within
from local.stripe_double.metadata import METADATA, merged
from local.stripe_double.operations import Call, Operation
from local.stripe_double.params import Nested, OneOf, Param, Params, SecondsOrRange, Text, Whole
from local.stripe_double.wire import JsonObject

if TYPE_CHECKING:
    from local.stripe_double.state import Double

ADDRESS = Params(
    {name: Param(Text(unsettable=True)) for name in ("city", "country", "line1", "line2", "postal_code", "state")}
)
_FIELDS: dict[str, Param] = {
    "address": Param(Nested(ADDRESS, unsettable=True)),
    "business_name": Param(Text(150, unsettable=True)),
    "description": Param(Text(unsettable=True)),
    "email": Param(Text(512, unsettable=True)),
    "individual_name": Param(Text(150, unsettable=True)),
    "metadata": METADATA,
    "name": Param(Text(unsettable=True)),
    "phone": Param(Text(unsettable=True)),
    "tax_exempt": Param(OneOf(("exempt", "none", "reverse"), unsettable=True)),
}
_SHARED_NOT_EMULATED = frozenset(
    {
        "balance",
        "cash_balance",
        "expand",
        "invoice_prefix",
        "invoice_settings",
        "next_invoice_sequence",
        "preferred_locales",
        "shipping",
        "source",
        "tax",
        "validate",
    }
)
CREATE = Params(_FIELDS, _SHARED_NOT_EMULATED | {"payment_method", "tax_id_data", "test_clock"})
UPDATE = Params(_FIELDS, _SHARED_NOT_EMULATED | {"default_source"})
RETRIEVE = Params({}, frozenset({"expand"}))
DELETE = Params()
LIST = Params(
    {**PAGING, "created": Param(SecondsOrRange(CREATED)), "email": Param(Text())},
    frozenset({"expand", "test_clock"}),
)
SEARCH = Params(
    {"query": Param(Text(), required=True), "limit": Param(Whole(1, 100)), "page": Param(Text())},
    frozenset({"expand"}),
)

_CLAUSE = re.compile(
    r"""\s*(?:metadata\[(?P<q>["'])(?P<key>.+?)(?P=q)\]|(?P<field>email|name))\s*:\s*(?P<r>["'])(?P<value>.*?)(?P=r)\s*"""
)


@dataclass
class Customer:
    """One customer. `created_ms` is epoch milliseconds."""

    id: str
    created_ms: int
    values: JsonObject = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    deleted: bool = False

    def apply(self, params: Mapping[str, Any]) -> None:
        """Set what is given; metadata merges."""
        for name, value in params.items():
            if name != "metadata":
                self.values[name] = value
            else:
                self.metadata = merged(self.metadata, value)

    def view(self) -> JsonObject:
        """The object; a deleted customer is `{id, object, deleted: true}` [SDK: Customer.deleted]."""
        if self.deleted:
            return {"id": self.id, "object": "customer", "deleted": True}
        view: JsonObject = {
            "id": self.id,
            "object": "customer",
            "address": None,
            "balance": 0,
            "created": self.created_ms // 1000,
            "currency": None,
            "default_source": None,
            "delinquent": False,
            "description": None,
            "email": None,
            "livemode": False,
            "metadata": dict(self.metadata),
            "name": None,
            "phone": None,
            "preferred_locales": [],
            "shipping": None,
            "tax_exempt": "none",
            "test_clock": None,
        }
        view.update(self.values)
        view["tax_exempt"] = view["tax_exempt"] or "none"
        return view


class Customers:
    """All customers, deleted ones too: their ids stay known."""

    def __init__(self) -> None:
        self._by_id: dict[str, Customer] = {}

    def add(self, customer: Customer) -> None:
        self._by_id[customer.id] = customer

    def get(self, customer_id: str) -> Customer | None:
        """The customer, deleted or not; None where the id was never given out."""
        return self._by_id.get(customer_id)

    def is_live(self, customer_id: str) -> bool:
        customer = self._by_id.get(customer_id)
        return customer is not None and not customer.deleted

    def live(self) -> list[Customer]:
        """Not deleted, newest first."""
        return [customer for customer in reversed(self._by_id.values()) if not customer.deleted]


def create(double: Double, call: Call) -> JsonObject:
    """POST /v1/customers [SDK: CustomerCreateParams]. Emails are not unique; one without `@` is refused
    (`email_invalid`) [docs].
    """
    _check_email(call.params)
    customer = Customer(new_id("cus"), double.clock.now_ms())
    customer.apply(call.params)
    double.customers.add(customer)
    emit(double, "customer.created", customer.view())
    return customer.view()


def retrieve(double: Double, call: Call) -> JsonObject:
    """GET /v1/customers/{id}: also a deleted one, as `deleted: true` [docs: API, retrieve a customer]."""
    customer = double.customers.get(call.args["id"])
    if customer is None:
        raise missing_resource("customer", call.args["id"])
    return customer.view()


def update(double: Double, call: Call) -> JsonObject:
    """POST /v1/customers/{id}: absent parameters stay as they are [SDK: CustomerUpdateParams]."""
    _check_email(call.params)
    customer = _live(double, call.args["id"])
    before = customer.view()
    customer.apply(call.params)
    after = customer.view()
    previous = {name: value for name, value in before.items() if after[name] != value}
    if previous:
        emit(double, "customer.updated", after, previous)
    return after


def delete(double: Double, call: Call) -> JsonObject:
    """DELETE /v1/customers/{id}: permanent; ends its subscriptions at once, and meter events that name it are no longer
    counted [docs].
    """
    customer = _live(double, call.args["id"])
    shown = customer.view()
    customer.deleted = True
    for subscription in list(double.subscriptions.newest_first()):
        if subscription.customer == customer.id and subscription.ended_at is None:
            invoicing.end(double, subscription, "cancellation_requested")
    emit(double, "customer.deleted", shown)
    return customer.view()


def list_all(double: Double, call: Call) -> JsonObject:
    """GET /v1/customers: newest first, without deleted ones; `email` is an exact, case-sensitive filter [SDK:
    CustomerListParams].
    """
    email = call.params.get("email")
    found = [
        customer.view()
        for customer in double.customers.live()
        if (email is None or customer.values.get("email") == email)
        and within(customer.created_ms // 1000, call.params.get("created"))
    ]
    return page(found, call.params, call.path, "customer")


def search(double: Double, call: Call) -> JsonObject:
    """GET /v1/customers/search. The part of the query language that finds a customer by what the app stored: exact
    clauses `metadata['key']:'value'`, `email:'...'`, `name:'...'` joined by AND; other queries are refused. Search is
    eventually consistent (under a minute) [docs: search], so a customer appears after the double's lag.
    """
    clauses = _clauses(call.params["query"])
    horizon = double.clock.now_ms() - double.lag_ms
    found = [
        customer.view()
        for customer in double.customers.live()
        if customer.created_ms <= horizon and all(_matches(customer, kind, key, value) for kind, key, value in clauses)
    ]
    limit = call.params.get("limit", 10)
    start = _page_start(call.params.get("page"))
    more = start + limit < len(found)
    return {
        "object": "search_result",
        "data": found[start : start + limit],
        "has_more": more,
        "next_page": str(start + limit) if more else None,
        "url": call.path,
    }


def _live(double: Double, customer_id: str) -> Customer:
    customer = double.customers.get(customer_id)
    if customer is None or customer.deleted:
        raise missing_resource("customer", customer_id)
    return customer


def _check_email(params: Mapping[str, Any]) -> None:
    email = params.get("email")
    if email is not None and "@" not in email:
        raise invalid(f"Invalid email address: {email}", "email", "email_invalid")


def _page_start(token: str | None) -> int:
    if token is None:
        return 0
    if not token.isdecimal():
        raise invalid(f"Invalid page: {token}", "page")
    return int(token)


def _clauses(query: str) -> list[tuple[str, str | None, str]]:
    clauses = []
    for text in re.split(r"\s+AND\s+", query):
        match = _CLAUSE.fullmatch(text)
        if match is None:
            raise invalid(f"This double does not emulate the search clause: {text}", "query", "not_emulated")
        clauses.append((match["field"] or "metadata", match["key"], match["value"]))
    return clauses


def _matches(customer: Customer, kind: str, key: str | None, value: str) -> bool:
    if kind == "metadata":
        return key is not None and customer.metadata.get(key) == value
    return bool(customer.values.get(kind) == value)


OPERATIONS = (
    Operation("POST", "/v1/customers", create, CREATE),
    Operation("GET", "/v1/customers", list_all, LIST),
    Operation("GET", "/v1/customers/search", search, SEARCH),
    Operation("GET", "/v1/customers/{id}", retrieve, RETRIEVE),
    Operation("POST", "/v1/customers/{id}", update, UPDATE),
    Operation("DELETE", "/v1/customers/{id}", delete, DELETE),
)
