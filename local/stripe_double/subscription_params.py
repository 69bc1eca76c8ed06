"""What subscription calls accept."""

from __future__ import annotations

from local.stripe_double.expansion import EXPAND
from local.stripe_double.lists import CREATED, PAGING
from local.stripe_double.metadata import METADATA
from local.stripe_double.params import (
    Flag,
    Nested,
    NestedList,
    OneOf,
    Param,
    Params,
    SecondsOrRange,
    Text,
    Whole,
    WholeOrWord,
)

STATUSES = ("active", "canceled", "incomplete", "incomplete_expired", "past_due", "paused", "trialing", "unpaid")
PRORATIONS = ("always_invoice", "create_prorations", "none")

_QUANTITY = Param(Whole(0, 999_999_999))
_PRORATION = Param(OneOf(PRORATIONS))
_PAYMENT_BEHAVIOR = Param(
    OneOf(("allow_incomplete", "default_incomplete", "error_if_incomplete", "pending_if_incomplete"))
)
_NOT_IN_ITEMS = frozenset({"billing_thresholds", "current_trial", "discounts", "plan", "price_data", "tax_rates"})
ITEM = Params({"metadata": METADATA, "price": Param(Text()), "quantity": _QUANTITY}, _NOT_IN_ITEMS)
CHANGED_ITEM = Params(
    {
        "clear_usage": Param(Flag()),
        "deleted": Param(Flag()),
        "id": Param(Text()),
        "metadata": METADATA,
        "price": Param(Text()),
        "quantity": _QUANTITY,
    },
    _NOT_IN_ITEMS,
)
ANCHOR_CONFIG = Params(
    {
        "day_of_month": Param(Whole(1, 31), required=True),
        "hour": Param(Whole(0, 23)),
        "minute": Param(Whole(0, 59)),
        "month": Param(Whole(1, 12)),
        "second": Param(Whole(0, 59)),
    }
)
BILLING_MODE = Params({"type": Param(OneOf(("classic", "flexible")), required=True)}, frozenset({"flexible"}))
ANCHOR_TYPE = Params({"type": Param(OneOf(("now", "unchanged")), required=True)})
END_BEHAVIOR = Params(
    {"missing_payment_method": Param(OneOf(("cancel", "create_invoice", "pause")))}, frozenset({"billing_cycle_anchor"})
)
TRIAL_SETTINGS = Params({"end_behavior": Param(Nested(END_BEHAVIOR), required=True)})
CANCELLATION_DETAILS = Params(
    {"comment": Param(Text(unsettable=True)), "feedback": Param(Text(unsettable=True))}, frozenset({"feedback_option"})
)
PAUSE_COLLECTION = Params(
    {
        "behavior": Param(OneOf(("keep_as_draft", "mark_uncollectible", "void")), required=True),
        "resumes_at": Param(Whole(0)),
    }
)
_NOT_EMULATED = frozenset(
    {
        "add_invoice_items",
        "application_fee_percent",
        "automatic_tax",
        "billing_schedules",
        "billing_thresholds",
        "default_source",
        "default_tax_rates",
        "discounts",
        "invoice_settings",
        "on_behalf_of",
        "payment_settings",
        "pending_invoice_item_interval",
        "transfer_data",
        "trial_from_plan",
    }
)
_SHARED: dict[str, Param] = {
    **EXPAND,
    "cancel_at_period_end": Param(Flag()),
    "collection_method": Param(OneOf(("charge_automatically", "send_invoice"))),
    "days_until_due": Param(Whole(1)),
    "default_payment_method": Param(Text(unsettable=True)),
    "description": Param(Text(500, unsettable=True)),
    "metadata": METADATA,
    "off_session": Param(Flag()),
    "payment_behavior": _PAYMENT_BEHAVIOR,
    "proration_behavior": _PRORATION,
    "trial_end": Param(WholeOrWord(("now",))),
    "trial_settings": Param(Nested(TRIAL_SETTINGS)),
}
CREATE = Params(
    {
        **_SHARED,
        "backdate_start_date": Param(Whole(0)),
        "billing_cycle_anchor": Param(Whole(0)),
        "billing_cycle_anchor_config": Param(Nested(ANCHOR_CONFIG)),
        "billing_mode": Param(Nested(BILLING_MODE)),
        "cancel_at": Param(Whole(0)),
        "currency": Param(Text()),
        "customer": Param(Text()),
        "items": Param(NestedList(ITEM, 20)),
        "trial_period_days": Param(Whole(0, 730)),
    },
    _NOT_EMULATED | {"customer_account"},
)
UPDATE = Params(
    {
        **_SHARED,
        "billing_cycle_anchor": Param(Nested(ANCHOR_TYPE)),
        "cancel_at": Param(Whole(0, unsettable=True)),
        "cancellation_details": Param(Nested(CANCELLATION_DETAILS)),
        "items": Param(NestedList(CHANGED_ITEM, 20)),
        "pause_collection": Param(Nested(PAUSE_COLLECTION, unsettable=True)),
        "proration_date": Param(Whole(0)),
    },
    _NOT_EMULATED,
)
RETRIEVE = Params(EXPAND)
LIST = Params(
    {
        **PAGING,
        **EXPAND,
        "collection_method": Param(OneOf(("charge_automatically", "send_invoice"))),
        "created": Param(SecondsOrRange(CREATED)),
        "customer": Param(Text()),
        "price": Param(Text()),
        "status": Param(OneOf((*STATUSES, "all", "ended"))),
    },
    frozenset(
        {"automatic_tax", "current_period_end", "current_period_start", "customer_account", "plan", "test_clock"}
    ),
)
CANCEL = Params(
    {
        **EXPAND,
        "cancellation_details": Param(Nested(CANCELLATION_DETAILS)),
        "invoice_now": Param(Flag()),
        "prorate": Param(Flag()),
    }
)
USAGE_THROUGH = Params({"type": Param(OneOf(("none", "now")), required=True)})
UNUSED_FROM = Params({"type": Param(OneOf(("item_current_period_start", "none", "now")), required=True)})
BILL_FOR = Params(
    {"outstanding_usage_through": Param(Nested(USAGE_THROUGH)), "unused_time_from": Param(Nested(UNUSED_FROM))}
)
PAUSE = Params(
    {
        **EXPAND,
        "bill_for": Param(Nested(BILL_FOR)),
        "invoicing_behavior": Param(OneOf(("invoice", "pending_invoice_item"))),
        "type": Param(OneOf(("subscription",))),
    }
)
RESUME = Params(
    {
        **EXPAND,
        "billing_cycle_anchor": Param(Nested(ANCHOR_TYPE)),
        "proration_behavior": _PRORATION,
    },
    frozenset({"payment_behavior", "proration_date"}),
)
_ITEM_CHANGE: dict[str, Param] = {
    **EXPAND,
    "metadata": METADATA,
    "payment_behavior": _PAYMENT_BEHAVIOR,
    "price": Param(Text()),
    "proration_behavior": _PRORATION,
    "proration_date": Param(Whole(0)),
    "quantity": _QUANTITY,
}
ITEM_CREATE = Params({**_ITEM_CHANGE, "subscription": Param(Text(), required=True)}, _NOT_IN_ITEMS)
ITEM_UPDATE = Params({**_ITEM_CHANGE, "off_session": Param(Flag())}, _NOT_IN_ITEMS)
ITEM_DELETE = Params(
    {
        "clear_usage": Param(Flag()),
        "proration_behavior": _PRORATION,
        "payment_behavior": _PAYMENT_BEHAVIOR,
        "proration_date": Param(Whole(0)),
    }
)
ITEM_RETRIEVE = Params(EXPAND)
ITEM_LIST = Params({**PAGING, **EXPAND, "subscription": Param(Text(), required=True)})
