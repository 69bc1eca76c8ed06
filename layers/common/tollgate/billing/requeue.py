"""The rows that have come due: batches whose message was lost, whose wait is over, or that wait for a customer.

Whatever is done about a row, its `due_at` moves forward first. So a message that is lost is found again later, two
seals at once queue a batch once, and an outage does not fill the queue.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from tollgate.accounts.rules import Rules
from tollgate.billing.batch import EXPIRED, EXPIRES_S, NO_CUSTOMER, SEALED, Batch, BatchKey
from tollgate.billing.ports import BatchStore, Queue
from tollgate.billing.seal import Counts, SealDeps
from tollgate.billing.trouble import tell

MOST_A_RUN: Final = 2_000
"""Batches of one shard that one run queues again; the rest follow in the next runs, oldest due time first."""
QUEUED_AT_ONCE: Final = 100
RECHECK_LEAST_S: Final = 60
RECHECK_MOST_S: Final = 6 * 3600
RELEASED_DUE_S: Final = 600
"""When a released batch comes due again, should its message be lost."""


def requeue_shard(deps: SealDeps, shard: int, counts: Counts, in_time: Callable[[], bool]) -> None:
    """Look at everything of a shard that is due. A row's failure is kept in `counts` and stops no other one."""
    now = deps.clock() // 1000
    rules: dict[str, Rules] = {}
    due = []
    for entry in deps.batches.due(shard):
        # The whole index is read, not only what is due: how long usage has waited for the sink is measured by it.
        counts.waits_since(entry.key.window_start)
        if entry.due_at <= now:
            due.append(entry.key)
    due += [entry.key for entry in deps.batches.due(shard, waits_for_customer=True, until=now)]
    pending: list[Batch] = []
    for at, key in enumerate(due):
        if at >= MOST_A_RUN or not in_time():
            counts.left += len(due) - at
            break
        try:
            batch = _look_at(deps, key, now, rules)
        except Exception as error:  # noqa: BLE001 - kept, and raised by the caller once the others are done
            error.add_note(f"looking at batch {key.pk} {key.sk}")
            counts.failures.append(error)
            continue
        if batch is not None:
            pending.append(batch)
        if len(pending) >= QUEUED_AT_ONCE:
            _queue(deps, pending, counts)
            pending = []
    _queue(deps, pending, counts)


def _queue(deps: SealDeps, batches: Sequence[Batch], counts: Counts) -> None:
    try:
        counts.requeued += deps.queue.send(batches)
    except Exception as error:  # noqa: BLE001 - kept, and raised by the caller once the others are done
        counts.failures.append(error)  # their rows come due again


def _look_at(deps: SealDeps, key: BatchKey, now: int, rules: dict[str, Rules]) -> Batch | None:
    """Do what is due about one row; returns it where it is to be queued."""
    batch = deps.batches.get(key)
    if batch is None or batch.due_at is None or batch.due_at > now:
        return None  # the index lags behind the row
    if batch.untold:
        tell(deps.outbox, deps.batches, batch)
        return None
    if batch.state == NO_CUSTOMER:
        return _with_customer(deps, batch, now, rules)
    if batch.final:
        raise AssertionError(f"a {batch.state} batch is due, but told")
    return deps.batches.replace(batch, replace(batch, due_at=now + deps.requeue_seconds))


def _with_customer(deps: SealDeps, batch: Batch, now: int, rules: dict[str, Rules]) -> Batch | None:
    """A batch without a customer: released where the account has one by now, given up where it is too old."""
    if batch.account not in rules:
        rules[batch.account] = deps.rules.fresh(batch.account)
    customer = rules[batch.account].row.stripe_customer_id
    if customer is not None:
        return deps.batches.replace(batch, released(batch, customer, now, deps.requeue_seconds))
    if now - batch.timestamp > EXPIRES_S:
        expired = deps.batches.replace(
            batch, batch.into(EXPIRED, now, reason="no_customer_in_time", untold=True, due_at=now)
        )
        if expired is not None:
            tell(deps.outbox, deps.batches, expired)
        return None
    wait = min(max((now - batch.created_at) // 8, RECHECK_LEAST_S), RECHECK_MOST_S)
    deps.batches.replace(batch, replace(batch, due_at=now + wait))
    return None


def released(batch: Batch, customer: str, now: int, requeue_seconds: int) -> Batch:
    """A batch that waited for a customer, ready to be sent."""
    return batch.into(SEALED, now, customer=customer, reason=None, due_at=now + requeue_seconds, untold=False)


def release_account(batches: BatchStore, queue: Queue, account: str, customer: str, now: int) -> int:
    """Release what an account was waiting to send, now that it has a customer; returns how many batches.

    A crash in between leaves batches that come due and are released by seal, or sent by it.
    """
    return queue.send(_released(batches, account, customer, now, RELEASED_DUE_S))


def leave_to_seal(batches: BatchStore, account: str, customer: str, now: int) -> int:
    """As `release_account` for whoever has no queue at hand: the batches are due at once, and seal queues them within
    a minute."""
    return len(_released(batches, account, customer, now, 0))


def _released(batches: BatchStore, account: str, customer: str, now: int, due_s: int) -> list[Batch]:
    return [
        after
        for batch in batches.of_account(account, NO_CUSTOMER)
        if (after := batches.replace(batch, released(batch, customer, now, due_s))) is not None
    ]
