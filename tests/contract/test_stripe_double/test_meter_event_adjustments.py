from __future__ import annotations

import pytest
import stripe

from local.stripe_double.testing import NOON, Account

DAY = 86_400


def cancel(
    stripe_account: Account, identifier: str, event_name: str = "ai_credits"
) -> stripe.billing.MeterEventAdjustment:
    return stripe_account.client.v1.billing.meter_event_adjustments.create(
        {"type": "cancel", "event_name": event_name, "cancel": {"identifier": identifier}}
    )


def test_a_cancelled_event_no_longer_counts(stripe_account: Account) -> None:
    stripe_account.control("settings", {"lag_seconds": 60})
    meter, customer = stripe_account.meter(), stripe_account.customer()
    stripe_account.send(customer, "5", identifier="keep")
    stripe_account.send(customer, "7", identifier="drop")
    stripe_account.advance(60)
    adjustment = cancel(stripe_account, "drop")
    fields = {name for name in stripe.billing.MeterEventAdjustment.__annotations__ if name != "OBJECT_NAME"}
    assert set(adjustment.to_dict()) == fields - {"_inner_class_types"}
    assert (adjustment.status, adjustment.type, adjustment.event_name) == ("pending", "cancel", "ai_credits")
    assert adjustment.cancel is not None
    assert adjustment.cancel.identifier == "drop"
    assert stripe_account.total(meter, customer, NOON, NOON + 60) == 12
    stripe_account.advance(60)
    assert stripe_account.total(meter, customer, NOON, NOON + 60) == 5
    rows = stripe_account.look("meter_events")["data"]
    assert [(row["identifier"], row["counted"], row["reason"]) for row in rows] == [
        ("keep", True, None),
        ("drop", False, "cancelled"),
    ]


def test_only_within_24_hours_of_receipt(stripe_account: Account) -> None:
    meter, customer = stripe_account.meter(), stripe_account.customer()
    stripe_account.send(customer, "5", identifier="in-time")
    stripe_account.send(customer, "7", identifier="late")
    stripe_account.advance(DAY)
    cancel(stripe_account, "in-time")
    stripe_account.advance(1)
    with pytest.raises(stripe.InvalidRequestError, match="within 24 hours"):
        cancel(stripe_account, "late")
    assert stripe_account.total(meter, customer, NOON, NOON + 60) == 7


def test_what_is_not_there_cannot_be_cancelled(stripe_account: Account) -> None:
    stripe_account.meter()
    stripe_account.meter("llm_tokens")
    stripe_account.send(stripe_account.customer(), identifier="once")
    for identifier, event_name in (("never", "ai_credits"), ("once", "llm_tokens")):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            cancel(stripe_account, identifier, event_name)
        assert (refused.value.http_status, refused.value.param) == (400, "cancel[identifier]")
    cancel(stripe_account, "once")
    with pytest.raises(stripe.InvalidRequestError, match="already cancelled"):
        cancel(stripe_account, "once")


def test_a_cancelled_identifier_stays_taken(stripe_account: Account) -> None:
    stripe_account.meter()
    customer = stripe_account.customer()
    stripe_account.send(customer, identifier="once")
    cancel(stripe_account, "once")
    with pytest.raises(stripe.InvalidRequestError, match="An event already exists with identifier once"):
        stripe_account.send(customer, identifier="once")


def test_cancelling_without_an_identifier_is_refused(stripe_account: Account) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        stripe_account.client.v1.billing.meter_event_adjustments.create({"type": "cancel", "event_name": "ai_credits"})
    assert (refused.value.code, refused.value.param) == ("parameter_missing", "cancel[identifier]")
