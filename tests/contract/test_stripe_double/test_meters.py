from __future__ import annotations

from typing import Any, cast

import pytest
import stripe

from local.stripe_double.testing import NOON, Account


def test_a_meter_has_the_sdks_fields_and_defaults(stripe_account: Account) -> None:
    meters = stripe_account.client.v1.billing.meters
    meter = meters.retrieve(stripe_account.meter())
    fields = {name for name in stripe.billing.Meter.__annotations__ if name != "OBJECT_NAME"}
    assert set(meter.to_dict()) == fields
    assert (meter.object, meter.status, meter.livemode, meter.event_time_window) == (
        "billing.meter",
        "active",
        False,
        None,
    )
    assert (meter.customer_mapping.event_payload_key, meter.customer_mapping.type) == ("stripe_customer_id", "by_id")
    assert meter.value_settings.event_payload_key == "value"
    assert meter.default_aggregation.formula == "sum"
    assert (meter.created, meter.updated, meter.status_transitions.deactivated_at) == (NOON, NOON, None)


@pytest.mark.parametrize(("field", "value"), [("formula", "max"), ("formula", "avg"), ("window", "month")])
def test_only_sum_count_last_and_hour_day(stripe_account: Account, field: str, value: str) -> None:
    more = {"formula": value} if field == "formula" else {"event_time_window": value}
    with pytest.raises(stripe.InvalidRequestError) as refused:
        stripe_account.meter(**more)
    assert refused.value.http_status == 400


def test_one_active_meter_per_event_name(stripe_account: Account) -> None:
    meters = stripe_account.client.v1.billing.meters
    first = stripe_account.meter()
    with pytest.raises(stripe.InvalidRequestError) as refused:
        stripe_account.meter()
    assert (refused.value.http_status, refused.value.param) == (400, "event_name")

    stripe_account.advance(5)
    switched_off = meters.deactivate(first)
    assert (switched_off.status, switched_off.status_transitions.deactivated_at) == ("inactive", NOON + 5)
    second = stripe_account.meter()
    with pytest.raises(stripe.InvalidRequestError):
        meters.reactivate(first)
    meters.deactivate(second)
    back = meters.reactivate(first)
    assert (back.status, back.status_transitions.deactivated_at) == ("active", None)


def test_switching_twice_is_refused(stripe_account: Account) -> None:
    meters = stripe_account.client.v1.billing.meters
    meter = stripe_account.meter()
    with pytest.raises(stripe.InvalidRequestError, match="already active"):
        meters.reactivate(meter)
    meters.deactivate(meter)
    with pytest.raises(stripe.InvalidRequestError, match="already inactive"):
        meters.deactivate(meter)


def test_only_the_display_name_changes(stripe_account: Account) -> None:
    meters = stripe_account.client.v1.billing.meters
    meter = stripe_account.meter()
    stripe_account.advance(3)
    changed = meters.update(meter, {"display_name": "Credits"})
    assert (changed.display_name, changed.updated, changed.created) == ("Credits", NOON + 3, NOON)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        meters.update(meter, cast(Any, {"event_name": "other"}))
    assert refused.value.code == "parameter_unknown"


def test_list_by_status_and_pages(stripe_account: Account) -> None:
    meters = stripe_account.client.v1.billing.meters
    made = [stripe_account.meter(f"meter_{number}") for number in range(3)][::-1]
    meters.deactivate(made[1])
    assert [meter.id for meter in meters.list({"limit": 1}).auto_paging_iter()] == made
    assert [meter.id for meter in meters.list({"status": "active"}).data] == [made[0], made[2]]
    assert [meter.id for meter in meters.list({"status": "inactive"}).data] == [made[1]]


def test_an_unknown_meter_is_a_404(stripe_account: Account) -> None:
    meters = stripe_account.client.v1.billing.meters
    for call in (meters.retrieve, meters.deactivate, meters.reactivate, meters.update):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            call("mtr_none")
        assert (refused.value.http_status, refused.value.code) == (404, "resource_missing")
