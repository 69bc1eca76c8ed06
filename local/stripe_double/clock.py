"""The double's clock: real (or given) time plus an offset that only grows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

Clock = Callable[[], int]
"""Returns epoch milliseconds."""

SECOND_MS = 1_000
DAY_MS = 86_400 * SECOND_MS

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def system_clock() -> int:
    """Real time, epoch milliseconds."""
    return time.time_ns() // 1_000_000


class DoubleClock:
    """A base clock plus an offset, so that a test or the local stack can let hours pass."""

    def __init__(self, base: Clock = system_clock) -> None:
        self._base = base
        self.offset_ms = 0
        self._held_ms: int | None = None

    def now_ms(self) -> int:
        """Epoch milliseconds."""
        return self._base() + self.offset_ms if self._held_ms is None else self._held_ms

    @contextmanager
    def held(self, seconds: int) -> Iterator[None]:
        """Carry out what was due at this moment of the past as if it were now, epoch seconds."""
        before, self._held_ms = self._held_ms, seconds * SECOND_MS
        try:
            yield
        finally:
            self._held_ms = before

    def now(self) -> int:
        """Epoch seconds, rounded down."""
        return self.now_ms() // SECOND_MS

    def advance(self, milliseconds: int) -> None:
        """Move the clock forward. Raises ValueError for a step back: Stripe's time never goes back."""
        if milliseconds < 0:
            raise ValueError("the clock only moves forward")
        self.offset_ms += milliseconds


def rfc3339(ms: int) -> str:
    """Epoch milliseconds the way Stripe's v2 API writes times: `2026-11-20T10:00:00.000Z`."""
    return (_EPOCH + timedelta(milliseconds=ms)).strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}Z"


def parse_rfc3339(text: str) -> int:
    """An RFC 3339 time with an offset as epoch milliseconds. Raises ValueError for anything else."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("the time names no offset")
    return (moment - _EPOCH) // timedelta(milliseconds=1)
