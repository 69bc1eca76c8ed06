"""Extend: a later expiry and a higher total for an open reservation, both absolute, so that repeating is harmless.

Never lowers a total, never recreates a hold. Each gate is one write that asserts the hold as it was. A crash between
the member's gate and the account's leaves a larger member hold, which its settle or expiry returns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import NamedTuple

from tollgate.accounts.rules import BREAKER, Group, Item, Rules
from tollgate.errors import AlreadyCommitted, AlreadyReleased, Busy
from tollgate.gate import funding, parts, refund, steps
from tollgate.gate.ending import outcome_at
from tollgate.gate.force import covering, fund_growth, shortfall
from tollgate.gate.hold import Hold, incarnation_of, meter_units, unpack
from tollgate.gate.item import CounterWrite, Gate, GateWrite, HoldWrite
from tollgate.gate.limits import LimitState, SharedRefusal, Taken, refusing_order, states
from tollgate.gate.money import begun_from
from tollgate.gate.ports import GateDeps, subject_of
from tollgate.gate.reclaim import reclaim
from tollgate.gate.recount import recount
from tollgate.gate.recurring import due, give_due
from tollgate.gate.reservation_id import Reservation
from tollgate.gate.reserve import Denied, denied_by_breaker, outside_rules, tripped
from tollgate.gate.shown import with_counters
from tollgate.gate.taking import Refuse, expired_keys
from tollgate.quantities import ZERO
from tollgate.usage.outcome import ACCOUNT, MEMBER, Event

TRIES = 40


class Extended(NamedTuple):
    """`refused` set: the higher total does not fit; the reservation stands as it was."""

    rules: Rules
    expires_at: int
    limits: Sequence[LimitState]
    refused: Refuse | None = None
    frozen: bool = False
    refused_by: str = ACCOUNT
    """Which gate: `account` or `member`."""
    short: SharedRefusal | None = None
    """Refused by a limit that accounts share."""
    stopped: Denied | None = None
    """Refused by the breaker: the account's (with its `state`), or that of all accounts together."""


class _Refused(Exception):
    def __init__(self, refusal: Refuse | None, gate: Gate) -> None:
        super().__init__()
        self.refusal, self.gate = refusal, gate


class _RulesChanged(Exception):
    """A gate has seen newer rules: start again from the narrowest gate, or a lowered member limit would not bind."""


def extend(
    deps: GateDeps,
    reservation: Reservation,
    expires_at: int | None,
    weigh: Callable[[Rules], Sequence[Item]] | None,
) -> Extended:
    """Extend every hold of a reservation. `expires_at`: epoch seconds; `weigh`: the new totals (None: as they are).

    Raises AlreadyCommitted, AlreadyReleased (also where the hold expired and was reclaimed), Busy.
    """
    rules = deps.rules.get(reservation.account)
    for _ in range(TRIES):
        items = None if weigh is None else weigh(rules)
        taken: list[Taken] = []
        try:
            if items is not None and rules.plan.shared_limits and rules.row.frozen is None:
                taken, short = _count_more(deps, rules, reservation, items)
                if short is not None:
                    return _short(deps, rules, reservation, items, short)
            found = _extend_all(deps, rules, reservation, expires_at, items)
        except _RulesChanged:
            _uncount(deps, taken)
            rules = deps.rules.fresh(reservation.account)
            continue
        except (AlreadyCommitted, AlreadyReleased):
            _uncount(deps, taken)
            raise
        if found.refused is not None or found.frozen:
            _uncount(deps, taken)
        if found.stopped is not None and found.stopped.state is not None:
            tripped(deps, rules, found.stopped.state)
        return found
    raise Busy


def _count_more(
    deps: GateDeps, rules: Rules, reservation: Reservation, items: Sequence[Item]
) -> tuple[list[Taken], SharedRefusal | None]:
    from tollgate.gate import shared  # with the first such plan: the gate starts without it

    return shared.count_extension(deps, rules, reservation, items)


def _uncount(deps: GateDeps, taken: Sequence[Taken]) -> None:
    if taken:
        from tollgate.gate import shared

        shared.give_back(deps, taken)


def _short(
    deps: GateDeps, rules: Rules, reservation: Reservation, items: Sequence[Item], short: SharedRefusal
) -> Extended:
    """A limit that accounts share has no room: the reservation stands as it was."""
    _check_rules(deps, rules)
    limits: list[LimitState] = []
    expires_at = 0
    for per in (MEMBER, ACCOUNT):
        if per not in reservation.holds:
            continue
        gate = deps.gates.read(subject_of(reservation.account, per, reservation.member))
        raw = None if gate is None else gate.holds.get(reservation.key)
        if gate is None or raw is None or incarnation_of(raw) != incarnation_of(reservation.holds[per]):
            _raise_ended(deps, reservation)
        assert gate is not None
        assert raw is not None
        expires_at = unpack(raw).expires_at
        limits += _shown(deps, rules, items, per, gate, reservation.member)
    return Extended(rules, expires_at, limits, short=short)


