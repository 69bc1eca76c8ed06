"""Ending a hold on one gate, after its outcome was put: settle it by the events that count it, or give it back.

Whoever ends a hold puts the outcome first and changes the gate after. A crash between the two leaves a hold whose
outcome is known: its expiry completes it (`reclaim.py`), or the next commit, release or retry does.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from tollgate.accounts.rules import Rules
from tollgate.errors import Busy
from tollgate.gate import funding, money, parts, refund, steps
from tollgate.gate.hold import Hold, Part, incarnation_of, unpack
from tollgate.gate.item import CounterWrite, Gate, GateWrite, HoldWrite
from tollgate.gate.joining import renumbered
from tollgate.gate.ports import GateDeps, subject_of
from tollgate.gate.recount import event_units, recount
from tollgate.gate.steps import UNSEEN, Seen, Sight
from tollgate.quantities import ZERO
from tollgate.usage.outcome import ACCOUNT, MEMBER, Event, OutcomeKey

TRIES = 40


def outcome_at(deps: GateDeps, account: str, key: str, hold: Hold) -> OutcomeKey:
    """Where the outcome of a hold stands. A key that is no UUIDv7 has its origin remembered in a dedupe row."""
    origin = hold.origin_ms if hold.keyed else deps.outcomes.origin(account, key, hold.origin_ms)
    return OutcomeKey(account, origin, key)


def plan_end(
    rules: Rules,
    subject: str,
    per: str,
    key: str,
    raw: bytes,
    events: Sequence[Event],
    seen: Seen,
    now: int,
    recalled: Gate | None = None,
) -> GateWrite | funding.Look:
    """The write that ends the hold `raw`: its units out, the units of `events` (of one call) in. `recalled`: money as
    a guess for a gate that was not read; Look where that is not enough."""
    hold = unpack(raw)
    reserved = hold.units()
    actual: dict[int, Decimal] = {}
    for event in events:
        for slot, units in event_units(rules, event, per).items():
            actual[slot] = actual.get(slot, ZERO) + units
    at = events[0].recorded_s if events else 0
    counters = []
    for slot in sorted(set(reserved) | set(actual)):
        write = steps.settle(
            rules,
            rules.counters[slot],
            steps.seen_count(seen, slot),
            at,
            reserved.get(slot, ZERO),
            actual.get(slot, ZERO),
        )
        if write is not None:
            counters.append(write)
    unread = isinstance(seen, Sight)
    gate = money.recalled(rules, recalled) if isinstance(seen, Sight) else seen
    ended = refund.end(rules, per, gate, parts.held_parts(rules, per, hold), events, now, certain=not unread)
    if isinstance(ended, funding.Look):
        return ended
    rev = rules.rev if isinstance(seen, Sight) or seen is None else seen.rev
    holds = (HoldWrite(key, raw, None),)
    return GateWrite(subject, rev, rules.rev, tuple(counters), holds, money=ended.money, grants=ended.grants)


def plan_late(
    rules: Rules, subject: str, per: str, key: str, event: Event, gate: Gate, funded: funding.Taking
) -> GateWrite:
    """The write that counts `event` on a gate where its own hold is gone. Asserts what stands at its key as seen."""
    counters = []
    for slot, units in sorted(event_units(rules, event, per).items()):
        write = steps.settle(rules, rules.counters[slot], gate.counts.get(slot), event.recorded_s, ZERO, units)
        if write is not None:
            counters.append(write)
    there = gate.holds.get(key)
    return GateWrite(
        subject,
        gate.rev,
        rules.rev,
        tuple(counters),
        (HoldWrite(key, there, there),),
        money=funded.money,
        grants=funded.grants,
        grants_known=funded.grants_known,
    )


def plan_back(rules: Rules, per: str, gate: Gate, holds: Sequence[tuple[str, bytes]], now: int) -> GateWrite:
    """The write that takes holds (key, packed) out of a gate and gives all their units back. `rules` are as new as the
    gate's, or newer."""
    back: dict[int, Decimal] = {}
    held: list[Part] = []
    for _, raw in holds:
        hold = unpack(raw)
        for slot, units in hold.units().items():
            back[slot] = back.get(slot, ZERO) + units
        held += parts.held_parts(rules, per, hold)
    ended = refund.end(rules, per, gate, held, (), now)
    assert isinstance(ended, refund.Ending), "nothing is guessed of a gate that was read"
    return GateWrite(
        gate.subject,
        gate.rev,
        rules.rev,
        tuple(CounterWrite.back(slot, units) for slot, units in sorted(back.items())),
        tuple(HoldWrite(key, raw, None) for key, raw in holds),
        money=ended.money,
        grants=ended.grants,
    )


