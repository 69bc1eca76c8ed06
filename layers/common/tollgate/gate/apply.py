"""GateWrite applied to a Gate in memory: the meaning of every write, in a few lines.

The DynamoDB expression of a write must mean exactly this; a test compares both on random writes. The interleaving and
model tests run the real services on it.
"""

from __future__ import annotations

from dataclasses import replace

from tollgate.gate.item import Count, CounterWrite, Gate, GateWrite, Recounted, Step


def applied(gate: Gate | None, write: GateWrite) -> Gate | None:
    """The gate after `write`, or None where one of its conditions fails."""
    if write.rev is None:
        if gate is not None:
            return None
        gate = Gate(write.subject, write.new_rev, {}, {})
    elif gate is None or gate.rev != write.rev:
        return None
    if write.max_holds is not None and len(gate.holds) >= write.max_holds:
        return None
    holds = dict(gate.holds)
    for hold in write.holds:
        if holds.get(hold.key) != hold.expect:
            return None
        if hold.new is None:
            holds.pop(hold.key, None)
        else:
            holds[hold.key] = hold.new
    counts = dict(gate.counts)
    for counter in write.counters:
        after = _counted(counts.get(counter.slot), counter)
        if after is None or (counter.cap is not None and after.taken > counter.cap):
            return None
        counts[counter.slot] = after
    return replace(gate, rev=write.new_rev, counts=counts, holds=holds, recount=write.freeze or gate.recount)


def recounted(gate: Gate | None, write: Recounted) -> Gate | None:
    """The gate after a recount, or None where another recount or change came between."""
    if gate is None or gate.rev != write.frozen_rev or gate.recount != write.nonce:
        return None
    return Gate(write.subject, write.new_rev, write.counts, write.holds)


def _counted(count: Count | None, write: CounterWrite) -> Count | None:
    if write.step is Step.FIRST:
        return None if count is not None else Count(write.window, write.d_taken, write.d_held)
    if count is None:
        return None
    if write.step is Step.BACK:
        return Count(count.window, count.taken + write.d_taken, count.held + write.d_held)
    assert write.expect is not None
    low, high = write.expect
    if not low <= count.window <= high:
        return None
    if write.step is Step.ROLL:
        return Count(write.window, count.held + write.d_taken, count.held + write.d_held)
    return Count(count.window, count.taken + write.d_taken, count.held + write.d_held)
