"""The stack's time: the machine's time plus an offset that all processes read from one small mapped file."""

from __future__ import annotations

import mmap
import time
from pathlib import Path

_SIZE = 8


class StackClock:
    """A shared offset in nanoseconds. One process moves it, any number read it; reading is one aligned 8-byte load."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _SIZE)
        self._view = memoryview(self._map).cast("q")
        # Kept from before any patch, so that the offset is never added twice.
        self._real_time_ns = time.time_ns
        self._real_time = time.time

    @classmethod
    def create(cls, path: Path) -> StackClock:
        """A new clock at offset 0, in a new file."""
        path.write_bytes(bytes(_SIZE))
        return cls(path)

    @property
    def offset_ns(self) -> int:
        return self._view[0]

    def now_ns(self) -> int:
        """Epoch nanoseconds in stack time."""
        return self._real_time_ns() + self._view[0]

    def now(self) -> float:
        """Epoch seconds in stack time; for schedules and logs, never for quantities."""
        return self._real_time() + self._view[0] / 1e9

    def advance(self, seconds: int) -> None:
        """Move the stack's time forward. Raises ValueError for a negative number: time never runs back."""
        if seconds < 0:
            raise ValueError("time does not run backwards")
        self._view[0] += seconds * 1_000_000_000

    def patch_process(self) -> None:
        """Make time.time and time.time_ns of this process tell stack time.

        Must run before the program's own modules are imported, because they may bind the functions by name.
        datetime reads the C clock and is not moved.
        """
        view, real_time, real_time_ns = self._view, self._real_time, self._real_time_ns
        time.time = lambda: real_time() + view[0] / 1e9
        time.time_ns = lambda: real_time_ns() + view[0]
