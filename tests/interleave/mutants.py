"""Defects put into the gate on purpose: each leaves out one thing that the design says is needed.

A mutant is a patch of product functions. The suite must find a violation under each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace as replaced
from decimal import Decimal
from typing import Any, TypeVar

import pytest

from tests.interleave import faults
from tests.support import memory
from tollgate.accounts.rules import Counter, Group, Rules
from tollgate.gate import apply, commit, ending, extend, funding, reclaim, recount, release, reserve, steps, taking
from tollgate.gate.hold import Hold, unpack
from tollgate.gate.item import Count, CounterWrite, Gate, GateWrite, HoldWrite, Recounted, Step
from tollgate.gate.ports import GateDeps
from tollgate.gate.steps import Seen, SeenCount, Sight
from tollgate.ids import uuid7
from tollgate.usage.outcome import MEMBER, Event, Outcome, Void

Patch = pytest.MonkeyPatch
T = TypeVar("T")
ANY_HOLD = b"whatever hold is there"


def changed(value: T, **changes: Any) -> T:
    """A copy of a dataclass or named tuple with some fields changed."""
    if isinstance(value, tuple):
        copied: T = value._replace(**changes)  # type: ignore[attr-defined]
        return copied
    return replaced(value, **changes)  # type: ignore[type-var]


def read_then_write(patch: Patch) -> None:
    """The caps are compared with the gate as read, and not asserted by the write."""
    original = taking._write

    def unguarded(*args: Any) -> GateWrite:
        write = original(*args)
        return changed(write, counters=tuple(changed(counter, cap=None) for counter in write.counters))

    patch.setattr(taking, "_write", unguarded)
    original_changes = extend._changes

    def changes(*args: Any) -> Any:
        refusal, counters = original_changes(*args)
        return refusal, tuple(changed(counter, cap=None) for counter in counters)

    patch.setattr(extend, "_changes", changes)


def no_void(patch: Patch) -> None:
    """A release looks for an event and gives the units back, but leaves no void."""
    _puts_no_void(patch, "released")


def reclaim_without_void(patch: Patch) -> None:
    """A reclaim looks for an event and gives the units back, but leaves no void."""
    _puts_no_void(patch, "expired")


def _puts_no_void(patch: Patch, why: str) -> None:
    original = faults.FaultyOutcomes.put_void

    def put_void(self: faults.FaultyOutcomes, void: Void) -> Outcome | None:
        if void.why != why:
            return original(self, void)
        there = self.get(void.at)
        return there if isinstance(there, Event) else None

    patch.setattr(faults.FaultyOutcomes, "put_void", put_void)


def no_incarnation(patch: Patch) -> None:
    """All holds of one key are taken for the same one."""
    original = reserve._Attempt._new_hold

    def new_hold(self: Any, per: str, now_ms: int) -> Hold:
        made = original(self, per, now_ms)
        return changed(made, incarnation=uuid7(made.origin_ms, bytes(10)))

    patch.setattr(reserve._Attempt, "_new_hold", new_hold)


def rollover_to_zero(patch: Patch) -> None:
    """A new window begins at zero: what open holds keep is forgotten."""
    original = apply._counted

    def counted(count: Count | None, write: CounterWrite) -> Count | None:
        after = original(count, write)
        if after is None or count is None or write.step is not Step.ROLL:
            return after
        return changed(after, taken=after.taken - count.held)

    patch.setattr(apply, "_counted", counted)


def increment_extend(patch: Patch) -> None:
    """An extension adds its total to the hold instead of raising the hold to it."""

    def shortfall(hold: Hold, groups: Sequence[Group]) -> dict[int, Decimal]:
        return {slot: units for group in groups for slot in group.slots if (units := group.units)}

    patch.setattr(extend, "shortfall", shortfall)


def settle_without_hold_assertion(patch: Patch) -> None:
    """Ending a hold changes the counters whether or not the hold is still there."""
    original = ending.plan_end

    def plan_end(*args: Any) -> GateWrite | funding.Look:
        write = original(*args)
        if isinstance(write, funding.Look):
            return write
        return changed(write, holds=tuple(changed(hold, expect=ANY_HOLD) for hold in write.holds))

    patch.setattr(ending, "plan_end", plan_end)
    _accept_any_hold(patch)


def _accept_any_hold(patch: Patch) -> None:
    original = apply.applied

    def applied(gate: Gate | None, write: GateWrite) -> Gate | None:
        there: Mapping[str, bytes] = {} if gate is None else gate.holds
        holds = (changed(hold, expect=there.get(hold.key)) if hold.expect == ANY_HOLD else hold for hold in write.holds)
        return original(gate, changed(write, holds=tuple(holds)))

    patch.setattr(memory, "applied", applied)


def drop_other_attempts_hold(patch: Patch) -> None:
    """After a refusal the member's hold is dropped even if a retry has taken it over."""
    original = reserve._Attempt.drop_narrow

    def drop(self: Any) -> None:
        taken = self.mine.get(MEMBER)
        if taken is not None:
            gate = self.deps.gates.read(self._subject(MEMBER))
            raw = None if gate is None else gate.holds.get(self.asked.key)
            if gate is not None and gate.rev > 0 and raw is not None and raw[1:17] == taken.hold.incarnation:
                self.mine[MEMBER] = changed(taken, gate=gate, hold=unpack(raw), created=True)
        original(self)

    patch.setattr(reserve._Attempt, "drop_narrow", drop)


