"""The signed link by which whoever was told of a trip resumes the account: one trip, for a day.

`base64url(first 16 bytes of HMAC-SHA256 + JSON [account, trip, expiry])`. What is signed says what it is for, so that
nothing else signed with the same secret passes for a link.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from typing import Final, NamedTuple

from tollgate.errors import ResumeLinkExpired, ResumeLinkInvalid

LASTS_S: Final = 86_400
MAX_LENGTH: Final = 600
_MAC: Final = 16
_FOR: Final = b"resume\0"


class Link(NamedTuple):
    """`trip`: as `Frozen.trip`. `expires_at`: epoch seconds."""

    account: str
    trip: str
    expires_at: int


def encode(link: Link, secret: bytes) -> str:
    body = json.dumps(list(link), separators=(",", ":"), ensure_ascii=False).encode()
    return base64.urlsafe_b64encode(_mac(body, secret) + body).decode().rstrip("=")


def decode(text: str, secret: bytes, now: int) -> Link:
    """Raises ResumeLinkInvalid for what was not signed here, ResumeLinkExpired."""
    if not text.isascii() or len(text) > MAX_LENGTH:
        raise ResumeLinkInvalid
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise ResumeLinkInvalid from None
    mac, body = raw[:_MAC], raw[_MAC:]
    if not hmac.compare_digest(mac, _mac(body, secret)):
        raise ResumeLinkInvalid
    link = Link(*json.loads(body))
    if now >= link.expires_at:
        raise ResumeLinkExpired
    return link


def _mac(body: bytes, secret: bytes) -> bytes:
    return hmac.digest(secret, _FOR + body, "sha256")[:_MAC]
