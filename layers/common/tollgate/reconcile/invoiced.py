"""Compares invoices with what Stripe counts and what was used: each once, after it became final.

What is to be compared is listed by the closes themselves (`billing/close_store.py`), so nothing is looked for. The
events' side are the frozen totals: that these equal the rows is what the days' comparison proves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import NamedTuple

from tollgate.accounts.rules import Rules
from tollgate.billing.batch import FLUSHED
from tollgate.billing.close_row import CLOSED, GONE, Close, CloseKey
from tollgate.billing.close_usage import whole_minutes
from tollgate.billing.invoice import Invoice, InvoiceLine, metered_lines
from tollgate.billing.invoice_audit import rated
from tollgate.quantities import ZERO, plain
from tollgate.reconcile import findings as f
from tollgate.reconcile.account import PairReport, left_over
from tollgate.reconcile.billed import Billed, billed_findings, judged, proposal
from tollgate.reconcile.books import Books, total
from tollgate.reconcile.classify import (
    Facts,
    Minute,
    last_value_findings,
    own_findings,
    sink_findings,
    wrong_customers,
)
from tollgate.reconcile.ports import OutOfReads, ReconcileDeps
from tollgate.reconcile.totals import books_of
from tollgate.usage.markers import SHARDS


def final_invoices(deps: ReconcileDeps, now: int, shards: Iterable[int] = range(SHARDS)) -> Iterator[CloseKey]:
    """Closes that ended since they were last compared."""
    for shard in shards:
        yield from deps.closes.final(shard, now)


def invoices_between(deps: ReconcileDeps, account: str, start: int, end: int) -> list[CloseKey]:
    """An account's invoices, drafts too, that bill usage of [start, end), oldest first."""
    customer = deps.rules.fresh(account).row.stripe_customer_id
    closes = deps.closes.of_customer(customer) if customer else ()
    found = [one for one in closes if one.start < end and start < one.end and one.outcome != GONE]
    return [one.key for one in sorted(found, key=lambda one: one.start)]


def reconcile_invoice(deps: ReconcileDeps, key: CloseKey, *, settle: bool = True) -> list[PairReport]:
    """Compare one invoice, meter by meter; nothing is repaired. One read for the invoice, one for each meter (and each
    price once per process). Raises what the stores and Stripe raise; it stays listed then."""
    close = deps.closes.get(key)
    if close is None:
        return []
    try:
        invoice = deps.invoices.read(close.invoice)
        reports = [] if invoice is None else _Comparison.of(deps, close, invoice).reports()
    except OutOfReads:
        return [_unread(close, _Stretch(meter, close.start, close.end)) for meter in close.meters]
    if settle and close.state == CLOSED and not any(_may_change(one) for one in reports):
        # A final invoice stays as it is: what differs has its report and its alert, and is not read again. A crash
        # before this compares it once more, and says the same.
        deps.closes.replace(close, replace(close, due_at=None))
        reports = [replace(one, settled=one.agrees) for one in reports]
    return reports


def _may_change(report: PairReport) -> bool:
    return report.put_off or any(one.repair == f.WAIT and one.kind != f.ROUNDING for one in report.findings)


class _Stretch(NamedTuple):
    """A meter over a service period; epoch seconds."""

    meter: str
    start: int
    end: int

    def bills(self, meter: str, timestamp: int) -> bool:
        return self.meter == meter and self.start <= timestamp < self.end


def _unread(close: Close, at: _Stretch) -> PairReport:
    found = PairReport(close.account, at.meter, at.start, at.end, ZERO, ZERO, None)
    return replace(found, put_off=True, invoice=close.invoice)


