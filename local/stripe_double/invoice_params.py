"""What calls for invoices, invoice items and credit notes accept."""

from __future__ import annotations

from local.stripe_double.expansion import EXPAND
from local.stripe_double.lists import CREATED, PAGING
from local.stripe_double.metadata import METADATA
from local.stripe_double.params import (
    DecimalText,
    Flag,
    Nested,
    NestedList,
    OneOf,
    Param,
    Params,
    SecondsOrRange,
    Text,
    Whole,
)

STATUSES = ("draft", "open", "paid", "uncollectible", "void")
_COLLECTION = Param(OneOf(("charge_automatically", "send_invoice")))
_NOT_EMULATED = frozenset(
    {
        "account_tax_ids",
        "application_fee_amount",
        "automatic_tax",
        "custom_fields",
        "days_until_due",
        "default_payment_method",
        "default_source",
        "default_tax_rates",
        "discounts",
        "due_date",
        "effective_at",
        "issuer",
        "number",
        "on_behalf_of",
        "payment_settings",
        "rendering",
        "shipping_cost",
        "shipping_details",
        "statement_descriptor",
        "transfer_data",
    }
)
_SHARED: dict[str, Param] = {
    **EXPAND,
    "auto_advance": Param(Flag()),
    "automatically_finalizes_at": Param(Whole(0)),
    "collection_method": _COLLECTION,
    "description": Param(Text(unsettable=True)),
    "footer": Param(Text(unsettable=True)),
    "metadata": METADATA,
}
CREATE = Params(
    {
        **_SHARED,
        "currency": Param(Text()),
        "customer": Param(Text()),
        "pending_invoice_items_behavior": Param(OneOf(("exclude", "include"))),
        "subscription": Param(Text()),
    },
    _NOT_EMULATED | {"customer_account", "from_invoice"},
)
UPDATE = Params(_SHARED, _NOT_EMULATED)
RETRIEVE = Params(EXPAND)
DELETE = Params()
LIST = Params(
    {
        **PAGING,
        **EXPAND,
        "collection_method": _COLLECTION,
        "created": Param(SecondsOrRange(CREATED)),
        "customer": Param(Text()),
        "status": Param(OneOf(STATUSES)),
        "subscription": Param(Text()),
    },
    frozenset({"customer_account", "due_date"}),
)
LINES = Params({**PAGING, **EXPAND})
FINALIZE = Params({**EXPAND, "auto_advance": Param(Flag())})
PAY = Params(
    {**EXPAND, "off_session": Param(Flag()), "paid_out_of_band": Param(Flag()), "payment_method": Param(Text())},
    frozenset({"forgive", "mandate", "source"}),
)
VOID = Params(EXPAND)
PREVIEW = Params(
    {**EXPAND, "customer": Param(Text()), "subscription": Param(Text())},
    frozenset(
        {
            "automatic_tax",
            "currency",
            "customer_account",
            "customer_details",
            "discounts",
            "invoice_items",
            "issuer",
            "on_behalf_of",
            "preview_mode",
            "schedule",
            "schedule_details",
            "subscription_details",
        }
    ),
)
PERIOD = Params({"end": Param(Whole(0), required=True), "start": Param(Whole(0), required=True)})
PRICING = Params({"price": Param(Text())})
ITEM_CREATE = Params(
    {
        **EXPAND,
        "amount": Param(Whole()),
        "currency": Param(Text()),
        "customer": Param(Text()),
        "description": Param(Text()),
        "invoice": Param(Text()),
        "metadata": METADATA,
        "period": Param(Nested(PERIOD)),
        "pricing": Param(Nested(PRICING)),
        "quantity": Param(Whole(0)),
        "quantity_decimal": Param(DecimalText()),
        "subscription": Param(Text()),
        "unit_amount_decimal": Param(DecimalText(minimum=None)),
    },
    frozenset({"customer_account", "discountable", "discounts", "price_data", "tax_behavior", "tax_code", "tax_rates"}),
)
ITEM_RETRIEVE = Params(EXPAND)
ITEM_DELETE = Params()
ITEM_LIST = Params(
    {
        **PAGING,
        **EXPAND,
        "created": Param(SecondsOrRange(CREATED)),
        "customer": Param(Text()),
        "invoice": Param(Text()),
        "pending": Param(Flag()),
    },
    frozenset({"customer_account"}),
)
CREDIT_LINE = Params(
    {
        "amount": Param(Whole(0)),
        "description": Param(Text()),
        "invoice_line_item": Param(Text()),
        "metadata": METADATA,
        "quantity": Param(Whole(0)),
        "type": Param(OneOf(("custom_line_item", "invoice_line_item")), required=True),
        "unit_amount": Param(Whole(0)),
        "unit_amount_decimal": Param(DecimalText()),
    },
    frozenset({"tax_amounts", "tax_rates"}),
)
CREDIT_CREATE = Params(
    {
        **EXPAND,
        "amount": Param(Whole(0)),
        "credit_amount": Param(Whole(0)),
        "invoice": Param(Text(), required=True),
        "lines": Param(NestedList(CREDIT_LINE, 250)),
        "memo": Param(Text()),
        "metadata": METADATA,
        "out_of_band_amount": Param(Whole(0)),
        "reason": Param(OneOf(("duplicate", "fraudulent", "order_change", "product_unsatisfactory"))),
        "refund_amount": Param(Whole(0)),
    },
    frozenset({"effective_at", "email_type", "refunds", "shipping_cost"}),
)
CREDIT_RETRIEVE = Params(EXPAND)
CREDIT_LIST = Params(
    {
        **PAGING,
        **EXPAND,
        "created": Param(SecondsOrRange(CREATED)),
        "customer": Param(Text()),
        "invoice": Param(Text()),
    },
    frozenset({"customer_account"}),
)
