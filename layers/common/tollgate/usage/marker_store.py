"""Markers in the billing table: `pk` `marker#<shard of 16>`, `sk` `<account>#<window start>#<range start>` (epoch
seconds, 12 digits), `seal` the window's length, which is the range's, too. Written once per process, window and id
range.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tollgate import dynamo
from tollgate.usage.markers import LAST_MS, Marker, coalesced, partition, shard_of

_REMEMBERED = 50_000


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
                Item=dynamo.item({"pk": partition(shard_of(account)), "sk": marker.sort_key, "seal": self._seal}),
            )
            if len(self._written) >= _REMEMBERED:
                self._written.clear()
            self._written.add(name)

    def ranges(self, account: str, since_s: int) -> list[tuple[int, int]]:
        if since_s <= 0:
            return [(0, LAST_MS)]
        found = [marker.ids_ms for marker in self.of_account(account) if marker.window + marker.seal_seconds > since_s]
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
