"""What sealing and flushing need from the outside. The stores implement it on DynamoDB and SQS."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from tollgate.accounts.rules import Rules
from tollgate.billing.batch import Batch, BatchKey
from tollgate.billing.close_row import Close
from tollgate.billing.grid import Grid
from tollgate.billing.sealed import Carried, SealedWindow
from tollgate.usage.markers import Marker
from tollgate.usage.outcome import Event


class RulesReader(Protocol):
    def fresh(self, account: str) -> Rules:
        """The rules as stored now (consistent read)."""


class EventReader(Protocol):
    def events_between(self, account: str, first_ms: int, last_ms: int) -> Iterator[Event]:
        """Events whose origin time lies in [first_ms, last_ms], consistently read."""


class MarkerReader(Protocol):
    def of_shard(self, shard: int) -> Iterator[Marker]: ...


class SealStore(Protocol):
    def freeze(self, window: SealedWindow) -> bool: ...
    def of_window(self, account: str, window_start: int) -> list[SealedWindow]: ...
    def carry(self, carried: Carried) -> None: ...
    def carried(self, shard: int, until: int) -> Iterator[Carried]: ...
    def carried_over(self, carried: Carried) -> None: ...
    def roll_up(self, account: str, day: int) -> None: ...
    def grid(self, seconds: int, now: int) -> Grid: ...
    def claim(self, marker: Marker, claim: bytes) -> bool: ...
    def drop(self, marker: Marker, claim: bytes) -> bool: ...


class DueEntry(Protocol):
    @property
    def key(self) -> BatchKey: ...
    @property
    def due_at(self) -> int: ...


class BatchStore(Protocol):
    def put_new(self, batch: Batch) -> Batch | None: ...
    def get(self, key: BatchKey) -> Batch | None: ...
    def replace(self, before: Batch, after: Batch) -> Batch | None: ...
    def due(self, shard: int, *, waits_for_customer: bool = False, until: int | None = None) -> Iterator[DueEntry]: ...
    def of_account(self, account: str, state: str | None = None) -> Iterator[Batch]: ...


class Queue(Protocol):
    def send(self, batches: Iterable[Batch]) -> int: ...


class ClosesReader(Protocol):
    def of_customer(self, customer: str) -> Iterator[Close]:
        """The closes of a Stripe customer's invoices, consistently read."""


class SeenCustomers(Protocol):
    def seen(self, customer: str) -> bool: ...
    def put(self, customer: str, now: int) -> None: ...
