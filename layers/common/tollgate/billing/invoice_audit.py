"""Where an invoice comes from: each metered line, its batches, their events, and what our own rating makes of them.

A line's batches are those that Stripe counted into it: flushed, of its customer and meter, booked in its period. Their
events are the rows that were recorded in the batches' seal windows and billing period. Everything is read again from
rows; the hash over it is the same as long as the rows are, in whatever order they are read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, NamedTuple, Protocol

from tollgate.accounts.rules import Rules
from tollgate.billing.batch import FLUSHED, Batch
from tollgate.billing.close import CustomerMap
from tollgate.billing.close_usage import PeriodBatches
from tollgate.billing.invoice import Invoice, InvoiceLine, InvoicePrice, Invoices, metered_lines
from tollgate.billing.ports import EventReader, RulesReader
from tollgate.billing.sealed import SealedWindow
from tollgate.catalog.frozen import PlanVersion
from tollgate.errors import InvoiceTooLarge, UnknownInvoice, UnknownPlan
from tollgate.quantities import EXACT, ZERO, plain
from tollgate.rating.lines import total, usage_lines
from tollgate.usage.markers import coalesced
from tollgate.usage.outcome import Event, UsedItem

MOST_EVENTS: Final = 50_000
"""Rows that one audit reads: about ten seconds of DynamoDB. Larger invoices are audited from an export."""


class SealedReader(Protocol):
    def between(self, account: str, start: int, end: int) -> Iterator[SealedWindow]: ...


class PlanVersions(Protocol):
    def version(self, plan: str, version: int) -> PlanVersion: ...


@dataclass(frozen=True, slots=True)
class AuditDeps:
    """Everything that an audit reads; it writes nothing."""

    invoices: Invoices
    accounts: CustomerMap
    rules: RulesReader
    plans: PlanVersions
    batches: PeriodBatches
    seals: SealedReader
    events: EventReader


class AuditedEvent(NamedTuple):
    """One item of a row, at its place there. `billable`: the units of it that are paid by use; of a level, all."""

    event: Event
    place: int
    item: UsedItem

    @property
    def billable(self) -> Decimal:
        return self.item.units if self.item.level is not None else self.item.billable

    @property
    def order(self) -> tuple[str, int, str, int]:
        return self.event.at.account, self.event.recorded_ms, self.event.at.key, self.place


class AuditedWindow(NamedTuple):
    """The batches of one account, meter, billing period and seal window, and the events that they sum up. `agrees`:
    they are equal; of a level, whether the batch says what the last event left."""

    account: str
    start: int
    end: int
    batches: tuple[Batch, ...]
    events: tuple[AuditedEvent, ...]
    units: Decimal
    events_units: Decimal
    agrees: bool
    hash: str


class AuditedLine(NamedTuple):
    """A metered price on the invoice. Stripe may make several lines of it, one for each tier.

    `quantity` is Stripe's, `units` what the batches say, `rated` what our own rating makes of these in major units
    (None where the price is not ours), `amount` what the lines come to.
    """

    lines: tuple[InvoiceLine, ...]
    price: InvoicePrice
    start: int
    end: int
    quantity: Decimal | None
    units: Decimal
    amount: Decimal
    rated: Decimal | None
    windows: tuple[AuditedWindow, ...]
    hash: str

    @property
    def agrees(self) -> bool:
        return self.rated == self.amount and all(window.agrees for window in self.windows)

    @property
    def events(self) -> Iterator[AuditedEvent]:
        for window in self.windows:
            yield from window.events


class Audit(NamedTuple):
    account: str
    invoice: Invoice
    lines: tuple[AuditedLine, ...]
    hash: str

    @property
    def agrees(self) -> bool:
        return all(line.agrees for line in self.lines)


def audit(deps: AuditDeps, account: str, invoice_id: str) -> Audit:
    """Audit an invoice of an account.

    Raises UnknownAccount, UnknownInvoice (also for another account's), InvoiceTooLarge, StripeUnavailable.
    """
    rules = deps.rules.fresh(account)
    invoice = deps.invoices.read(invoice_id)
    if invoice is None or deps.accounts.holder(invoice.customer) != rules.account:
        raise UnknownInvoice(invoice_id)
    grouped: dict[tuple[str, int, int], list[InvoiceLine]] = {}
    for line, price in metered_lines(invoice, deps.invoices.price):
        grouped.setdefault((price.id, line.period_start, line.period_end), []).append(line)
    rows = _Rows(deps, rules)
    lines = [
        _line(deps, rules, rows, invoice, deps.invoices.price(price), lines)
        for (price, _, _), lines in sorted(grouped.items())
    ]
    return Audit(rules.account, invoice, tuple(lines), _digest([invoice.id, *(line.hash for line in lines)]))


def _line(
    deps: AuditDeps, rules: Rules, rows: _Rows, invoice: Invoice, price: InvoicePrice, lines: list[InvoiceLine]
) -> AuditedLine:
    start, end = lines[0].period_start, lines[0].period_end
    is_level = price.meter is not None and _is_level(rules, price.meter)
    windows = list(_windows(deps, rules, rows, invoice.customer, price.meter, start, end, is_level=is_level))
    flushed = [batch for window in windows for batch in window.batches]
    amount = _sum(line.amount for line in lines)
    units = _last(flushed) if is_level else _sum(batch.units for batch in flushed)
    return AuditedLine(
        lines=tuple(lines),
        price=price,
        start=start,
        end=end,
        quantity=_sum(line.quantity for line in lines if line.quantity is not None),
        units=units,
        amount=amount,
        rated=rated(deps.plans, price, units, invoice.currency),
        windows=tuple(windows),
        hash=_digest([price.id, str(start), str(end), *sorted(window.hash for window in windows)]),
    )


def rated(plans: PlanVersions, price: InvoicePrice, units: Decimal, currency: str) -> Decimal | None:
    """What our own rating makes of units under a price, in major units; None where the price is not ours."""
    if price.plan is None or price.plan_version is None:
        return None
    try:
        plan = plans.version(price.plan, price.plan_version).plan
    except UnknownPlan:
        return None
    ours = next((one for one in plan.prices if one.meter == price.meter), None)
    return None if ours is None else total(usage_lines(ours, units, currency))


def _windows(
    deps: AuditDeps,
    rules: Rules,
    rows: _Rows,
    customer: str,
    meter: str | None,
    start: int,
    end: int,
    *,
    is_level: bool,
) -> Iterator[AuditedWindow]:
    if meter is None:
        return
    for home in rules.homes:
        grouped: dict[tuple[int, int, int], list[Batch]] = {}
        for batch in deps.batches.booked(home, meter, start, end):
            if batch.state == FLUSHED and batch.customer == customer and not batch.undoes:
                grouped.setdefault((batch.window_start, batch.window_end, batch.period_start), []).append(batch)
        if not grouped:
            continue
        events = rows.of(home, min(key[0] for key in grouped), max(key[1] for key in grouped))
        for (first, last, period), batches in sorted(grouped.items()):
            upto = batches[0].period_end
            found = [
                AuditedEvent(event, place, item)
                for event in events.get(first, ())
                for place, item in enumerate(event.items)
                if item.meter == meter and period <= event.recorded_s < upto and first <= event.recorded_s < last
            ]
            yield _window(home, first, last, batches, sorted(found, key=lambda one: one.order), is_level=is_level)


def _window(
    home: str, first: int, last: int, batches: list[Batch], events: list[AuditedEvent], *, is_level: bool
) -> AuditedWindow:
    ordered = tuple(sorted(batches, key=lambda batch: batch.key.sk))
    if is_level:
        units = _last(ordered)
        changes = [one for one in events if one.item.level is not None]
        # A level that nobody changed is sent for a new period without an event.
        after = max(changes, key=lambda one: one.item.level or 0).item.units if changes else units
    else:
        units, after = _sum(batch.units for batch in ordered), _sum(one.billable for one in events)
    lines = [f"batch {batch.identifier} {plain(batch.units)} {batch.timestamp}" for batch in ordered]
    lines += [
        f"event {one.event.at.account} {one.event.at.origin_ms} {one.event.at.key} {one.place} {one.event.recorded_ms} "
        f"{plain(one.item.quantity)} {plain(one.item.units)} {plain(one.billable)}"
        for one in events
    ]
    return AuditedWindow(
        home, first, last, ordered, tuple(events), units, after, units == after, _digest(sorted(lines))
    )


class _Rows:
    """The rows of accounts' seal windows, each read once, all of them together no more than MOST_EVENTS."""

    def __init__(self, deps: AuditDeps, rules: Rules) -> None:
        self._deps, self._rules = deps, rules
        self._read: dict[tuple[str, int, int], Mapping[int, list[Event]]] = {}
        self._count = 0

    def of(self, account: str, start: int, end: int) -> Mapping[int, list[Event]]:
        """By start of the window that they were recorded in. Raises InvoiceTooLarge."""
        known = self._read.get((account, start, end))
        if known is None:
            known = self._read[account, start, end] = self._rows(account, start, end)
        return known

    def _rows(self, account: str, start: int, end: int) -> dict[int, list[Event]]:
        windows = _Cut()
        ranges = []
        for window in self._deps.seals.between(account, start, end):
            windows.add(window.window_start, window.window_end)
            ranges += [(one * 1000, (one + window.seal_seconds) * 1000 - 1) for one in window.range_starts]
        found: dict[int, list[Event]] = {}
        for first, last in coalesced(ranges):
            for event in self._deps.events.events_between(account, first, last):
                at = windows.of(event.recorded_s)
                if at is None:
                    continue  # of a window outside: its id range is shared
                self._count += 1
                if self._count > MOST_EVENTS:
                    raise InvoiceTooLarge(MOST_EVENTS)
                found.setdefault(at, []).append(event)
        return found


@dataclass(slots=True)
class _Cut:
    """Windows by their seconds; lengths may differ."""

    ends: dict[int, int] = field(default_factory=dict)
    lengths: set[int] = field(default_factory=set)

    def add(self, start: int, end: int) -> None:
        self.ends[start] = end
        self.lengths.add(end - start)

    def of(self, at: int) -> int | None:
        for length in self.lengths:
            start = at // length * length
            if self.ends.get(start) == start + length:
                return start
        return None


def _is_level(rules: Rules, meter: str) -> bool:
    found = rules.meters.get(meter)
    return found is not None and found.kind == "level"


def _last(batches: Iterable[Batch]) -> Decimal:
    last = max(batches, key=lambda batch: (batch.timestamp, batch.window_start, batch.supplement), default=None)
    return ZERO if last is None else last.units


def _sum(amounts: Iterable[Decimal]) -> Decimal:
    found = ZERO
    for amount in amounts:
        found = EXACT.add(found, amount)
    return found


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
