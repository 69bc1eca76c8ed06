"""Repair of parked batches: a successor with the next revision takes the units over.

The caller answers for the cause being gone, and for an `unconfirmed` batch also for a proof that it did not arrive.
"""

from __future__ import annotations

from dataclasses import replace

from tollgate.billing.batch import Batch, successor
from tollgate.billing.ports import BatchStore


def repair(batches: BatchStore, parked: Batch, now: int, customer: str | None = None) -> Batch:
    """Put the successor of a parked batch and note it on the batch; returns the successor. Seal queues it.

    However often and by how many this is done, there is one successor: its key is made of the batch's, and the first
    put stands. A crash between the two writes leaves a successor that the batch does not name; repeating finds it.
    `customer` names another Stripe customer. Raises NotRepairable.
    """
    fresh = successor(parked, now, customer)
    standing = batches.put_new(fresh) or fresh
    batches.replace(parked, replace(parked, repaired_by=standing.key.sk))
    return standing
