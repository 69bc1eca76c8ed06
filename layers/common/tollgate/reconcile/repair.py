"""Repairs what a comparison found. Every repair may be repeated, and a crash anywhere in one leaves a state that the
next comparison classes and completes: what is written is a row at a fixed key, or a change of a row that asserts it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tollgate.billing.batch import (
    FLUSHED,
    NO_CUSTOMER,
    SEALED,
    SENDING,
    UNCONFIRMED,
    UNDOING,
    Batch,
    NotRepairable,
    identifier_of,
)
from tollgate.billing.repair import repair as succeed
from tollgate.reconcile import findings as f
from tollgate.reconcile.books import MINUTE, Books
from tollgate.reconcile.classify import CANCELLED, move_key
from tollgate.reconcile.findings import Finding
from tollgate.reconcile.ports import ReconcileDeps

_MOST_UNDOINGS: Final = 99


def may(finding: Finding, *, person: bool) -> bool:
    """Whether a finding's repair may be done: the safe ones always, those of BY_PERSON when a person asks."""
    return finding.repair in f.AUTOMATIC or (person and finding.repair in f.BY_PERSON)


def apply(deps: ReconcileDeps, books: Books, finding: Finding) -> bool:
    """Do a finding's repair; False where it turned out not to be possible (a row changed, a cause is still there)."""
    now = deps.clock() // 1000
    batch = finding.batch
    if finding.repair == f.RESEAL and finding.place is not None:
        place = finding.place
        # Seal reads the rows again and freezes only what is missing, however often the marker is put.
        deps.markers.ensure(place.home, place.window_start * 1000, [at * 1000 for at in place.origins], again=True)
        return True
    if finding.repair == f.CORRECT:
        return _correct(deps, books, finding, now)
    if batch is None:
        return False
    match finding.repair:
        case f.QUEUE:
            return deps.batches.replace(batch, replace(batch, due_at=now)) is not None
        case f.RESEND:
            # As after a crash in the middle of a send: flush sends it under its identifier, and not after 20 hours.
            doubted = batch.into(SENDING, now, sent_at=batch.created_at, doubt_since=batch.created_at, due_at=now)
            return deps.batches.replace(batch, replace(doubted, detail="not in the sink's total")) is not None
        case f.ARRIVED:
            arrived = batch.into(FLUSHED, now, detail="the sink's total has it", reason=None, untold=False)
            return deps.batches.replace(batch, arrived) is not None
        case f.SEND_ANEW:
            return _succeed(deps, batch, now, None)
        case f.REPAIR:
            return _cause_is_gone(deps, books, batch) and _succeed(deps, batch, now, books.customer)
        case f.RESEND_LOST:
            # A crash after the first write leaves it unconfirmed: the sink's totals settle it, an hour later.
            lost = batch.into(UNCONFIRMED, now, reason="not_in_totals", untold=False)
            written = deps.batches.replace(batch, lost)
            return written is not None and _succeed(deps, written, now, None)
        case f.RESTORE_SENT:
            fixed = replace(batch, identifier=identifier_of(deps.stack, batch), untold=False, reason=None)
            return deps.batches.put_new(fixed.into(FLUSHED, now, detail="put again: the sink's total has it")) is None
        case f.RESTORE:
            state = SEALED if batch.customer else NO_CUSTOMER
            return deps.batches.put_new(replace(batch, state=state, due_at=now)) is None
        case f.CANCEL:
            return _cancel(deps, batch, now)
        case f.MOVE:
            return _move(deps, books, batch, now)
    return False


def _succeed(deps: ReconcileDeps, batch: Batch, now: int, customer: str | None) -> bool:
    try:
        succeed(deps.batches, batch, now, customer)  # type: ignore[arg-type]
    except NotRepairable:
        return False
    return True


def _cause_is_gone(deps: ReconcileDeps, books: Books, batch: Batch) -> bool:
    """Whether a refused batch would be taken now. It was refused for certain, so nothing of it is counted."""
    if books.customer is None:
        return False
    if batch.reason == "customer_not_found":
        return deps.totals.customer_exists(books.customer)
    return batch.reason not in ("no_event_name", "too_many_digits")  # the same again is refused again


def _cancel(deps: ReconcileDeps, batch: Batch, now: int) -> bool:
    if batch.identifier is None:
        return False
    # A crash after this cancels again, which is refused: it is noted all the same, and the totals tell in an hour.
    deps.totals.cancel(batch.event_name, batch.identifier)
    return deps.batches.replace(batch, replace(batch, detail=CANCELLED, state_at=now)) is not None


def _correct(deps: ReconcileDeps, books: Books, finding: Finding, now: int) -> bool:
    """Put a batch that takes away what the sink has too much. It goes the way of all batches: once, or parked."""
    like = finding.batch or _any_near(books, finding.at)
    if finding.at is None or like is None:
        return False
    used = {one.supplement for one in books.batches if one.window_start == finding.at}
    number = next((n for n in range(UNDOING, UNDOING + _MOST_UNDOINGS) if n not in used), None)
    if number is None:
        return False
    undoing = replace(
        _fresh(like, now),
        window_start=finding.at,
        window_end=finding.at + MINUTE,
        timestamp=max(finding.at, like.period_start),
        supplement=number,
        part=0,
        units=-finding.units,
        customer=finding.customer,
    )
    # Two comparisons at once choose the same number: one put stands.
    return deps.batches.put_new(undoing) is None


def _any_near(books: Books, at: int | None) -> Batch | None:
    """A batch of the billing period that an instant lies in."""
    inside = [one for one in books.batches if at is not None and one.period_start <= at < one.period_end]
    return inside[0] if inside else None


def _move(deps: ReconcileDeps, books: Books, batch: Batch, now: int) -> bool:
    """Undo a batch at the customer that it was sent for, and send it for the right one."""
    if books.customer is None:
        return False
    number = move_key(batch)[2]
    undo = replace(_fresh(batch, now), supplement=number - 1, units=-batch.units, customer=batch.customer)
    again = replace(_fresh(batch, now), supplement=number, customer=books.customer)
    # A crash between the two leaves the customer uncharged, and the finding: repeating it puts the second one.
    deps.batches.put_new(undo)
    deps.batches.put_new(again)
    return True


def _fresh(like: Batch, now: int) -> Batch:
    """A batch that waits to be sent, like another one in what it is for."""
    return replace(
        like,
        created_at=now,
        state=SEALED,
        state_at=now,
        revision=0,
        identifier=None,
        attempts=0,
        sent_at=None,
        retry_at=None,
        doubt_since=None,
        lease_until=None,
        due_at=now,
        untold=False,
        reason=None,
        detail="correction",
        repaired_by=None,
        version=0,
    )
