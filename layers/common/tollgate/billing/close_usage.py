"""What stands between a period's usage and its invoice: rows not sealed, batches not sent, totals that differ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Context, Decimal
from typing import Final, NamedTuple, Protocol

from tollgate.accounts.rules import Rules
from tollgate.billing.batch import FLUSHED, NO_CUSTOMER, REJECTED, SEALED, SENDING, UNCONFIRMED, Batch
from tollgate.billing.close_row import Close
from tollgate.billing.ports import BatchStore
from tollgate.billing.sealed import Carried
from tollgate.quantities import EXACT, ZERO, plain
from tollgate.usage.markers import Marker, shard_of

OPEN: Final = frozenset({SEALED, SENDING, NO_CUSTOMER})
"""May still be sent by itself."""
PARKED: Final = frozenset({REJECTED, UNCONFIRMED})
"""May still be sent, once it is repaired or settled."""
_MINUTE: Final = 60
_DIGITS: Final = Context(prec=15)
"""Stripe gives totals as binary fractions: their first 15 digits are exact [SDK: `aggregated_value` is a float]."""


class PeriodBatches(BatchStore, Protocol):
    def meters(self, account: str) -> Iterator[str]: ...
    def booked(self, account: str, meter: str, start: int, end: int) -> Iterator[Batch]: ...


class AccountMarkers(Protocol):
    def of_account(self, account: str) -> Iterator[Marker]: ...


class CarriedLevels(Protocol):
    def carried(self, shard: int, until: int) -> Iterator[Carried]: ...


class Totals(Protocol):
    def total(self, customer: str, event_name: str, start: int, end: int) -> Decimal:
        """As `sink.Sink.total`."""


class Usage(NamedTuple):
    """What became of a period's batches. `sent`: event name -> what Stripe's total must be, over whole minutes."""

    pending: list[Batch]
    sent: Mapping[str, Decimal]

    @property
    def open(self) -> list[Batch]:
        return [batch for batch in self.pending if batch.state in OPEN]


def whole_minutes(start: int, end: int) -> tuple[int, int]:
    """The whole minutes around a period: Stripe gives totals for those only [docs: event summaries]."""
    return start // _MINUTE * _MINUTE, -(-end // _MINUTE) * _MINUTE


def unsealed(markers: AccountMarkers, levels: CarriedLevels, rules: Rules, close: Close) -> bool:
    """Whether rows of the period may not be sealed yet. A marker of any window that began before the period's end
    counts, also of a far older one: it would mean that seal fails for this account."""
    for home in rules.homes:
        if any(marker.window < close.end for marker in markers.of_account(home)):
            return True
    for home in rules.homes:
        # A level that stands when the period begins is sent for it, without a row.
        if any(one.account == home for one in levels.carried(shard_of(home), close.end - 1)):
            return True
    return False


def usage_of(batches: PeriodBatches, rules: Rules, close: Close) -> Usage:
    """What became of the period's batches, of this customer or of none yet."""
    first, last = whole_minutes(close.start, close.end)
    pending: list[Batch] = []
    flushed: list[Batch] = []
    for home in rules.homes:
        for meter in batches.meters(home):
            for batch in batches.booked(home, meter, first, last):
                if batch.customer not in (None, close.customer):
                    continue
                if batch.state == FLUSHED:
                    flushed.append(batch)
                elif close.start <= batch.timestamp < close.end and _may_be_sent(batch):
                    pending.append(batch)
    return Usage(pending, _sent(flushed, rules))


def _may_be_sent(batch: Batch) -> bool:
    return batch.state in OPEN or (batch.state in PARKED and batch.repaired_by is None)


def _sent(flushed: Iterable[Batch], rules: Rules) -> dict[str, Decimal]:
    sent: dict[str, Decimal] = {}
    last: dict[str, Batch] = {}
    for batch in flushed:
        meter = rules.meters.get(batch.meter)
        if meter is not None and meter.kind == "level":
            there = last.get(batch.event_name)
            if there is None or _order(there) < _order(batch):
                last[batch.event_name] = batch  # of a level, Stripe's total is the last one
        elif not batch.undoes:
            sent[batch.event_name] = EXACT.add(sent.get(batch.event_name, ZERO), batch.units)
    return sent | {name: batch.units for name, batch in last.items()}


def _order(batch: Batch) -> tuple[int, int, int]:
    return batch.timestamp, batch.window_start, batch.supplement


def differing(totals: Totals, rules: Rules, close: Close, sent: Mapping[str, Decimal]) -> str | None:
    """In words, the first meter whose total at Stripe is not what was sent; None where all are equal. One read for
    each meter. Raises SinkUnavailable."""
    first, last = whole_minutes(close.start, close.end)
    for name in sorted({*sent, *_event_names(rules, close.meters)}):
        wanted = sent.get(name, ZERO)
        try:
            total = totals.total(close.customer, name, first, last)
        except LookupError:
            return f"no active meter at Stripe has the event name {name}"
        if _DIGITS.plus(total) != _DIGITS.plus(wanted):
            return f"{name}: sent {plain(wanted)}, Stripe's total is {plain(total)}"
    return None


def _event_names(rules: Rules, meters: Iterable[str]) -> Iterator[str]:
    for meter in meters:
        found = rules.meters.get(meter)
        if found is not None and found.stripe_event_name:
            yield found.stripe_event_name


def in_words(pending: Iterable[Batch]) -> str:
    """How much of what is not at Stripe, by meter and state."""
    units: dict[tuple[str, str], Decimal] = {}
    for batch in pending:
        units[batch.meter, batch.state] = EXACT.add(units.get((batch.meter, batch.state), ZERO), batch.units)
    return ", ".join(f"{plain(amount)} of {meter} ({state})" for (meter, state), amount in sorted(units.items()))
