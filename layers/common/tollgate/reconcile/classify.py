"""What the differences are: pure. First what our own books say about themselves, then each minute that differs at the
sink.

A minute at the sink holds the batches whose timestamp lies in it. Their sum is known, so a subset of those in doubt
that makes up the difference says which of them arrived. Where several subsets fit, all of them leave the same total.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import combinations
from typing import Final, NamedTuple

from tollgate.billing.batch import CORRECTIONS, FLUSHED, MAX_DIGITS, SEALED, SENDING, UNCONFIRMED, Batch
from tollgate.billing.flush import DOUBT_S
from tollgate.clock import rfc3339
from tollgate.quantities import EXACT, ZERO, plain
from tollgate.reconcile import findings as f
from tollgate.reconcile.books import Books, minute_of, sent_in, total
from tollgate.reconcile.findings import Finding, Place

FRESH_S: Final = 7_200
"""So long a batch may be on its way without anything being wrong."""
BELIEVE_S: Final = 3_600
"""So long after a send its absence from the sink's totals says nothing: they lag behind."""
CANCEL_S: Final = 24 * 3600 - 900
"""Stripe cancels an event within 24 hours of receipt [SDK]; a quarter of an hour is for clocks."""
CANCELLED: Final = "cancelled"
"""The detail of a batch whose event was cancelled at the sink."""
MOST_DOUBTS: Final = 12
"""Batches of one minute that are tried in all combinations."""


class Minute(NamedTuple):
    """A minute's (or longer stretch's) total at the sink for one customer."""

    start: int
    end: int
    actual: Decimal


@dataclass(frozen=True, slots=True)
class Facts:
    """What classes depend on beside the books. `now`: epoch seconds. `finalized`: whether no invoice takes usage any
    more that is booked at a time; `settled_s`: after how long past its end a window's rows are all sealed."""

    now: int
    settled_s: int
    finalized: Callable[[int], bool]


# --- our own books ---------------------------------------------------------------------------------------------------


def own_findings(books: Books, facts: Facts) -> list[Finding]:
    """What the rows, frozen windows and batches say, without the sink. Doubts are left to the sink's totals."""
    found = list(_unsealed(books, facts))
    # What a correction adds is missing until it is sent; what one takes away is found at the sink.
    for batch in [*books.live, *(one for one in books.corrections if one.units > ZERO)]:
        one = _by_state(batch, facts)
        if one is not None:
            found.append(one)
    return found


def _unsealed(books: Books, facts: Facts) -> Iterable[Finding]:
    for (home, slot), count in sorted(books.rows.items()):
        frozen = books.sealed.get((home, slot))
        events = count.events - (frozen.events if frozen else 0)
        units = EXACT.subtract(count.billable, frozen.billable if frozen else ZERO)
        if not events and not units:
            continue
        where = f"{events} events recorded from {rfc3339(slot.window_start)} are not sealed"
        place = Place(home, slot.window_start, tuple(sorted(books.origins.get((home, slot), ()))))
        if facts.now < slot.window_end + facts.settled_s:
            yield Finding(f.IN_FLIGHT, -units, f.WAIT, where, place=place)
        else:
            yield Finding(f.UNSEALED, -units, f.RESEAL, where, place=place)


def _by_state(batch: Batch, facts: Facts) -> Finding | None:
    units = -batch.units
    match batch.state:
        case "sealed" | "sending":
            said = f"{batch.state} since {rfc3339(batch.created_at)}, {batch.attempts} attempts"
            if facts.now - batch.created_at < FRESH_S or batch.state == SENDING:
                return Finding(f.IN_FLIGHT, units, f.WAIT, said, batch)
            return Finding(f.UNSENT, units, f.QUEUE, said, batch)
        case "no_customer":
            return Finding(f.UNSENT, units, f.MAP_CUSTOMER, "the account has no Stripe customer", batch)
        case "rejected":
            said = f"{batch.reason} ({batch.detail or 'no detail'})"
            repair = f.INVOICE_ITEM if facts.finalized(batch.timestamp) else f.REPAIR
            return Finding(f.REJECTED, units, repair, said, batch)
        case "expired":
            return Finding(f.LATE, units, f.INVOICE_ITEM, f"{batch.reason}: the sink takes it no more", batch)
    return None


# --- the sink --------------------------------------------------------------------------------------------------------


def doubts(books: Books) -> list[Batch]:
    """Batches of which only the sink's totals say whether they arrived."""
    return [one for one in books.live if one.state == UNCONFIRMED] + books.missing