def renew_without_caps(patch: Patch) -> None:
    """An expired hold is renewed as if it still granted its units."""
    original = taking.plan_take

    def plan_take(
        rules: Rules, wanted: taking.Wanted, seen: Seen, now: int, recalled: Gate | None = None
    ) -> taking.Plan:
        if isinstance(seen, Gate) and wanted.key in seen.holds:
            wanted = changed(wanted, forced=True)
        return original(rules, wanted, seen, now, recalled)

    patch.setattr(taking, "plan_take", plan_take)


def late_commit_without_void_assertion(patch: Patch) -> None:
    """The transaction of a late commit does not assert the void that it replaces."""
    original = faults.FaultyOutcomes.commit_late

    def commit_late(self: Any, event: Event, over: Void, writes: Sequence[GateWrite]) -> bool:
        there = self._there(event.at)
        if isinstance(there, Event):
            self._world.outcomes.pop((event.at.account, event.at.origin_ms, event.at.key))
            self._put(over)
        elif there is not None:
            over = there
        return original(self, event, over, writes)

    patch.setattr(faults.FaultyOutcomes, "commit_late", commit_late)


def late_commit_beside_own_hold(patch: Patch) -> None:
    """A late commit counts its usage beside its own hold, where that is still there."""

    def plan_end(
        rules: Rules, subject: str, per: str, key: str, raw: bytes, events: Sequence[Event], gate: Gate, now: int
    ) -> GateWrite:
        write = ending.plan_late(rules, subject, per, key, events[0], gate, funding.Taking())
        return changed(write, holds=())

    patch.setattr(commit, "plan_end", plan_end)


def stale_rules_accepted(patch: Patch) -> None:
    """A gate that has seen newer rules is written under the cached ones."""
    original = taking.plan_take

    def plan_take(
        rules: Rules, wanted: taking.Wanted, seen: Seen, now: int, recalled: Gate | None = None
    ) -> taking.Plan:
        if isinstance(seen, Gate) and seen.rev > rules.rev:
            rules = changed(rules, row=changed(rules.row, rev=seen.rev))
        return original(rules, wanted, seen, now, recalled)

    patch.setattr(taking, "plan_take", plan_take)


