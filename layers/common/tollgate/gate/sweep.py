"""The sweep: visits gates that nobody calls, ends their expired holds, and audits counters against events.

Reads the gate table page by page and remembers each gate before it is visited: the next run goes on after it. So every
gate is visited in turn, and one that fails, or whose audit outlasts the function, keeps no other from its turn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from tollgate.accounts.rules import Rules
from tollgate.gate import steps
from tollgate.gate.grants import missing, take_off
from tollgate.gate.item import Gate
from tollgate.gate.levels import price_levels, settle_levels
from tollgate.gate.ports import GateDeps, subject_of
from tollgate.gate.reclaim import reclaim
from tollgate.gate.recount import Found, recount, true_counts
from tollgate.gate.taking import expired_keys
from tollgate.usage.outcome import ACCOUNT, MEMBER


@dataclass(slots=True)
class Swept:
    """What one run did. `repaired`: gates whose counters did not equal their events and open holds."""

    gates: int = 0
    reclaimed: int = 0
    audited: int = 0
    repaired: list[Found] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    """What went wrong, one for each gate that failed; its subject stands in a note."""


def sweep_gate(deps: GateDeps, gate: Gate, swept: Swept, *, audit: bool) -> None:
    """End every expired hold of one gate; with `audit`, prove its counters and repair them where they differ."""
    swept.gates += 1
    account, _, member = gate.subject.partition("#")
    counted = member or None
    if gate.closed:
        return
    rules = deps.rules.get(account)
    if gate.rev > rules.rev:
        rules = deps.rules.fresh(account)
    seen: Gate | None = gate
    if rules.account != account or steps.behind(rules, gate):
        # A gate of an account that became another one, or of one that another one became: all is brought together.
        subject = subject_of(rules.account, ACCOUNT if counted is None else MEMBER, counted)
        recount(deps, rules, subject, counted, {})
        if rules.account != account:
            return
        seen = deps.gates.read(subject)
    if seen is not None and seen.rev < 0:
        recount(deps, rules, gate.subject, counted, {})  # one that died; its gate's expired holds end in this run, too
        seen = deps.gates.read(gate.subject)
    while seen is not None and seen.rev >= 0 and not seen.closed:
        keys = expired_keys(seen, deps.clock() // 1000)
        if not keys:
            break
        before = len(seen.holds)
        seen = reclaim(deps, rules, seen, keys, counted)
        swept.reclaimed += before - (0 if seen is None else len(seen.holds))
        if seen is not None and len(seen.holds) >= before:
            break  # others are at work on it
    if seen is not None and seen.closed:
        return  # meanwhile
    if counted is None and seen is not None and seen.rev >= 0 and any(level.open for level in seen.levels.values()):
        seen = settle_levels(deps, rules if seen.rev <= rules.rev else deps.rules.fresh(account), seen)
    if audit and counted is None and seen is not None and seen.levels:
        price_levels(deps, deps.rules.fresh(account))  # a change of plan may have died before it did
        seen = deps.gates.read(gate.subject)
    if audit and counted is None and seen is not None and seen.rev >= 0 and (rules.terms is not None or seen.grants):
        if missing(deps, rules, seen):
            seen = deps.gates.read(gate.subject)
        seen = None if seen is None else take_off(deps, rules, seen)
    if seen is not None and (seen.rev < 0 or (audit and not _equal(deps, rules, seen, counted))):
        found = recount(deps, rules, gate.subject, counted)
        if (found.changed or found.money) and seen.rev >= 0:
            swept.repaired.append(found)
    if audit:
        swept.audited += 1


def audit_account(deps: GateDeps, account: str, *, repair: bool) -> bool:
    """Whether an account's counters equal its events and open holds; with `repair`, they do afterwards."""
    rules = deps.rules.fresh(account)
    gate = deps.gates.read(rules.account)
    if gate is None or gate.rev < 0 or gate.closed or _equal(deps, rules, gate, None):
        return True
    if repair:
        sweep_gate(deps, gate, Swept(), audit=True)
    return False


def _equal(deps: GateDeps, rules: Rules, gate: Gate, member: str | None) -> bool:
    """Whether counters equal events and open holds, without stopping the gate: a gate that moved meanwhile is left
    to the next audit."""
    per = "account" if member is None else "member"
    truth = true_counts(deps, rules, gate, per, member, deps.clock() // 1000)
    rated = gate.rev != rules.rev or truth.money == gate.money
    if rated and all(truth.counts.get(slot) == count for slot, count in gate.counts.items()):
        return True
    return deps.gates.read(gate.subject) != gate


class Cursor(Protocol):
    """Where the sweep is."""

    def read(self) -> str | None:
        """The subject after which to go on; None: from the beginning."""

    def write(self, after: str | None) -> None: ...


def sweep(
    deps: GateDeps,
    page: Callable[[str | None], tuple[list[Gate], str | None]],
    cursor: Cursor,
    more: Callable[[], bool],
    *,
    audit: bool,
) -> tuple[Swept, bool]:
    """Sweep gates from the cursor on, once round, while `more()`; returns what was done, and whether all had a turn.

    A gate that fails is left for its next turn; what it raised stands in `failures`."""
    swept = Swept()
    start = after = cursor.read()
    last_round = start is None
    while True:
        gates, after = page(after)
        if not gates and not more():  # pages may hold nothing but shards of shared limits
            return swept, False
        for gate in gates:
            if not more():
                return swept, False
            cursor.write(gate.subject)
            try:
                sweep_gate(deps, gate, swept, audit=audit)
            except Exception as error:  # noqa: BLE001 (told by the caller, once the others had their turn)
                error.add_note(gate.subject)
                swept.failures.append(error)
            if last_round and gate.subject == start:
                after = None
                break
        if after is None and last_round:
            cursor.write(None)
            return swept, True
        last_round = last_round or after is None
