"""Grants of prepaid credits: onto the gate, taken back, and off it again.

Each is two writes that may be sent again. A grant's row first, then the gate: a crash between leaves a row whose grant
is not on the gate; the same call repeated puts it there, and so does the sweep (`missing`). Taking back: the row says
what is to be taken (pending), then the gate, then the row what was; the gate's own sum of what was taken tells a repeat
whether its write had come through. Off the gate: the row says what was left, later the entry goes.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from tollgate.accounts.rules import Rules
from tollgate.errors import Busy, IdempotencyMismatch, TooManyGrants, UnknownGrant, UnknownMeter
from tollgate.gate import seats, steps
from tollgate.gate.hold import unpack
from tollgate.gate.item import Gate, GateWrite, Grant, GrantMove
from tollgate.gate.money import restated
from tollgate.gate.ports import GateDeps
from tollgate.gate.recount import recount
from tollgate.quantities import ZERO
from tollgate.usage.grant import IDENTIFY, Clawback, Ended, GrantRow, Pending, came_from, whose

TRIES = 40
MAX_GRANTS = 50
"""Entries of one gate that anyone may burn: each makes every write of it larger."""
SETTLED_S = 3600
"""An ended grant is taken off after this long: no clock is so far behind that it could still be burned."""
OUTLIVED_S = 1200
"""A grant goes off the gate so long after its row says how it ended. By then every function is dead that read the row
before, and could put the grant onto the gate once more (Lambda's longest timeout, and a little)."""


def give(deps: GateDeps, rules: Rules, row: GrantRow) -> tuple[GrantRow, bool]:
    """Give credits, once for each source; returns the grant and whether it is new. `row.number` is not used yet.

    Raises UnknownMeter, TooManyGrants, IdempotencyMismatch (the source gave something else), Busy.
    """
    if row.meter not in rules.row.meters:
        raise UnknownMeter(row.meter, "meter")
    there = _given(deps, rules, row.source, row.source_id)
    if there is None:
        gate = deps.gates.read(row.account)
        if _full(gate):
            assert gate is not None
            gate = take_off(deps, rules, gate)
        if _full(gate):
            raise TooManyGrants(MAX_GRANTS)
        there = deps.grants.open(row)
    if not there.same_as(row):
        raise IdempotencyMismatch
    put_on_gate(deps, rules, there)
    return there, there.created_ms == row.created_ms


def _full(gate: Gate | None) -> bool:
    return gate is not None and sum(not grant.whose for grant in gate.grants.values()) >= MAX_GRANTS


def put_on_gate(deps: GateDeps, rules: Rules, row: GrantRow) -> None:
    """Bring a grant onto the gate, where it is not there yet and has not ended. Raises Busy."""
    if rules.account != row.account:
        row = _moved(deps, rules, row)
    if row.ended is not None:
        return None
    slot = rules.row.meters.index(row.meter)
    own = whose(row.member)
    grant = Grant(slot, row.units, row.priority, row.starts, row.ends, units=row.units, clawed=row.clawed, whose=own)
    gate = deps.gates.read(row.account)
    for tried in range(TRIES):
        if tried > 2:
            deps.pause(tried - 2)
        if gate is not None and row.number in gate.grants:
            return None
        ready = _ready(deps, rules, gate)
        if ready is None:
            gate = deps.gates.read(row.account)
            continue
        if ready.account != row.account:
            return put_on_gate(deps, ready, row)
        rules = ready
        gate = deps.gates.write(_write(rules, gate, deps.clock() // 1000, new_grants=((row.number, grant),))).gate
    raise Busy


def _given(deps: GateDeps, rules: Rules, source: str, source_id: str) -> GrantRow | None:
    """What a source gave, to this account or to one that became it: a source gives once."""
    for account in rules.homes:
        found = deps.grants.by_source(account, source, source_id)
        if found is not None:
            return found
    return None


def _moved(deps: GateDeps, rules: Rules, row: GrantRow) -> GrantRow:
    """The grant that came with an account that became this one; made now where it was given while that happened. Itself
    where nothing of it came."""
    recount(deps, rules, rules.account, None, {})
    source_id = came_from(row.account, row.number)
    there = deps.grants.by_source(rules.account, IDENTIFY, source_id)
    if there is not None or deps.gates.close(row.account).grants.get(row.number) is not None or row.ended is not None:
        return there or row
    left = row.units - row.clawed
    return deps.grants.open(row._replace(account=rules.account, units=left, source=IDENTIFY, source_id=source_id))


def missing(deps: GateDeps, rules: Rules, gate: Gate | None) -> bool:
    """Bring grants onto the gate that a crash kept from it; returns whether there were any. Asked by the sweep."""
    known = {} if gate is None else gate.grants
    lost = [
        row
        for row in deps.grants.rows(rules.account)
        if row.number not in known and row.ended is None and not row.every and row.meter in rules.row.meters
    ]
    for row in lost:
        put_on_gate(deps, rules, row)
    return bool(lost)


def _ready(deps: GateDeps, rules: Rules, gate: Gate | None) -> Rules | None:
    """The rules to write the gate under; None where a recount had to be finished first."""
    if gate is not None and gate.rev > rules.rev:
        rules = deps.rules.fresh(rules.account)
    if (gate is not None and gate.rev < 0) or steps.behind(rules, gate):
        recount(deps, rules, rules.account, None, {})
        return None
    return rules


def _write(
    rules: Rules,
    gate: Gate | None,
    now: int,
    moves: tuple[GrantMove, ...] = (),
    new_grants: tuple[tuple[int, Grant], ...] = (),
    gone_grants: tuple[tuple[int, Decimal], ...] = (),
) -> GateWrite:
    return GateWrite(
        rules.account,
        None if gate is None else gate.rev,
        rules.rev,
        money=restated(rules, "account", gate, now),
        grants=moves,
        new_grants=new_grants,
        gone_grants=gone_grants,
    )


# -- taking back -------------------------------------------------------------------------------------------------------


def claw_back(
    deps: GateDeps, rules: Rules, meter: str, of: tuple[str, str], wanted: Pending
) -> tuple[GrantRow, Clawback]:
    """Take credits back from the grant that the source `of` gave, once for each source of the clawback: never more than
    is left, so `taken` may be less than `wanted`. Raises UnknownGrant, IdempotencyMismatch, Busy."""
    for tried in range(TRIES):
        if tried > 2:
            deps.pause(tried - 2)
        row = _given(deps, rules, *of)
        if row is None or row.meter != meter:
            raise UnknownGrant(of[1])
        if row.account != rules.account and not _clawed_by(row, wanted):
            row = _moved(deps, rules, row)
        done = next((c for c in row.clawbacks if (c.source, c.source_id) == (wanted.source, wanted.source_id)), None)
        if done is not None:
            if done.wanted != wanted.wanted:
                raise IdempotencyMismatch
            return row, done
        if row.account != rules.account:
            # Nothing of it came along: it was used up.
            none = Clawback(wanted.source, wanted.source_id, wanted.wanted, ZERO, wanted.at_ms, wanted.reason)
            return row, none
        if row.pending is None:
            deps.grants.begin_clawback(row, wanted._replace(before=row.clawed))
        else:
            rules = _take_back(deps, rules, row, row.pending)  # this one, or one that a crash left
    raise Busy


def _take_back(deps: GateDeps, rules: Rules, row: GrantRow, pending: Pending) -> Rules:
    """Finish a clawback; returns the rules in force. Where the account became another one, it is not finished."""
    for tried in range(TRIES):
        if tried > 2:
            deps.pause(tried - 2)
        gate = deps.gates.read(rules.account)
        grant = None if gate is None else gate.grants.get(row.number)
        if gate is None or grant is None:
            if row.ended is None:
                put_on_gate(deps, rules, row)
                continue
            taken = ZERO
        elif grant.clawed != pending.before:
            taken = grant.clawed - pending.before  # by the write of a caller that died, or is still at it
        else:
            ready = _ready(deps, rules, gate)
            if ready is None:
                continue
            if ready.account != row.account:
                return ready
            ended = grant.ends <= deps.clock() // 1000  # nothing of it is of use to anybody any more
            rules, taken = ready, ZERO if ended else min(grant.left, pending.wanted)
            if taken:
                after = (pending.before, pending.before + taken)
                move = GrantMove(row.number, -taken, exactly=grant.left, clawed=after)
                if not deps.gates.write(_write(rules, gate, deps.clock() // 1000, moves=(move,))).applied:
                    continue
        done = Clawback(pending.source, pending.source_id, pending.wanted, taken, pending.at_ms, pending.reason)
        deps.grants.end_clawback(row, done)
        return rules
    raise Busy


def _clawed_by(row: GrantRow, wanted: Pending) -> bool:
    return any((one.source, one.source_id) == (wanted.source, wanted.source_id) for one in row.clawbacks)


# -- off the gate ------------------------------------------------------------------------------------------------------


def over(gate: Gate, now: int) -> list[int]:
    """Numbers of the grants that can go: past their end, or bought and used up; no hold names them. A plan's grant
    stays until the one after it is there, which may carry over what is left; of seats nothing carries over."""
    named = {part.source for raw in gate.holds.values() for part in unpack(raw).parts}
    found = []
    for number, grant in sorted(gate.grants.items()):
        ended = grant.ends + SETTLED_S <= now
        if number in named or not (ended or (not grant.left and not grant.every)):
            continue
        if grant.every and grant.every != seats.EVERY and not _followed(gate.grants.items(), number, grant):
            continue
        found.append(number)
    return found


def _followed(grants: Iterable[tuple[int, Grant]], number: int, grant: Grant) -> bool:
    return any(
        (other.meter, other.every) == (grant.meter, grant.every) and other.ends > grant.ends
        for at, other in grants
        if at != number
    )


def take_off(deps: GateDeps, rules: Rules, gate: Gate) -> Gate | None:
    """Take grants off the gate that are over; returns the gate as it is then. In two visits: the first writes down how
    they ended."""
    seen: Gate | None = gate
    for number in over(gate, deps.clock() // 1000):
        if seen is None or seen.rev < 0 or number not in seen.grants:
            return seen
        row, grant = deps.grants.get(rules.account, number), seen.grants[number]
        if row is None or row.pending is not None or grant.clawed != row.clawed:
            continue  # a clawback is under way
        if seen.rev > rules.rev:
            rules = deps.rules.fresh(rules.account)
        if seen.closed or steps.behind(rules, seen):
            return seen
        how = row.ended
        if how is None or how[:2] != (grant.unused, grant.carried):
            deps.grants.end(row, Ended(grant.unused, grant.carried, deps.clock() // 1000))
            continue
        if deps.clock() // 1000 < how.at + OUTLIVED_S:
            continue
        # A bought grant at 0 may get units back from nowhere: no hold names it. The write asserts what is left.
        gone = ((number, grant.left),)
        seen = deps.gates.write(_write(rules, seen, deps.clock() // 1000, gone_grants=gone)).gate
    return seen
