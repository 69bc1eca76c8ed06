"""Reclaim: expired holds end by themselves (invariant 7).

The outcome first: a void where the call never committed, or the event that it did become. Then one write takes the
voided holds out of the gate, asserting each as it was seen: a hold that was renewed or extended meanwhile lives on (a
void whose hold is still there is not an end). A crash in between leaves voids whose holds the next reclaim removes.
"""

from __future__ import annotations

from collections.abc import Sequence

from tollgate.accounts.rules import Rules
from tollgate.gate import steps
from tollgate.gate.ending import end_hold, outcome_at, plan_back
from tollgate.gate.hold import Hold, expiry_of, unpack
from tollgate.gate.item import Gate
from tollgate.gate.money import begun_from
from tollgate.gate.ports import GateDeps
from tollgate.gate.recount import recount
from tollgate.gate.taking import expired_keys
from tollgate.usage.outcome import ACCOUNT, MEMBER, Event, OutcomeKey, Void, counts_for

SEVERAL = 4
MINUTES_S = 180


def reclaim(deps: GateDeps, rules: Rules, gate: Gate, keys: Sequence[str], member: str | None) -> Gate | None:
    """End the expired holds at `keys` of `gate`; returns the gate as it is afterwards. `member` None: account gate."""
    if gate.rev > rules.rev:
        rules = deps.rules.fresh(rules.account)
        if gate.closed:
            return gate
    per = ACCOUNT if member is None else MEMBER
    free: list[tuple[str, bytes]] = []
    seen: Gate | None = gate
    for name in keys:
        raw = gate.holds[name]
        hold = unpack(raw)
        account, key = rules.home_of(name)
        events = _became(deps, account, key, hold, per)
        if events:
            seen = end_hold(deps, rules, account, per, member, key, hold.incarnation, events)
        else:
            free.append((name, raw))
    if not free or seen is None:
        return seen
    return _give_back(deps, rules, seen, free, member)


def _became(deps: GateDeps, account: str, key: str, hold: Hold, per: str) -> list[Event]:
    """The events that count this hold; none: it is void from now on."""
    if hold.id_range is not None:
        # A usage batch: its function is long dead (the hold outlives any), so its rows are complete.
        first, last = hold.id_range
        rows = deps.outcomes.events_between(account, first, last)
        return [row for row in rows if row.token == key and counts_for(row, per, key, hold.incarnation)]
    at: OutcomeKey = outcome_at(deps, account, key, hold)
    there = deps.outcomes.put_void(Void(at, {per: hold.incarnation}, "expired", deps.clock()))
    if isinstance(there, Event) and counts_for(there, per, key, hold.incarnation):
        return [there]
    return []


def _give_back(
    deps: GateDeps, rules: Rules, gate: Gate, free: Sequence[tuple[str, bytes]], member: str | None
) -> Gate | None:
    seen: Gate | None = gate
    for _ in range(4):
        if seen is None or seen.rev < 0:
            return seen
        still = [(key, raw) for key, raw in free if seen.holds.get(key) == raw]
        if not still:
            return seen
        if seen.rev > rules.rev:
            rules = deps.rules.fresh(rules.account)
        if seen.closed:
            return seen
        per, now = ACCOUNT if member is None else MEMBER, deps.clock() // 1000
        needed = begun_from(rules, per, seen)
        if steps.unseeded(rules, seen, needed, now):
            # It may add new counters to the holds: those are then other ones than these, and end with the next look.
            recount(deps, rules, seen.subject, member, needed)
            seen = deps.gates.read(seen.subject)
            continue
        written = deps.gates.write(plan_back(rules, per, seen, still, now))
        seen = written.gate
        if written.applied:
            deps.count("ReclaimedHolds", "", len(still))
            return seen
    return seen


def reclaim_if_worthwhile(deps: GateDeps, rules: Rules, gate: Gate, member: str | None, now: int) -> None:
    """Housekeeping by whoever comes along: several expired holds, or one expired for minutes, end now."""
    expired = [expiry for raw in gate.holds.values() if (expiry := expiry_of(raw)) <= now]
    if len(expired) >= SEVERAL or any(expiry <= now - MINUTES_S for expiry in expired):
        reclaim(deps, rules, gate, expired_keys(gate, now), member)
