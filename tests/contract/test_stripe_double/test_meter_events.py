from __future__ import annotations

import threading
from typing import Any

import pytest
import stripe

from local.stripe_double.testing import NOON, Account, account

DAY = 86_400
HOUR = 3_600


def refusal(stripe_account: Account, *arguments: str, **more: Any) -> stripe.InvalidRequestError:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        stripe_account.send(*arguments, **more)
    assert refused.value.http_status == 400
    return refused.value


def counted(stripe_account: Account) -> list[tuple[str, bool, str | None]]:
    rows = stripe_account.look("meter_events")["data"]
    return [(row["identifier"], row["counted"], row["reason"]) for row in rows]


def test_an_accepted_event_has_the_sdks_fields(stripe_account: Account) -> None:
    meter, customer = stripe_account.meter(), stripe_account.customer()
    event = stripe_account.send(customer, "12.5", identifier="batch-1", timestamp=NOON - 60)
    fields = {name for name in stripe.billing.MeterEvent.__annotations__ if name != "OBJECT_NAME"}
    assert set(event.to_dict()) == fields
    assert event.payload.to_dict() == {"stripe_customer_id": customer, "value": "12.5"}
    assert (event.identifier, event.timestamp, event.created) == ("batch-1", NOON - 60, NOON)
    assert stripe_account.look("meter_events")["data"] == [
        {
            "identifier": "batch-1",
            "event_name": "ai_credits",
            "meter": meter,
            "customer": customer,
            "value": "12.5",
            "timestamp": NOON - 60,
            "received_at": NOON,
            "counted": True,
            "reason": None,
        }
    ]


def test_identifier_and_timestamp_are_made_where_absent(stripe_account: Account) -> None:
    stripe_account.meter()
    customer = stripe_account.customer()
    first, second = stripe_account.send(customer), stripe_account.send(customer)
    assert first.identifier != second.identifier
    assert first.timestamp == NOON


def test_a_duplicate_identifier_is_a_400_without_code(stripe_account: Account) -> None:
    stripe_account.meter()
    customer = stripe_account.customer()
    stripe_account.send(customer, "5", identifier="batch-1")
    duplicate = refusal(stripe_account, customer, "5", identifier="batch-1")
    assert duplicate.user_message == "An event already exists with identifier batch-1."
    assert duplicate.code is None
    assert duplicate.json_body == {
        "error": {"type": "invalid_request_error", "message": "An event already exists with identifier batch-1."}
    }
    assert duplicate.headers is not None
    assert duplicate.headers["stripe-should-retry"] == "false"
    assert counted(stripe_account) == [("batch-1", True, None)]


def test_an_identifier_is_taken_for_24_hours_and_then_counts_twice(stripe_account: Account) -> None:
    meter, customer = stripe_account.meter(), stripe_account.customer()
    stripe_account.send(customer, "5", identifier="batch-1", timestamp=NOON)
    stripe_account.advance(DAY - 1)
    refusal(stripe_account, customer, "5", identifier="batch-1", timestamp=NOON)
    stripe_account.advance(1)
    stripe_account.send(customer, "5", identifier="batch-1", timestamp=NOON)
    assert stripe_account.total(meter, customer, NOON, NOON + 60) == 10
    # The window starts anew with the second one.
    stripe_account.advance(DAY - 1)
    refusal(stripe_account, customer, "5", identifier="batch-1", timestamp=NOON)
    stripe_account.advance(HOUR + 1)
    stripe_account.send(customer, "5", identifier="batch-1", timestamp=NOON)
    assert stripe_account.total(meter, customer, NOON, NOON + 60) == 15


def test_an_identifier_is_unique_in_the_account(stripe_account: Account) -> None:
    stripe_account.meter("one")
    stripe_account.meter("two")
    stripe_account.send(stripe_account.customer(), event_name="one", identifier="same")
    refusal(stripe_account, stripe_account.customer(), event_name="two", identifier="same")


def test_a_timestamp_may_be_35_days_old_and_no_older(stripe_account: Account) -> None:
    stripe_account.meter()
    customer = stripe_account.customer()
    oldest = NOON - 35 * DAY
    stripe_account.send(customer, timestamp=oldest)
    assert refusal(stripe_account, customer, timestamp=oldest - 1).user_message == (
        "The event timestamp cannot be more than 35 days in past. "
        f"Expected a timestamp greater than or equal to {oldest}."
    )