@dataclass(frozen=True, slots=True)
class _Comparison:
    """One invoice with the books of its whole time. `elsewhere`: what the customer's other invoices bill."""

    deps: ReconcileDeps
    rules: Rules
    close: Close
    invoice: Invoice
    lines: dict[_Stretch, list[InvoiceLine]]
    elsewhere: list[_Stretch]
    books: dict[str, Books]

    @classmethod
    def of(cls, deps: ReconcileDeps, close: Close, invoice: Invoice) -> _Comparison:
        rules = deps.rules.fresh(close.account)
        lines = _lines(deps, rules, invoice)
        others = [one for one in deps.closes.of_customer(close.customer) if one.key != close.key]
        elsewhere = [_Stretch(meter, one.start, one.end) for one in others for meter in one.meters]
        first = min([close.start, *(at.start for at in lines)])
        last = max([close.end, *(at.end for at in lines)])
        books = books_of(deps, rules, *whole_minutes(first, last), {at.meter for at in lines}, rows=False)
        for one in books.values():
            one.customer = close.customer
        return cls(deps, rules, close, invoice, lines, elsewhere, books)

    def reports(self) -> list[PairReport]:
        return [self._report(at) for at in sorted([*self.lines, *self._without_line()])]

    def _without_line(self) -> list[_Stretch]:
        """Meters that the customer used all the time, and that no invoice bills."""
        start, end = self.close.start, self.close.end
        billed = {at.meter for at in self.lines}
        billed |= {at.meter for at in self.elsewhere if at.start < end and start < at.end}
        return [
            _Stretch(meter, start, end)
            for meter, books in self.books.items()
            if meter not in billed
            and any(one.customer == self.close.customer and start <= one.timestamp < end for one in books.live)
        ]

    def _narrowed(self, at: _Stretch) -> tuple[Books, Decimal]:
        """The books of a stretch, and what Stripe's total of its whole minutes has beyond them, for other lines. Usage
        that was booked in the first minute before the first second, which no line bills, is kept."""
        whole = self.books[at.meter]
        first, last = whole_minutes(at.start, at.end)
        others = [*self.lines, *self.elsewhere]

        def mine(timestamp: int) -> bool:
            if first <= timestamp < at.start:
                return not any(one.bills(at.meter, timestamp) for one in others)
            return at.start <= timestamp < at.end

        books = replace(
            whole,
            start=first,
            end=last,
            rows={key: count for key, count in whole.rows.items() if mine(key[1].timestamp)},
            sealed={key: count for key, count in whole.sealed.items() if mine(key[1].timestamp)},
            batches=[one for one in whole.batches if mine(one.timestamp)],
            missing=[one for one in whole.missing if mine(one.timestamp)],
        )
        beyond = [one for one in whole.batches if first <= one.timestamp < last and not mine(one.timestamp)]
        counted = [one for one in beyond if one.state == FLUSHED and one.customer == whole.customer]
        return books, total(one.units for one in counted)

    def _report(self, at: _Stretch) -> PairReport:
        books, beyond = self._narrowed(at)
        try:
            seen = self.deps.totals.total(self.close.customer, books.event_name, books.start, books.end)
        except LookupError:
            return _unread(self.close, at)  # the sink has no such meter
        if not books.level:
            seen -= beyond
        lines = self.lines.get(at, [])
        final_at = None if self.invoice.draft else self.invoice.finalized_at or self.invoice.created
        billed = Billed(at.start, at.end, _by_price(lines), final_at)
        facts = Facts(self.deps.clock() // 1000, self.deps.settled_s, lambda _: final_at is not None)
        found, left = _counted(books, seen, facts)
        gaps = billed_findings(books, seen, billed, facts)
        left += billed.units - max(seen, ZERO) - total(one.units for one in gaps)
        owed = seen if books.level else books.events_total
        report = PairReport(
            self.close.account,
            at.meter,
            at.start,
            at.end,
            books.events_total,
            books.batches_total,
            seen,
            invoices=billed.units,
            findings=tuple(judged([*found, *gaps], owed=owed, billed=billed.units)),
            unexplained=left,
            reads=1,
            invoice=self.invoice.id,
            final=final_at is not None,
        )
        due = self._due(lines, owed)
        if final_at is None or due is None or not report.lasting:
            return report
        memo = f"{plain(owed)} units of {at.meter} were used, {plain(billed.units)} were billed"
        return replace(report, proposal=proposal(self.invoice, self._ours_first(lines), due, memo))

    def _due(self, lines: Sequence[InvoiceLine], units: Decimal) -> Decimal | None:
        """What lines ought to come to; None where no price of ours, or more than one, says it."""
        prices = [self.deps.invoices.price(price) for price in sorted({line.price for line in lines if line.price})]
        amounts = [rated(self.deps.plans, price, units, self.invoice.currency) for price in prices]
        known = [amount for amount in amounts if amount is not None]
        return known[0] if len(known) == 1 else None

    def _ours_first(self, lines: Iterable[InvoiceLine]) -> list[InvoiceLine]:
        """What a price bills that is not ours is given back first: it stands last."""
        return sorted(lines, key=lambda line: self.deps.invoices.price(line.price or "").meter is None)


def _lines(deps: ReconcileDeps, rules: Rules, invoice: Invoice) -> dict[_Stretch, list[InvoiceLine]]:
    """Metered lines by meter and service period; also those of a price that is not ours, of a meter that is."""
    found: dict[_Stretch, list[InvoiceLine]] = {}
    for line, price in metered_lines(invoice, deps.invoices.price):
        meter = price.meter or _meter_at_stripe(deps, rules, price.stripe_meter)
        if meter is not None:
            found.setdefault(_Stretch(meter, line.period_start, line.period_end), []).append(line)
    return found


def _meter_at_stripe(deps: ReconcileDeps, rules: Rules, stripe_meter: str | None) -> str | None:
    for meter in rules.meters.values():
        if not meter.stripe_event_name:
            continue
        try:
            if deps.totals.meter(meter.stripe_event_name) == stripe_meter:
                return meter.id
        except LookupError:
            continue  # not known there
    return None


def _by_price(lines: Iterable[InvoiceLine]) -> dict[str, Decimal]:
    found: dict[str, Decimal] = {}
    for line in lines:
        found[line.price or ""] = found.get(line.price or "", ZERO) + (line.quantity or ZERO)
    return found


def _counted(books: Books, seen: Decimal, facts: Facts) -> tuple[list[f.Finding], Decimal]:
    """What makes Stripe's total differ from what was used, and what is left of it unexplained."""
    found = [*own_findings(books, facts), *wrong_customers(books, facts)]
    if books.level:
        return [*found, *last_value_findings(books, seen, facts)], ZERO
    found += sink_findings(books, Minute(books.start, books.end, seen), facts)
    return found, left_over(books, seen, found)
