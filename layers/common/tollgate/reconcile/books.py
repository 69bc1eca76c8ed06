"""The books of one account and meter over some UTC days: what the event rows say, what is frozen, what the batches say.

All amounts are billable units. A place in time is a `Slot`: a seal window within a billing period; its units are booked
at the sink at the slot's `timestamp`, and the sink's totals can be read by whole minutes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, NamedTuple

from tollgate.billing.batch import CORRECTIONS, FLUSHED, Batch, timestamp_of
from tollgate.quantities import EXACT, ZERO

MINUTE: Final = 60


class Slot(NamedTuple):
    window_start: int
    window_end: int
    period_start: int
    period_end: int

    @property
    def timestamp(self) -> int:
        return timestamp_of(self.window_start, self.period_start)


class Count(NamedTuple):
    """`events` counted items; `billable` their units."""

    events: int = 0
    billable: Decimal = ZERO

    def plus(self, events: int, billable: Decimal) -> Count:
        return Count(self.events + events, EXACT.add(self.billable, billable))


@dataclass(slots=True)
class Books:
    """`start` to `end` (epoch seconds, whole minutes) bound the slots' timestamps. `customer` is the account's now."""

    account: str
    meter: str
    event_name: str
    start: int
    end: int
    customer: str | None
    level: bool = False
    rows: dict[tuple[str, Slot], Count] = field(default_factory=dict)
    """From the event rows, by the account id that they stand under."""
    sealed: dict[tuple[str, Slot], Count] = field(default_factory=dict)
    origins: dict[tuple[str, Slot], set[int]] = field(default_factory=dict)
    """In which seconds, rounded to seal windows, the ids of the rows begin: what a new marker must name."""
    batches: list[Batch] = field(default_factory=list)
    """All of them, also those that a successor took over."""
    missing: list[Batch] = field(default_factory=list)
    """What the frozen totals make, and of which there is no row."""

    @property
    def live(self) -> list[Batch]:
        """Batches that stand for usage now: the newest revision of each."""
        return [one for one in self.batches if one.repaired_by is None and one.supplement < CORRECTIONS]

    @property
    def corrections(self) -> list[Batch]:
        return [one for one in self.batches if one.supplement >= CORRECTIONS and one.repaired_by is None]

    @property
    def events_total(self) -> Decimal:
        return total(count.billable for count in self.rows.values())

    @property
    def batches_total(self) -> Decimal:
        return total(batch.units for batch in self.live)

    def sent(self, start: int, end: int, customer: str | None) -> Decimal:
        """What the sink must have booked in [start, end) for a customer: all that is flushed."""
        return total(b.units for b in self.batches if sent_in(b, start, end, customer))


def sent_in(batch: Batch, start: int, end: int, customer: str | None) -> bool:
    """Whether a batch is part of what must be booked. What takes something away is not: it meets what must not be."""
    undoes = batch.supplement >= CORRECTIONS and batch.units < ZERO
    return batch.state == FLUSHED and not undoes and batch.customer == customer and start <= batch.timestamp < end


def minute_of(timestamp: int) -> int:
    return timestamp // MINUTE * MINUTE


def total(amounts: Iterable[Decimal]) -> Decimal:
    found = ZERO
    for amount in amounts:
        found = EXACT.add(found, amount)
    return found