def test_a_timestamp_may_be_5_minutes_ahead_and_no_further(stripe_account: Account) -> None:
    stripe_account.meter()
    customer = stripe_account.customer()
    stripe_account.send(customer, timestamp=NOON + 300)
    message = refusal(stripe_account, customer, timestamp=NOON + 301).user_message
    assert message == "The event timestamp cannot be in future."


@pytest.mark.parametrize("value", ["999999999999999", "0.000000000000001", "123456789.012345", "-5", "00012", "0"])
def test_decimals_of_up_to_15_digits_are_kept_exactly(stripe_account: Account, value: str) -> None:
    stripe_account.meter()
    stripe_account.send(stripe_account.customer(), value)
    kept = stripe_account.look("meter_events")["data"][0]["value"]
    assert kept == (value.lstrip("0") or "0" if "." not in value else value)


@pytest.mark.parametrize("value", ["1000000000000000", "1.000000000000001", "-1234567890123456"])
def test_more_than_15_significant_digits_are_refused(stripe_account: Account, value: str) -> None:
    stripe_account.meter()
    assert "15 significant digits" in (refusal(stripe_account, stripe_account.customer(), value).user_message or "")


@pytest.mark.parametrize("value", ["", "many", "1e3", "1,5", "+1", ".5", "1.", "NaN", "Infinity", "٣", "1\n"])
def test_a_value_that_is_no_plain_decimal_is_refused(stripe_account: Account, value: str) -> None:
    stripe_account.meter()
    assert "Invalid value" in (refusal(stripe_account, stripe_account.customer(), value).user_message or "")


def test_a_payload_without_its_keys_is_refused(stripe_account: Account) -> None:
    stripe_account.meter()
    create = stripe_account.client.v1.billing.meter_events.create
    with pytest.raises(stripe.InvalidRequestError) as refused:
        create({"event_name": "ai_credits", "payload": {"value": "1"}})
    assert refused.value.user_message == "Customer mapping key stripe_customer_id not found in payload."
    with pytest.raises(stripe.InvalidRequestError, match="Value key value not found"):
        create({"event_name": "ai_credits", "payload": {"stripe_customer_id": stripe_account.customer()}})


def test_a_meters_own_payload_keys_are_used(stripe_account: Account) -> None:
    meter = stripe_account.meter(
        customer_mapping={"type": "by_id", "event_payload_key": "payer"},
        value_settings={"event_payload_key": "tokens"},
    )
    customer = stripe_account.customer()
    stripe_account.client.v1.billing.meter_events.create(
        {"event_name": "ai_credits", "payload": {"payer": customer, "tokens": "7", "model": "large"}}
    )
    assert stripe_account.total(meter, customer, NOON, NOON + 60) == 7


@pytest.mark.parametrize("archived", [False, True])
def test_no_active_meter_is_a_400(stripe_account: Account, archived: bool) -> None:
    if archived:
        stripe_account.client.v1.billing.meters.deactivate(stripe_account.meter())
    message = refusal(stripe_account, stripe_account.customer()).user_message
    assert message == 'No active meter found for event name "ai_credits".'


def test_an_unknown_or_deleted_customer_is_taken_and_not_counted(stripe_account: Account) -> None:
    meter = stripe_account.meter()
    gone = stripe_account.customer()
    stripe_account.client.v1.customers.delete(gone)
    stripe_account.send("cus_none", identifier="unknown")
    stripe_account.send(gone, identifier="deleted")
    assert counted(stripe_account) == [
        ("unknown", False, "meter_event_customer_not_found"),
        ("deleted", False, "meter_event_customer_not_found"),
    ]
    assert stripe_account.total(meter, gone, NOON, NOON + 60) is None
    # The identifier is used up all the same: "correct and resend" needs a new one.
    refusal(stripe_account, stripe_account.customer(), identifier="unknown")


def test_a_refused_event_does_not_use_up_its_identifier(stripe_account: Account) -> None:
    stripe_account.meter()
    customer = stripe_account.customer()
    refusal(stripe_account, customer, "many", identifier="batch-1")
    stripe_account.send(customer, "1", identifier="batch-1")
    assert counted(stripe_account) == [("batch-1", True, None)]


