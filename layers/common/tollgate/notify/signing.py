"""Signatures of outgoing webhooks, as Standard Webhooks 1.0 has them: HMAC-SHA256 over `id.timestamp.body`."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from typing import Final

_PREFIX: Final = "whsec_"


def new_secret() -> str:
    """A secret of 256 bits."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def headers(name: str, timestamp: int, body: bytes, signers: Sequence[str]) -> dict[str, str]:
    """Headers of a delivery: one signature for each secret, so that receivers can change from one to the next.
    `timestamp`: of this attempt (epoch s); `name`: the same in every attempt."""
    signed = b"%s.%d.%s" % (name.encode(), timestamp, body)
    return {
        "Content-Type": "application/json",
        "webhook-id": name,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{_signature(secret, signed)}" for secret in signers),
    }


def _signature(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    return base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
