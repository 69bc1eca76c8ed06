"""What reconciliation needs from the outside."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple, Protocol

from tollgate.alerts.outbox import Outbox
from tollgate.billing.batch import Batch, BatchKey
from tollgate.billing.close_row import Close, CloseKey
from tollgate.billing.grid import Grid
from tollgate.billing.invoice import Invoice, InvoicePrice
from tollgate.billing.invoice_audit import PlanVersions
from tollgate.billing.ports import EventReader, RulesReader
from tollgate.billing.sealed import SealedWindow
from tollgate.clock import Clock
from tollgate.gate.sweep_store import GateAudits
from tollgate.usage.markers import Marker


class Batches(Protocol):
    def put_new(self, batch: Batch) -> Batch | None: ...
    def get(self, key: BatchKey) -> Batch | None: ...
    def replace(self, before: Batch, after: Batch) -> Batch | None: ...
    def parked(self) -> Iterator[Batch]: ...
    def between(self, account: str, meter: str, period_start: int, start: int, end: int) -> Iterator[Batch]:
        """Batches of a meter and billing period whose window begins in [start, end); consistent."""


class Windows(Protocol):
    def between(self, account: str, start: int, end: int) -> Iterator[SealedWindow]: ...
    def known_grid(self) -> Grid | None: ...


class Markers(Protocol):
    def ensure(self, account: str, recorded_ms: int, origins_ms: Iterable[int], *, again: bool = False) -> None: ...
    def of_account(self, account: str) -> Iterator[Marker]: ...


class Totals(Protocol):
    """The sink's side. Each call of these is one read or write there."""

    def total(self, customer: str, event_name: str, start: int, end: int) -> Decimal:
        """Units counted in [start, end), whole minutes. Raises SinkUnavailable, OutOfReads, LookupError (not there)."""

    def meter(self, event_name: str) -> str:
        """The sink's own id of a meter. Raises as `total`."""

    def customer_exists(self, customer: str) -> bool:
        """Raises SinkUnavailable, OutOfReads."""

    def cancel(self, event_name: str, identifier: str) -> bool:
        """Cancel an event; False where the sink refuses: too old, unknown, or cancelled already. Raises
        SinkUnavailable."""


class OutOfReads(Exception):
    """The month's reads are spent: what is left is compared later."""


class Invoices(Protocol):
    """Stripe's invoices. A call may be several reads there. Both raise StripeUnavailable, StripeRefused, OutOfReads."""

    def read(self, invoice: str) -> Invoice | None: ...
    def price(self, price: str) -> InvoicePrice: ...


class Closes(Protocol):
    """Which invoice bills which account, meters and time."""

    def final(self, shard: int, until: int) -> Iterator[CloseKey]:
        """What is closed, and to be compared by then."""

    def get(self, key: CloseKey) -> Close | None: ...
    def replace(self, before: Close, after: Close) -> Close | None: ...
    def of_customer(self, customer: str) -> Iterator[Close]: ...


class Pair(NamedTuple):
    """A meter of an account that changed on a UTC day (epoch seconds of its start)."""

    account: str
    meter: str
    day: int


class Pairs(Protocol):
    def changed(self, shard: int, until: int) -> Iterator[Pair]: ...
    def days_of(self, account: str, start: int, end: int) -> Iterator[Pair]: ...
    def settle(self, pair: Pair, events: int) -> bool: ...


class Audits(Protocol):
    def between(self, first_ms: int, last_ms: int) -> GateAudits:
        """What the sweep's audits of gates found in that time."""


class LooseEnds(Protocol):
    def match(self, event_name: str, minute: int, account: str, units: Decimal, now: int) -> str | None:
        """Note that an account has `units` too many (or too few, below 0) in a minute of the sink; the account that
        has as many too few (or too many) there, where one was noted."""


@dataclass(frozen=True, slots=True)
class ReconcileDeps:
    """Everything that a comparison uses, made once per process."""

    rules: RulesReader
    events: EventReader
    windows: Windows
    markers: Markers
    batches: Batches
    totals: Totals
    invoices: Invoices
    closes: Closes
    plans: PlanVersions
    pairs: Pairs
    loose: LooseEnds
    audits: Audits
    outbox: Outbox
    clock: Clock
    stack: str
    seal_seconds: int
    grace_seconds: int
    final_after_s: int = 3_600
    """How long after its period's end an invoice takes usage that was never drafted here [Stripe: the default grace
    period]."""

    @property
    def settled_s(self) -> int:
        """How long after its end a window's rows are certainly sealed, and its batches put."""
        return self.grace_seconds + 900
