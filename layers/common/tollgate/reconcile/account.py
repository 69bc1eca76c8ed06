"""Compares one account's books with the sink's totals, repairs what is safe, and settles the days that agree."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Final

from tollgate.accounts.rules import Rules
from tollgate.billing.invoice import CreditNoteProposal, InvoiceItemProposal
from tollgate.quantities import EXACT, ZERO
from tollgate.reconcile import findings as f
from tollgate.reconcile.books import Books, minute_of, total
from tollgate.reconcile.classify import (
    Facts,
    last_value_findings,
    own_findings,
    rounded,
    sink_findings,
    wrong_customers,
)
from tollgate.reconcile.finality import Finality
from tollgate.reconcile.findings import Finding, unexplained
from tollgate.reconcile.ports import OutOfReads, Pair, ReconcileDeps
from tollgate.reconcile.reading import SinkReader
from tollgate.reconcile.repair import apply, may
from tollgate.reconcile.totals import books_of

DAY_S: Final = 86_400
CLOSED_S: Final = 900
"""The sink's totals are read of minutes that ended this long ago."""


@dataclass(frozen=True, slots=True)
class PairReport:
    """One meter of an account over some days: four totals side by side, and what makes them differ.

    `sink` None: not read (no customer, no name there, or no reads left). With an `invoice`: the service period of its
    lines, and what these bill (`invoices`); findings are of (billed - events) then.
    """

    account: str
    meter: str
    start: int
    end: int
    events: Decimal
    batches: Decimal
    sink: Decimal | None
    invoices: Decimal | None = None
    findings: Sequence[Finding] = ()
    unexplained: Decimal = ZERO
    reads: int = 0
    put_off: bool = False
    """The sink's total could not be read; the days are compared again."""
    settled: bool = False
    invoice: str | None = None
    final: bool = False
    """Of an invoice: it is no draft any more."""
    proposal: CreditNoteProposal | InvoiceItemProposal | None = None
    """What a person may do about an invoice that is final."""

    @property
    def lasting(self) -> Decimal:
        """How far the totals are apart, what passes by itself left out."""
        return EXACT.add(abs(total(one.units for one in self.findings if not one.passing)), abs(self.unexplained))

    @property
    def agrees(self) -> bool:
        return not self.unexplained and not self.put_off and all(one.kind == f.ROUNDING for one in self.findings)


@dataclass(slots=True)
class Wanted:
    """What to compare of one account: meters by UTC day (epoch seconds). `every_meter`: also those without usage."""

    account: str
    days: dict[int, set[str]] = field(default_factory=dict)
    every_meter: bool = False


def wanted(pairs: Iterable[Pair]) -> list[Wanted]:
    """Pairs by account."""
    found: dict[str, Wanted] = {}
    for pair in pairs:
        found.setdefault(pair.account, Wanted(pair.account)).days.setdefault(pair.day, set()).add(pair.meter)
    return list(found.values())


