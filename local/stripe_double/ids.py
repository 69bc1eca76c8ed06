"""Object ids with Stripe's prefixes."""

from __future__ import annotations

import hashlib
import secrets


def new_id(prefix: str) -> str:
    """A random id: `cus_3f9a...`."""
    return f"{prefix}_{secrets.token_hex(12)}"


def derived_id(prefix: str, *parts: object) -> str:
    """The same id for the same parts: a cursor into something that is computed anew on every call."""
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).hexdigest()
    return f"{prefix}_{digest[:40]}"
