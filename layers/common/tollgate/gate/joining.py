"""Joining: an account became another one, and what stood on its gates comes onto that one's.

The rules rows say so first, both in one transaction (`accounts/identify.py`). From then on the account's id is another
name of the one that it became, and each gate of that one is *behind* until it counts the newcomer; nothing is taken
from a gate that is behind. Whoever meets one recounts it (`recount.py`):

1. Close the newcomer's gate: its revision becomes higher than any. One write that nobody can undo, so whatever is open
   there stands still for good, and a process with old rules loads them anew and goes on here.
2. Freeze this gate, and sum the events of both accounts in this one's windows. The newcomer's open holds are made to
   name this account's counters, meters and grants, and its credits get a grant row here.
3. Unfreeze, guarded by the nonce: counters, holds, money and credits come in one write.

A crash anywhere leaves a gate that is behind, or frozen: whoever meets it goes on, and finds the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import NamedTuple

from tollgate.accounts.rules import ONE_PER_RESERVATION, AccountRow, Counter, Group, Rules
from tollgate.gate import seats
from tollgate.gate.hold import Hold, Part, unpack
from tollgate.gate.item import Gate, Grant, Money, Paid
from tollgate.gate.ports import GateDeps, subject_of
from tollgate.quantities import ZERO
from tollgate.usage.grant import IDENTIFY, Clawback, Ended, GrantRow, came_from, whose
from tollgate.usage.outcome import ACCOUNT, MEMBER, Event


@dataclass(frozen=True, slots=True)
class Arrived:
    """What comes onto a gate."""

    holds: Mapping[str, bytes] = field(default_factory=dict)
    """Packed, by their names here."""
    starts: Mapping[int, int] = field(default_factory=dict)
    """By slot: windows from a first use that are under way, where this gate has none."""
    grants: tuple[tuple[int, Grant], ...] = ()
    positions: frozenset[int] = frozenset()
    """Meter slots that had a paid position."""


def arrived(deps: GateDeps, rules: Rules, gate: Gate, member: str | None, now: int) -> Arrived:
    """Close the gates of the accounts that are not counted on the frozen `gate` yet; returns what was open on them."""
    per = ACCOUNT if member is None else MEMBER
    holds: dict[str, bytes] = {}
    starts: dict[int, int] = {}
    grants: list[tuple[int, Grant]] = []
    positions: set[int] = set()
    for account in rules.row.merged[gate.merged :]:
        row = deps.rules.stored(account)
        left = deps.gates.close(subject_of(account, per, member))
        numbers: Mapping[int, int] = {}
        if member is None:
            brought = _grants(deps, rules, row, left, gate, now)
            numbers = brought.numbers
            grants += brought.grants
        if left.money is not None:
            positions |= {rules.row.meters.index(row.meters[slot]) for slot in left.money.paid}
        for key, raw in left.holds.items():
            holds[rules.hold_name(account, key)] = renamed(rules, row, per, unpack(raw), numbers).pack()
        for slot, start in _under_way(rules, row, per, left, gate, now).items():
            starts[slot] = min(start, starts.get(slot, start))
    return Arrived(holds, starts, tuple(grants), frozenset(positions))


def came_with(rules: Rules, gate: Gate, per: str, came: Arrived, now: int) -> Gate:
    """The frozen gate with what arrived on it, yet to be counted."""
    money = gate.money
    if money is None and (came.positions or (came.holds and rules.terms_of(per) is not None)):
        money = Money(rules.period_start(now), ZERO, {})
    if money is not None and per == ACCOUNT:
        begun = {slot: Paid(ZERO, ZERO) for slot in came.positions}
        money = money._replace(paid={**begun, **money.paid})
    return replace(gate, holds={**gate.holds, **came.holds}, money=money)


def _under_way(rules: Rules, row: AccountRow, per: str, left: Gate, gate: Gate, now: int) -> dict[int, int]:
    """Windows from a first use: this gate's where it is current, else the newcomer's."""
    slots = {key: slot for slot, (key, _) in enumerate(row.counters)}
    found = {}
    for counter in rules.counters:
        hours = None if counter.kind is None else counter.kind.hours
        theirs = left.counts.get(slots[counter.key]) if counter.key in slots else None
        if counter.key.per != per or hours is None or theirs is None or theirs.window + hours * 3600 <= now:
            continue
        mine = gate.counts.get(counter.slot)
        if mine is None or mine.window + hours * 3600 <= now:
            found[counter.slot] = theirs.window
    return found


def renamed(rules: Rules, row: AccountRow, per: str, hold: Hold, numbers: Mapping[int, int]) -> Hold:
    """A hold of the account `row`, by this account's slots and grant `numbers`. A counter that only this one keeps
    takes from it, too; whether its `where` fits cannot be seen on a packed hold: it is taken to fit, so that nothing is
    granted twice, and settling puts that right."""
    theirs = {key for key, _ in row.counters}
    kept = [counter for counter in rules.counters if counter.key.per == per]
    named = {row.counters[slot][0] for group in hold.groups for slot in group.slots}
    groups, meters = [], set()
    for group in hold.groups:
        if group.meter_slot == ONE_PER_RESERVATION:
            continue
        meter, keys = row.meters[group.meter_slot], {row.counters[slot][0] for slot in group.slots}
        meters.add(meter)
        slots = tuple(
            counter.slot
            for counter in kept
            if counter.kind is not None
            and (counter.key in keys if counter.key in theirs else _may_take(counter, {meter}))
        )
        groups.append(Group(rules.row.meters.index(meter), group.units, slots))
    jobs = tuple(
        counter.slot
        for counter in kept
        if counter.kind is None
        and hold.id_range is None  # usage without reservation is no open reservation
        and (counter.key in named if counter.key in theirs else _may_take(counter, meters))
    )
    if jobs:
        groups.append(Group(ONE_PER_RESERVATION, Decimal(1), jobs))
    parts = [
        Part(rules.row.meters.index(row.meters[slot]), source if source < 0 else numbers[source], units)
        for slot, source, units in hold.parts
    ]
    parts.sort(key=lambda part: part.meter_slot)  # stable: inside a meter they are in the order of their use
    return hold._replace(groups=tuple(groups), parts=tuple(parts))


def _may_take(counter: Counter, meters: Iterable[str]) -> bool:
    return not counter.key.meters or any(meter in counter.key.meters for meter in meters)


# -- credits -----------------------------------------------------------------------------------------------------------


class _Brought(NamedTuple):
    grants: tuple[tuple[int, Grant], ...]
    numbers: Mapping[int, int]
    """Numbers here by numbers there."""


def _grants(deps: GateDeps, rules: Rules, row: AccountRow, left: Gate, gate: Gate, now: int) -> _Brought:
    """The newcomer's credits under numbers of this account: what is left of them, and what open holds keep.

    What has expired stays behind, and so does what its plan gave where this account's plan has given the same: credits
    of a window are given once. A seat's own units come along for who has a seat here, or gets one by that. Units that
    come back to such a grant from a hold come back to credits that have ended.
    The row here is found again by its source, and says alone what comes: whoever repeats this brings the same.
    """
    held: dict[int, Decimal] = {}
    for raw in left.holds.values():
        for part in unpack(raw).parts:
            if part.source >= 0:
                held[part.source] = held.get(part.source, ZERO) + part.units
    grants: list[tuple[int, Grant]] = []
    numbers = {}
    for their in deps.grants.rows(row.account):
        there = left.grants.get(their.number)
        if there is None and (their.ended is not None or their.every):
            continue
        slot = rules.row.meters.index(their.meter)
        if there is None:  # a crash kept it from the gate
            there = Grant(slot, their.units - their.clawed, their.priority, their.starts, their.ends)
        _end_clawback(deps, their, there)
        source_id, kept = came_from(row.account, their.number), held.get(their.number, ZERO)
        mine = deps.grants.by_source(rules.account, IDENTIFY, source_id)
        if mine is None:
            here = replace(gate, grants={**gate.grants, **dict(grants)})
            gone = there.ends <= now or (bool(there.every) and _given(rules, here, slot, there, now))
            units = kept + (ZERO if gone else there.left)
            if not units:
                deps.grants.end(their, Ended(there.unused, there.carried, now))
                continue
            mine = deps.grants.open(
                GrantRow(
                    account=rules.account,
                    number=0,
                    meter=their.meter,
                    units=units,
                    source=IDENTIFY,
                    source_id=source_id,
                    priority=there.priority,
                    starts=there.starts,
                    ends=min(there.ends, now) if gone else there.ends,
                    created_ms=deps.clock(),
                    reason=their.reason,
                    every="" if gone else there.every,
                    member=their.member,
                )
            )
        deps.grants.end(their, Ended(there.unused + kept - mine.units, there.carried, now))
        numbers[their.number] = mine.number
        once = there.units if mine.every else ZERO
        came = Grant(slot, mine.units - kept, mine.priority, mine.starts, mine.ends, mine.every, once)
        grants.append((mine.number, came._replace(whose=whose(mine.member))))
    return _Brought(tuple(grants), numbers)


def _given(rules: Rules, gate: Gate, slot: int, there: Grant, now: int) -> bool:
    """Whether a plan's grant must stay behind: this account's plan has given the same, or has no seat left for it."""
    same = (other for other in gate.grants.values() if (other.meter, other.every) == (slot, there.every))
    if any(not there.whose or other.burned_by(there.whose) for other in same if other.ends > now):
        return True
    return bool(there.whose) and rules.own_seats and not seats.has_one(rules, gate, now, there.whose)


def _end_clawback(deps: GateDeps, row: GrantRow, there: Grant) -> None:
    """A clawback that had reached the gate when that was closed is written down; one that had not is made here."""
    pending = row.pending
    if pending is not None and there.clawed != pending.before:
        taken = there.clawed - pending.before
        done = Clawback(pending.source, pending.source_id, pending.wanted, taken, pending.at_ms, pending.reason)
        deps.grants.end_clawback(row, done)


def renumbered(deps: GateDeps, rules: Rules, event: Event) -> Event:
    """`event` with the numbers that its credits have here: one that was written when its account was none of this one's
    yet has its own account's."""
    if event.joined or event.at.account == rules.account or not any(item.credits for item in event.items):
        return event

    def here(number: int) -> int:
        row = deps.grants.by_source(rules.account, IDENTIFY, came_from(event.at.account, number))
        assert row is not None, "a grant that an open hold names comes along"
        return row.number

    items = [
        replace(item, credits=tuple(sorted((here(number), units) for number, units in item.credits)))
        for item in event.items
    ]
    return replace(event, items=tuple(items), joined=True)
