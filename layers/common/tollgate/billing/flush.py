"""Flush: send batches to the sink, each at most once, and record what became of them.

The row is claimed before the call (`sending`, with a lease) and the answer recorded after it. So a crash in between
leaves a batch that was perhaps sent: it is in doubt. A batch in doubt is sent again under the same identifier, which
the sink knows if it has it; only while it certainly remembers identifiers, and never after an answer that tells
nothing: then it is `unconfirmed`, and a comparison with the sink's totals decides.

Every wait is written to the row (`retry_at`), and seal queues the batch again when it is due. So the queue is never
held up: not by an outage, not by one customer's trouble.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from tollgate.alerts.outbox import Outbox
from tollgate.billing.batch import (
    CORRECTIONS,
    EXPIRED,
    EXPIRES_S,
    FLUSHED,
    NO_CUSTOMER,
    REJECTED,
    SEALED,
    SENDING,
    SHADOWED,
    UNCONFIRMED,
    Batch,
    BatchKey,
    identifier_of,
)
from tollgate.billing.close_row import IN_DOUBT, LATE
from tollgate.billing.ports import BatchStore, ClosesReader, SeenCustomers
from tollgate.billing.sink import (
    Accepted,
    Duplicate,
    NotSent,
    Refused,
    SendResult,
    Sink,
    SinkEvent,
    SinkUnavailable,
    Unknown,
)
from tollgate.billing.trouble import tell
from tollgate.clock import Clock

DOUBT_S: Final = 20 * 3600
"""How long after the first doubtful attempt a batch is sent again. Stripe promises to know an identifier for 24 hours;
the rest is for clocks and for calls that hang."""
LEASE_S: Final = 120
"""How long a claimed batch is left alone: longer than a flush function lives."""
SKEW_S: Final = 5
"""A seal whose clock is ahead queues a batch a little before its `retry_at`."""
TRIES: Final = 6
_DETAIL_CHARACTERS: Final = 300

MISSING, WAITING, LEASED, POSTPONED, RETRY, DOUBT = "missing", "waiting", "leased", "postponed", "retry", "doubt"


@dataclass(frozen=True, slots=True)
class FlushDeps:
    """Everything that flush uses, made once per process."""

    batches: BatchStore
    sink: Sink
    customers: SeenCustomers
    closes: ClosesReader
    outbox: Outbox
    clock: Clock
    stack: str
    """Name of the stack: part of every identifier."""
    shadow: bool = False
    """Send nothing: batches end as `shadowed`."""
    restored_at: int | None = None
    """Epoch second at which the stack went on with tables restored from a backup: what the rows of before say of
    sends is out of date."""
    jitter: Callable[[int], int] = lambda seconds: seconds + random.randrange(seconds // 4 + 1)
    """Spreads waits, so that what failed together does not come back together."""


def flush(deps: FlushDeps, key: BatchKey, in_time: Callable[[], bool] = lambda: True) -> str:
    """Send one batch if there is anything to send. Returns its state now, or why nothing was done.

    `in_time` says whether a whole send still fits; where not, the batch is put off. Raises only what the stores raise.
    """
    for _ in range(TRIES):
        batch = deps.batches.get(key)
        if batch is None:
            return MISSING
        now = deps.clock() // 1000
        idle = _nothing_to_do(batch, now)
        if idle is not None:
            return idle
        if deps.shadow:
            step = _unsent(deps, batch, now)
        else:
            step = _before(deps, batch, now) if in_time() else _later(batch, now, deps.jitter(30), "out of time")
        after = deps.batches.replace(batch, step)
        if after is None:
            continue  # another flush, or seal, was quicker: look again
        if after.state != SENDING or after.lease_until is None:
            return _ended(deps, after)
        # Asked after the claim: who shuts a period looks for claimed batches afterwards, so one of both sees the other.
        if any(close.shuts_out(after.timestamp, now) for close in deps.closes.of_customer(after.customer or "")):
            # A crash here leaves a claimed batch that was not sent; it is taken for doubtful then, and settled.
            return _shut_out(deps, after, now)
        return _record(deps, after, deps.sink.send(_event(after)))
    return WAITING  # others keep changing the row: whoever did last takes care of it


def _shut_out(deps: FlushDeps, claimed: Batch, now: int) -> str:
    """A claimed batch whose invoice is final: nothing is sent. Unless an earlier attempt is in doubt, it certainly is
    not at Stripe."""
    state, reason = (EXPIRED, LATE) if claimed.doubt_since is None else (UNCONFIRMED, IN_DOUBT)
    parked = deps.batches.replace(claimed, _parked(claimed, state, now, reason))
    return WAITING if parked is None else _ended(deps, parked)


def _nothing_to_do(batch: Batch, now: int) -> str | None:
    if batch.final or batch.state == NO_CUSTOMER:
        return batch.state
    if batch.retry_at is not None and batch.retry_at > now + SKEW_S:
        return WAITING
    if batch.lease_until is not None and batch.lease_until > now:
        return LEASED
    return None


# --- before the call -------------------------------------------------------------------------------------------------


def _before(deps: FlushDeps, batch: Batch, now: int) -> Batch:
    """What the row becomes before anything is sent: claimed for a send, or parked, or put off."""
    if batch.state == SENDING:
        return _resend(deps, batch, now)
    if deps.restored_at is not None and _out_of_date(batch, deps.restored_at):
        return _parked(batch, UNCONFIRMED, now, "restored")
    if now - batch.timestamp > EXPIRES_S:
        return _parked(batch, EXPIRED, now, "too_old")
    if batch.customer is None:
        raise AssertionError("a sealed batch has a customer")
    if not deps.customers.seen(batch.customer):
        # The sink takes usage of unknown customers and reports it later, uncounted: so ask first, once per customer.
        try:
            exists = deps.sink.customer_exists(batch.customer)
        except SinkUnavailable as error:
            wait = min(max(now - batch.state_at, 5), 1800)
            return _later(batch, now, deps.jitter(wait), str(error))
        if not exists:
            return _parked(batch, REJECTED, now, "customer_not_found")
        deps.customers.put(batch.customer, now)
    identifier = batch.identifier or identifier_of(deps.stack, batch)
    return _claimed(replace(batch, identifier=identifier, sent_at=now), now)


def _out_of_date(batch: Batch, restored_at: int) -> bool:
    """Whether a batch may have been sent after the backup that its row, or the rows that it was made of, came from. Its
    identifier protects it for a day only, so the sink's totals must settle it. What was repaired or corrected since was
    made from those totals."""
    if batch.window_start >= restored_at:
        return False
    repaired = batch.revision > 0 or batch.supplement >= CORRECTIONS
    return not (repaired and batch.created_at >= restored_at)


def _unsent(deps: FlushDeps, batch: Batch, now: int) -> Batch:
    """What the row becomes in shadow mode. One in doubt, from before, waits until it may be sent again or is parked."""
    if batch.state != SENDING:
        return batch.into(SHADOWED, now, reason="shadow_mode")
    step = _resend(deps, batch, now)
    if step.final:
        return step
    return _later(replace(batch, doubt_since=step.doubt_since), now, deps.jitter(1800), "shadow mode")


def _resend(deps: FlushDeps, batch: Batch, now: int) -> Batch:
    """A batch found `sending` with no one at it: a crash or a lost answer, so it is in doubt."""
    since = _doubtful_since(batch)
    if now - since >= DOUBT_S:
        return _parked(batch, UNCONFIRMED, now, "no_answer_in_time", doubt_since=since)
    if now - batch.timestamp > EXPIRES_S:
        # It may have arrived, so it is not simply too old.
        return _parked(batch, UNCONFIRMED, now, "too_old_in_doubt", doubt_since=since)
    return _claimed(replace(batch, doubt_since=since), now)


def _claimed(batch: Batch, now: int) -> Batch:
    """Claimed for one attempt. A crash from here on leaves it `sending`; it comes due when the lease ends."""
    return batch.into(
        SENDING,
        batch.state_at if batch.state == SENDING else now,
        attempts=batch.attempts + 1,
        lease_until=now + LEASE_S,
        due_at=now + LEASE_S,
    )


def _doubtful_since(batch: Batch) -> int:
    since = batch.doubt_since if batch.doubt_since is not None else batch.sent_at
    if since is None:
        raise AssertionError("a batch in `sending` was sent")
    return since


def _event(batch: Batch) -> SinkEvent:
    if batch.identifier is None or batch.customer is None:
        raise AssertionError("a claimed batch has an identifier and a customer")
    # A new key for each attempt: under the old one Stripe replays a saved 500 for a day.
    return SinkEvent(
        identifier=batch.identifier,
        idempotency_key=f"{batch.identifier}:{batch.attempts}",
        customer=batch.customer,
        event_name=batch.event_name,
        value=batch.units,
        timestamp=batch.timestamp,
    )


# --- after the call --------------------------------------------------------------------------------------------------


def _record(deps: FlushDeps, sent: Batch, result: SendResult) -> str:
    """Write the result of an attempt to the row. A crash before that leaves the attempt in doubt."""
    row: Batch | None = sent
    for _ in range(TRIES):
        if row is None or row.state != SENDING:
            return MISSING if row is None else row.state
        now = deps.clock() // 1000
        if row.attempts == sent.attempts:
            step = _after(deps, row, result, now)
        elif isinstance(result, Accepted | Duplicate):
            step = row.into(FLUSHED, now)  # the lease ran out and another attempt is under way: it will be a duplicate
        else:
            return LEASED
        after = deps.batches.replace(row, step)
        if after is not None:
            return _ended(deps, after)
        row = deps.batches.get(sent.key)
    return DOUBT


def _after(deps: FlushDeps, batch: Batch, result: SendResult, now: int) -> Batch:
    """What an attempt's result makes of the batch."""
    in_doubt = batch.doubt_since is not None
    match result:
        case Accepted() | Duplicate():
            return batch.into(FLUSHED, now, detail=None)
        case Refused() if in_doubt:
            # It says that this attempt did not count, and nothing about the earlier one.
            return _parked(batch, UNCONFIRMED, now, "refused_in_doubt", detail=_told_by(result))
        case Refused(retryable=True):
            return _back(batch, now, _backoff(deps, batch), _told_by(result))
        case Refused():
            return _parked(batch, REJECTED, now, result.code, detail=_told_by(result))
        case NotSent() if not in_doubt:
            return _back(batch, now, _backoff(deps, batch), result.detail)
        case NotSent() | Unknown():
            # The attempt may still be at work over there: a resend too soon would be refused, and that settles nothing.
            wait = max(deps.jitter(60), _backoff(deps, batch))
            return _later(replace(batch, doubt_since=_doubtful_since(batch)), now, wait, result.detail)


