"""Subscriptions: create, retrieve, update, cancel, pause, resume, list. Flexible billing mode only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from local.stripe_double import invoicing, subscription_changes
from local.stripe_double.changes import emit_update
from local.stripe_double.errors import ApiError, invalid, missing_resource, not_emulated
from local.stripe_double.events import emit
from local.stripe_double.expansion import expandable
from local.stripe_double.ids import new_id
from local.stripe_double.lists import page, within
from local.stripe_double.metadata import merged
from local.stripe_double.operations import Call, Operation
from local.stripe_double.periods import next_anchor, shifted
from local.stripe_double.subscription_changes import check_items, quantity_for, refuse_ended, usable_price
from local.stripe_double.subscription_life import bill_now, cycle, first_invoice, period, tell_trial_end, usage_so_far
from local.stripe_double.subscription_objects import ENDED, Item, Subscription
from local.stripe_double.subscription_params import CANCEL, CREATE, LIST, PAUSE, RESUME, RETRIEVE, UPDATE
from local.stripe_double.wire import JsonObject

if TYPE_CHECKING:
    from local.stripe_double.state import Double

DAY_SECONDS = 86_400


def create(double: Double, call: Call) -> JsonObject:
    """POST /v1/subscriptions [SDK: SubscriptionCreateParams].

    - The first period runs from now to the anchor (a moment in the future, or a day of the month and a time), and is
      charged in part unless `proration_behavior` is `none` [docs: billing cycle].
    - A first payment that fails leaves it `incomplete`; with `error_if_incomplete` nothing is created and the call is
      refused (402); with `default_incomplete` no payment is tried yet [SDK: payment_behavior].
    - `start_date` in the past: elapsed periods are charged on the first invoice, elapsed usage on the next one [docs:
      backdating].
    """
    params = call.params
    _refuse_other_ways(params)
    customer = params.get("customer")
    if customer is None:
        raise invalid("Missing required param: customer.", "customer", "parameter_missing")
    if not double.customers.is_live(customer):
        raise missing_resource("customer", customer, "customer", 400)
    now = double.clock.now()
    begin = params.get("backdate_start_date", now)
    if begin > now:
        raise invalid("backdate_start_date must be in the past.", "backdate_start_date")
    if not params.get("items"):
        raise invalid("Missing required param: items.", "items", "parameter_missing")
    trial_end = _trial_end(params, now)
    anchor, day = _anchor(params, begin, now, trial_end)
    items: list[Item] = []
    for number, given in enumerate(params["items"]):
        path = f"items[{number}]"
        price = usable_price(double, given, path)
        metadata = merged({}, given.get("metadata", {}))
        quantity = quantity_for(price, given, path)
        item = Item(new_id("si"), now, price, quantity, anchor, now, now, begin, day, metadata=metadata)
        item.start, item.end = (now, trial_end) if trial_end is not None else period(item, now)
        item.start = max(item.start, begin)
        items.append(item)
    currency = params.get("currency", items[0].price.currency)
    check_items(items, currency)
    _check_anchor(params, items, now)
    outcome = double.payments.outcome(customer)
    if params.get("payment_behavior") == "error_if_incomplete" and outcome != "succeed" and trial_end is None:
        raise ApiError(402, "Your card was declined.", kind="card_error", code="card_declined")

    subscription = Subscription(
        id=new_id("sub"),
        customer=customer,
        created=now,
        start_date=begin,
        anchor=anchor,
        currency=currency,
        items=items,
        status="active" if trial_end is None else "trialing",
        anchor_config=params.get("billing_cycle_anchor_config"),
        metadata=merged({}, params.get("metadata", {})),
        trial_start=None if trial_end is None else now,
        trial_end=trial_end,
    )
    _set_plain(subscription, params)
    double.subscriptions.add(subscription)
    emit(double, "customer.subscription.created", subscription.view())
    first_invoice(
        double,
        subscription,
        prorate=params.get("proration_behavior") != "none",
        pay_now=params.get("payment_behavior") != "default_incomplete",
        backdated=params.get("backdate_start_date"),
    )
    tell_trial_end(double, subscription)
    return _changed(double, subscription)


def _refuse_other_ways(params: Mapping[str, Any]) -> None:
    for name, value in (
        ("collection_method", "send_invoice"),
        ("payment_behavior", "pending_if_incomplete"),
        ("billing_mode", {"type": "classic"}),
    ):
        if params.get(name) == value:
            raise not_emulated(f"This double does not emulate {name}={value}", 400, name)
    if "days_until_due" in params:
        raise not_emulated("This double does not emulate the parameter days_until_due", 400, "days_until_due")


def _trial_end(params: Mapping[str, Any], now: int) -> int | None:
    given, days = params.get("trial_end"), params.get("trial_period_days")
    if given is not None and days is not None:
        raise invalid("You may only specify one of these parameters: trial_end, trial_period_days.", "trial_end")
    if days:
        return now + int(days) * DAY_SECONDS
    if given is None or given == "now":
        return None
    if given <= now:
        raise invalid("Invalid timestamp: must be an integer Unix timestamp in the future.", "trial_end")
    return int(given)


def _anchor(params: Mapping[str, Any], begin: int, now: int, trial_end: int | None) -> tuple[int, int | None]:
    """When periods begin, and the day of the month that they keep."""
    at, config = params.get("billing_cycle_anchor"), params.get("billing_cycle_anchor_config")
    if at is not None and config is not None:
        raise invalid(
            "You may only specify one of these parameters: billing_cycle_anchor, billing_cycle_anchor_config.",
            "billing_cycle_anchor",
        )
    if trial_end is not None and (at is not None or config is not None):
        raise not_emulated("This double does not emulate a trial with a billing_cycle_anchor", 400, "trial_end")
    if config is not None:
        return next_anchor(config, now), config["day_of_month"]
    if at is not None and at <= now:
        raise invalid("billing_cycle_anchor must be a timestamp in the future.", "billing_cycle_anchor")
    if trial_end is not None:
        return trial_end, None
    return begin if at is None else int(at), None


def _check_anchor(params: Mapping[str, Any], items: list[Item], now: int) -> None:
    """At most one period ahead [SDK: billing_cycle_anchor]."""
    at = params.get("billing_cycle_anchor")
    for item in items:
        assert item.price.interval is not None
        if at is not None and at > shifted(now, item.price.interval, item.price.interval_count):
            raise invalid(
                "billing_cycle_anchor cannot be later than the next natural billing date.", "billing_cycle_anchor"
            )


def _set_plain(subscription: Subscription, params: Mapping[str, Any]) -> None:
    """What an update or a create stores as given. The end of a period to cancel at is when the next one ends."""
    for name in ("description", "default_payment_method", "trial_settings", "cancel_at"):
        if name in params:
            setattr(subscription, name, params[name])
    if "cancel_at_period_end" in params:
        subscription.cancel_at_period_end = params["cancel_at_period_end"]
        subscription.cancel_at = subscription.period_end if subscription.cancel_at_period_end else None


def retrieve(double: Double, call: Call) -> JsonObject:
    """GET /v1/subscriptions/{id}: also a canceled one [SDK]."""
    return double.subscriptions.get(call.args["id"]).view()


def update(double: Double, call: Call) -> JsonObject:
    """POST /v1/subscriptions/{id} [SDK: SubscriptionUpdateParams]. Items change in mid-period as
    `subscription_changes` says; `proration_behavior` defaults to `create_prorations`. A canceled one takes metadata and
    cancellation details only [docs].
    """
    params = call.params
    subscription = double.subscriptions.get(call.args["id"])
    if set(params) - {"metadata", "cancellation_details", "expand"}:
        refuse_ended(subscription)
    _refuse_other_ways(params)
    if params.get("billing_cycle_anchor", {}).get("type") == "now":
        raise not_emulated("This double does not emulate billing_cycle_anchor[type]=now on update", 400)
    now = double.clock.now()
    trial_end = params.get("trial_end")
    if trial_end is not None:
        if subscription.status != "trialing":
            raise not_emulated("This double does not emulate a trial added to a running subscription", 400, "trial_end")
        if trial_end != "now" and trial_end <= now:
            raise invalid("Invalid timestamp: must be an integer Unix timestamp in the future.", "trial_end")
    cancel_at = params.get("cancel_at")
    if cancel_at is not None and cancel_at <= now:
        raise invalid("Invalid timestamp: must be an integer Unix timestamp in the future.", "cancel_at")
    before = subscription.view()
    if "items" in params:
        behavior = params.get("proration_behavior", "create_prorations")
        at = min(params.get("proration_date", now), now)
        subscription_changes.apply(double, subscription, params["items"], behavior, at, "items")
    if "metadata" in params:
        subscription.metadata = merged(subscription.metadata, params["metadata"])
    if params.get("cancel_at_period_end") is True or cancel_at is not None:
        subscription.canceled_at = now
        subscription.cancellation["reason"] = "cancellation_requested"
    elif params.get("cancel_at_period_end") is False or "cancel_at" in params:
        subscription.canceled_at = None
        subscription.cancellation["reason"] = None
    subscription.cancellation.update(params.get("cancellation_details", {}))
    if "pause_collection" in params:
        pause = params["pause_collection"]
        subscription.pause_collection = None if pause is None else {"resumes_at": None, **pause}
    if trial_end is not None:
        _move_trial(subscription, now if trial_end == "now" else trial_end)
    _set_plain(subscription, params)
    if subscription.status == "trialing" and subscription.period_end <= now:
        cycle(double, subscription)
    emit_update(double, "customer.subscription.updated", before, subscription.view())
    return _changed(double, subscription)


def _move_trial(subscription: Subscription, end: int) -> None:
    subscription.trial_end = subscription.anchor = end
    for item in subscription.items:
        item.end = item.anchor = end


def cancel(double: Double, call: Call) -> JsonObject:
    """DELETE /v1/subscriptions/{id}: at once. Usage that is not billed yet is billed with `invoice_now` only; unused
    time is credited with `prorate` only [SDK: SubscriptionCancelParams]. Canceled already: 404 [observed].
    """
    subscription = double.subscriptions.get(call.args["id"])
    if subscription.status in ENDED:
        raise missing_resource("subscription", subscription.id)
    subscription.cancellation.update(call.params.get("cancellation_details", {}))
    close(double, subscription, invoice_now=call.params.get("invoice_now", False), prorate=call.params.get("prorate"))
    return subscription.view()


def close(
    double: Double, subscription: Subscription, *, invoice_now: bool = False, prorate: bool | None = None
) -> None:
    """End a subscription at once, also that of a customer who is deleted."""
    now = double.clock.now()
    if prorate:
        for item in subscription.items:
            if item.debit is not None and item.debit.end > now:
                line = subscription_changes.credit(subscription, item, now)
                invoicing.add_pending(double, subscription.customer, line)
    lines = usage_so_far(double, subscription) if invoice_now else []
    pending = double.invoices.pending(subscription.customer, subscription.id, subscription.currency)
    invoicing.end(double, subscription, "cancellation_requested")
    if invoice_now and (lines or pending):
        bill_now(double, subscription, lines, "subscription_update")


def pause(double: Double, call: Call) -> JsonObject:
    """POST .../pause: no periods pass while it is paused. By default usage so far is billed and unused time credited,
    as pending invoice items [SDK: SubscriptionPauseParams]. Only an active one [assumed].
    """
    subscription = double.subscriptions.get(call.args["id"])
    if subscription.status != "active":
        raise ApiError(400, f"Only active subscriptions can be paused. This subscription is {subscription.status}.")
    now = double.clock.now()
    bill_for = call.params.get("bill_for", {})
    lines = []
    if bill_for.get("outstanding_usage_through", {}).get("type", "now") == "now":
        lines += usage_so_far(double, subscription)
        for line in lines:
            line.usage = None
    unused = bill_for.get("unused_time_from", {}).get("type", "now")
    for item in subscription.items:
        if unused != "none" and item.debit is not None and item.debit.end > now:
            since = now if unused == "now" else item.start
            lines.append(subscription_changes.credit(subscription, item, since))
    for line in lines:
        invoicing.add_pending(double, subscription.customer, line)
    if lines and call.params.get("invoicing_behavior") == "invoice":
        bill_now(double, subscription, [], "subscription_update")
    before = subscription.view()
    subscription.status, subscription.paused_at = "paused", now
    emit_update(double, "customer.subscription.updated", before, subscription.view())
    emit(double, "customer.subscription.paused", subscription.view())
    return subscription.view()


def resume(double: Double, call: Call) -> JsonObject:
    """POST .../resume: a new period from now, or with the anchor `unchanged` the rest of the running one [SDK:
    SubscriptionResumeParams]. Usage while it was paused is billed to no one [assumed].
    """
    subscription = double.subscriptions.get(call.args["id"])
    if subscription.status != "paused":
        raise ApiError(400, f"Only paused subscriptions can be resumed. This subscription is {subscription.status}.")
    now = double.clock.now()
    anew = call.params.get("billing_cycle_anchor", {}).get("type", "now") == "now"
    prorate = anew or call.params.get("proration_behavior") != "none"
    before = subscription.view()
    subscription.status, subscription.paused_at = "active", None
    lines = []
    if anew:
        subscription.anchor, subscription.anchor_config = now, None
    for item in subscription.items:
        if anew:
            item.anchor, item.anchor_day = now, None
        start, end = period(item, now)
        item.start, item.end, item.usage_from, item.debit = start, end, now, None
        if not item.price.metered and prorate:
            lines.append(invoicing.licensed_line(subscription, item, now, end, end - start))
    emit_update(double, "customer.subscription.updated", before, subscription.view())
    emit(double, "customer.subscription.resumed", subscription.view())
    if lines:
        bill_now(double, subscription, lines, "subscription_update")
    return _changed(double, subscription)


def list_all(double: Double, call: Call) -> JsonObject:
    """GET /v1/subscriptions: newest first, without canceled ones unless `status` says so [SDK:
    SubscriptionListParams.status].
    """
    params = call.params
    status, customer, price = params.get("status"), params.get("customer"), params.get("price")
    found = [
        subscription.view()
        for subscription in double.subscriptions.newest_first()
        if _shown(subscription.status, status)
        and customer in (None, subscription.customer)
        and (price is None or any(item.price.id == price for item in subscription.items))
        and within(subscription.created, params.get("created"))
        and params.get("collection_method") != "send_invoice"
    ]
    return page(found, params, call.path, "subscription")


def _shown(status: str, wanted: str | None) -> bool:
    if wanted is None:
        return status != "canceled"
    if wanted == "ended":
        return status in ENDED
    return wanted in ("all", status)


def _changed(double: Double, subscription: Subscription) -> JsonObject:
    double.schedule.put(subscription.next_due(), subscription.id)
    return subscription.view()


def _customer(double: Double, holder: JsonObject) -> JsonObject | None:
    customer = double.customers.get(holder["customer"])
    return None if customer is None else customer.view()


def _latest_invoice(double: Double, holder: JsonObject) -> JsonObject | None:
    return None if holder["latest_invoice"] is None else double.invoices.get(holder["latest_invoice"]).view()


for _holder in ("subscription", "invoice", "invoiceitem", "credit_note"):
    expandable(_holder, "customer", _customer)
expandable("subscription", "latest_invoice", _latest_invoice)
# Null until payment methods exist here; asking for them is no mistake.
expandable("subscription", "pending_setup_intent", lambda double, holder: None)
expandable("subscription", "default_payment_method", lambda double, holder: None)

OPERATIONS = (
    Operation("POST", "/v1/subscriptions", create, CREATE),
    Operation("GET", "/v1/subscriptions", list_all, LIST),
    Operation("GET", "/v1/subscriptions/{id}", retrieve, RETRIEVE),
    Operation("POST", "/v1/subscriptions/{id}", update, UPDATE),
    Operation("DELETE", "/v1/subscriptions/{id}", cancel, CANCEL),
    Operation("POST", "/v1/subscriptions/{id}/pause", pause, PAUSE),
    Operation("POST", "/v1/subscriptions/{id}/resume", resume, RESUME),
)