def sink_findings(books: Books, minute: Minute, facts: Facts) -> list[Finding]:
    """What a stretch of the sink's time says: which doubtful batches arrived, and what explains the rest.

    For a single minute; a longer stretch is one that could not be narrowed down.
    """
    inside = [one for one in books.batches if sent_in(one, minute.start, minute.end, books.customer)]
    open_ = [one for one in doubts(books) if _in(one, minute) and _ours(one, books)]
    gap = EXACT.subtract(minute.actual, total(one.units for one in inside))
    # Undone already, and the sink does not show it yet: whatever it says, the rest waits.
    undone = [
        one
        for one in books.corrections
        if one.units < ZERO
        and (one.state in (SEALED, SENDING) or (one.state == FLUSHED and facts.now - one.state_at < BELIEVE_S))
        and _in(one, minute)
        and _ours(one, books)
    ]
    if undone and gap == -total(one.units for one in undone):
        said = f"a correction of {plain(-gap)} is on its way"
        return [Finding(f.FOREIGN, gap, f.WAIT, said, undone[0], at=minute.start), *_all_wait(open_, facts)]
    waiting = [one for one in books.live if one.state in (SEALED, SENDING) and _in(one, minute) and _ours(one, books)]
    arrived = subset([*open_, *waiting], gap)
    if arrived is not None and waiting and gap:
        # One of these may have been sent meanwhile: which one it was, is known once they are through.
        there = [one for one in arrived if one in waiting] or waiting[:1]
        said = "the sink has it already, or will soon"
        return [Finding(f.IN_FLIGHT, gap, f.WAIT, said, there[0]), *_all_wait(open_, facts)]
    if arrived is not None:
        return list(_settled(open_, arrived, facts))
    recent = [one for one in inside if facts.now - one.state_at < BELIEVE_S]
    if gap < ZERO:
        return _deficit(inside, recent, open_, gap, minute, facts)
    cancelled = [one for one in inside if one.supplement < CORRECTIONS and one.units == gap]
    return [*_excess(books, cancelled, gap, minute, facts), *_undecided(open_)]


def _in(batch: Batch, minute: Minute) -> bool:
    return minute.start <= batch.timestamp < minute.end


def _ours(batch: Batch, books: Books) -> bool:
    return batch.customer is None or batch.customer == books.customer


def _settled(open_: Sequence[Batch], arrived: Sequence[Batch], facts: Facts) -> Iterable[Finding]:
    """A subset of the doubtful batches is there, the others are not."""
    there = {one.key for one in arrived}
    for one in open_:
        lost_row = one.state != UNCONFIRMED
        kind = f.UNSENT if lost_row else f.UNCONFIRMED
        if one.key in there:
            said = f"{plain(one.units)} units stand in the sink's total of its minute"
            yield Finding(kind, ZERO, f.RESTORE_SENT if lost_row else f.ARRIVED, said, one)
            continue
        said = "the row of the batch is missing, and " if lost_row else ""
        said += "the sink's total of its minute does not have it"
        since = one.created_at if lost_row else one.state_at
        if facts.now - since < BELIEVE_S:
            yield Finding(f.IN_FLIGHT if lost_row else kind, -one.units, f.WAIT, said + ", yet", one)
        elif facts.finalized(one.timestamp):
            yield Finding(f.LATE, -one.units, f.INVOICE_ITEM, said + "; its invoice is final", one)
        else:
            yield Finding(kind, -one.units, f.RESTORE if lost_row else f.SEND_ANEW, said, one)


def _all_wait(open_: Sequence[Batch], facts: Facts) -> Iterable[Finding]:
    for one in _settled(open_, (), facts):
        yield Finding(one.kind, one.units, f.WAIT, one.evidence, one.batch)


def _undecided(open_: Sequence[Batch]) -> Iterable[Finding]:
    for one in open_:
        said = "the sink's total of its minute fits neither its arrival nor its absence"
        yield Finding(f.UNCONFIRMED if one.state == UNCONFIRMED else f.UNSENT, -one.units, f.LOOK, said, one)


def _deficit(
    inside: Sequence[Batch],
    recent: Sequence[Batch],
    open_: Sequence[Batch],
    gap: Decimal,
    minute: Minute,
    facts: Facts,
) -> list[Finding]:
    """The sink has less than was flushed."""
    late = subset(recent, -gap)
    if late is not None:
        said = "taken less than an hour ago, not in the totals yet"
        return [*(Finding(f.LAG, -one.units, f.WAIT, said, one) for one in late), *_all_wait(open_, facts)]
    lost = subset([one for one in inside if one.units > ZERO], -gap)
    if lost is None:
        return list(_undecided(open_))
    found = []
    for one in lost:
        said = f"taken at {rfc3339(one.state_at)}, and not in the sink's total of its minute"
        if facts.finalized(one.timestamp):
            found.append(Finding(f.LATE, -one.units, f.INVOICE_ITEM, said + "; its invoice is final", one))
        # `sent_at` is that of the last attempt: when the identifier was first used is not later than this.
        elif facts.now - one.created_at < DOUBT_S:
            found.append(Finding(f.UNSENT, -one.units, f.RESEND, said, one, at=minute.start))
        else:
            found.append(Finding(f.UNSENT, -one.units, f.RESEND_LOST, said, one, at=minute.start))
    return [*found, *_settled(open_, (), facts)]


