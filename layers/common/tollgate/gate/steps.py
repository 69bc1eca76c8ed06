"""How one counter changes: the window rules of the gate, for taking units and for settling them."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from enum import Enum

from tollgate.accounts.rules import Counter, Rules, windowed_end
from tollgate.gate.item import Count, CounterWrite, Gate, Step
from tollgate.quantities import ZERO
from tollgate.windows import PERIOD

FAR = 1 << 40
"""A window start later than any: the upper bound of an open range."""


class Sight(Enum):
    """UNSEEN: the gate was not read; the write assumes current windows and its conditions tell if that is wrong."""

    UNSEEN = "unseen"


UNSEEN = Sight.UNSEEN
LEARNT_S = 900
"""Rules are in force everywhere this long after they were written: past the minute they may be cached, even if nobody
applied them to the gate, and past the longest life of a function that began under older ones."""

Seen = Gate | None | Sight
SeenCount = Count | None | Sight


def seen_count(seen: Seen, slot: int) -> SeenCount:
    if isinstance(seen, Sight):
        return UNSEEN
    return None if seen is None else seen.counts.get(slot)


def take(
    rules: Rules, counter: Counter, count: SeenCount, at: int, taken: Decimal, held: Decimal, cap: Decimal | None
) -> CounterWrite:
    """Units onto a counter at epoch second `at`. A newer window in the gate means that this clock is behind: that
    window is the current one, and counters only move forward."""
    if counter.kind is None:
        if count is None:
            return CounterWrite(counter.slot, Step.FIRST, taken, held)
        return CounterWrite(counter.slot, Step.ADD, taken, held, 0, (0, 0), cap)
    hours = counter.kind.hours
    if hours is not None:
        if count is None:
            return CounterWrite(counter.slot, Step.FIRST, taken, held, at)
        if isinstance(count, Sight):
            return CounterWrite(counter.slot, Step.ADD, taken, held, at, (at - hours * 3600 + 1, FAR), cap)
        if count.window + hours * 3600 <= at:
            return CounterWrite(counter.slot, Step.ROLL, taken, held, at, (count.window, count.window), cap)
        return CounterWrite(counter.slot, Step.ADD, taken, held, at, (count.window, count.window), cap)
    start = rules.window(counter, at).start
    if count is None:
        return CounterWrite(counter.slot, Step.FIRST, taken, held, start)
    if isinstance(count, Sight):
        return CounterWrite(counter.slot, Step.ADD, taken, held, start, (start, start), cap)
    if count.window < start:
        return CounterWrite(counter.slot, Step.ROLL, taken, held, start, (count.window, count.window), cap)
    return CounterWrite(counter.slot, Step.ADD, taken, held, count.window, (count.window, count.window), cap)


def settle(
    rules: Rules, counter: Counter, count: SeenCount, at: int, reserved: Decimal, actual: Decimal
) -> CounterWrite | None:
    """`reserved` held units become `actual` used units recorded at epoch second `at`; None: nothing to change.

    Actual units belong to the window of `at` alone: a newer window in the gate takes nothing, an older one is rolled
    over in the same write.
    """
    if counter.kind is None or actual == 0:
        return CounterWrite.back(counter.slot, reserved) if reserved else None
    change = actual - reserved
    hours = counter.kind.hours
    start = at if hours is not None else rules.window(counter, at).start
    if count is None:
        return CounterWrite(counter.slot, Step.FIRST, actual, ZERO, start)
    if isinstance(count, Sight):
        low = start if hours is None else at - hours * 3600 + 1
        return CounterWrite(counter.slot, Step.ADD, change, -reserved, start, (low, start))
    if count.window > start:
        return CounterWrite.back(counter.slot, reserved) if reserved else None
    current = count.window == start if hours is None else count.window > at - hours * 3600
    step = Step.ADD if current else Step.ROLL
    return CounterWrite(counter.slot, step, change, -reserved, start, (count.window, count.window))


def taken_now(rules: Rules, counter: Counter, count: Count | None, at: int) -> Decimal:
    """What `counter` has taken in the window that is current at `at`: what a reservation would be added to."""
    if count is None:
        return ZERO
    return count.held if is_over(rules, counter, count, at) else count.taken


def is_over(rules: Rules, counter: Counter, count: Count, at: int) -> bool:
    """Whether the stored window has ended at `at`."""
    if counter.kind is None:
        return False
    end = windowed_end(counter, count.window, rules.row.calendar)
    return end is not None and end <= at


def behind(rules: Rules, gate: Gate | None) -> bool:
    """Whether an account that became this one is not counted on the gate yet: it must be recounted before anything is
    taken from it, and before it is written under these rules."""
    return (0 if gate is None else gate.merged) < len(rules.row.merged)


def begun_at(rules: Rules, counter: Counter, at: int) -> int:
    """Where the window of `counter` at epoch second `at` begins, if that is a billing period that was told of while it
    ran: what was used in it until then stands in the window before. 0: it is none."""
    begun = rules.row.calendar.last_begun if counter.kind == PERIOD else 0
    return begun if begun and rules.window(counter, at).start == begun else 0


def unseeded(rules: Rules, gate: Gate | None, slots: Mapping[int, Decimal], at: int) -> bool:
    """Whether a counter that `slots` needs began in mid-window and is not in the gate, or is in a billing period that
    ended before this was known, or the gate is `behind`: it must be recounted first."""
    if behind(rules, gate):
        return True
    for slot in slots:
        counter = rules.counters[slot]
        if gate is not None and slot in gate.counts:
            if gate.counts[slot].window < begun_at(rules, counter, at):
                return True
            continue
        if counter.since == 0:
            continue
        if gate is not None and gate.holds:
            return True  # holds older than the counter do not name it
        if counter.kind is None:
            continue
        if counter.kind.hours is not None:
            if counter.since + LEARNT_S > at - counter.kind.hours * 3600:
                return True
        elif counter.since + LEARNT_S > rules.window(counter, at).start:
            return True
    return False
