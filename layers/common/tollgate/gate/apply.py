"""GateWrite applied to a Gate in memory: the meaning of every write, in a few lines.

The DynamoDB expression of a write must mean exactly this; a test compares both on random writes. The interleaving and
model tests run the real services on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal

from tollgate.gate.item import (
    CLOSED,
    Count,
    CounterWrite,
    Gate,
    GateWrite,
    Grant,
    Level,
    LevelSet,
    Money,
    MoneyAdd,
    MoneySet,
    Paid,
    PaidMove,
    Recounted,
    Step,
)


def applied(gate: Gate | None, write: GateWrite) -> Gate | None:
    """The gate after `write`, or None where one of its conditions fails."""
    assert write.rev != CLOSED, "nothing is written to a gate whose account became another one"
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
    money = gate.money
    if isinstance(write.money, MoneySet):
        if money != write.money.expect or any(gate.counts.get(slot) != count for slot, count in write.money.sure):
            return None
        money = write.money.new
    elif write.money is not None:
        money = _added(money, write.money)
        if money is None:
            return None
    grants = _granted(gate, write)
    levels = gate.levels if write.level is None else _leveled(gate.levels, write.level)
    if grants is None or levels is None:
        return None
    nonce, given = write.freeze or gate.recount, gate.given + len(write.new_grants)
    return Gate(write.subject, write.new_rev, counts, holds, nonce, money, grants, levels, gate.merged, given)


def recounted(gate: Gate | None, write: Recounted) -> Gate | None:
    """The gate after a recount, or None where another recount or change came between."""
    if gate is None or gate.rev != write.frozen_rev or gate.recount != write.nonce:
        return None
    grants = {**gate.grants, **dict(write.new_grants)}
    return Gate(
        write.subject,
        write.new_rev,
        write.counts,
        write.holds,
        None,
        write.money,
        grants,
        gate.levels,
        write.merged,
        gate.given + len(write.new_grants),
    )


def closed(gate: Gate | None, subject: str) -> Gate:
    """The gate once its account became another one: as it stood, and never written to again."""
    return replace(gate or Gate(subject, CLOSED, {}, {}), rev=CLOSED, recount=None)


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


def _added(money: Money | None, write: MoneyAdd) -> Money | None:
    if money is None or money.period != write.period or (write.most is not None and money.spend > write.most):
        return None
    paid = dict(money.paid)
    for move in write.moves:
        before = paid.get(move.slot)
        if before is None or not _in_bounds(before.taken, move):
            return None
        paid[move.slot] = Paid(
            before.taken + move.d_taken,
            before.held + move.d_held,
            before.credited + move.d_credited,
            before.waived + move.d_waived,
        )
    return money._replace(spend=money.spend + write.d_spend, paid=paid)


def _in_bounds(position: Decimal, move: PaidMove) -> bool:
    if move.low is not None and (position < move.low or (move.low_open and position == move.low)):
        return False
    return move.high is None or position <= move.high


def _leveled(before: Mapping[int, Level], write: LevelSet) -> Mapping[int, Level] | None:
    there = before.get(write.slot)
    if (0 if there is None else there.number) != write.expect or (write.first and before):
        return None
    return {**before, write.slot: write.new}


def _granted(gate: Gate, write: GateWrite) -> Mapping[int, Grant] | None:
    if write.grants_known is not None and gate.given != write.grants_known:
        return None
    grants = dict(gate.grants)
    for move in write.grants:
        grant = grants.get(move.number)
        if grant is None or (move.low is not None and grant.left < move.low):
            return None
        if move.exactly is not None and grant.left != move.exactly:
            return None
        clawed = grant.clawed
        if move.clawed is not None:
            if clawed != move.clawed[0]:
                return None
            clawed = move.clawed[1]
        moved = move.moved or grant.moved
        grants[move.number] = grant._replace(left=grant.left + move.change, clawed=clawed, moved=moved)
    for number, left in write.gone_grants:
        found = grants.pop(number, None)
        if found is None or found.left != left:
            return None
    for number, new in write.new_grants:
        if number in grants:
            return None
        grants[number] = new
    return grants
