"""Markers: "this account recorded something in this seal window, in rows whose ids begin in these ranges".

Written before the row, so that seal finds every row without scanning (`marker_store.py`). A marker stays until its
window's batches are queued; the sealed window then keeps the ranges.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import NamedTuple

SHARDS = 16
LAST_MS = (1 << 48) - 1


class Marker(NamedTuple):
    account: str
    window: int
    """Start of the seal window, epoch seconds."""
    range_start: int
    """Start of the id range, epoch seconds."""
    seal_seconds: int

    @property
    def sort_key(self) -> str:
        return f"{self.account}#{self.window:012d}#{self.range_start:012d}"

    @property
    def ids_ms(self) -> tuple[int, int]:
        """First and last origin time (ms) of its range."""
        return self.range_start * 1000, (self.range_start + self.seal_seconds) * 1000 - 1


def shard_of(account: str) -> int:
    return zlib.crc32(account.encode()) % SHARDS


def partition(shard: int) -> str:
    return f"marker#{shard:02d}"


def coalesced(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same instants in as few ranges as possible, in order."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found
