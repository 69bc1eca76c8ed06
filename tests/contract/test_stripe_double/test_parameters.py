"""Accepted parameters are the SDK's own: no invented name, none forgotten, and the same ones required."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
import requests
import stripe
import stripe.params as sdk
import stripe.params.billing as billing
import stripe.params.checkout as sdk_checkout
import stripe.params.v2.core as core
from stripe import RequestOptions
from stripe.params import _invoice_item_create_params as invoice_item_create
from stripe.params import _subscription_create_params as subscription_create
from stripe.params import _subscription_pause_params as subscription_pause
from stripe.params import _subscription_update_params as subscription_update
from stripe.params._credit_note_create_params import CreditNoteCreateParamsLine
from stripe.params._customer_create_params import CustomerCreateParamsAddress
from stripe.params._customer_list_params import CustomerListParamsCreated
from stripe.params._event_list_params import EventListParamsCreated as EventListParamsCreatedV1
from stripe.params._price_create_params import (
    PriceCreateParamsProductData,
    PriceCreateParamsRecurring,
    PriceCreateParamsTier,
    PriceCreateParamsTransformQuantity,
)
from stripe.params._price_list_params import PriceListParamsRecurring
from stripe.params.billing import _meter_create_params as meter_create
from stripe.params.billing._meter_event_adjustment_create_params import MeterEventAdjustmentCreateParamsCancel
from stripe.params.checkout import _session_create_params as session_create
from stripe.params.v2.core._event_destination_create_params import EventDestinationCreateParamsWebhookEndpoint
from stripe.params.v2.core._event_destination_update_params import EventDestinationUpdateParamsWebhookEndpoint
from stripe.params.v2.core._event_list_params import EventListParamsCreated

from local.stripe_double import (
    charges,
    checkout_params,
    core_events,
    customers,
    disputes,
    event_destinations,
    event_summaries,
    events,
    invoice_params,
    meter_event_adjustments,
    meter_events,
    meters,
    price_params,
    products,
    refunds,
    subscription_params,
    webhook_endpoints,
)
from local.stripe_double.lists import CREATED
from local.stripe_double.params import Nested, NestedList, Params, SecondsOrRange
from local.stripe_double.router import OPERATIONS
from local.stripe_double.testing import Account

CALLS = [
    (customers.CREATE, sdk.CustomerCreateParams),
    (customers.UPDATE, sdk.CustomerUpdateParams),
    (customers.RETRIEVE, sdk.CustomerRetrieveParams),
    (customers.DELETE, sdk.CustomerDeleteParams),
    (customers.LIST, sdk.CustomerListParams),
    (customers.SEARCH, sdk.CustomerSearchParams),
    (meters.CREATE, billing.MeterCreateParams),
    (meters.UPDATE, billing.MeterUpdateParams),
    (meters.RETRIEVE, billing.MeterRetrieveParams),
    (meters.SWITCH, billing.MeterDeactivateParams),
    (meters.SWITCH, billing.MeterReactivateParams),
    (meters.LIST, billing.MeterListParams),
    (meter_events.CREATE, billing.MeterEventCreateParams),
    (event_summaries.LIST, billing.MeterEventSummaryListParams),
    (meter_event_adjustments.CREATE, billing.MeterEventAdjustmentCreateParams),
    (core_events.LIST, core.EventListParams),
    (products.CREATE, sdk.ProductCreateParams),
    (products.UPDATE, sdk.ProductUpdateParams),
    (products.RETRIEVE, sdk.ProductRetrieveParams),
    (products.DELETE, sdk.ProductDeleteParams),
    (products.LIST, sdk.ProductListParams),
    (price_params.CREATE, sdk.PriceCreateParams),
    (price_params.UPDATE, sdk.PriceUpdateParams),
    (price_params.RETRIEVE, sdk.PriceRetrieveParams),
    (price_params.LIST, sdk.PriceListParams),
    (subscription_params.CREATE, sdk.SubscriptionCreateParams),
    (subscription_params.UPDATE, sdk.SubscriptionUpdateParams),
    (subscription_params.RETRIEVE, sdk.SubscriptionRetrieveParams),
    (subscription_params.LIST, sdk.SubscriptionListParams),
    (subscription_params.CANCEL, sdk.SubscriptionCancelParams),
    (subscription_params.PAUSE, sdk.SubscriptionPauseParams),
    (subscription_params.RESUME, sdk.SubscriptionResumeParams),
    (subscription_params.ITEM_CREATE, sdk.SubscriptionItemCreateParams),
    (subscription_params.ITEM_UPDATE, sdk.SubscriptionItemUpdateParams),
    (subscription_params.ITEM_DELETE, sdk.SubscriptionItemDeleteParams),
    (subscription_params.ITEM_RETRIEVE, sdk.SubscriptionItemRetrieveParams),
    (subscription_params.ITEM_LIST, sdk.SubscriptionItemListParams),
    (invoice_params.CREATE, sdk.InvoiceCreateParams),
    (invoice_params.UPDATE, sdk.InvoiceUpdateParams),
    (invoice_params.RETRIEVE, sdk.InvoiceRetrieveParams),
    (invoice_params.DELETE, sdk.InvoiceDeleteParams),
    (invoice_params.LIST, sdk.InvoiceListParams),
    (invoice_params.LINES, sdk.InvoiceLineItemListParams),
    (invoice_params.FINALIZE, sdk.InvoiceFinalizeInvoiceParams),
    (invoice_params.PAY, sdk.InvoicePayParams),
    (invoice_params.VOID, sdk.InvoiceVoidInvoiceParams),
    (invoice_params.VOID, sdk.InvoiceMarkUncollectibleParams),
    (invoice_params.PREVIEW, sdk.InvoiceCreatePreviewParams),
    (invoice_params.ITEM_CREATE, sdk.InvoiceItemCreateParams),
    (invoice_params.ITEM_RETRIEVE, sdk.InvoiceItemRetrieveParams),
    (invoice_params.ITEM_DELETE, sdk.InvoiceItemDeleteParams),
    (invoice_params.ITEM_LIST, sdk.InvoiceItemListParams),
    (invoice_params.CREDIT_CREATE, sdk.CreditNoteCreateParams),
    (invoice_params.CREDIT_RETRIEVE, sdk.CreditNoteRetrieveParams),
    (invoice_params.CREDIT_LIST, sdk.CreditNoteListParams),
    (invoice_params.LINES, sdk.CreditNoteLineItemListParams),
    (core_events.RETRIEVE, core.EventRetrieveParams),
    (events.LIST, sdk.EventListParams),
    (events.RETRIEVE, sdk.EventRetrieveParams),
    (webhook_endpoints.CREATE, sdk.WebhookEndpointCreateParams),
    (webhook_endpoints.UPDATE, sdk.WebhookEndpointUpdateParams),
    (webhook_endpoints.RETRIEVE, sdk.WebhookEndpointRetrieveParams),
    (webhook_endpoints.LIST, sdk.WebhookEndpointListParams),
    (webhook_endpoints.DELETE, sdk.WebhookEndpointDeleteParams),
    (event_destinations.CREATE, core.EventDestinationCreateParams),
    (event_destinations.UPDATE, core.EventDestinationUpdateParams),
    (event_destinations.RETRIEVE, core.EventDestinationRetrieveParams),
    (event_destinations.LIST, core.EventDestinationListParams),
    (event_destinations.SWITCH, core.EventDestinationDeleteParams),
    (event_destinations.SWITCH, core.EventDestinationEnableParams),
    (event_destinations.SWITCH, core.EventDestinationDisableParams),
    (checkout_params.CREATE, sdk_checkout.SessionCreateParams),
    (checkout_params.RETRIEVE, sdk_checkout.SessionRetrieveParams),
    (checkout_params.EXPIRE, sdk_checkout.SessionExpireParams),
    (checkout_params.LIST, sdk_checkout.SessionListParams),
    (checkout_params.LIST_LINE_ITEMS, sdk_checkout.SessionListLineItemsParams),
    (charges.RETRIEVE_INTENT, sdk.PaymentIntentRetrieveParams),
    (charges.LIST_INTENTS, sdk.PaymentIntentListParams),
    (charges.RETRIEVE_CHARGE, sdk.ChargeRetrieveParams),
    (charges.LIST_CHARGES, sdk.ChargeListParams),
    (refunds.CREATE, sdk.RefundCreateParams),
    (refunds.RETRIEVE, sdk.RefundRetrieveParams),
    (refunds.LIST, sdk.RefundListParams),
    (disputes.RETRIEVE, sdk.DisputeRetrieveParams),
    (disputes.LIST, sdk.DisputeListParams),
]
NESTED = [
    (meters.CUSTOMER_MAPPING, meter_create.MeterCreateParamsCustomerMapping),
    (meters.DEFAULT_AGGREGATION, meter_create.MeterCreateParamsDefaultAggregation),
    (meters.VALUE_SETTINGS, meter_create.MeterCreateParamsValueSettings),
    (meter_event_adjustments.CANCEL, MeterEventAdjustmentCreateParamsCancel),
    (customers.ADDRESS, CustomerCreateParamsAddress),
    (core_events.CREATED, EventListParamsCreated),
    (CREATED, CustomerListParamsCreated),
    (CREATED, EventListParamsCreatedV1),
    (event_destinations.WEBHOOK, EventDestinationCreateParamsWebhookEndpoint),
    (event_destinations.WEBHOOK, EventDestinationUpdateParamsWebhookEndpoint),
    (checkout_params.LINE_ITEM, session_create.SessionCreateParamsLineItem),
    (checkout_params.PRICE_DATA, session_create.SessionCreateParamsLineItemPriceData),
    (checkout_params.PRODUCT_DATA, session_create.SessionCreateParamsLineItemPriceDataProductData),
    (checkout_params.RECURRING, session_create.SessionCreateParamsLineItemPriceDataRecurring),
    (checkout_params.SUBSCRIPTION_DATA, session_create.SessionCreateParamsSubscriptionData),
    (checkout_params.ANCHOR, session_create.SessionCreateParamsSubscriptionDataBillingCycleAnchorConfig),
    (checkout_params.PAYMENT_INTENT_DATA, session_create.SessionCreateParamsPaymentIntentData),
    (price_params.TIER, PriceCreateParamsTier),
    (price_params.TRANSFORM_QUANTITY, PriceCreateParamsTransformQuantity),
    (price_params.RECURRING, PriceCreateParamsRecurring),
    (price_params.PRODUCT_DATA, PriceCreateParamsProductData),
    (price_params.LIST_RECURRING, PriceListParamsRecurring),
    (subscription_params.ITEM, subscription_create.SubscriptionCreateParamsItem),
    (subscription_params.CHANGED_ITEM, subscription_update.SubscriptionUpdateParamsItem),
    (subscription_params.ANCHOR_CONFIG, subscription_create.SubscriptionCreateParamsBillingCycleAnchorConfig),
    (subscription_params.BILLING_MODE, subscription_create.SubscriptionCreateParamsBillingMode),
    (subscription_params.ANCHOR_TYPE, subscription_update.SubscriptionUpdateParamsBillingCycleAnchor),
    (subscription_params.TRIAL_SETTINGS, subscription_create.SubscriptionCreateParamsTrialSettings),
    (subscription_params.END_BEHAVIOR, subscription_create.SubscriptionCreateParamsTrialSettingsEndBehavior),
    (subscription_params.CANCELLATION_DETAILS, subscription_update.SubscriptionUpdateParamsCancellationDetails),
    (subscription_params.PAUSE_COLLECTION, subscription_update.SubscriptionUpdateParamsPauseCollection),
    (subscription_params.BILL_FOR, subscription_pause.SubscriptionPauseParamsBillFor),
    (subscription_params.USAGE_THROUGH, subscription_pause.SubscriptionPauseParamsBillForOutstandingUsageThrough),
    (subscription_params.UNUSED_FROM, subscription_pause.SubscriptionPauseParamsBillForUnusedTimeFrom),
    (invoice_params.PERIOD, invoice_item_create.InvoiceItemCreateParamsPeriod),
    (invoice_params.PRICING, invoice_item_create.InvoiceItemCreateParamsPricing),
    (invoice_params.CREDIT_LINE, CreditNoteCreateParamsLine),
]
OPTIONS = set(RequestOptions.__annotations__)


@pytest.mark.parametrize(("params", "typed"), [*CALLS, *NESTED], ids=lambda value: getattr(value, "__name__", ""))
def test_names_and_required_keys_are_the_sdks(params: Params, typed: Any) -> None:
    known = set(typed.__required_keys__ | typed.__optional_keys__) - OPTIONS
    # The SDK sends `page` to these calls by following `next_page_url`, never by name.
    followed = {"page"} if params in (core_events.LIST, event_destinations.LIST) else set()
    assert (set(params.accepted) | params.not_emulated) - followed == known
    assert not set(params.accepted) & params.not_emulated
    required = {name for name, param in params.accepted.items() if param.required}
    assert required == set(typed.__required_keys__) - OPTIONS


def test_every_operation_and_every_nested_object_is_compared() -> None:
    compared = [params for params, _ in [*CALLS, *NESTED]]
    for operation in OPERATIONS:
        for params in _with_nested(operation.params):
            assert any(params is known for known in compared), operation.path


def _with_nested(params: Params) -> Iterator[Params]:
    yield params
    for param in params.accepted.values():
        if isinstance(param.reader, Nested | NestedList | SecondsOrRange):
            yield from _with_nested(param.reader.params)


def test_an_unknown_parameter_is_refused_by_name(stripe_account: Account) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        stripe_account.client.v1.customers.create(cast(Any, {"nickname": "x"}))
    assert (refused.value.http_status, refused.value.code, refused.value.param) == (
        400,
        "parameter_unknown",
        "nickname",
    )
    assert refused.value.user_message == "Received unknown parameter: nickname"


def test_an_unknown_nested_parameter_is_refused_by_its_path(stripe_account: Account) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        stripe_account.meter(default_aggregation={"formula": "sum", "window": "day"})
    assert (refused.value.code, refused.value.param) == ("parameter_unknown", "default_aggregation[window]")


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"payload": {"value": "1"}}, "event_name"),
        ({"event_name": "ai_credits"}, "payload"),
    ],
)
def test_a_missing_parameter_is_refused_by_name(stripe_account: Account, params: Any, param: str) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        stripe_account.client.v1.billing.meter_events.create(params)
    assert (refused.value.http_status, refused.value.code, refused.value.param) == (400, "parameter_missing", param)


def test_a_missing_nested_parameter_is_refused_by_its_path(stripe_account: Account) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        stripe_account.meter(default_aggregation={"formula": ""})
    assert refused.value.param == "default_aggregation[formula]"
    with pytest.raises(stripe.InvalidRequestError) as refused:
        stripe_account.meter(customer_mapping={"type": "by_id"})
    assert (refused.value.code, refused.value.param) == ("parameter_missing", "customer_mapping[event_payload_key]")


def test_a_parameter_stripe_knows_and_the_double_does_not_says_so(stripe_account: Account) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        stripe_account.client.v1.customers.create({"test_clock": "clock_1"})
    assert (refused.value.http_status, refused.value.code, refused.value.param) == (400, "not_emulated", "test_clock")


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"timestamp": "noon"}, "parameter_invalid_integer"),
        ({"timestamp": "1.5"}, "parameter_invalid_integer"),
        ({"timestamp": "-1"}, "parameter_invalid_integer"),
        ({"timestamp": {"a": "1"}}, None),
        ({"identifier": ""}, "parameter_invalid_empty"),
        ({"identifier": "x" * 101}, None),
        ({"payload": "value"}, None),
        ({"payload": {"value": {"deep": "1"}}}, None),
    ],
)
def test_ill_formed_values_are_refused(stripe_account: Account, params: dict[str, Any], code: str | None) -> None:
    stripe_account.meter()
    with pytest.raises(stripe.InvalidRequestError) as refused:
        stripe_account.client.v1.billing.meter_events.create(
            cast(Any, {"event_name": "ai_credits", "payload": {"value": "1"}, **params})
        )
    assert (refused.value.http_status, refused.value.code) == (400, code)
    assert stripe_account.look("meter_events")["data"] == []


@pytest.mark.parametrize("limit", [0, 101])
def test_a_list_limit_outside_1_to_100_is_refused(stripe_account: Account, limit: int) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        stripe_account.client.v1.customers.list({"limit": limit})
    assert (refused.value.code, refused.value.param) == ("parameter_invalid_integer", "limit")


@pytest.mark.parametrize(
    "body",
    [b"name", b"name=%ff", b"na\xffme=1", b"[a]=1", b"a[b=1", b"name=x&name[y]=z", b"name[y]=z&name=x"],
)
def test_a_body_that_is_no_form_is_refused(stripe_account: Account, body: bytes) -> None:
    headers = {
        "Authorization": "Bearer sk_test_x",
        "Content-Type": "application/x-www-form-urlencoded",
        "Idempotency-Key": "unused",
    }
    answer = requests.post(f"{stripe_account.url}/v1/customers", data=body, headers=headers, timeout=5)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


def test_json_for_the_v1_api_is_refused(stripe_account: Account) -> None:
    headers = {"Authorization": "Bearer sk_test_x"}
    answer = requests.post(f"{stripe_account.url}/v1/customers", json={"name": "x"}, headers=headers, timeout=5)
    assert answer.status_code == 400
    assert "x-www-form-urlencoded" in answer.json()["error"]["message"]
