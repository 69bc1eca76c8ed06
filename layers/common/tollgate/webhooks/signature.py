"""Stripe's webhook signatures, checked with the standard library: the ingress starts without the SDK.

`Stripe-Signature: t=<unix seconds>,v1=<hex>,v1=<hex>,…`, where each `v1` is the HMAC-SHA256 of `<t>.<raw body>` under
one of the endpoint's secrets; while a secret is rolled there are several [docs: webhooks].
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from typing import Final

from tollgate.errors import BadSignature

PAST_S: Final = 300
"""A delivery older than this is refused, as the SDK does: what was recorded cannot be sent again later."""
FUTURE_S: Final = 60
"""How far Stripe's clock may be ahead of ours. The SDK takes any future; a bound keeps every signature short-lived."""
_MOST_SIGNATURES: Final = 16
"""Stripe sends one for each active secret; nobody is to make us compare more."""
_MOST_HEADER: Final = 4_096


def sign(raw: bytes, secret: str, at: int) -> str:
    """The header's value for a body sent at epoch second `at`."""
    return f"t={at},v1={_mac(raw, secret, at)}"


def verify(raw: bytes, header: str, secrets: Iterable[str], now: int) -> None:
    """Return where `raw`, as sent, was signed under one of the secrets and is of now (epoch seconds). Raises
    BadSignature otherwise, whose reason is `malformed`, `wrong` (also: altered, truncated), `stale` or `early`."""
    at, given = _parsed(header)
    # The signature first: only who has a secret learns how our clock stands.
    matched = False
    for secret in secrets:
        wanted = _mac(raw, secret, at)
        for one in given:
            matched |= hmac.compare_digest(wanted, one)
    if not matched:
        raise BadSignature("wrong")
    if now - at > PAST_S:
        raise BadSignature("stale")
    if at - now > FUTURE_S:
        raise BadSignature("early")


def _mac(raw: bytes, secret: str, at: int) -> str:
    return hmac.new(secret.encode(), f"{at}.".encode() + raw, hashlib.sha256).hexdigest()


def _parsed(header: str) -> tuple[int, list[str]]:
    if len(header) > _MOST_HEADER or not header.isascii():
        raise BadSignature("malformed")
    times, given = [], []
    for part in header.split(","):
        name, _, value = part.strip().partition("=")
        if name == "t":
            times.append(value)
        elif name == "v1":
            given.append(value)
    # The digits as they were signed: "0012" or "+12" would be another text than the one that `at` is signed as.
    if len(times) != 1 or not times[0].isdecimal() or len(times[0]) > 12 or str(int(times[0])) != times[0]:
        raise BadSignature("malformed")
    if not 1 <= len(given) <= _MOST_SIGNATURES:
        raise BadSignature("malformed")
    return int(times[0]), given