def reconcile_account(
    deps: ReconcileDeps, want: Wanted, *, person: bool = False, repair: bool = True, settle: bool = True
) -> list[PairReport]:
    """Compare, repair what may be (with `person`: also what needs a person's word), settle. Raises what the stores and
    the sink raise; what was done by then stands, and the days stay listed."""
    rules = deps.rules.fresh(want.account)
    found = []
    for start, end in _stretches(want.days):
        closed = min(end, minute_of(deps.clock() // 1000 - CLOSED_S))
        if closed <= start:
            continue
        meters = {meter for day, some in want.days.items() if start <= day < end for meter in some}
        if want.every_meter:
            meters |= {meter.id for meter in rules.meters.values() if meter.stripe_event_name}
        for meter, books in sorted(books_of(deps, rules, start, closed, meters).items()):
            if meter not in meters and not want.every_meter:
                continue
            report = compare(deps, books, Finality(deps, rules), person=person, repair=repair)
            found.append(_settle(deps, rules, report, books, start, end) if settle else report)
    return found


def _stretches(days: Iterable[int]) -> list[tuple[int, int]]:
    """Days that follow one another, as stretches."""
    found: list[tuple[int, int]] = []
    for day in sorted(days):
        if found and found[-1][1] == day:
            found[-1] = (found[-1][0], day + DAY_S)
        else:
            found.append((day, day + DAY_S))
    return found


def compare(
    deps: ReconcileDeps, books: Books, final: Callable[[int], bool], *, person: bool = False, repair: bool = True
) -> PairReport:
    """One meter: the differences with their classes, and what was repaired of them."""
    now = deps.clock() // 1000
    facts = Facts(now, deps.settled_s, final)
    found = own_findings(books, facts)
    sink: Decimal | None = None
    reads, put_off, left = 0, False, ZERO
    if books.customer is not None and books.event_name:
        reader = SinkReader(deps.totals, books)
        try:
            sink = reader.total(books.start, books.end)
            if books.level:
                found += last_value_findings(books, sink, facts)
            else:
                found += [_matched(deps, books, one, now) for one in _at_sink(books, reader, sink, facts)]
                left = left_over(books, sink, found)
        except OutOfReads:
            put_off = True
        except LookupError:
            put_off = True  # the sink has no such meter, or customer: such batches are parked with that reason
        reads = reader.reads
    elif books.missing:
        found += [
            Finding(f.UNSENT, -one.units, f.RESTORE, "the row of the batch is missing", one) for one in books.missing
        ]
    if repair:
        found = [replace(one, applied=may(one, person=person) and apply(deps, books, one)) for one in found]
    return PairReport(
        books.account,
        books.meter,
        books.start,
        books.end,
        books.events_total,
        books.batches_total,
        sink,
        findings=tuple(found),
        unexplained=left,
        reads=reads,
        put_off=put_off,
    )


def _at_sink(books: Books, reader: SinkReader, sink: Decimal, facts: Facts) -> list[Finding]:
    """What the sink's totals add to the findings. What would be an alarm is read once more before it is one."""
    found = wrong_customers(books, facts)
    minutes = reader.differing(sink)
    for minute in minutes:
        some = sink_findings(books, minute, facts)
        if any(one.kind in (f.FOREIGN, f.DUPLICATE, f.UNSENT) and one.at is not None for one in some):
            some = sink_findings(books, minute._replace(actual=reader.total(minute.start, minute.end)), facts)
        found += some
    return found


def _matched(deps: ReconcileDeps, books: Books, finding: Finding, now: int) -> Finding:
    """What one customer lacks and another one has too much, in the same minute, went to the wrong one."""
    if finding.at is None or finding.repair == f.WAIT or finding.kind not in (f.FOREIGN, f.UNSENT, f.DUPLICATE):
        return finding
    other = deps.loose.match(books.event_name, finding.at, books.account, finding.units, now)
    if other is None:
        return finding
    lacks = finding.units < ZERO
    said = f"account {other} has these {'too many' if lacks else 'too few'}: they went to the wrong customer"
    return replace(finding, kind=f.WRONG_CUSTOMER, evidence=said)


def left_over(books: Books, sink: Decimal, found: list[Finding]) -> Decimal:
    """What no finding explains of the difference between the sink and the events."""
    left = unexplained(EXACT.subtract(sink, books.events_total), found)
    if left and rounded(left, sink):
        found.append(Finding(f.ROUNDING, left, f.WAIT, "the sink's totals have 15 digits"))
        return ZERO
    return left


def _settle(deps: ReconcileDeps, rules: Rules, report: PairReport, books: Books, start: int, end: int) -> PairReport:
    """Take days off the list that are over and agree. A crash before that compares them again."""
    if not report.agrees or report.end < end:
        return report
    for home in rules.homes:
        events: dict[int, int] = {}
        for (id_, slot), count in books.sealed.items():
            if id_ == home:
                day = slot.window_start // DAY_S * DAY_S
                events[day] = events.get(day, 0) + count.events
        for day, count_ in events.items():
            deps.pairs.settle(Pair(home, books.meter, day), count_)
    return replace(report, settled=True)
