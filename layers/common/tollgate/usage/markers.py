"""Markers: "this account recorded something in this seal window, in rows whose ids begin in these ranges".

Written before the row, once per process, window and id range, so that seal finds every row without scanning. Billing
table: `pk` `marker#<shard of 16>`, `sk` `<account>#<window start>#<range start>` (epoch seconds, 12 digits), `seal` the
window's length, which is the range's, too. A marker stays until its window's batches are queued; the sealed window then
keeps the ranges.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tollgate import dynamo

SHARDS = 16
_REMEMBERED = 50_000
LAST_MS = (1 << 48) - 1


@dataclass(frozen=True, slots=True)
class Marker:
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


class MarkerTable:
    """Markers on DynamoDB (billing table)."""

    def __init__(self, table: str, seal_seconds: int) -> None:
        self._table = table
        self._seal = seal_seconds
        self._written: set[tuple[str, int, int]] = set()

    def ensure(self, account: str, recorded_ms: int, origins_ms: Iterable[int], *, again: bool = False) -> None:
        window = recorded_ms // 1000 // self._seal * self._seal
        ranges = {origin // 1000 // self._seal * self._seal for origin in origins_ms}
        for start in sorted(ranges):
            name = (account, window, start)
            if name in self._written and not again:
                continue
            marker = Marker(account, window, start, self._seal)
            dynamo.client().put_item(
                TableName=self._table,
                Item=dynamo.item(
                    {"pk": partition(shard_of(account)), "sk": marker.sort_key, "seal": self._seal}
                ),
            )
            if len(self._written) >= _REMEMBERED:
                self._written.clear()
            self._written.add(name)

    def ranges(self, account: str, since_s: int) -> list[tuple[int, int]]:
        if since_s <= 0:
            return [(0, LAST_MS)]
        found = [
            marker.ids_ms
            for marker in self.of_account(account)
            if marker.window + marker.seal_seconds > since_s
        ]
        # Markers first, then sealed windows: a marker goes only after its sealed window stands.
        for raw in dynamo.query(
            self._table,
            KeyConditionExpression="pk = :pk AND sk >= :since",
            ExpressionAttributeValues={
                ":pk": dynamo.s(f"sealed#{account}"),
                ":since": dynamo.s(f"{max(since_s - 86_400, 0):012d}"),
            },
            ConsistentRead=True,
        ):
            for first in raw["ranges"]["L"]:
                start = int(first["N"])
                found.append((start * 1000, (start + int(raw["seal"]["N"])) * 1000 - 1))
        return coalesced(found)

    def of_account(self, account: str) -> Iterator[Marker]:
        yield from self._markers(shard_of(account), f"{account}#")

    def of_shard(self, shard: int) -> Iterator[Marker]:
        yield from self._markers(shard, "")

    def delete(self, marker: Marker) -> None:
        dynamo.client().delete_item(
            TableName=self._table,
            Key={"pk": dynamo.s(partition(shard_of(marker.account))), "sk": dynamo.s(marker.sort_key)},
        )

    def _markers(self, shard: int, prefix: str) -> Iterator[Marker]:
        condition, values = "pk = :pk", {":pk": dynamo.s(partition(shard))}
        if prefix:
            condition += " AND begins_with(sk, :prefix)"
            values[":prefix"] = dynamo.s(prefix)
        for raw in dynamo.query(
            self._table, KeyConditionExpression=condition, ExpressionAttributeValues=values, ConsistentRead=True
        ):
            account, window, start = raw["sk"]["S"].rsplit("#", 2)
            yield Marker(account, int(window), int(start), int(raw["seal"]["N"]))


def coalesced(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same instants in as few ranges as possible, in order."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found
