"""Ids and hashes: UUIDv7 (RFC 9562 section 5.7), key hashes, fingerprints."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import uuid

_UUID7 = re.compile(
    r"([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII
)
KEY_HASH_BYTES = 12
"""96 bits: at 10**9 keys in one account two collide with probability below 10**-11."""


def uuid7(now_ms: int, randomness: bytes | None = None) -> bytes:
    """16 bytes of a UUIDv7 whose time is `now_ms` (epoch milliseconds)."""
    tail = bytearray(os.urandom(10) if randomness is None else randomness)
    tail[0] = (tail[0] & 0x0F) | 0x70
    tail[2] = (tail[2] & 0x3F) | 0x80
    return now_ms.to_bytes(6, "big") + bytes(tail)


def uuid7_ms(raw: bytes) -> int:
    """The epoch milliseconds inside a UUIDv7."""
    return int.from_bytes(raw[:6], "big")


def uuid_text(raw: bytes) -> str:
    return str(uuid.UUID(bytes=raw))


def uuid7_time_of(text: str) -> int | None:
    """The epoch milliseconds inside `text` where it is a UUIDv7 in its canonical form, else None."""
    found = _UUID7.fullmatch(text)
    return None if found is None else int(found[1] + found[2], 16)


def key_hash(namespace: str, key: str) -> str:
    """16 URL-safe characters that stand for a caller's key in one namespace (`reservation`, `usage`, ...)."""
    digest = hashlib.sha256(f"{namespace}\x00{key}".encode()).digest()
    return base64.urlsafe_b64encode(digest[:KEY_HASH_BYTES]).decode()


def fingerprint(body: bytes, size: int = 4) -> bytes:
    """A short digest that tells a repeated request from another one under the same key."""
    return hashlib.sha256(body).digest()[:size]