def _excess(books: Books, equal: Sequence[Batch], gap: Decimal, minute: Minute, facts: Facts) -> Iterable[Finding]:
    """The sink has more than was flushed, and nothing in doubt makes it up."""
    twice = [one for one in _predecessors(books, minute) if one.units == gap]
    if twice:
        one = twice[0]
        said = f"both {one.identifier} and its successor {one.repaired_by} are counted"
        received = one.sent_at or one.state_at
        if one.detail == CANCELLED and facts.now - one.state_at < BELIEVE_S:
            yield Finding(f.DUPLICATE, gap, f.WAIT, said + ", one is cancelled by now", one, at=minute.start)
            return
        if facts.finalized(one.timestamp):
            repair = f.CREDIT_NOTE
        elif facts.now - received < CANCEL_S and one.detail != CANCELLED:
            repair = f.CANCEL
        else:
            repair = f.CORRECT
        yield Finding(f.DUPLICATE, gap, repair, said, one, at=minute.start, customer=books.customer)
    elif equal:
        said = f"{plain(gap)} units more, as many as batch {equal[0].key.sk} has: sent twice, the second time not by us"
        repair = f.CREDIT_NOTE if facts.finalized(minute.start) else f.CORRECT
        yield Finding(f.DUPLICATE, gap, repair, said, equal[0], at=minute.start, customer=books.customer)
    else:
        said = f"{plain(gap)} units at {rfc3339(minute.start)} that no batch of ours stands for"
        repair = f.CREDIT_NOTE if facts.finalized(minute.start) else f.CORRECT
        yield Finding(f.FOREIGN, gap, repair, said, at=minute.start, customer=books.customer)


def _predecessors(books: Books, minute: Minute) -> list[Batch]:
    """Batches that a successor took over although they may have been sent, whose successor is counted."""
    sent = {one.key.sk for one in books.batches if one.state == FLUSHED}
    return [
        one
        for one in books.batches
        if one.repaired_by in sent
        and one.identifier is not None
        and one.customer == books.customer
        and minute.start <= one.timestamp < minute.end
    ]


def wrong_customers(books: Books, facts: Facts) -> list[Finding]:
    """Batches that were sent for another customer than the account has."""
    moved = {(one.window_start, one.period_start, one.supplement, one.part) for one in books.corrections}
    found = []
    for one in books.live:
        if one.state != FLUSHED or one.customer == books.customer or books.customer is None:
            continue
        if move_key(one) in moved:
            continue
        final = facts.finalized(one.timestamp)
        said = f"sent for {one.customer}, and the account's customer is {books.customer}"
        repair = f.INVOICE_ITEM if final else f.MOVE
        found.append(Finding(f.WRONG_CUSTOMER, -one.units, repair, said, one, customer=books.customer))
    return found


def move_key(batch: Batch) -> tuple[int, int, int, int]:
    """Where the second of the two corrections stands that move a batch to the right customer."""
    return batch.window_start, batch.period_start, CORRECTIONS + 2 * batch.supplement + 1, batch.part


def last_value_findings(books: Books, actual: Decimal, facts: Facts) -> list[Finding]:
    """Of a level meter the sink shows the last value of a stretch; only that can be compared."""
    known = sorted((one for one in books.batches if one.state == FLUSHED), key=lambda one: one.timestamp)
    expected = known[-1].units if known else ZERO
    newest = max(doubts(books), key=lambda one: one.timestamp, default=None)
    found = []
    for one in doubts(books):
        lost_row = one.state != UNCONFIRMED
        kind = f.UNSENT if lost_row else f.UNCONFIRMED
        beyond = known and known[-1].timestamp > one.timestamp
        if one is newest and not beyond and actual == one.units:
            found.append(Finding(kind, ZERO, f.RESTORE_SENT if lost_row else f.ARRIVED, "it is the last value", one))
        elif facts.now - one.state_at < BELIEVE_S:
            found.append(Finding(kind, ZERO, f.WAIT, "the sink's totals may lag behind", one))
        else:
            said = "it is not the last value that the sink has; sending a level again changes nothing"
            found.append(Finding(kind, ZERO, f.RESTORE if lost_row else f.SEND_ANEW, said, one))
    if not found and actual != expected:
        if known and facts.now - known[-1].state_at < BELIEVE_S:
            found.append(
                Finding(f.LAG, actual - expected, f.WAIT, "the last value was taken within the hour", known[-1])
            )
        else:
            said = f"the sink's last value is {plain(actual)}, ours {plain(expected)}"
            found.append(Finding(f.FOREIGN, actual - expected, f.LOOK, said, known[-1] if known else None))
    return found


def rounded(gap: Decimal, amount: Decimal) -> bool:
    """Whether a difference is no more than the sink's totals are exact to: they come in 15 digits [SDK: a float]."""
    return bool(gap) and abs(gap) < Decimal(1).scaleb(amount.adjusted() - MAX_DIGITS + 2)


def subset(batches: Sequence[Batch], amount: Decimal) -> list[Batch] | None:
    """Batches whose units add up to `amount`: as few as can be, the first that fit. None where there are none."""
    if not amount:
        return []
    if amount < ZERO:
        return None
    most = list(batches)[:MOST_DOUBTS]
    for size in range(1, len(most) + 1):
        for some in combinations(most, size):
            if total(one.units for one in some) == amount:
                return list(some)
    return None


def minutes_of(batches: Iterable[Batch]) -> list[int]:
    return sorted({minute_of(one.timestamp) for one in batches})