@pytest.mark.parametrize(
    ("code", "event"),
    [
        ("timestamp_in_future", {"timestamp": NOON + 301}),
        ("timestamp_too_far_in_past", {"timestamp": NOON - 35 * DAY - 1}),
        ("meter_event_invalid_value", {"value": "many"}),
        ("meter_event_value_too_many_digits", {"value": "1234567890123456"}),
        ("no_meter", {"event_name": "nothing"}),
        ("archived_meter", {"event_name": "old"}),
    ],
)
def test_problems_can_be_told_late(stripe_account: Account, code: str, event: dict[str, Any]) -> None:
    """Which way Stripe takes for these is not settled, so a test can ask for either."""
    stripe_account.meter()
    stripe_account.client.v1.billing.meters.deactivate(stripe_account.meter("old"))
    customer = stripe_account.customer()
    refusal(stripe_account, customer, **event)
    stripe_account.control("settings", {"late_checks": [code]})
    stripe_account.send(customer, identifier="late", **event)
    assert counted(stripe_account) == [("late", False, code)]
    # A problem that is told at once goes before one that is told late.
    other = {"value": "many"} if code != "meter_event_invalid_value" else {"timestamp": NOON + 301}
    if code not in ("no_meter", "meter_event_value_too_many_digits"):
        refusal(stripe_account, customer, **{**event, **other})


def test_of_two_late_problems_the_first_is_told(stripe_account: Account) -> None:
    stripe_account.control("settings", {"late_checks": ["timestamp_in_future"]})
    stripe_account.meter()
    stripe_account.send("cus_none", identifier="both", timestamp=NOON + 301)
    assert counted(stripe_account) == [("both", False, "timestamp_in_future")]


def test_one_call_at_a_time_for_a_customer_and_meter() -> None:
    with account(latency_seconds=1.0) as stripe_account:
        stripe_account.meter()
        stripe_account.meter("llm_tokens")
        customer, other = stripe_account.customer(), stripe_account.customer()
        sent: list[stripe.billing.MeterEvent] = []
        calls = [
            threading.Thread(target=lambda: sent.append(stripe_account.send(customer, identifier="first"))),
            threading.Thread(target=lambda: sent.append(stripe_account.send(other, identifier="other-customer"))),
            threading.Thread(
                target=lambda: sent.append(
                    stripe_account.send(customer, event_name="llm_tokens", identifier="other-meter")
                )
            ),
        ]
        for call in calls:
            call.start()
        while len(stripe_account.double.in_work) < 3:
            assert any(call.is_alive() for call in calls)
        with pytest.raises(stripe.RateLimitError) as limited:
            stripe_account.send(customer, identifier="second", idempotency_key="key-1")
        for call in calls:
            call.join()
        assert limited.value.http_status == 429
        assert limited.value.headers is not None
        assert limited.value.headers["Stripe-Rate-Limited-Reason"] == "endpoint-concurrency"
        assert "Retry-After" not in limited.value.headers
        assert {event.identifier for event in sent} == {"first", "other-customer", "other-meter"}
        # A 429 is not kept under the key.
        stripe_account.double.configure(latency_seconds=0)
        stripe_account.send(customer, identifier="second", idempotency_key="key-1")
        assert len(counted(stripe_account)) == 4


def test_calls_one_after_the_other_are_never_limited(stripe_account: Account) -> None:
    stripe_account.control("settings", {"latency_seconds": 0.001})
    stripe_account.meter()
    customer = stripe_account.customer()
    for number in range(50):
        stripe_account.send(customer, identifier=f"batch-{number}")
    assert len(counted(stripe_account)) == 50


def test_accepted_events_are_listed_by_filter(stripe_account: Account) -> None:
    stripe_account.meter()
    first, second = stripe_account.customer(), stripe_account.customer()
    stripe_account.send(first, identifier="a")
    stripe_account.send(second, identifier="b")
    by_customer = stripe_account.look("meter_events", customer=second)["data"]
    by_identifier = stripe_account.look("meter_events", identifier="a", event_name="ai_credits")["data"]
    assert [row["identifier"] for row in by_customer] == ["b"]
    assert [row["identifier"] for row in by_identifier] == ["a"]
