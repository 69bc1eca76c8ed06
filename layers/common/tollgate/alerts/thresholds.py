"""What fills up, and which marks it has passed: limits, levels, included units, money and credits of one gate. Pure.

A *reading* is one thing that fills up, as a gate shows it; its marks are percentages of its maximum. What is *used*
counts, not what open reservations hold: it changes only in the write that settles a call, and inside a window it never
falls, so of all writes exactly one sees a mark between what was used before it and after it. Credits are the exception:
they count as they are taken, and those that come back and are taken again pass the same mark under the same id.

Of several marks that are passed at once the highest is told; the lower ones stand in its facts. `standing` looks at a
gate alone, and tells the highest mark that is passed: so it agrees with `crossed`, and finds what nobody told.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import NamedTuple

from tollgate.accounts.currency import charges
from tollgate.accounts.rules import Rules, windowed_end
from tollgate.alerts.watch import (
    NUDGE,
    burned_of,
    included_by_slot,
    mark,
    percents_of,
    shared_grants,
    soft_limit_of,
    spend_of,
    used_of,
)
from tollgate.catalog.model import Condition
from tollgate.gate.item import Gate, GateWrite
from tollgate.quantities import ZERO
from tollgate.usage.grant import FOREVER
from tollgate.usage.outcome import ACCOUNT, MEMBER
from tollgate.windows import PERIOD, WindowKind, window_at

LATE_S = 3600
"""What filled up in a window that ended this long ago is no longer told."""
UNITS = ("limit", "included", "level", "credits")
"""Kinds that count units; the others count money."""
_NO_ALLOWANCE = ("minute", "hour", "first_use")
"""A limit in these windows keeps a pace: nobody upgrades for it."""


class Reading(NamedTuple):
    """One thing that fills up. `kind`: one of UNITS, `member_amount`, `spend_cap`, `hard_limit` or `soft_limit`."""

    kind: str
    id: str
    """Of the limit, or of the meter; money promises have the names of their kinds."""
    meters: tuple[str, ...]
    maximum: Decimal
    used: Decimal
    before: Decimal | None
    """What was used before the write that is looked at; None: no write is."""
    window: WindowKind | None
    start: int
    """Of the window, epoch seconds; for credits, the number of the newest ones."""
    ends: int | None
    usable: Decimal | None = None
    """Where set: marks are percentages of this instead of `maximum`, which is what was promised."""
    default: bool = False
    """Of a soft limit: nobody set it."""
    where: Condition = ()


class Crossing(NamedTuple):
    """A mark that is passed. `passed`: the percentages below it that were passed with it."""

    reading: Reading
    percent: int
    passed: tuple[int, ...] = ()
    by_plan: bool = True
    by_customer: bool = True
    """Whether the plan wants to be told at one of these marks, and whether the customer does."""
    nudge: bool = False
    """Of a free allowance: its user is told that there is more. Then the mark itself is the operator's alone."""


def crossed(rules: Rules, write: GateWrite, gate: Gate, member: str | None, now: int) -> list[Crossing]:
    """What a write passed; `gate` is what it left."""
    return _passed(rules, _readings(rules, write, gate, ACCOUNT if member is None else MEMBER, now))


def standing(rules: Rules, gate: Gate, member: str | None, now: int) -> list[Crossing]:
    """The highest mark that each thing on a gate has passed, in windows that have not ended, or just now."""
    return _passed(rules, _readings(rules, None, gate, ACCOUNT if member is None else MEMBER, now))


def _passed(rules: Rules, readings: Iterator[Reading]) -> list[Crossing]:
    percents, found = percents_of(rules), []
    said = rules.row.controls.thresholds
    for reading in readings:
        most = reading.maximum if reading.usable is None else reading.usable
        if most <= 0:
            continue
        asked = (100,) if reading.kind == "soft_limit" else percents
        passed = [percent for percent in asked if _is_passed(reading, mark(most, percent))]
        nudge = said != () and _is_allowance(rules, reading) and _is_passed(reading, mark(most, NUDGE))
        by_plan = any(percent in rules.plan.thresholds for percent in passed)
        by_customer = not nudge and (by_plan if said is None else any(percent in said for percent in passed))
        if passed and (by_plan or by_customer or reading.kind == "soft_limit"):
            found.append(Crossing(reading, passed[-1], tuple(passed[:-1]), by_plan, by_customer))
        if nudge:
            found.append(Crossing(reading, NUDGE, nudge=True))
    return found


def _is_passed(reading: Reading, at: Decimal) -> bool:
    return at <= reading.used and (reading.before is None or reading.before < at)


