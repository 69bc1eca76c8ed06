"""The clock. Everything that needs the time gets a Clock; times inside the domain are integer epoch milliseconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache

Clock = Callable[[], int]
"""Returns epoch milliseconds."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def system_clock() -> int:
    return time.time_ns() // 1_000_000


@lru_cache(maxsize=4096)
def rfc3339(seconds: int) -> str:
    """Epoch seconds as an RFC 3339 UTC time, `2026-11-20T10:00:00Z`. Remembered: answers repeat window edges."""
    return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_ms(ms: int) -> str:
    """Epoch milliseconds as an RFC 3339 UTC time with milliseconds."""
    return (_EPOCH + timedelta(milliseconds=ms)).strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}Z"


def parse_rfc3339(text: str) -> int:
    """An RFC 3339 time with an offset as epoch milliseconds.

    Raises ValueError where the text is no such time or names no offset.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("the time names no offset")
    return (moment - _EPOCH) // timedelta(milliseconds=1)
