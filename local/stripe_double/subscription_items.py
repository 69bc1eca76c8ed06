"""Subscription items: create, retrieve, update, delete, list. The same changes as through their subscription."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from local.stripe_double import subscription_changes
from local.stripe_double.changes import emit_update
from local.stripe_double.lists import page
from local.stripe_double.operations import Call, Operation
from local.stripe_double.subscription_objects import Subscription
from local.stripe_double.subscription_params import ITEM_CREATE, ITEM_DELETE, ITEM_LIST, ITEM_RETRIEVE, ITEM_UPDATE
from local.stripe_double.wire import JsonObject

if TYPE_CHECKING:
    from local.stripe_double.state import Double


def create(double: Double, call: Call) -> JsonObject:
    """POST /v1/subscription_items: adds a price to a subscription [SDK: SubscriptionItemCreateParams]."""
    subscription = double.subscriptions.get(call.params["subscription"], "subscription", 400)
    _change(double, subscription, {}, call.params)
    return subscription.items[-1].view(subscription.id)


def retrieve(double: Double, call: Call) -> JsonObject:
    """GET /v1/subscription_items/{id} [SDK]."""
    subscription, item = double.subscriptions.of_item(call.args["id"])
    return item.view(subscription.id)


def update(double: Double, call: Call) -> JsonObject:
    """POST /v1/subscription_items/{id} [SDK: SubscriptionItemUpdateParams]."""
    subscription, item = double.subscriptions.of_item(call.args["id"])
    _change(double, subscription, {"id": item.id}, call.params)
    return item.view(subscription.id)


def delete(double: Double, call: Call) -> JsonObject:
    """DELETE /v1/subscription_items/{id}: not the last one [SDK]."""
    subscription, item = double.subscriptions.of_item(call.args["id"])
    _change(double, subscription, {"id": item.id, "deleted": True}, call.params)
    return {"id": item.id, "object": "subscription_item", "deleted": True}


def list_all(double: Double, call: Call) -> JsonObject:
    """GET /v1/subscription_items?subscription= [SDK: SubscriptionItemListParams]."""
    subscription = double.subscriptions.get(call.params["subscription"], "subscription", 400)
    views = [item.view(subscription.id) for item in subscription.items]
    return page(views, call.params, call.path, "subscription item")


def _change(double: Double, subscription: Subscription, one: Mapping[str, Any], params: Mapping[str, Any]) -> None:
    subscription_changes.refuse_ended(subscription)
    given = {name: params[name] for name in ("price", "quantity", "metadata") if name in params}
    now = double.clock.now()
    at = min(params.get("proration_date", now), now)
    behavior = params.get("proration_behavior", "create_prorations")
    before = subscription.view()
    subscription_changes.apply(double, subscription, [{**one, **given}], behavior, at, "items")
    emit_update(double, "customer.subscription.updated", before, subscription.view())
    double.schedule.put(subscription.next_due(), subscription.id)


OPERATIONS = (
    Operation("POST", "/v1/subscription_items", create, ITEM_CREATE),
    Operation("GET", "/v1/subscription_items", list_all, ITEM_LIST),
    Operation("GET", "/v1/subscription_items/{id}", retrieve, ITEM_RETRIEVE),
    Operation("POST", "/v1/subscription_items/{id}", update, ITEM_UPDATE),
    Operation("DELETE", "/v1/subscription_items/{id}", delete, ITEM_DELETE),
)
