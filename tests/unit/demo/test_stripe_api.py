"""Stripe's API as the demo reads it: exact numbers, all pages, whole minutes."""

from __future__ import annotations

from decimal import Decimal

import httpx
import pytest

from demo.api import NoStack, StackLost
from demo.stripe_api import Stripe, summary_range


def answering(pages: dict[str, str], status: int = 200) -> Stripe:
    """A Stripe that answers by the `starting_after` asked for."""

    def handle(sent: httpx.Request) -> httpx.Response:
        return httpx.Response(status, content=pages[sent.url.params.get("starting_after", "")])

    return Stripe("http://stripe", "sk_test_x", httpx.MockTransport(handle))


def test_a_total_is_exact_and_over_all_pages() -> None:
    stripe = answering(
        {
            "": '{"data": [{"id": "a", "aggregated_value": 0.1}, {"id": "b", "aggregated_value": 123456789012.123456}],'
            ' "has_more": true}',
            "b": '{"data": [{"id": "c", "aggregated_value": 0.2}], "has_more": false}',
        }
    )
    assert stripe.total("mtr_1", "cus_1", 60, 120) == Decimal("123456789012.423456")


def test_meters_are_found_over_all_pages() -> None:
    stripe = answering(
        {
            "": '{"data": [{"id": "mtr_1", "event_name": "one"}], "has_more": true}',
            "mtr_1": '{"data": [{"id": "mtr_2", "event_name": "two"}], "has_more": false}',
        }
    )
    assert stripe.meters() == {"one": "mtr_1", "two": "mtr_2"}


def test_stripes_own_message_is_passed_on() -> None:
    stripe = answering({"": '{"error": {"message": "Invalid API Key provided"}}'}, 401)
    with pytest.raises(StackLost, match=r"GET /v1/billing/meters with 401: Invalid API Key provided"):
        stripe.meters()


def test_no_stripe_says_what_to_start() -> None:
    def refuse(sent: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with pytest.raises(NoStack, match="start the stack with `make run`"):
        Stripe("http://stripe", "sk_test_x", httpx.MockTransport(refuse)).double_lag_seconds()


def test_real_stripe_is_no_double() -> None:
    assert answering({"": '{"error": {}}'}, 404).double_lag_seconds() is None


def test_what_the_double_took_is_counted_for_these_customers_only() -> None:
    rows = [
        '{"identifier": "1", "customer": "cus_1", "counted": true, "reason": null}',
        '{"identifier": "1", "customer": "cus_1", "counted": true, "reason": null}',
        '{"identifier": "2", "customer": "cus_2", "counted": false, "reason": "cancelled"}',
        '{"identifier": "3", "customer": "cus_9", "counted": true, "reason": null}',
    ]
    sent = answering({"": '{"data": [' + ", ".join(rows) + "]}"}).sent({"cus_1", "cus_2"})
    assert (sent.batches, sent.events, dict(sent.uncounted)) == (2, 2, {"cancelled": 1})


def test_the_range_is_of_whole_minutes_around_the_run() -> None:
    start, end = summary_range(1_795_228_097, 1_795_228_250)
    assert start % 60 == end % 60 == 0
    assert start <= 1_795_228_097 - 3540
    assert end >= 1_795_228_250 + 240
