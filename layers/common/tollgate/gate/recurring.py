"""The credits that a plan gives by itself: due where a window has begun and nothing of it is on the gate yet.

No job gives them: whoever asks the gate first in a new window does, so they are there when they are needed. Windows are
those of billing, with the grant's own interval: an annual plan gives its monthly credits on the day of the month that
it began. A plan with more of the same credits gives the difference at once; one with less takes nothing back, and
leaving a plan and coming back gives nothing twice.

Where seats are not pooled, a member's first request of a billing period brings it the units of a seat, which it alone
may burn: as many members have some as there are seats. Looking (`foreseen`) takes no seat.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from typing import NamedTuple

from tollgate.accounts.rules import Rules
from tollgate.gate import seats
from tollgate.gate.item import Gate, GateWrite, Grant, GrantMove
from tollgate.gate.money import restated
from tollgate.gate.ports import GateDeps
from tollgate.gate.steps import behind
from tollgate.periods import period_at
from tollgate.quantities import ZERO
from tollgate.usage.grant import FOREVER, PLAN, GrantRow, whose
from tollgate.windows import PERIOD, window_at, zone

ONCE = "once"
TRIES = 8


class Due(NamedTuple):
    """Credits that the plan gives now. `previous`: the number of the grant whose rest may carry over."""

    meter: str
    slot: int
    every: str
    units: Decimal
    reached: Decimal
    """What the plan gives in a window."""
    total: Decimal
    """What the window's own grants come to with this one: less than `reached` where another interval gave the rest."""
    priority: int
    starts: int
    ends: int
    previous: tuple[int, ...]
    """Numbers of the last window's grants, whose rest may carry over."""
    rollover_max: Decimal
    whose: bytes = b""
    """Of a seat's own units: the member's (`usage.grant.whose`)."""


class _Rule(NamedTuple):
    meter: str
    every: str
    units: Decimal
    rollover_max: Decimal
    priority: int
    whose: bytes = b""


def _rules(rules: Rules, gate: Gate | None, now: int, mine: bytes) -> list[_Rule]:
    """What the plan gives by itself: its grants, and the units that seats bring, which are burned first. Seats that
    come during a period bring theirs at once; those of seats that go stay until it ends. `mine`: of whose seat."""
    plan = rules.plan
    found = [_Rule(one.meter, one.every, one.units, one.rollover_max or ZERO, one.priority) for one in plan.grants]
    if plan.seats is None:
        return found
    if plan.seats.pooled:
        many, mine = seats.counted(rules, gate), b""
    elif rules.own_seats and mine and seats.has_one(rules, gate, now, mine):
        many = Decimal(1)
    else:
        return found
    for price in plan.prices:
        brought = price.included_per_seat * many
        if brought:
            found.append(_Rule(price.meter, seats.EVERY, brought, ZERO, 0, mine))
    return found


def due(rules: Rules, gate: Gate | None, now: int, member: str | None = None) -> list[Due]:
    """The plan's credits that are not on the account's gate yet at epoch second `now`, the asking member's own among
    them."""
    if not rules.plan.grants and rules.plan.seats is None:
        return []
    there = {} if gate is None else gate.grants
    found = []
    wanted = _rules(rules, gate, now, whose(member) if rules.own_seats else b"")
    kept: dict[int, set[str]] = {rules.row.meters.index(meter): {seats.EVERY} for meter in seats.brought(rules)}
    for rule in wanted:
        kept.setdefault(rules.row.meters.index(rule.meter), set()).add(rule.every)
    for rule in wanted:
        slot = rules.row.meters.index(rule.meter)
        same = [
            (number, grant)
            for number, grant in there.items()
            # A pool follows what single seats were given before, and they it: nothing comes twice.
            if (grant.meter, grant.every) == (slot, rule.every) and (not rule.whose or grant.burned_by(rule.whose))
        ]
        current = [grant for _, grant in same if grant.ends > now]  # one of a clock ahead is this window's, too
        own = sum((grant.units for grant in current), ZERO)
        given = own + _otherwise(there.values(), slot, kept[slot], now)
        if given >= rule.units:
            continue
        previous: tuple[int, ...] = ()
        if current:
            starts, ends = current[0].starts, max(grant.ends for grant in current)
        else:
            last = max((grant.ends for _, grant in same), default=0)
            starts, ends = _window_after(rules, rule.every, last, now)
            previous = tuple(number for number, grant in sorted(same) if grant.ends == last)
        more = rule.units - given
        found.append(
            Due(
                meter=rule.meter,
                slot=slot,
                every=rule.every,
                units=more,
                reached=rule.units,
                total=own + more,
                priority=rule.priority,
                starts=starts,
                ends=ends,
                previous=previous,
                rollover_max=rule.rollover_max,
                whose=rule.whose,
            )
        )
    return found


