"""What checkout sessions take: the part that sells plans and packs on Stripe's own page [SDK: SessionCreateParams]."""

from __future__ import annotations

from local.stripe_double.lists import CREATED, PAGING
from local.stripe_double.params import (
    DecimalText,
    Nested,
    NestedList,
    OneOf,
    Param,
    Params,
    SecondsOrRange,
    Text,
    TextMap,
    Whole,
)

MODES = ("payment", "subscription")
_METADATA = Param(TextMap(max_keys=50, max_key=40, max_value=500))

RECURRING = Params(
    {"interval": Param(OneOf(("day", "month", "week", "year")), required=True), "interval_count": Param(Whole(1))}
)
PRODUCT_DATA = Params(
    {
        "description": Param(Text()),
        "metadata": _METADATA,
        "name": Param(Text(), required=True),
        "unit_label": Param(Text(12)),
    },
    frozenset({"images", "tax_code", "tax_details"}),
)
PRICE_DATA = Params(
    {
        "currency": Param(Text(3), required=True),
        "product": Param(Text()),
        "product_data": Param(Nested(PRODUCT_DATA)),
        "recurring": Param(Nested(RECURRING)),
        "unit_amount": Param(Whole(0)),
        "unit_amount_decimal": Param(DecimalText()),
    },
    frozenset({"tax_behavior"}),
)
LINE_ITEM = Params(
    {
        "metadata": _METADATA,
        "price": Param(Text()),
        "price_data": Param(Nested(PRICE_DATA)),
        "quantity": Param(Whole(0)),
    },
    frozenset({"adjustable_quantity", "tax_rates"}),
)
ANCHOR = Params(
    {
        "day_of_month": Param(Whole(1, 31), required=True),
        "hour": Param(Whole(0, 23)),
        "minute": Param(Whole(0, 59)),
        "month": Param(Whole(1, 12)),
        "second": Param(Whole(0, 59)),
    }
)
SUBSCRIPTION_DATA = Params(
    {
        "billing_cycle_anchor": Param(Whole(1)),
        "billing_cycle_anchor_config": Param(Nested(ANCHOR)),
        "description": Param(Text(500)),
        "metadata": _METADATA,
        "proration_behavior": Param(OneOf(("create_prorations", "none"))),
        "trial_end": Param(Whole(1)),
        "trial_period_days": Param(Whole(1)),
    },
    frozenset(
        {
            "application_fee_percent",
            "billing_mode",
            "default_tax_rates",
            "invoice_settings",
            "on_behalf_of",
            "pending_invoice_item_interval",
            "transfer_data",
            "trial_settings",
        }
    ),
)
PAYMENT_INTENT_DATA = Params(
    {"description": Param(Text(1000)), "metadata": _METADATA, "receipt_email": Param(Text())},
    frozenset(
        {
            "application_fee_amount",
            "capture_method",
            "on_behalf_of",
            "setup_future_usage",
            "shipping",
            "statement_descriptor",
            "statement_descriptor_suffix",
            "transfer_data",
            "transfer_group",
        }
    ),
)
CREATE = Params(
    {
        "cancel_url": Param(Text()),
        "client_reference_id": Param(Text(200)),
        "customer": Param(Text()),
        "customer_creation": Param(OneOf(("always", "if_required"))),
        "customer_email": Param(Text(512)),
        "expires_at": Param(Whole(1)),
        "line_items": Param(NestedList(LINE_ITEM, 100)),
        "metadata": _METADATA,
        "mode": Param(OneOf(MODES)),
        "payment_intent_data": Param(Nested(PAYMENT_INTENT_DATA)),
        "subscription_data": Param(Nested(SUBSCRIPTION_DATA)),
        "success_url": Param(Text()),
        "ui_mode": Param(OneOf(("hosted_page",))),
    },
    frozenset(
        {
            "adaptive_pricing",
            "after_expiration",
            "allow_promotion_codes",
            "allowed_payment_method_types",
            "automatic_tax",
            "billing_address_collection",
            "branding_settings",
            "consent_collection",
            "currency",
            "custom_fields",
            "custom_text",
            "customer_account",
            "customer_update",
            "discounts",
            "excluded_payment_method_types",
            "expand",
            "integration_identifier",
            "invoice_creation",
            "locale",
            "managed_payments",
            "name_collection",
            "optional_items",
            "origin_context",
            "payment_method_collection",
            "payment_method_configuration",
            "payment_method_data",
            "payment_method_options",
            "permissions",
            "phone_number_collection",
            "redirect_on_completion",
            "return_url",
            "saved_payment_method_options",
            "setup_intent_data",
            "shipping_address_collection",
            "shipping_options",
            "submit_type",
            "tax_id_collection",
            "wallet_options",
        }
    ),
)
RETRIEVE = Params({}, frozenset({"expand"}))
EXPIRE = Params({}, frozenset({"expand"}))
LIST = Params(
    {
        **PAGING,
        "created": Param(SecondsOrRange(CREATED)),
        "customer": Param(Text()),
        "payment_intent": Param(Text()),
        "status": Param(OneOf(("complete", "expired", "open"))),
        "subscription": Param(Text()),
    },
    frozenset({"customer_account", "customer_details", "expand", "payment_link"}),
)
LIST_LINE_ITEMS = Params({**PAGING}, frozenset({"expand"}))
