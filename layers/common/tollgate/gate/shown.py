"""Gates as answers show them: counters that newer rules need begin before their limits are shown."""

from __future__ import annotations

from collections.abc import Iterable

from tollgate.accounts.rules import RuledLimit, Rules
from tollgate.gate import steps
from tollgate.gate.item import Gate
from tollgate.gate.limits import LimitState, states
from tollgate.gate.ports import GateDeps, subject_of
from tollgate.gate.recount import recount
from tollgate.quantities import ZERO
from tollgate.usage.outcome import ACCOUNT, MEMBER


def known_to(deps: GateDeps, rules: Rules, account: str, gates: Iterable[Gate | None]) -> Rules:
    """`rules` to show `gates` by: newer ones where the id `account` became another account on the way."""
    for gate in gates:
        if gate is not None and gate.subject.partition("#")[0] != rules.account:
            return deps.rules.fresh(account)
    return rules


def with_counters(
    deps: GateDeps, rules: Rules, gate: Gate | None, member: str | None, limits: Iterable[RuledLimit]
) -> Gate | None:
    """`gate` for an answer that shows `limits`: a counter that newer rules need there begins first, with what was used
    before, and a recount under way is finished. Rules older than the gate's are left alone; they show their own
    limits."""
    if gate is not None and abs(gate.rev) > rules.rev:
        return gate
    needed = {ruled.counter.slot: ZERO for ruled in limits}
    recounting = gate is not None and gate.rev < 0
    if not recounting and not steps.unseeded(rules, gate, needed, deps.clock() // 1000):
        return gate
    subject = subject_of(rules.account, ACCOUNT if member is None else MEMBER, member)
    recount(deps, rules, subject, member, needed)
    return deps.gates.read(subject)


def member_states(deps: GateDeps, rules: Rules, member: str) -> list[LimitState]:
    """A member's limits as its next reservation will see them."""
    limits = [ruled for ruled in rules.limits if ruled.limit.per == MEMBER]
    there = deps.gates.read(subject_of(rules.account, MEMBER, member))
    gate = with_counters(deps, rules, there, member, limits)
    return states(rules, limits, gate, member, deps.clock() // 1000)
