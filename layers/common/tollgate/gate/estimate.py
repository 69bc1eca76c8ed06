"""Estimate: what a reservation would cost and whether it would be granted. Nothing is reserved.

Reads each gate once, from the narrow to the wide one, and plans the write that a reservation would send. What a crash
leaves: nothing (a counter that begins for the answer is seeded as for any other).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import NamedTuple

from tollgate.accounts.rules import Item, Rules
from tollgate.errors import Busy
from tollgate.gate import funding, taking
from tollgate.gate.hold import Hold, meter_units
from tollgate.gate.item import Gate
from tollgate.gate.ports import GateDeps, subject_of
from tollgate.gate.reclaim import reclaim
from tollgate.gate.recount import recount
from tollgate.gate.recurring import foreseen, give_due
from tollgate.gate.reserve import Denied, denied_by, denied_by_share, outside_rules, subjects_of
from tollgate.gate.shown import with_counters
from tollgate.quantities import ZERO
from tollgate.usage.outcome import ACCOUNT, MEMBER

TRIES = 12


class Estimate(NamedTuple):
    """`denied` None: a reservation would be granted now."""

    rules: Rules
    units: Decimal
    quote: funding.Quote
    denied: Denied | None


class _RulesChanged(Exception):
    """A gate has seen newer rules."""


def estimate(deps: GateDeps, account: str, member: str | None, weigh: Callable[[Rules], Sequence[Item]]) -> Estimate:
    """Estimate a request over all its items together. Raises as `reserve` does."""
    rules = deps.rules.get(account, lambda rules: subjects_of(rules, weigh(rules), member))
    for _ in range(TRIES):
        try:
            return _estimated(deps, rules, member, weigh(rules))
        except _RulesChanged:
            rules = deps.rules.fresh(account)
    raise Busy


def _estimated(deps: GateDeps, rules: Rules, member: str | None, items: Sequence[Item]) -> Estimate:
    units = sum((item.units for item in items), ZERO)
    account = _given(deps, rules, _look(deps, rules, items, ACCOUNT, None), member)
    quoted = funding.quote(rules, account, meter_units(rules.groups(items, ACCOUNT)), deps.clock() // 1000, member)
    denied = outside_rules(rules, items)
    if denied is None and rules.plan.shared_limits:
        from tollgate.gate import shared  # with the first such plan: the gate starts without it

        short = shared.peek(deps, rules, items)
        denied = None if short is None else denied_by_share(rules, short)
    for per in subjects_of(rules, items, member):
        if denied is None:
            denied = _denied(deps, rules, items, per, member, account)
    return Estimate(rules, units, quoted, denied)


def _look(deps: GateDeps, rules: Rules, items: Sequence[Item], per: str, member: str | None) -> Gate | None:
    gate = deps.gates.read(subject_of(rules.account, per, member))
    if per == ACCOUNT and gate is not None and abs(gate.rev) > rules.rev:
        raise _RulesChanged
    return with_counters(deps, rules, gate, member if per == MEMBER else None, rules.limits_for(items, per))


def _given(deps: GateDeps, rules: Rules, gate: Gate | None, member: str | None) -> Gate | None:
    """`gate` with what is due; a seat's units are not given to who only asks for a price."""
    return foreseen(rules, give_due(deps, rules, gate), deps.clock() // 1000, member)


def _denied(
    deps: GateDeps, rules: Rules, items: Sequence[Item], per: str, member: str | None, account: Gate | None
) -> Denied | None:
    subject, limits = subject_of(rules.account, per, member), rules.limits_for(items, per)
    caps = rules.caps_for(items, per)
    gate = account if per == ACCOUNT else _look(deps, rules, items, per, member)
    now = deps.clock() // 1000
    hold = Hold(deps.incarnate(now * 1000), now, now * 1000, b"    ", rules.groups(items, per))
    for _ in range(TRIES):
        plan = taking.plan_take(rules, taking.Wanted(subject, per, "", hold, caps, member=member), gate, now)
        if isinstance(plan, taking.Send):
            return None
        if isinstance(plan, taking.Refuse):
            return denied_by(rules, plan, gate, per, limits, member, now)
        if isinstance(plan, taking.Reclaim):
            assert gate is not None
            gate = reclaim(deps, rules, gate, plan.keys, member if per == MEMBER else None)
            continue
        if isinstance(plan, taking.CreditsDue):
            gate = _given(deps, rules, gate, member)
            continue
        if isinstance(plan, taking.Stale):
            raise _RulesChanged
        # A counter of the hold begins with this look, or a recount is under way.
        recount(deps, rules, subject, member if per == MEMBER else None, hold.units())
        gate = deps.gates.read(subject)
    raise Busy
