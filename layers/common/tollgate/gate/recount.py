"""Recount: a gate's counters set to what its events and open holds say (invariant 8).

Used where rules need a counter in mid-window (it is seeded before anything is taken from it) and by the audit.

1. Freeze: `rev` becomes negative under a nonce. Every other write asserts `rev`, so nothing ends or begins meanwhile:
   the open holds stand still, and every event whose hold is not among them has been settled.
2. Sum the events in each counter's window, without those that belong to an open hold; add the open holds.
3. Unfreeze, guarded by the nonce: counters, and holds that now name a new counter, in one write.

A crash after 1 leaves a frozen gate: whoever meets it (any request, the sweep) does 2 and 3 itself and gets the same
sums, because nothing moves while it is frozen.

Where an account became this one (`joining.py`), its events are among those summed and its open holds and credits come
onto the gate in the last write.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import NamedTuple

from tollgate.accounts.rules import ONE_PER_RESERVATION, Counter, Group, Rules, windowed_end
from tollgate.errors import Busy
from tollgate.gate import steps
from tollgate.gate.hold import Hold, incarnation_of, unpack
from tollgate.gate.item import Count, Gate, GateWrite, Money, Recounted
from tollgate.gate.joining import Arrived, arrived, came_with
from tollgate.gate.money import restated, true_money
from tollgate.gate.ports import AnswerLost, GateDeps
from tollgate.ids import uuid7_ms
from tollgate.quantities import ZERO
from tollgate.usage.outcome import Event, counts_for

TRIES = 8
SKEW_S = 5
"""More than two processes' clocks differ: they find the same first use of a window, wherever its end is for them."""


class Found(NamedTuple):
    """What a recount changed: counter slot -> (before, after). Empty: counters equalled events and open holds."""

    subject: str
    changed: Mapping[int, tuple[Count | None, Count]]
    money: tuple[Money | None, Money | None] | None = None
    """(before, after) where paid positions or spend were wrong."""


class Truth(NamedTuple):
    """A gate as its events and open holds say."""

    counts: dict[int, Count]
    holds: dict[str, bytes]
    money: Money | None


