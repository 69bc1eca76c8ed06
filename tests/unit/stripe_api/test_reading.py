"""What a failed call to Stripe is called by the product, seen through the official SDK."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import stripe

from local.stripe_double.testing import Account, account, sdk
from tollgate.errors import StripeRefused, StripeUnavailable
from tollgate.stripe_api.reading import Connection, called

errors: Any = stripe
"""The SDK's own classes, whose constructors carry no types."""


def raising(error: stripe.StripeError) -> Callable[[], object]:
    def request() -> object:
        raise error

    return request


@pytest.mark.parametrize(
    ("error", "kind", "done_nothing"),
    [
        (errors.InvalidRequestError("no", "x", http_status=400), StripeRefused, None),
        (errors.InvalidRequestError("gone", "x", code="resource_missing", http_status=404), StripeRefused, None),
        (errors.CardError("card", "x", "card_declined", http_status=402), StripeRefused, None),
        (errors.AuthenticationError("key", http_status=401), StripeUnavailable, True),
        (errors.PermissionError("right", http_status=403), StripeUnavailable, True),
        (errors.RateLimitError("slow", http_status=429), StripeUnavailable, True),
        (errors.IdempotencyError("busy key", http_status=409), StripeUnavailable, False),
        (errors.APIError("broken", http_status=500), StripeUnavailable, False),
        (errors.APIConnectionError("no line"), StripeUnavailable, False),
    ],
)
def test_each_failure_has_one_meaning(
    error: stripe.StripeError, kind: type[Exception], done_nothing: bool | None
) -> None:
    with pytest.raises(kind) as caught:
        called(raising(error))
    assert getattr(caught.value, "done_nothing", None) is done_nothing
    assert caught.value.__cause__ is error


def test_a_refusal_says_what_stripe_said() -> None:
    with account() as opened, pytest.raises(StripeRefused, match="No such customer: 'cus_none'") as caught:
        Connection(lambda: opened.client).once(lambda client: client.v1.customers.retrieve("cus_none"))
    assert (caught.value.http_status, caught.value.stripe_code, caught.value.missing) == (404, "resource_missing", True)


def test_a_rate_limit_is_waited_for_and_named() -> None:
    waited: list[int] = []
    with account() as opened:
        limited(opened, 2)
        connection = Connection(lambda: opened.client, waited.append)
        assert connection.patiently(lambda client: client.v1.customers.list()).data == []
        assert waited == [1, 2]
        limited(opened, 9)
        with pytest.raises(StripeUnavailable) as caught:
            connection.patiently(lambda client: client.v1.customers.list(), tries=3)
    assert (caught.value.http_status, caught.value.reason) == (429, "global-rate")
    assert waited == [1, 2, 1, 2]


def limited(opened: Account, times: int) -> None:
    opened.control("faults", {"faults": [{"kind": "429", "times": times, "match": {"path": "/v1/customers"}}]})


def test_a_rotated_key_is_asked_for_again() -> None:
    with account() as opened:
        keys = iter(["not a key", "sk_test_double"])
        waited: list[int] = []
        connection = Connection(lambda: sdk(opened.url, next(keys)), waited.append)
        assert connection.patiently(lambda client: client.v1.customers.list()).data == []
        assert waited == [1]


def test_a_wrong_key_is_not_tried_for_long() -> None:
    with account() as opened:
        waited: list[int] = []
        with pytest.raises(StripeUnavailable) as caught:
            Connection(lambda: sdk(opened.url, "not a key"), waited.append).patiently(
                lambda client: client.v1.customers.list()
            )
    assert caught.value.key_refused
    assert waited == [1]