def foreseen(rules: Rules, gate: Gate | None, now: int, member: str | None) -> Gate | None:
    """`gate` as the next request of `member` would find it, with its seat's units under numbers that are free. Nothing
    is given: a look takes no seat."""
    own = [one for one in due(rules, gate, now, member) if one.whose]
    if not own:
        return gate
    seen = Gate(rules.account, rules.rev, {}, {}) if gate is None else gate
    first = max(seen.grants, default=-1) + 1
    given = {
        first + index: Grant(
            one.slot, one.units, one.priority, one.starts, one.ends, one.every, one.units, whose=one.whose
        )
        for index, one in enumerate(own)
    }
    return replace(seen, grants={**seen.grants, **given})


def _otherwise(grants: Iterable[Grant], slot: int, kept: set[str], now: int) -> Decimal:
    """What another plan gave of the meter with an interval that this one does not have, and that has not ended: a
    change of the interval gives nothing twice."""
    found = (g.units for g in grants if g.meter == slot and g.every and g.every not in kept and g.ends > now)
    return sum(found, ZERO)


def _window_after(rules: Rules, every: str, last: int, now: int) -> tuple[int, int]:
    """The window at `now`, begun no earlier than the one before it ended (`last`). Another timezone or anchor makes
    windows overlap: less than half a window left over goes with the next one, or credits would come twice."""
    starts, ends = _window(rules, every, now)
    if last <= starts:
        return starts, ends
    if (ends - last) * 2 < ends - starts:
        ends = _window(rules, every, ends)[1]
    return last, ends


def _window(rules: Rules, every: str, now: int) -> tuple[int, int]:
    calendar = rules.row.calendar
    if every == ONCE:
        return rules.row.created_at, FOREVER
    if every in ("period", seats.EVERY):
        window = window_at(PERIOD, calendar, now)
        return window.start, FOREVER if window.end is None else window.end
    rule = replace(calendar.period, interval=every, count=1)  # type: ignore[arg-type]  # day, week, month or year
    return period_at(rule, zone(calendar.timezone), now)


def carried(one: Due, gate: Gate | None, rules: Rules) -> Decimal:
    """What the new grant begins with beyond its units: the rest of the last one, and the units of windows in between
    that nobody asked for, up to the most that may roll over."""
    if gate is None or not one.previous or not one.rollover_max:
        return ZERO
    last = [gate.grants[number] for number in one.previous]
    if last[0].ends < rules.row.plan_since:
        return ZERO  # there was a window without this plan
    rest, at = sum((grant.left for grant in last), ZERO), last[0].ends
    while at < one.starts and rest < one.rollover_max:
        rest += one.reached
        at = _window(rules, one.every, at)[1]
    return min(rest, one.rollover_max)


def carrying(one: Due, gate: Gate, more: Decimal) -> tuple[GrantMove, ...]:
    """The moves that take `more` carried units out of the last window's grants: by a clock that is behind those have
    not ended yet, and nothing of them may be used twice."""
    moves = []
    for number in one.previous if more else ():
        left = gate.grants[number].left
        moved = min(left, more)
        more -= moved
        moves.append(GrantMove(number, -moved, exactly=left, moved=moved))
    return tuple(moves)


def give_due(deps: GateDeps, rules: Rules, gate: Gate | None, member: str | None = None) -> Gate | None:
    """Give what is due, the asking member's own included; returns the gate as it is then, or as it was where newer
    rules or a recount come first.

    Each is a row, then the gate: a crash between leaves the row, and the next who asks finds it by its source. Of two
    members after the last seat one finds it taken: its row stays, and nothing of it until there is a seat for it.
    """
    for tried in range(TRIES):
        if tried > 2:
            deps.pause(tried - 2)
        if (gate is not None and (gate.rev < 0 or gate.rev > rules.rev)) or behind(rules, gate):
            return gate
        now_ms = deps.clock()
        wanted = due(rules, gate, now_ms // 1000, member)
        if not wanted:
            return gate
        one = wanted[0]
        row = deps.grants.open(
            GrantRow(
                account=rules.account,
                number=0,
                meter=one.meter,
                units=one.units,
                source=PLAN,
                source_id=_source_id(one, member),
                priority=one.priority,
                starts=one.starts,
                ends=one.ends,
                created_ms=now_ms,
                every=one.every,
                member=member if one.whose else None,
            )
        )
        more = carried(one, gate, rules)
        grant = Grant(one.slot, row.units + more, row.priority, row.starts, row.ends, one.every, row.units, more)
        grant = grant._replace(whose=one.whose)
        moves = carrying(one, gate, more) if gate is not None else ()
        rev = None if gate is None else gate.rev
        write = GateWrite(
            rules.account,
            rev,
            rules.rev,
            money=restated(rules, "account", gate, now_ms // 1000),
            grants=moves,
            new_grants=((row.number, grant),),
            # By another clock another grant may have ended, and more be due: of two such answers one gives. And nobody
            # else has come since the seats were counted.
            grants_known=None if gate is None else gate.given,
        )
        gate = deps.gates.write(write).gate
    return gate


def _source_id(one: Due, member: str | None) -> str:
    window = f"{one.meter}:{one.every}:{one.starts}:{one.total.normalize():f}"
    return f"{window}:{member}" if one.whose else window
