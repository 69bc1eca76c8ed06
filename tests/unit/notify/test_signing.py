"""Signatures as Standard Webhooks 1.0 has them."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from tollgate.notify.signing import headers, new_secret

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"test": 2432232314}'


def test_the_specifications_own_example() -> None:
    """The vector of the reference libraries."""
    found = headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, BODY, (SECRET,))
    assert found["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert (found["webhook-id"], found["webhook-timestamp"]) == ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330")


def test_the_official_library_takes_it_and_nothing_that_was_changed() -> None:
    now = int(datetime.now(UTC).timestamp())
    found = headers("msg_1", now, BODY, (new_secret(), SECRET))
    assert Webhook(SECRET).verify(BODY, found) == {"test": 2432232314}
    for wrong in (
        {**found, "webhook-id": "msg_2"},
        {**found, "webhook-timestamp": str(now + 1)},
        {**found, "webhook-signature": found["webhook-signature"].split(" ")[0]},
    ):
        with pytest.raises(WebhookVerificationError):
            Webhook(SECRET).verify(BODY, wrong)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(BODY + b" ", found)


def test_secrets_have_256_bits_and_differ() -> None:
    made = {new_secret() for _ in range(100)}
    assert len(made) == 100
    assert {len(base64.b64decode(one.removeprefix("whsec_"))) for one in made} == {32}