def _extend_all(
    deps: GateDeps,
    rules: Rules,
    reservation: Reservation,
    expires_at: int | None,
    items: Sequence[Item] | None,
) -> Extended:
    done: list[tuple[str, bytes, bytes]] = []
    gates: list[tuple[str, Gate]] = []
    listed = items or reservation.items
    for per in (MEMBER, ACCOUNT):
        if per not in reservation.holds:
            continue
        try:
            gate, before, after = _extend_one(deps, rules, reservation, per, expires_at, items)
        except _Refused as refused:
            _shrink_all_back(deps, rules, reservation, done)
            if per == MEMBER:
                _check_rules(deps, rules)
            shown = _shown(deps, rules, listed, per, refused.gate, reservation.member)
            own = unpack(refused.gate.holds[_place(rules, reservation, per)[1]])
            found = Extended(rules, own.expires_at, shown, refused.refusal, refused.refusal is None, per)
            if refused.refusal is None and rules.row.frozen is None:
                return found._replace(stopped=outside_rules(rules, listed))
            if refused.refusal is None or not _by_breaker(refused.refusal):
                return found
            return found._replace(
                stopped=denied_by_breaker(rules, refused.refusal, refused.gate, shown, deps.clock() // 1000)
            )
        except (_RulesChanged, AlreadyCommitted, AlreadyReleased):
            _shrink_all_back(deps, rules, reservation, done)
            raise
        done.append((per, before, after))
        gates.append((per, gate))
    limits = [
        state for per, gate in gates for state in _shown(deps, rules, listed, per, gate, reservation.member)
    ]  # only now: a counter that begins for the answer is named by the hold, and that could not be taken back
    return Extended(rules, unpack(done[-1][2]).expires_at, limits)


def _place(rules: Rules, reservation: Reservation, per: str) -> tuple[str, str]:
    """Where the hold of a reservation stands: the gate, and its name there."""
    subject = subject_of(rules.account, per, reservation.member)
    return subject, rules.hold_name(reservation.account, reservation.key)


def _shown(
    deps: GateDeps, rules: Rules, items: Sequence[Item], per: str, gate: Gate, member: str | None
) -> list[LimitState]:
    counted, limits = member if per == MEMBER else None, rules.limits_for(items, per)
    seeded = with_counters(deps, rules, gate, counted, limits)
    return states(rules, limits, seeded, counted, deps.clock() // 1000)


def _check_rules(deps: GateDeps, rules: Rules) -> None:
    """A refusal must come from the newest rules, and only the account gate knows their revision."""
    gate = deps.gates.read(rules.account)
    if gate is not None and abs(gate.rev) > rules.rev:
        raise _RulesChanged


def _extend_one(
    deps: GateDeps,
    rules: Rules,
    reservation: Reservation,
    per: str,
    expires_at: int | None,
    items: Sequence[Item] | None,
) -> tuple[Gate, bytes, bytes]:
    """One gate; returns it and the hold as it was and is. Raises _Refused, _RulesChanged, and as `extend` does."""
    subject, name = _place(rules, reservation, per)
    member = reservation.member if per == MEMBER else None
    incarnation = incarnation_of(reservation.holds[per])
    gate = deps.gates.read(subject)
    for tried in range(TRIES):
        if tried > 2:
            deps.pause(tried - 2)
        if gate is not None and abs(gate.rev) > rules.rev:
            raise _RulesChanged
        if steps.behind(rules, gate):
            recount(deps, rules, subject, member, {})
            gate = deps.gates.read(subject)
            continue
        raw = None if gate is None else gate.holds.get(name)
        if gate is None or raw is None or incarnation_of(raw) != incarnation:
            _raise_ended(deps, reservation)
        assert gate is not None
        assert raw is not None
        hold, now = unpack(raw), deps.clock() // 1000
        groups = () if items is None else rules.groups(items, per)
        lacking = shortfall(hold, groups)
        needed = begun_from(rules, per, gate) | lacking
        if gate.rev < 0 or steps.unseeded(rules, gate, needed, now):
            recount(deps, rules, subject, member, needed)
            gate = deps.gates.read(subject)
            continue
        if per == ACCOUNT and lacking and due(rules, gate, now, reservation.member):
            gate = give_due(deps, rules, gate, reservation.member)
            continue
        new = _longer(hold, groups, lacking, expires_at)
        if new == hold:
            return gate, raw, raw
        if hold.expires_at <= now and not funding.stands(rules, per, gate, hold, now):
            gate = reclaim(deps, rules, gate, (reservation.key,), member)  # a dead hold grants nothing by itself
            continue
        if (rules.row.frozen is not None or rules.stopped) and (lacking or hold.expires_at <= now):
            raise _Refused(None, gate)  # more units, or the units of a dead hold once more
        refusal, counters = _changes(rules, gate, hold, lacking, now)
        funded = fund_growth(rules, per, gate, hold, new, now, forced=False, member=reservation.member)
        short = funded if isinstance(funded, funding.Short) else None
        if short is None and hold.expires_at <= now:
            short = funding.past_promise(rules, per, gate, meter_units(hold.groups), now)
        if short is not None and (refusal is None or _by_breaker(refusal)):
            refusal = Refuse(None, short.requested, short.remaining, short)
        if refusal is not None:
            slot = None if refusal.limit is None else refusal.limit.counter.slot
            keys = expired_keys(gate, now, name, slot)
            if not keys:
                raise _Refused(refusal, gate)
            gate = reclaim(deps, rules, gate, keys, member)
            continue
        assert isinstance(funded, funding.Taking)
        if per == ACCOUNT:
            new = new._replace(parts=parts.more_parts(hold.parts, funded.parts))
        write = GateWrite(
            subject,
            gate.rev,
            rules.rev,
            counters,
            (HoldWrite(name, raw, new.pack()),),
            money=funded.money,
            grants=funded.grants,
            grants_known=funded.grants_known,
        )
        written = deps.gates.write(write)
        if written.applied and written.gate is not None:
            return written.gate, raw, new.pack()
        gate = written.gate
    raise Busy


def _by_breaker(refusal: Refuse) -> bool:
    return refusal.limit is not None and refusal.limit.source == BREAKER


def _longer(hold: Hold, groups: Sequence[Group], lacking: dict[int, Decimal], expires_at: int | None) -> Hold:
    later = hold.expires_at if expires_at is None else max(hold.expires_at, expires_at)
    if not lacking:
        return hold._replace(expires_at=later)
    return hold._replace(expires_at=later, groups=covering(hold.groups, groups))


def _changes(
    rules: Rules, gate: Gate, hold: Hold, lacking: dict[int, Decimal], now: int
) -> tuple[Refuse | None, tuple[CounterWrite, ...]]:
    """The counter writes of a higher total; or, of the limits that it does not fit, the one that resets last (the
    breaker after them all). A hold that has expired grants nothing by itself: its units must fit again, as on a
    renewal."""
    slots = set(lacking) | (set(hold.units()) if hold.expires_at <= now else set())
    caps: dict[int, Decimal] = {}
    worst: tuple[int, Refuse] | None = None
    for ruled in (*rules.limits, *rules.breakers):
        slot = ruled.counter.slot
        if slot not in slots or ruled.maximum is None:
            continue
        caps[slot] = min(ruled.maximum, caps.get(slot, ruled.maximum))
        count, more = gate.counts.get(slot), lacking.get(slot, ZERO)
        taken = steps.taken_now(rules, ruled.counter, count, now)
        when = refusing_order(rules, ruled, count, now)
        if taken + more > ruled.maximum and (worst is None or when > worst[0]):
            worst = (when, Refuse(ruled, more, max(ruled.maximum - taken, ZERO)))
    if worst is not None:
        return worst[1], ()
    counters = []
    for slot in sorted(slots):
        more = lacking.get(slot, ZERO)
        counters.append(steps.take(rules, rules.counters[slot], gate.counts.get(slot), now, more, more, caps.get(slot)))
    return None, tuple(counters)


def _raise_ended(deps: GateDeps, reservation: Reservation) -> None:
    at = outcome_at(deps, reservation.account, reservation.key, unpack(reservation.holds[ACCOUNT]))
    if isinstance(deps.outcomes.get(at), Event):
        raise AlreadyCommitted
    raise AlreadyReleased


def _shrink_all_back(
    deps: GateDeps, rules: Rules, reservation: Reservation, done: Sequence[tuple[str, bytes, bytes]]
) -> None:
    for per, old, new in done:
        _shrink_back(deps, rules, reservation, per, old, new)


def _shrink_back(deps: GateDeps, rules: Rules, reservation: Reservation, per: str, old: bytes, new: bytes) -> None:
    """Undo the narrow part of an extension that the wider gate refused; best effort, the hold itself heals."""
    if old == new:
        return
    subject, name = _place(rules, reservation, per)
    gate = deps.gates.read(subject)
    if gate is None or gate.rev < 0 or gate.holds.get(name) != new:
        return
    if gate.rev > rules.rev:
        rules = deps.rules.fresh(rules.account)
    if gate.closed or steps.unseeded(rules, gate, begun_from(rules, per, gate), deps.clock() // 1000):
        return
    before, after = unpack(old), unpack(new)
    had = before.units()
    back = tuple(
        CounterWrite.back(slot, units - had.get(slot, ZERO))
        for slot, units in sorted(after.units().items())
        if units > had.get(slot, ZERO)
    )
    # A member's gate alone comes here, the narrow one: its parts follow from its units.
    more = parts.less_parts(parts.held_parts(rules, per, after), parts.held_parts(rules, per, before))
    ended = refund.end(rules, per, gate, more, (), deps.clock() // 1000)
    assert isinstance(ended, refund.Ending), "nothing is guessed of a gate that was read"
    holds = (HoldWrite(name, new, old),)
    deps.gates.write(GateWrite(subject, gate.rev, rules.rev, back, holds, money=ended.money, grants=ended.grants))
