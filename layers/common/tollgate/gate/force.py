"""Forced takes: units that were used are put on the gate first, whatever the caps say.

A commit above its reservation, a commit that now counts on a gate it never reserved on, and `POST /v1/usage` all make
or grow a hold before their row is put. So the gate is never behind the rows, and a crash between the two leaves a hold
that expires and is settled or voided like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import NamedTuple

from tollgate.accounts.rules import ONE_PER_RESERVATION, Group, Rules, by_slot
from tollgate.errors import Busy
from tollgate.gate import funding, money, parts, seats, steps, taking
from tollgate.gate.hold import Hold, expiry_of, meter_units, unpack
from tollgate.gate.item import Gate, GateWrite, HoldWrite
from tollgate.gate.ports import AnswerLost, GateDeps, subject_of
from tollgate.gate.reclaim import reclaim
from tollgate.gate.recount import recount
from tollgate.gate.recurring import due, give_due
from tollgate.gate.steps import UNSEEN, Seen
from tollgate.quantities import ZERO
from tollgate.usage.outcome import ACCOUNT, MEMBER

TRIES = 40
LINGER_S = 120
"""A grown hold lives at least this long: longer than any function that grew it."""


def take_forced(
    deps: GateDeps,
    rules: Rules,
    account: str,
    per: str,
    member: str | None,
    key: str,
    hold: Hold,
    needed: Callable[[Rules], tuple[Group, ...]],
) -> tuple[Hold, Gate, Rules]:
    """Make `hold` of what is `needed` at `key` under the id `account`, or take over the live one of this key, which may
    hold less. The incarnation is renewed with each try. `member`: whose usage it is, also on the account's gate."""
    subject, name = subject_of(rules.account, per, member), rules.hold_name(account, key)
    hold = hold._replace(groups=needed(rules))
    counted = member if per == "member" else None
    seen: Seen = UNSEEN
    for tried in range(TRIES):
        if tried > 2:
            deps.pause(tried - 2)
        now_ms = deps.clock()
        hold = hold._replace(incarnation=deps.incarnate(now_ms))
        wanted = taking.Wanted(subject, per, name, hold, (), forced=True, member=member)
        plan = taking.plan_take(rules, wanted, seen, now_ms // 1000, deps.gates.recall(subject))
        if isinstance(plan, taking.Send):
            try:
                written = deps.gates.write(plan.write, retry=False)
            except AnswerLost:
                continue
            if written.applied and written.gate is not None:
                return plan.hold, written.gate, rules
            seen = written.gate
        elif isinstance(plan, taking.Live):
            assert isinstance(seen, Gate)
            if per != MEMBER:
                return unpack(plan.raw), seen, rules
            # A reserve of this key may be about to drop its hold here: the mark makes it this call's, as for a retry.
            marked = unpack(plan.raw)._replace(mark=deps.nonce())
            written = deps.gates.write(
                GateWrite(subject, seen.rev, seen.rev, holds=(HoldWrite(name, plan.raw, marked.pack()),))
            )
            if written.applied and written.gate is not None:
                return marked, written.gate, rules
            seen = written.gate
        elif isinstance(plan, funding.Look):
            seen = deps.gates.read(subject)
        elif isinstance(plan, taking.CreditsDue):
            seen = give_due(deps, rules, seen if isinstance(seen, Gate) else None, member)
        elif isinstance(plan, taking.Stale):
            home, rules = rules.account, deps.rules.fresh(account)
            if rules.account != home:  # it became another one
                subject, name = subject_of(rules.account, per, member), rules.hold_name(account, key)
                hold, seen = hold._replace(groups=needed(rules), parts=()), UNSEEN
        elif isinstance(plan, taking.NeedsRecount):
            recount(deps, rules, subject, counted, plan.needed)
            seen = deps.gates.read(subject)
        elif isinstance(seen, Gate) and expiry_of(seen.holds[name]) <= now_ms // 1000:
            seen = reclaim(deps, rules, seen, (name,), counted)  # larger, or left behind by another body
        else:
            raise Busy  # another body under this key; its hold expires
    raise Busy


class Grown(NamedTuple):
    """`hold`: as it is now, packed. `floor_ms`: the start of the latest window that it is counted in, before which its
    usage must not be recorded: what it grew by was funded there."""

    rules: Rules
    hold: bytes
    grew: bool
    floor_ms: int


def floor_ms(seen: Seen, raw: bytes) -> int:
    """The start (ms) of the latest window that a hold is counted in on a gate as seen; 0 where it was not read."""
    if not isinstance(seen, Gate):
        return 0
    windows = [seen.counts[slot].window for slot in unpack(raw).units() if slot in seen.counts]
    if seen.money is not None:
        windows.append(seen.money.period)
    return max(windows, default=0) * 1000


def grow(
    deps: GateDeps,
    rules: Rules,
    account: str,
    per: str,
    member: str | None,
    key: str,
    raw: bytes,
    needed: Callable[[Rules], tuple[Group, ...]],
) -> Grown:
    """Grow the own hold, at `key` under the id `account`, until it covers what is `needed` on every counter; a hold
    that is gone stays gone.

    `raw`: the hold as last known. Asserts the old hold, so that growing twice grows once.
    """
    subject, name, groups = subject_of(rules.account, per, member), rules.hold_name(account, key), needed(rules)
    counted = member if per == "member" else None
    incarnation = unpack(raw).incarnation
    seen: Seen = UNSEEN
    for tried in range(TRIES):
        if tried > 2:
            deps.pause(tried - 2)
        now = deps.clock() // 1000
        if isinstance(seen, Gate) and seen.rev > rules.rev:
            home, rules = rules.account, deps.rules.fresh(account)
            if rules.account != home:  # it became another one
                subject, name, groups = (
                    subject_of(rules.account, per, member),
                    rules.hold_name(account, key),
                    needed(rules),
                )
                seen = deps.gates.read(subject)
                continue
        if seen is not UNSEEN and (steps.behind(rules, seen) or (isinstance(seen, Gate) and seen.rev < 0)):
            recount(deps, rules, subject, counted, {})
            seen = deps.gates.read(subject)
            continue
        if isinstance(seen, Gate):
            found = seen.holds.get(name)
            if found is None or unpack(found).incarnation != incarnation:
                return Grown(rules, raw, False, floor_ms(seen, raw))
            raw = found
        elif seen is None:
            return Grown(rules, raw, False, floor_ms(seen, raw))
        hold = unpack(raw)
        lacking = shortfall(hold, groups)
        if not lacking:
            return Grown(rules, raw, False, floor_ms(seen, raw))
        if isinstance(seen, Gate):
            counters_needed = money.begun_from(rules, per, seen) | lacking
            if steps.unseeded(rules, seen, counters_needed, now):
                recount(deps, rules, subject, counted, counters_needed)
                seen = deps.gates.read(subject)
                continue
        known = seen if isinstance(seen, Gate) else money.guessed(rules, per, subject, deps.gates.recall(subject), now)
        if per == ACCOUNT and due(rules, known, now, member):
            seen = give_due(deps, rules, seen if isinstance(seen, Gate) else deps.gates.read(subject), member)
            continue
        if per == ACCOUNT and not isinstance(seen, Gate) and seats.seatless(rules, known, now, member):
            seen = deps.gates.read(subject)
            continue
        grown = hold._replace(groups=covering(hold.groups, groups), expires_at=max(hold.expires_at, now + LINGER_S))
        funded = fund_growth(
            rules, per, known, hold, grown, now, forced=True, certain=isinstance(seen, Gate), member=member
        )
        if not isinstance(funded, funding.Taking):
            seen = deps.gates.read(subject)
            continue
        grown = grown._replace(parts=parts.more_parts(hold.parts, funded.parts) if per == ACCOUNT else ())
        counters = tuple(
            steps.take(rules, rules.counters[slot], steps.seen_count(seen, slot), now, units, units, None)
            for slot, units in sorted(lacking.items())
        )
        rev = seen.rev if isinstance(seen, Gate) else rules.rev
        write = GateWrite(
            subject,
            rev,
            rules.rev,
            counters,
            (HoldWrite(name, raw, grown.pack()),),
            money=funded.money,
            grants=funded.grants,
            grants_known=funded.grants_known,
        )
        written = deps.gates.write(write)
        if written.applied:
            return Grown(rules, grown.pack(), True, floor_ms(written.gate, raw))
        seen = written.gate
    raise Busy


def fund_growth(
    rules: Rules,
    per: str,
    gate: Gate | None,
    hold: Hold,
    grown: Hold,
    now: int,
    *,
    forced: bool,
    certain: bool = True,
    member: str | None,
) -> funding.Taking | funding.Short | funding.Look:
    """Who pays for what `grown` has above `hold`. A hold whose meter nobody paid for when it was made stays so."""
    before = meter_units(hold.groups)
    funded = {part.meter_slot for part in hold.parts}
    more = {
        slot: units - before.get(slot, ZERO)
        for slot, units in meter_units(grown.groups).items()
        if units > before.get(slot, ZERO) and (per != ACCOUNT or slot in funded or not before.get(slot))
    }
    return funding.take(rules, per, gate, more, now, forced=forced, certain=certain, member=member)


def shortfall(hold: Hold, groups: Sequence[Group]) -> dict[int, Decimal]:
    """By counter slot: how many units `groups` need above what `hold` has."""
    held = hold.units()
    return {
        slot: units - held.get(slot, ZERO) for slot, units in by_slot(groups).items() if units > held.get(slot, ZERO)
    }


def covering(held: Sequence[Group], wanted: Sequence[Group]) -> tuple[Group, ...]:
    """Groups with exactly the larger of what `held` and `wanted` have on every counter; the groups of a meter add up to
    the larger of its units there, which a counter that begins later is told."""
    job_slots = {slot for g in (*held, *wanted) if g.meter_slot == ONE_PER_RESERVATION for slot in g.slots}
    jobs = [Group(ONE_PER_RESERVATION, Decimal(1), tuple(sorted(job_slots)))] if job_slots else []
    old, new = _counted(held), _counted(wanted)
    want = by_slot(new)
    if any(want.get(slot, ZERO) < units for slot, units in by_slot(old).items()):
        new = _layered(old, new)
    had, asked, placed = meter_units(held), meter_units(wanted), meter_units(new)
    uncounted = [
        Group(meter, rest, ())
        for meter in sorted({*had, *asked})
        if (rest := max(had.get(meter, ZERO), asked.get(meter, ZERO)) - placed.get(meter, ZERO)) > 0
    ]
    return _merged([*new, *uncounted, *jobs])


def _counted(groups: Sequence[Group]) -> list[Group]:
    return [group for group in groups if group.slots and group.meter_slot != ONE_PER_RESERVATION]


def _layered(held: Sequence[Group], wanted: Sequence[Group]) -> list[Group]:
    """Groups that have, by counter, exactly what `held` has and what `wanted` has above it. Of each meter they lie on
    one another: added up they are no more than the larger of both, whichever items met which counter."""
    found: list[Group] = []
    had = by_slot(held)
    lacking = {slot: units - had.get(slot, ZERO) for slot, units in by_slot(wanted).items()}
    for meter in sorted({*meter_units(held), *meter_units(wanted)}):
        most = by_slot([group for group in held if group.meter_slot == meter])
        for slot, units in by_slot([group for group in wanted if group.meter_slot == meter]).items():
            more = min(units - most.get(slot, ZERO), lacking[slot])
            if more > 0:
                most[slot] = most.get(slot, ZERO) + more
                lacking[slot] -= more
        while most:  # so that counters of the same units share a group
            least = min(most.values())
            found.append(Group(meter, least, tuple(sorted(most))))
            most = {slot: units - least for slot, units in most.items() if units > least}
    return found


def _merged(groups: Sequence[Group]) -> tuple[Group, ...]:
    """Groups of the same meter and counters added up, in a canonical order."""
    totals: dict[tuple[int, tuple[int, ...]], Decimal] = {}
    for group in groups:
        name = (group.meter_slot, group.slots)
        totals[name] = totals.get(name, ZERO) + group.units
    return tuple(Group(meter, units, slots) for (meter, slots), units in sorted(totals.items()))