def recount(
    deps: GateDeps, rules: Rules, subject: str, member: str | None, needed: Mapping[int, Decimal] | None = None
) -> Found:
    """Freeze, sum, unfreeze. Raises Busy where others keep changing the gate.

    `needed`: no more than that: a recount under way is finished, and one is begun only while a counter of these is
    unseeded. So callers that meet the same new counter, or the same frozen gate, do not recount one after another.
    """
    per, home = "account" if member is None else "member", rules.account
    mine: set[str] = set()
    for tried in range(TRIES):
        if tried:
            deps.pause(tried)
        gate = deps.gates.read(subject)
        if gate is not None and abs(gate.rev) > rules.rev:
            rules = deps.rules.fresh(rules.account)
        if rules.account != home or (gate is not None and gate.closed):
            return Found(subject, {})  # the account became another one: the caller finds the gate closed
        if gate is None or gate.rev >= 0:
            rev = None if gate is None else gate.rev
            if per == "member":
                rules = _known_to_account(deps, rules)
            if needed is not None and not steps.unseeded(rules, gate, needed, deps.clock() // 1000):
                return Found(subject, {})
            nonce = deps.nonce().hex()
            mine.add(nonce)
            try:
                # Sent once: a copy that arrived after the recount would freeze the gate under the same nonce again, and
                # a helper with sums from before could end that.
                frozen = deps.gates.write(GateWrite(subject, rev, -rules.rev, freeze=nonce), retry=False)
            except AnswerLost:
                continue
            if not frozen.applied or frozen.gate is None:
                continue
            gate = frozen.gate
        assert gate.recount is not None
        now = deps.clock() // 1000
        came = arrived(deps, rules, gate, member, now) if steps.behind(rules, gate) else Arrived()
        starts = {**came.starts, **({} if needed is None else _ended_early(rules, gate, per, now))}
        truth = true_counts(deps, rules, came_with(rules, gate, per, came, now), per, member, now, starts)
        counts = truth.counts
        if deps.gates.finish_recount(
            Recounted(
                subject,
                gate.rev,
                gate.recount,
                rules.rev,
                counts,
                truth.holds,
                truth.money,
                len(rules.row.merged),
                came.grants,
            )
        ):
            changed = {
                slot: (gate.counts.get(slot), count) for slot, count in counts.items() if gate.counts.get(slot) != count
            }
            rated = -gate.rev == rules.rev and truth.money != gate.money  # else newer rules have other prices
            return Found(subject, changed, (gate.money, truth.money) if rated else None)
        if gate.recount in mine:
            return Found(subject, {})  # somebody else finished it, from rows read after it was begun
    raise Busy


def _known_to_account(deps: GateDeps, rules: Rules) -> Rules:
    """Before a member's gate is counted under `rules`, the account gate has them. A commit that knows older rules, and
    so took no hold on the member's gate, then either settled before (its row is among those counted here) or meets the
    newer revision when it settles, and has the member's gate counted again."""
    for tried in range(TRIES):
        if tried:
            deps.pause(tried)
        gate = deps.gates.read(rules.account)
        if gate is not None and abs(gate.rev) >= rules.rev:
            return rules if abs(gate.rev) == rules.rev else deps.rules.fresh(rules.account)
        if (gate is not None and gate.rev < 0) or steps.behind(rules, gate):
            recount(deps, rules, rules.account, None, {})
        else:
            priced = restated(rules, "account", gate, deps.clock() // 1000)
            deps.gates.write(GateWrite(rules.account, None if gate is None else gate.rev, rules.rev, money=priced))
    raise Busy


def true_counts(
    deps: GateDeps,
    rules: Rules,
    gate: Gate,
    per: str,
    member: str | None,
    now: int,
    begun: Mapping[int, int] | None = None,
) -> Truth:
    """Counters, holds and money as events and open holds say, for a gate that stands still. `begun`: by slot, windows
    that count here though the gate has no such window, or only one that is over."""
    kept = [counter for counter in rules.counters if counter.key.per == per]
    fresh = [counter for counter in kept if counter.slot not in gate.counts]
    holds = {key: unpack(raw) for key, raw in gate.holds.items()}
    if fresh:
        holds = {key: _naming(rules, hold, fresh) for key, hold in holds.items()}
    held: dict[int, Decimal] = {}
    for hold in holds.values():
        for slot, units in hold.units().items():
            held[slot] = held.get(slot, ZERO) + units
    windowed = [counter for counter in kept if counter.kind is not None]
    starts = {counter.slot: _start(rules, counter, gate.counts.get(counter.slot), now) for counter in windowed}
    starts.update(begun or {})
    since = [*starts.values(), now] if gate.money is None else [*starts.values(), gate.money.period]
    events = _settled_events(deps, rules, gate, per, member, min(since))
    counts: dict[int, Count] = {}
    for counter in kept:
        slot = counter.slot
        start, used = starts.get(slot, 0), ZERO
        if counter.kind is not None:
            matching = [event for event in events if _units(counter, event)]
            recorded = [event.recorded_s for event in matching]
            if counter.kind.hours is not None and slot not in gate.counts and slot not in (begun or {}):
                # No stored start: the window is taken to have begun with the first use of the last N hours, an open
                # hold's reserve being one. Without any it has not begun: 0 is a window that is long over.
                recorded = [at for at in (*recorded, *_reserved_at(holds.values(), slot)) if at >= start]
                start = min(recorded, default=0)
            start = _newest(rules, counter, start, recorded, now)
            end = windowed_end(counter, start, rules.row.calendar)
            used = sum(
                (
                    _units(counter, event)
                    for event in matching
                    if start <= event.recorded_s and (end is None or event.recorded_s < end)
                ),
                ZERO,
            )
        reserved = held.get(slot, ZERO)
        if slot in gate.counts or used or reserved or counter in fresh:
            counts[slot] = Count(start, used + reserved, reserved)
    packed = {key: hold.pack() for key, hold in holds.items()}
    return Truth(counts, packed, true_money(rules, per, gate, holds.values(), events))


def _ended_early(rules: Rules, gate: Gate, per: str, now: int) -> dict[int, int]:
    """The billing period by slot, of counters in one that ended before this was known."""
    begun = {one.slot: steps.begun_at(rules, one, now) for one in rules.counters if one.key.per == per}
    return {slot: at for slot, at in begun.items() if slot in gate.counts and gate.counts[slot].window < at}


def _start(rules: Rules, counter: Counter, count: Count | None, now: int) -> int:
    if count is not None:
        return count.window
    assert counter.kind is not None
    if counter.kind.hours is not None:
        return now - SKEW_S - counter.kind.hours * 3600 + 1
    return rules.window(counter, now).start


def _reserved_at(holds: Iterable[Hold], slot: int) -> list[int]:
    return [uuid7_ms(hold.incarnation) // 1000 for hold in holds if hold.units().get(slot, ZERO) > 0]


def _newest(rules: Rules, counter: Counter, start: int, recorded: list[int], now: int) -> int:
    """The window that starts at `start`, or a newer one that usage was recorded in by a clock ahead of this one:
    counters only move forward, so the latest is the current one. Between first-use windows that are all over there is
    nothing to choose."""
    assert counter.kind is not None
    if counter.kind.hours is None:
        return max((rules.window(counter, at).start for at in recorded if at > start), default=start)
    newest = start
    for at in sorted(recorded):
        if at >= newest + counter.kind.hours * 3600:
            newest = at
    return newest if newest + counter.kind.hours * 3600 > now else start


def _settled_events(deps: GateDeps, rules: Rules, gate: Gate, per: str, member: str | None, since: int) -> list[Event]:
    found: dict[str, Event] = {}
    for home in rules.homes:
        for first, last in deps.markers.ranges(home, since):
            for event in deps.outcomes.events_between(home, first, last):
                if member is not None and event.member != member:
                    continue
                raw = gate.holds.get(rules.hold_name(home, event.hold_key))
                if raw is not None and counts_for(event, per, event.hold_key, incarnation_of(raw)):
                    continue  # its hold is open: counted as held until it is settled
                found[f"{home}/{event.at.origin_ms}/{event.at.key}"] = event
    return list(found.values())


def _units(counter: Counter, event: Event) -> Decimal:
    counted = (item for item in event.items if item.level is None and counter.takes(item.meter, item.dimensions))
    return sum((item.units for item in counted), ZERO)


def event_units(rules: Rules, event: Event, per: str) -> dict[int, Decimal]:
    """What `event` counts on each windowed counter of one gate, by slot."""
    found = {}
    for counter in rules.counters:
        if counter.key.per == per and counter.kind is not None:
            units = _units(counter, event)
            if units:
                found[counter.slot] = units
    return found


def _naming(rules: Rules, hold: Hold, fresh: list[Counter]) -> Hold:
    """The hold, named by counters that began after it (the others it names where it takes from them). A `where` cannot
    be checked on a packed hold: it is taken to match, so that nothing is granted twice; settling puts that right."""
    groups = list(hold.groups)
    jobs: list[int] = []
    made = uuid7_ms(hold.incarnation) // 1000
    for counter in fresh:
        if counter.since == 0 or made >= counter.since + steps.LEARNT_S:
            continue
        if counter.kind is None:
            jobs.append(counter.slot)
            continue
        for at, group in enumerate(groups):
            if group.meter_slot == ONE_PER_RESERVATION or counter.slot in group.slots:
                continue
            meter = rules.row.meters[group.meter_slot]
            if not counter.key.meters or meter in counter.key.meters:
                groups[at] = group._replace(slots=tuple(sorted((*group.slots, counter.slot))))
    if jobs and hold.id_range is None:
        groups.append(Group(ONE_PER_RESERVATION, Decimal(1), tuple(jobs)))
    return hold._replace(groups=tuple(groups))
