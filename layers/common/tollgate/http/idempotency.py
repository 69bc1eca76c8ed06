"""Ties an Idempotency-Key to the body it first came with, for writes that are repeatable by themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from tollgate.errors import TollgateError
from tollgate.ids import fingerprint
from tollgate.quantities import plain
from tollgate.usage.idempotency_store import IdempotencyTable

_SPELLED_OUT = 40
"""Digits up to which a number is spelled out: 1e999999999 has a short name and a long spelling."""


def digest(body: Any, size: int = 4) -> bytes:
    """Fingerprint of a parsed body without its idempotency key: equal requests are equal, however spelled."""
    if isinstance(body, dict):
        body = {name: value for name, value in body.items() if name != "idempotency_key"}
    return fingerprint(_JSON.encode(body).encode(), size)


def _text(value: Any) -> str:
    if not isinstance(value, Decimal):
        return repr(value)
    return plain(value) if abs(value.adjusted()) < _SPELLED_OUT else str(value)


_JSON = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=_text)


@contextmanager
def once(table: IdempotencyTable, scope: str, route: str, key: str | None, body: Any, now: int) -> Iterator[None]:
    """Run the block under `key` (None: just run it). `scope`: the account, or `*`; `now`: epoch seconds.

    A refusal inside the block is not remembered. Raises IdempotencyMismatch where `key` came with another body.
    """
    if key is None:
        yield
        return
    table.claim(scope, route, key, digest(body, 16), now)
    try:
        yield
    except TollgateError:
        table.forget(scope, route, key)
        raise
