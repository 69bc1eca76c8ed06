"""What reconciliation needs from the outside."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple, Protocol

from tollgate.alerts.outbox import Outbox
from tollgate.billing.batch import Batch, BatchKey
from tollgate.billing.grid import Grid
from tollgate.billing.ports import EventReader, Queue, RulesReader
from tollgate.billing.sealed import SealedWindow
from tollgate.clock import Clock
from tollgate.usage.markers import Marker


class Batches(Protocol):
    def put_new(self, batch: Batch) -> Batch | None: ...
    def get(self, key: BatchKey) -> Batch | None: ...
    def replace(self, before: Batch, after: Batch) -> Batch | None: ...
    def of_account(self, account: str, state: str | None = None) -> Iterator[Batch]: ...
    def between(self, account: str, meter: str, period_start: int, start: int, end: int) -> Iterator[Batch]:
        """Batches of a meter and billing period whose window begins in [start, end); consistent."""


class Windows(Protocol):
    def between(self, account: str, start: int, end: int) -> Iterator[SealedWindow]: ...
    def grid(self, seconds: int, now: int) -> Grid: ...


class Markers(Protocol):
    def ensure(self, account: str, recorded_ms: int, origins_ms: Iterable[int], *, again: bool = False) -> None: ...
    def of_account(self, account: str) -> Iterator[Marker]: ...


class Totals(Protocol):
    """The sink's side. Each call of these is one read or write there."""

    def total(self, customer: str, event_name: str, start: int, end: int) -> Decimal:
        """Units counted in [start, end), whole minutes. Raises SinkUnavailable, OutOfReads, LookupError (no meter)."""

    def customer_exists(self, customer: str) -> bool:
        """Raises SinkUnavailable, OutOfReads."""

    def cancel(self, event_name: str, identifier: str) -> bool:
        """Cancel an event; False where the sink refuses: too old, unknown, or cancelled already. Raises
        SinkUnavailable."""


class OutOfReads(Exception):
    """The month's reads are spent: what is left is compared later."""


class Billed(NamedTuple):
    """What invoices of a billing period have of one meter. `final`: no usage is added any more."""

    units: Decimal
    final: bool
    invoices: tuple[str, ...] = ()


class Invoices(Protocol):
    def billed(self, account: str, meter: str, period_start: int, period_end: int) -> Billed | None:
        """None: there is no invoice of that period (yet)."""


class Pair(NamedTuple):
    """A meter of an account that changed on a UTC day (epoch seconds of its start)."""

    account: str
    meter: str
    day: int


class Pairs(Protocol):
    def changed(self, shard: int, until: int) -> Iterator[Pair]: ...
    def days_of(self, account: str, start: int, end: int) -> Iterator[Pair]: ...
    def settle(self, pair: Pair, events: int) -> bool: ...


@dataclass(frozen=True, slots=True)
class ReconcileDeps:
    """Everything that a comparison uses, made once per process."""

    rules: RulesReader
    events: EventReader
    windows: Windows
    markers: Markers
    batches: Batches
    queue: Queue
    totals: Totals
    pairs: Pairs
    outbox: Outbox
    clock: Clock
    stack: str
    seal_seconds: int
    grace_seconds: int
    invoices: Invoices | None = None
    final_after_s: int = 3_600
    """How long after its period's end an invoice takes usage [Stripe: the default grace period]."""

    @property
    def settled_s(self) -> int:
        """How long after its end a window's rows are certainly sealed, and its batches put."""
        return self.grace_seconds + 900