def recount_without_freeze(patch: Patch) -> None:
    """A recount sums events while the gate goes on, and then writes what it summed."""

    def loose(
        deps: GateDeps, rules: Rules, subject: str, member: str | None, needed: Mapping[int, Decimal] | None = None
    ) -> recount.Found:
        gate = deps.gates.read(subject) or Gate(subject, rules.rev, {}, {})
        rules = deps.rules.fresh(rules.account) if gate.rev > rules.rev else rules
        per = "account" if member is None else "member"
        counts, holds, paid = recount.true_counts(deps, rules, gate, per, member, deps.clock() // 1000)
        deps.gates.finish_recount(Recounted(subject, gate.rev, "", rules.rev, counts, holds, paid))
        return recount.Found(subject, {})

    def recounted(gate: Gate | None, write: Recounted) -> Gate:
        return Gate(write.subject, write.new_rev, write.counts, write.holds)

    from tests.interleave import stage
    from tollgate.gate import apply_rules, force, sweep

    for module in (apply_rules, commit, ending, extend, force, reserve, stage, sweep):
        patch.setattr(module, "recount", loose)
    patch.setattr(memory, "recounted", recounted)


def newer_window_counts_old_event(patch: Patch) -> None:
    """A settle adds usage recorded in an older window to the newer one that the gate is in."""
    original = steps.settle

    def settle(
        rules: Rules, counter: Counter, count: SeenCount, at: int, reserved: Decimal, actual: Decimal
    ) -> CounterWrite | None:
        write = original(rules, counter, count, at, reserved, actual)
        if counter.kind is not None and isinstance(count, Count) and write is not None and write.step is Step.BACK:
            return changed(write, d_taken=actual - reserved)
        return write

    patch.setattr(steps, "settle", settle)


def settle_without_rollover(patch: Patch) -> None:
    """A settle adds usage recorded in a newer window to the older one that the gate is in."""
    original = steps.settle

    def settle(
        rules: Rules, counter: Counter, count: SeenCount, at: int, reserved: Decimal, actual: Decimal
    ) -> CounterWrite | None:
        write = original(rules, counter, count, at, reserved, actual)
        if write is not None and write.step is Step.ROLL and isinstance(count, Count):
            return changed(write, step=Step.ADD, window=count.window)
        return write

    patch.setattr(steps, "settle", settle)


def slow_clock_turns_back(patch: Patch) -> None:
    """A clock that is behind begins its own older window again."""
    original = steps.take

    def take(
        rules: Rules, counter: Counter, count: SeenCount, at: int, taken: Decimal, held: Decimal, cap: Decimal | None
    ) -> CounterWrite:
        write = original(rules, counter, count, at, taken, held, cap)
        if counter.kind is None or counter.kind.hours or not isinstance(count, Count):
            return write
        start = rules.window(counter, at).start
        if count.window <= start:
            return write
        return changed(write, step=Step.ROLL, window=start)

    patch.setattr(steps, "take", take)


def recorded_by_own_clock(patch: Patch) -> None:
    """Usage may be recorded before the start of the window that its hold was counted in."""
    original = reserve._Attempt._granted

    def granted(self: Any, taken: Any) -> reserve.Granted:
        return changed(original(self, taken), floor_ms=0)

    patch.setattr(reserve._Attempt, "_granted", granted)


def void_ignored(patch: Patch) -> None:
    """A commit puts its event over any void."""
    patch.setattr(Void, "blocks", lambda self, incarnations: False)


def reclaim_ignores_events(patch: Patch) -> None:
    """A reclaim gives all units back, also of a hold whose call was committed."""
    original = reclaim._became

    def became(deps: GateDeps, account: str, key: str, hold: Hold, per: str) -> list[Event]:
        original(deps, account, key, hold, per)
        return []

    patch.setattr(reclaim, "_became", became)


def reclaim_of_renewed_hold(patch: Patch) -> None:
    """A reclaim removes the hold that it finds, not the one that it saw expired."""
    original = reclaim._give_back

    def give_back(
        deps: GateDeps, rules: Rules, gate: Gate, free: Sequence[tuple[str, bytes]], member: str | None
    ) -> Gate | None:
        now = deps.gates.read(gate.subject)
        if now is None or now.rev < 0:
            return now
        there = [(key, now.holds[key]) for key, raw in free if key in now.holds and now.holds[key][1:17] == raw[1:17]]
        return original(deps, rules, now, there, member)

    patch.setattr(reclaim, "_give_back", give_back)


def new_counter_from_zero(patch: Patch) -> None:
    """A limit added in mid-window starts to count when it is added."""
    patch.setattr(steps, "unseeded", lambda rules, gate, slots, at: False)


def over_reserved_not_held_first(patch: Patch) -> None:
    """A commit above its reservation puts its row at once; the settle alone brings the difference to the gate."""
    patch.setattr(commit, "shortfall", lambda hold, groups: {})


def usage_settled_by_retry(patch: Patch) -> None:
    """A release that finds an event settles it on whatever hold of the key is there."""
    patch.setattr(release, "counts_for", lambda event, per, key, incarnation: True)


def renewal_lowers_hold(patch: Patch) -> None:
    """Renewing an expired hold for its first, smaller request gives back what its commit may have used."""
    original = taking.plan_take

    def plan_take(
        rules: Rules, wanted: taking.Wanted, seen: Seen, now: int, recalled: Gate | None = None
    ) -> taking.Plan:
        plan = original(rules, wanted, seen, now, recalled)
        if not isinstance(plan, taking.Reclaim) or plan.keys != (wanted.key,) or not isinstance(seen, Gate):
            return plan
        old = seen.holds[wanted.key]
        found = unpack(old)
        hold = changed(wanted.hold, incarnation=found.incarnation, origin_ms=found.origin_ms, keyed=found.keyed)
        return taking.Send(taking._write(rules, wanted, seen, hold, found.units(), old, now, funding.Taking()), hold)

    patch.setattr(taking, "plan_take", plan_take)


def recount_by_own_clock(patch: Patch) -> None:
    """By a clock that is behind, a counter begins in its own window, though usage is recorded in a newer one."""
    patch.setattr(recount, "_newest", lambda rules, counter, start, recorded, now: start)


MUTANTS: dict[str, Callable[[Patch], None]] = {
    mutant.__name__: mutant
    for mutant in (
        read_then_write,
        no_void,
        reclaim_without_void,
        no_incarnation,
        rollover_to_zero,
        increment_extend,
        settle_without_hold_assertion,
        drop_other_attempts_hold,
        renew_without_caps,
        late_commit_without_void_assertion,
        late_commit_beside_own_hold,
        stale_rules_accepted,
        recount_without_freeze,
        newer_window_counts_old_event,
        settle_without_rollover,
        slow_clock_turns_back,
        recorded_by_own_clock,
        void_ignored,
        reclaim_ignores_events,
        reclaim_of_renewed_hold,
        new_counter_from_zero,
        over_reserved_not_held_first,
        usage_settled_by_retry,
        renewal_lowers_hold,
        recount_by_own_clock,
    )
}

__all__ = ["MUTANTS", "HoldWrite", "Sight"]
