from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any, cast

import pytest
import stripe
from stripe.events import (
    V1BillingMeterErrorReportTriggeredEvent,
    V1BillingMeterErrorReportTriggeredEventNotification,
    V1BillingMeterNoMeterFoundEvent,
    V1BillingMeterNoMeterFoundEventNotification,
)

from local.stripe_double.testing import NOON, Account

SECRET = "whsec_test"


def reports(stripe_account: Account, **params: Any) -> list[Any]:
    return list(stripe_account.client.v2.core.events.list(cast(Any, params)).auto_paging_iter())


def notification(stripe_account: Account, event: stripe.StripeObject) -> Any:
    """The event as an endpoint would get it: without `data`, signed, read by the SDK."""
    body = json.dumps({name: value for name, value in event.to_dict().items() if name != "data"})
    signed = hmac.new(SECRET.encode(), f"{NOON}.{body}".encode(), hashlib.sha256).hexdigest()
    return stripe_account.client.parse_event_notification(body, f"t={NOON},v1={signed}", SECRET, tolerance=10**9)


def test_a_report_comes_after_its_ten_second_window(stripe_account: Account) -> None:
    meter = stripe_account.meter()
    stripe_account.send("cus_none", idempotency_key="batch-1:1")
    stripe_account.advance(9)
    stripe_account.send("cus_gone", idempotency_key="batch-2:1")
    stripe_account.advance(2)
    assert reports(stripe_account) == []
    stripe_account.advance(1)
    (report,) = reports(stripe_account)
    assert isinstance(report, V1BillingMeterErrorReportTriggeredEvent)
    assert report.type == "v1.billing.meter.error_report_triggered"
    assert (report.object, report.livemode, report.created) == ("v2.core.event", False, "2026-11-20T12:00:12.000Z")
    assert (report.related_object.id, report.related_object.type) == (meter, "billing.meter")
    assert report.fetch_related_object().id == meter
    data = report.data
    assert (data.validation_start, data.validation_end) == ("2026-11-20T12:00:00.000Z", "2026-11-20T12:00:10.000Z")
    assert data.developer_message_summary == "There are 2 invalid events"
    assert data.reason.error_count == 2
    (error,) = data.reason.error_types
    assert (error.code, error.error_count) == ("meter_event_customer_not_found", 2)
    assert [sample.request.identifier for sample in error.sample_errors] == ["batch-1:1", "batch-2:1"]
    assert error.sample_errors[0].error_message == "No such customer: 'cus_none'"


def test_a_report_is_one_per_meter_and_window_with_samples_only(stripe_account: Account) -> None:
    stripe_account.control("settings", {"late_checks": ["timestamp_in_future"]})
    first, second = stripe_account.meter(), stripe_account.meter("llm_tokens")
    for number in range(7):
        stripe_account.send("cus_none", idempotency_key=str(number))
    stripe_account.send(stripe_account.customer(), timestamp=NOON + 900)
    stripe_account.send("cus_none", event_name="llm_tokens")
    stripe_account.advance(10)
    stripe_account.send("cus_none")
    stripe_account.advance(60)
    found = reports(stripe_account)
    assert [(report.related_object.id, report.data.reason.error_count) for report in found][0] == (first, 1)
    assert {(report.related_object.id, report.data.reason.error_count) for report in found[1:]} == {
        (first, 8),
        (second, 1),
    }
    (big,) = [report for report in found if report.data.reason.error_count == 8]
    assert [(error.code, error.error_count, len(error.sample_errors)) for error in big.data.reason.error_types] == [
        ("meter_event_customer_not_found", 7, 5),
        ("timestamp_in_future", 1, 1),
    ]


def test_no_meter_has_a_report_without_related_object(stripe_account: Account) -> None:
    stripe_account.control("settings", {"late_checks": ["no_meter"]})
    stripe_account.send("cus_none", event_name="nothing")
    stripe_account.advance(60)
    (report,) = reports(stripe_account)
    assert isinstance(report, V1BillingMeterNoMeterFoundEvent)
    assert "related_object" not in report.to_dict()
    assert report.data.developer_message_summary == "There is 1 invalid event"
    assert report.data.reason.error_types[0].code == "no_meter"
    seen = notification(stripe_account, report)
    assert isinstance(seen, V1BillingMeterNoMeterFoundEventNotification)
    assert seen.fetch_event().data.reason.error_count == 1


def test_the_sdk_fetches_a_notified_event(stripe_account: Account) -> None:
    meter = stripe_account.meter()
    stripe_account.send("cus_none", idempotency_key="batch-1:1")
    stripe_account.advance(60)
    (listed,) = reports(stripe_account)
    seen = notification(stripe_account, listed)
    assert isinstance(seen, V1BillingMeterErrorReportTriggeredEventNotification)
    assert seen.fetch_related_object().id == meter
    fetched = seen.fetch_event()
    assert isinstance(fetched, V1BillingMeterErrorReportTriggeredEvent)
    assert fetched.to_dict() == listed.to_dict()
    assert fetched.data.reason.error_types[0].sample_errors[0].request.identifier == "batch-1:1"


def test_events_are_listed_newest_first_by_filter_and_in_pages(stripe_account: Account) -> None:
    first, second = stripe_account.meter("one"), stripe_account.meter("two")
    for number in range(5):
        stripe_account.send("cus_none", event_name="one" if number % 2 else "two")
        stripe_account.advance(100)
    found = reports(stripe_account)
    assert [report.created for report in found] == sorted((report.created for report in found), reverse=True)
    assert len(found) == 5
    assert [report.id for report in reports(stripe_account, limit=2)] == [report.id for report in found]
    of_first = reports(stripe_account, object_id=first, limit=1)
    assert [report.related_object.id for report in of_first] == [first, first]
    assert {report.related_object.id for report in reports(stripe_account, object_id=second)} == {second}
    assert reports(stripe_account, types=["v1.billing.meter.no_meter_found"]) == []
    newer = reports(stripe_account, created={"gt": found[2].created}, limit=1)
    assert [report.id for report in newer] == [found[0].id, found[1].id]
    typed = reports(stripe_account, types=["v1.billing.meter.error_report_triggered", "other"], limit=3)
    assert len(typed) == 5


def test_events_are_kept_for_30_days(stripe_account: Account) -> None:
    stripe_account.meter()
    stripe_account.send("cus_none")
    stripe_account.advance(60)
    (report,) = reports(stripe_account)
    stripe_account.advance(30 * 86_400)
    assert reports(stripe_account) == []
    with pytest.raises(stripe.InvalidRequestError) as refused:
        stripe_account.client.v2.core.events.retrieve(report.id)
    assert (refused.value.http_status, refused.value.code) == (404, "not_found")


@pytest.mark.parametrize("bound", ["yesterday", "2026-11-20T12:00:00"])
def test_a_bound_that_is_no_time_is_refused(stripe_account: Account, bound: str) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        stripe_account.client.v2.core.events.list({"created": {"gt": bound}})
    assert refused.value.http_status == 400