def _is_allowance(rules: Rules, reading: Reading) -> bool:
    """Whether it is what a plan gives away."""
    of = reading.window
    return reading.kind == "limit" and of is not None and of.name not in _NO_ALLOWANCE and not charges(rules.plan)


# -- readings ----------------------------------------------------------------------------------------------------------


def _readings(rules: Rules, write: GateWrite | None, gate: Gate, per: str, now: int) -> Iterator[Reading]:
    """What fills up on a gate; with a `write`, what of it the write changed."""
    yield from _counted(rules, write, gate, per, now)
    if per == ACCOUNT:
        yield from _levels(rules, write, gate, now)
        yield from _credits(rules, write, gate, now)
    yield from _money(rules, write, gate, per, now)


def _counted(rules: Rules, write: GateWrite | None, gate: Gate, per: str, now: int) -> Iterator[Reading]:
    counters = {} if write is None else {counter.slot: counter for counter in write.counters}
    included = included_by_slot(rules) if per == ACCOUNT else {}
    things = [
        ("limit", ruled.limit.id, ruled.limit.meters, ruled.maximum, ruled.counter, ruled.limit.where)
        for ruled in rules.limits
        if ruled.limit.per == per and ruled.limit.concurrent is None
    ]
    things += [
        ("included", counter.key.meters[0], counter.key.meters, included[counter.slot], counter, ())
        for counter in rules.counters
        if counter.slot in included
    ]
    for kind, name, meters, maximum, counter, where in things:
        count = gate.counts.get(counter.slot)
        if maximum is None or count is None or (write is not None and counter.slot not in counters):
            continue
        ends = windowed_end(counter, count.window, rules.row.calendar)
        before, used = None, count.taken - count.held
        if write is not None:
            before, used = used_of(counters[counter.slot], gate)
        elif ends is not None and ends + LATE_S <= now:
            continue
        yield Reading(kind, name, meters, maximum, used, before, counter.kind, count.window, ends, where=where)


def _levels(rules: Rules, write: GateWrite | None, gate: Gate, now: int) -> Iterator[Reading]:
    """A level goes up and down: it is told once in a billing period."""
    period = window_at(PERIOD, rules.row.calendar, now)
    for ruled in rules.level_limits:
        slot = rules.row.meters.index(ruled.limit.meters[0])  # a level shares its limit with nothing
        level, change = gate.levels.get(slot), None if write is None else write.level
        if level is None or ruled.maximum is None:
            continue
        if write is not None and (change is None or change.slot != slot or change.was is None):
            continue
        before = None if change is None else change.was
        yield Reading("level", ruled.limit.id, ruled.limit.meters, ruled.maximum, level.units, before, None, *period)


def _credits(rules: Rules, write: GateWrite | None, gate: Gate, now: int) -> Iterator[Reading]:
    """What live credits of a meter came to, all together. New ones begin anew: their number is the window."""
    for slot in sorted({grant.meter for grant in gate.grants.values()}):
        live = shared_grants(gate, slot, now)
        if not live or slot >= len(rules.row.meters):
            continue
        brought, before, after = burned_of(slot, write, gate, now)
        meter = rules.row.meters[slot]
        ends = max(grant.ends for _, grant in live)
        was = None if write is None else before
        newest = max(number for number, _ in live)
        yield Reading("credits", meter, (meter,), brought, after, was, None, newest, None if ends == FOREVER else ends)


def _money(rules: Rules, write: GateWrite | None, gate: Gate, per: str, now: int) -> Iterator[Reading]:
    terms, money = rules.terms_of(per), gate.money
    if terms is None or money is None or (write is not None and write.money is None):
        return
    ends = window_at(PERIOD, rules.row.calendar, money.period).end
    if write is None and ends is not None and ends + LATE_S <= now:
        return
    before, used = spend_of(terms, GateWrite("", None, 0) if write is None else write, money)
    was = None if write is None else before
    window = (PERIOD, money.period, ends)
    cap = terms.cap
    if cap is not None and per == MEMBER:
        limit = next(limit.id for limit in rules.plan.limits if limit.amount is not None)
        yield Reading("member_amount", limit, (), cap.amount, used, was, *window)
    elif cap is not None:
        kind = "hard_limit" if cap.source == "customer" else "spend_cap"
        yield Reading(kind, kind, (), cap.amount, used, was, *window, usable=cap.usable)
    soft = soft_limit_of(rules, money) if per == ACCOUNT else None
    if soft is not None and soft > ZERO:
        default = rules.row.controls.soft_limit is None
        yield Reading("soft_limit", "soft_limit", (), soft, used, was, *window, default=default)