def _back(batch: Batch, now: int, wait: int, detail: str) -> Batch:
    """Certainly not counted, worth another try: as if never sent, but for the count of attempts."""
    return _later(batch.into(SEALED, now, sent_at=None), now, wait, detail)


def _later(batch: Batch, now: int, wait: int, detail: str) -> Batch:
    """The same state, put off. Whoever wrote this may acknowledge the message: seal queues it again."""
    return replace(batch, lease_until=None, retry_at=now + wait, due_at=now + wait, detail=detail[:_DETAIL_CHARACTERS])


def _parked(batch: Batch, state: str, now: int, reason: str, **changes: object) -> Batch:
    return batch.into(state, now, reason=reason, untold=True, due_at=now, **changes)


def _ended(deps: FlushDeps, batch: Batch) -> str:
    """Tell of a batch that was just parked; name what became of it."""
    if batch.untold:
        tell(deps.outbox, deps.batches, batch)
    if batch.state == SENDING:
        return DOUBT if batch.doubt_since is not None else POSTPONED
    return RETRY if batch.state == SEALED else batch.state


def _told_by(result: Refused) -> str:
    return f"{result.status} {result.code}: {result.message}"[:_DETAIL_CHARACTERS]


def _backoff(deps: FlushDeps, batch: Batch) -> int:
    """Seconds until the next attempt: 5, 10, 20 … 1800, spread."""
    return min(1800, deps.jitter(5 * 2 ** min(max(batch.attempts - 1, 0), 10)))
