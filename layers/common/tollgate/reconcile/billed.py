"""What an invoice bills of a meter beside what Stripe counts and what was used: classes and proposals. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import NamedTuple

from tollgate.billing.batch import FLUSHED, Batch
from tollgate.billing.invoice import (
    CreditNoteProposal,
    Invoice,
    InvoiceItemProposal,
    InvoiceLine,
    propose_credit_note,
)
from tollgate.clock import rfc3339
from tollgate.quantities import EXACT, ZERO, plain
from tollgate.reconcile import findings as f
from tollgate.reconcile.books import Books, total
from tollgate.reconcile.classify import BELIEVE_S, CANCELLED, Facts, rounded, subset
from tollgate.reconcile.findings import Finding


class Billed(NamedTuple):
    """A meter on an invoice, over the service period `start` to `end` (epoch seconds): all lines together.

    `quantities`: units by price, none where no line bills the meter. `final_at`: when the invoice became final, None
    for a draft.
    """

    start: int
    end: int
    quantities: Mapping[str, Decimal]
    final_at: int | None

    @property
    def units(self) -> Decimal:
        return total(self.quantities.values())


def billed_findings(books: Books, counted: Decimal, billed: Billed, facts: Facts) -> list[Finding]:
    """Why an invoice bills other units than Stripe counts (`counted`; of a level, the last value). Each finding's units
    are what it adds to (billed - counted); a negative total is billed as 0 [docs]. What is not explained is left over.
    """
    outside = [one for one in _sent(books) if one.timestamp < billed.start and not books.level]
    found = [_outside(one, billed) for one in outside]
    gap = EXACT.subtract(billed.units, max(counted, ZERO)) + total(one.units for one in outside)
    if not gap:
        return found
    if billed.final_at is None:
        return [*found, Finding(f.IN_FLIGHT, gap, f.WAIT, "a draft: Stripe adds what it counts until it is final")]
    if rounded(gap, counted):
        return [*found, Finding(f.ROUNDING, gap, f.NOTHING, "the sink's totals have 15 digits")]
    return [*found, *(_priced_wrong(gap, billed) or _late(books, gap, billed) or _otherwise(books, gap, billed, facts))]


def _sent(books: Books) -> list[Batch]:
    """All that Stripe took for the customer, corrections too."""
    return [one for one in books.batches if one.state == FLUSHED and one.customer == books.customer]


def _repair(units: Decimal) -> str:
    return f.CREDIT_NOTE if units > ZERO else f.INVOICE_ITEM


def _outside(batch: Batch, billed: Billed) -> Finding:
    said = f"booked at {rfc3339(batch.timestamp)}, and the first line begins at {rfc3339(billed.start)}"
    return Finding(f.OUTSIDE, -batch.units, f.INVOICE_ITEM, said, batch)


def _priced_wrong(gap: Decimal, billed: Billed) -> list[Finding]:
    if not billed.quantities:
        said = "the invoice has no line of the meter: its subscription has no price for it"
        return [Finding(f.WRONG_PRICE, gap, f.INVOICE_ITEM, said)]
    if len(billed.quantities) > 1 and gap in billed.quantities.values():
        said = f"{' and '.join(sorted(billed.quantities))} bill the same usage"
        return [Finding(f.WRONG_PRICE, gap, f.CREDIT_NOTE, said)]
    return []


def _late(books: Books, gap: Decimal, billed: Billed) -> list[Finding]:
    """Batches that Stripe took after the invoice was final, or so shortly before that it counted them after."""
    final_at = billed.final_at or 0
    sent = sorted(_sent(books), key=lambda one: (one.timestamp, one.window_start, one.supplement))
    after = [one for one in sent if one.state_at >= final_at]
    if books.level:
        before = [one for one in sent if one.state_at < final_at]
        if after and billed.units == (before[-1].units if before else ZERO):
            return [_came_late(after[-1], gap, final_at)]
        return []
    if after and total(one.units for one in after) == -gap:
        late: Sequence[Batch] | None = after
    else:
        late = subset([one for one in sent if one.state_at >= final_at - BELIEVE_S and one.units > ZERO], -gap)
    return [_came_late(one, -one.units, final_at) for one in late or ()]


def _came_late(batch: Batch, units: Decimal, final_at: int) -> Finding:
    said = f"taken at {rfc3339(batch.state_at)}, the invoice was final at {rfc3339(final_at)}"
    return Finding(f.LATE, units, _repair(units), said, batch)


def _otherwise(books: Books, gap: Decimal, billed: Billed, facts: Facts) -> list[Finding]:
    """What changed at Stripe after the invoice was final, not by a batch."""
    for one in books.batches:
        if one.detail == CANCELLED and one.units == gap:
            said = f"cancelled at {rfc3339(one.state_at)}, after the invoice was final"
            return [Finding(f.DUPLICATE, gap, f.CREDIT_NOTE, said, one)]
    if facts.now - (billed.final_at or 0) < BELIEVE_S:
        return [Finding(f.LAG, gap, f.WAIT, "final for less than an hour: the sink's totals may lag behind")]
    if books.level:
        return []
    sent = books.sent(books.start, books.end, books.customer)
    if gap < ZERO and billed.units == sent:
        said = f"{plain(-gap)} units that no batch of ours stands for came after the invoice was final"
        return [Finding(f.FOREIGN, gap, f.NOTHING, said)]
    if gap > ZERO and billed.units == sent:
        said = f"{plain(gap)} units were billed as they were sent, and Stripe counts them no more"
        return [Finding(f.UNSENT, gap, f.NOTHING, said)]
    return []


def judged(findings: list[Finding], *, owed: Decimal, billed: Decimal) -> list[Finding]:
    """Findings of a final invoice as far as the customer is concerned: one that bills what is owed needs nothing,
    however Stripe's total came about; what it does not bill is charged or given back by hand."""
    if owed != billed:
        return findings
    return [one if one.passing else replace(one, repair=f.NOTHING) for one in findings]


def proposal(
    invoice: Invoice, lines: Sequence[InvoiceLine], due: Decimal, memo: str
) -> CreditNoteProposal | InvoiceItemProposal | None:
    """What makes up for lines that do not come to what is `due` (major units), None where they do. A credit is taken
    off the last lines first."""
    over = EXACT.subtract(total(line.amount for line in lines), due)
    if over < ZERO:
        return InvoiceItemProposal(invoice.id, invoice.currency, -over, memo)
    credited: dict[str, Decimal] = {}
    for line in reversed(lines):
        part = min(over, line.amount)
        if part > ZERO:
            credited[line.id] = part
            over = EXACT.subtract(over, part)
    return propose_credit_note(invoice, credited, memo) if credited else None
