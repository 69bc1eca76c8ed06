"""The credits that a plan gives by itself: due where a window has begun and nothing of it is on the gate yet.

No job gives them: whoever asks the gate first in a new window does, so they are there when they are needed. Windows are
those of billing, with the grant's own interval: an annual plan gives its monthly credits on the day of the month that
it began. A plan with more of the same credits gives the difference at once; one with less takes nothing back, and
leaving a plan and coming back gives nothing twice.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import NamedTuple

from tollgate.accounts.rules import Rules
from tollgate.gate.item import Gate, GateWrite, Grant, GrantMove
from tollgate.gate.money import restated
from tollgate.gate.ports import GateDeps
from tollgate.gate.steps import behind
from tollgate.periods import period_at
from tollgate.quantities import ZERO
from tollgate.usage.grant import FOREVER, PLAN, GrantRow
from tollgate.windows import PERIOD, window_at, zone

ONCE = "once"
TRIES = 40


class Due(NamedTuple):
    """Credits that the plan gives now. `previous`: the number of the grant whose rest may carry over."""

    meter: str
    slot: int
    every: str
    units: Decimal
    reached: Decimal
    """What the window's grants come to with this one."""
    priority: int
    starts: int
    ends: int
    previous: tuple[int, ...]
    """Numbers of the last window's grants, whose rest may carry over."""
    rollover_max: Decimal


def due(rules: Rules, gate: Gate | None, now: int) -> list[Due]:
    """The plan's credits that are not on the account's gate yet at epoch second `now`."""
    if not rules.plan.grants:
        return []
    there = {} if gate is None else gate.grants
    found = []
    for rule in rules.plan.grants:
        slot = rules.row.meters.index(rule.meter)
        same = [(number, grant) for number, grant in there.items() if (grant.meter, grant.every) == (slot, rule.every)]
        current = [grant for _, grant in same if grant.ends > now]  # one of a clock ahead is this window's, too
        given = sum((grant.units for grant in current), ZERO)
        if given >= rule.units:
            continue
        previous: tuple[int, ...] = ()
        if current:
            starts, ends = current[0].starts, max(grant.ends for grant in current)
        else:
            starts, ends = _window(rules, rule.every, now)
            last = max((grant.ends for _, grant in same), default=0)
            previous = tuple(number for number, grant in sorted(same) if grant.ends == last)
        more, most = rule.units - given, rule.rollover_max or ZERO
        found.append(Due(rule.meter, slot, rule.every, more, rule.units, rule.priority, starts, ends, previous, most))
    return found


def _window(rules: Rules, every: str, now: int) -> tuple[int, int]:
    calendar = rules.row.calendar
    if every == ONCE:
        return rules.row.created_at, FOREVER
    if every == "period":
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
    rest, at = sum((grant.left for grant in last), ZERO), last[0].ends
    while at < one.starts and rest < one.rollover_max:
        rest += one.reached
        at = _window(rules, one.every, at)[1]
    return min(rest, one.rollover_max)


def give_due(deps: GateDeps, rules: Rules, gate: Gate | None) -> Gate | None:
    """Give what is due; returns the gate as it is then, or as it was where newer rules or a recount come first.

    Each is a row, then the gate: a crash between leaves the row, and the next who asks finds it by its source.
    """
    for tried in range(TRIES):
        if tried > 2:
            deps.pause(tried - 2)
        if (gate is not None and (gate.rev < 0 or gate.rev > rules.rev)) or behind(rules, gate):
            return gate
        now_ms = deps.clock()
        wanted = due(rules, gate, now_ms // 1000)
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
                source_id=f"{one.meter}:{one.every}:{one.starts}:{one.reached.normalize():f}",
                priority=one.priority,
                starts=one.starts,
                ends=one.ends,
                created_ms=now_ms,
                every=one.every,
            )
        )
        more = carried(one, gate, rules)
        grant = Grant(one.slot, row.units + more, row.priority, row.starts, row.ends, one.every, row.units, more)
        moves: tuple[GrantMove, ...] = ()
        if more and gate is not None:
            moves = tuple(GrantMove(number, ZERO, exactly=gate.grants[number].left) for number in one.previous)
        rev = None if gate is None else gate.rev
        write = GateWrite(
            rules.account,
            rev,
            rules.rev,
            money=restated(rules, "account", gate, now_ms // 1000),
            grants=moves,
            new_grants=((row.number, grant),),
        )
        gate = deps.gates.write(write).gate
    return gate