def end_hold(
    deps: GateDeps,
    rules: Rules,
    account: str,
    per: str,
    member: str | None,
    key: str,
    incarnation: bytes,
    events: Sequence[Event] = (),
    guess: bytes | None = None,
) -> Gate | None:
    """End the hold of exactly this incarnation, at `key` under the id `account`; returns the gate as it is afterwards.

    `events`: what it became (all recorded at one time); none: its units go back. `guess`: the packed hold as last
    known, tried without reading first. A hold that is gone has been ended by somebody else: nothing is done.
    """
    home, subject, name = rules.account, subject_of(rules.account, per, member), rules.hold_name(account, key)
    counted = member if per == "member" else None
    seen: Seen = UNSEEN
    members_at = 0
    raw = guess
    if raw is None or rules.account != account:  # the guess may be by the slots of the id's own account
        seen = deps.gates.read(subject)
    for tried in range(TRIES):
        if tried > 2:
            deps.pause(tried - 2)
        if not isinstance(seen, Sight):
            if seen is not None and seen.rev > rules.rev:
                rules = deps.rules.fresh(account)
                if rules.account != home:  # it became another one
                    home, subject, name = (
                        rules.account,
                        subject_of(rules.account, per, member),
                        rules.hold_name(account, key),
                    )
                    seen = deps.gates.read(subject)
                    continue
            if (seen is not None and seen.rev < 0) or steps.behind(rules, seen):
                recount(deps, rules, subject, counted, {})
                seen = deps.gates.read(subject)
                continue
            if seen is None:
                return None
            raw = seen.holds.get(name)
            if raw is None or incarnation_of(raw) != incarnation:
                return seen
            needed = money.begun_from(rules, per, seen)
            for event in events:
                needed.update(event_units(rules, event, per))
            if steps.unseeded(rules, seen, needed, deps.clock() // 1000):
                recount(deps, rules, subject, counted, needed)
                seen = deps.gates.read(subject)
                continue
        assert raw is not None
        named = {item.meter for event in events for item in event.items}
        if any(slot >= len(rules.counters) for slot in unpack(raw).units()) or not named <= set(rules.row.meters):
            rules = deps.rules.fresh(account)  # the hold or its rows name counters or meters of newer rules
            if rules.account != home:
                home, subject, name = (
                    rules.account,
                    subject_of(rules.account, per, member),
                    rules.hold_name(account, key),
                )
                seen = deps.gates.read(subject)
                continue
        if per == ACCOUNT and rules.rev != members_at:
            members_at = rules.rev
            for event in events:
                _count_new_members(deps, rules, event)
        now = deps.clock() // 1000
        counts = [renumbered(deps, rules, event) for event in events]
        write = plan_end(rules, subject, per, name, raw, counts, seen, now, deps.gates.recall(subject))
        if isinstance(write, funding.Look):
            seen = deps.gates.read(subject)
            continue
        written = deps.gates.write(write)
        if written.applied:
            return written.gate
        seen = written.gate
    raise Busy


def _count_new_members(deps: GateDeps, rules: Rules, event: Event) -> None:
    """Rules that began to keep members after this usage was held: the member's gate is counted from the rows, while the
    account's hold still stands (a crash before it is out leaves the hold, and whoever ends that comes here again)."""
    if event.member is None or MEMBER in event.incarnations or not event_units(rules, event, MEMBER):
        return
    recount(deps, rules, subject_of(rules.account, MEMBER, event.member), event.member)
