"""Sees by each write of a gate whether it passed a mark (`thresholds.py`), and has it told.

The gate is what its write left, so what was used before is that less the write's own change: no read, no request. Only
the write that settles a call changes what is used, and each mark lies between before and after of one of them alone.
Here is what every call needs, and it is little; what it takes to tell is loaded with the first mark that is passed.

A crash between the write and the outbox loses the message, and so does a write that was applied and whose answer never
came; transactions (a late commit) and recounts answer nothing to see it by. The scheduled function (`backstop.py`) and
the sweep find what those left.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING

from tollgate.accounts.rules import Rules
from tollgate.clock import Clock
from tollgate.gate.item import CounterWrite, Gate, GateWrite, Grant, Money, MoneyAdd, Recounted, Written
from tollgate.gate.ports import GateStore, RulesSource
from tollgate.quantities import EXACT, ZERO

if TYPE_CHECKING:
    from tollgate.accounts.terms import Terms

NUDGE = 80
"""Per cent of a free allowance at which its user is told that there is more."""
_REMEMBERED = 2_000


Tell = Callable[[Rules, GateWrite, Gate, str | None, int], None]
"""Tells what a write passed: the rules, the write, the gate that it left, its member, epoch milliseconds."""


class Marks:
    """The marks of an account's rules, ascending: of used units by counter slot, of money by kind of gate. (A plain
    class: the gate's start waits for a named tuple to be made.)"""

    __slots__ = ("counts", "percents", "rules", "spend")

    def __init__(self, rules: Rules) -> None:
        self.rules, self.percents = rules, percents_of(rules)
        self.counts, self.spend = _count_marks(rules, self.percents), _spend_marks(rules, self.percents)


class Watched:
    """A GateStore that has told what its writes pass."""

    def __init__(self, gates: GateStore, rules: RulesSource, clock: Clock, tell: Tell) -> None:
        self._gates, self._rules, self._clock, self._tell = gates, rules, clock, tell
        self._known: dict[str, Marks] = {}

    def write(self, write: GateWrite, *, retry: bool = True) -> Written:
        written = self._gates.write(write, retry=retry)
        if written.applied and written.gate is not None and _moves(write):
            self._look(write, written.gate)
        return written

    def read(self, subject: str) -> Gate | None:
        return self._gates.read(subject)

    def read_all(self, subjects: Sequence[str]) -> Mapping[str, Gate]:
        return self._gates.read_all(subjects)

    def recall(self, subject: str) -> Gate | None:
        return self._gates.recall(subject)

    def finish_recount(self, write: Recounted) -> bool:
        return self._gates.finish_recount(write)

    def close(self, subject: str) -> Gate:
        return self._gates.close(subject)

    def _look(self, write: GateWrite, gate: Gate) -> None:
        account, _, member = write.subject.partition("#")
        rules = self._rules.get(account)
        marks = self._known.get(account)
        if marks is None or marks.rules is not rules:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            marks = self._known[account] = Marks(rules)
        now_ms = self._clock()
        if _passes(marks, write, gate, "member" if member else "account", now_ms // 1000):
            self._tell(rules, write, gate, member or None, now_ms)


def percents_of(rules: Rules) -> tuple[int, ...]:
    """Where the plan or the customer wants to be told, ascending."""
    said = rules.row.controls.thresholds
    return rules.plan.thresholds if said is None else tuple(sorted({*rules.plan.thresholds, *said}))


def mark(maximum: Decimal, percent: int) -> Decimal:
    return EXACT.multiply(maximum, Decimal(percent).scaleb(-2))


def _count_marks(rules: Rules, percents: tuple[int, ...]) -> Mapping[int, tuple[Decimal, ...]]:
    nudged = percents if rules.plan.prices else (*percents, NUDGE)
    counts: dict[int, set[Decimal]] = {}
    for ruled in rules.limits:
        if ruled.maximum and ruled.limit.concurrent is None:
            counts.setdefault(ruled.counter.slot, set()).update(mark(ruled.maximum, one) for one in nudged)
    for slot, included in included_by_slot(rules).items():
        counts.setdefault(slot, set()).update(mark(included, one) for one in percents)
    return {slot: tuple(sorted(found)) for slot, found in counts.items()}


def _spend_marks(rules: Rules, percents: tuple[int, ...]) -> Mapping[str, tuple[Decimal, ...]]:
    spend = {}
    for per in ("account", "member"):
        terms = rules.terms_of(per)
        if terms is None:
            continue
        found = [] if terms.cap is None else [mark(terms.cap.usable, one) for one in percents]
        if per == "account" and rules.row.controls.soft_limit is not None:
            found.append(rules.row.controls.soft_limit)
        spend[per] = tuple(sorted(found))
    return spend


def included_by_slot(rules: Rules) -> dict[int, Decimal]:
    """Units that the price of a meter includes, by the slot of its counter of the billing period."""
    found = {}
    for funding in () if rules.terms is None else rules.terms.fundings.values():
        counter = rules.period_counter(funding.meter) if funding.included else None
        if counter is not None and funding.included is not None:
            found[counter.slot] = funding.included
    return found


# -- what a write changed ----------------------------------------------------------------------------------------------


def _moves(write: GateWrite) -> bool:
    """Whether a write may pass a mark: what is only set aside, or given back, is not used."""
    if write.grants or (write.level is not None and write.level.was is not None):
        return True
    return any(counter.d_taken != counter.d_held for counter in write.counters)


def _passes(marks: Marks, write: GateWrite, gate: Gate, per: str, now: int) -> bool:
    """Whether some mark may have been passed; what exactly, `thresholds.crossed` says."""
    used = False
    for counter in write.counters:
        if counter.d_taken == counter.d_held:
            continue
        used = True
        at = marks.counts.get(counter.slot)
        if at is not None:
            before, after = used_of(counter, gate)
            if bisect_right(at, before) != bisect_right(at, after):
                return True
    terms = marks.rules.terms_of(per)
    if used and terms is not None and write.money is not None and gate.money is not None:
        at = marks.spend[per]
        soft = soft_limit_of(marks.rules, gate.money) if per == "account" else None
        low = min((*at[:1], *(() if soft is None else (soft,))), default=None)
        if low is not None and gate.money.spend >= low:  # it holds what is set aside, too: never less than what is used
            before, after = spend_of(terms, write, gate.money)
            if bisect_right(at, before) != bisect_right(at, after) or (soft is not None and before < soft <= after):
                return True
    if write.grants and marks.percents and per == "account":
        for slot in burned_slots(write, gate):
            brought, before, after = burned_of(slot, write, gate, now)
            if any(before < mark(brought, percent) <= after for percent in marks.percents):
                return True
    return write.level is not None and write.level.was is not None


def used_of(counter: CounterWrite, gate: Gate) -> tuple[Decimal, Decimal]:
    """What a counter had used before a write, in the window that it left, and after it. (A window that the write began
    has used what the write did: before it, nothing.)"""
    count = gate.counts[counter.slot]
    after = count.taken - count.held
    return after - (counter.d_taken - counter.d_held), after


def spend_of(terms: Terms, write: GateWrite, money: Money) -> tuple[Decimal, Decimal]:
    """The charge of what was used in the period, before a write and after it, `money` being what it left."""
    used = {slot: paid.taken - paid.held for slot, paid in money.paid.items()}
    if isinstance(write.money, MoneyAdd):
        before = {**used}
        for move in write.money.moves:
            before[move.slot] -= move.d_taken - move.d_held
    elif write.money is None:
        before = used
    else:
        was = write.money.expect
        known = was is not None and was.period == money.period
        before = {slot: paid.taken - paid.held for slot, paid in was.paid.items()} if was is not None and known else {}
    return terms.spend(before), terms.spend(used)


def soft_limit_of(rules: Rules, money: Money) -> Decimal | None:
    """Where the customer wants to be told of the spend; the default follows what was usually spent."""
    said = rules.row.controls.soft_limit
    return said if said is not None else _usual(money.past, rules.plan.currency) if money.past else None


@lru_cache(maxsize=1024)
def _usual(past: tuple[Decimal, ...], currency: str) -> Decimal | None:
    from tollgate.accounts.controls import default_soft_limit  # with the first closed period

    return default_soft_limit(past, currency)


def shared_grants(gate: Gate, slot: int, now: int) -> list[tuple[int, Grant]]:
    """Live credits of a meter that everyone may burn, and of which it is known how many came."""
    return [
        (number, grant)
        for number, grant in gate.grants.items()
        if grant.meter == slot and grant.units and not grant.whose and grant.starts <= now < grant.ends
    ]


def burned_slots(write: GateWrite, gate: Gate) -> set[int]:
    """The meters whose credits a write burned."""
    burned = (move.number for move in write.grants if move.change < 0 and move.clawed is None and not move.moved)
    return {gate.grants[number].meter for number in burned if number in gate.grants}


def burned_of(slot: int, write: GateWrite | None, gate: Gate, now: int) -> tuple[Decimal, Decimal, Decimal]:
    """What live credits of a meter came to, and how many of them were taken before a write and after it."""
    live = shared_grants(gate, slot, now)
    brought = sum((grant.units + grant.carried - grant.clawed for _, grant in live), ZERO)
    after = brought - sum((grant.left for _, grant in live), ZERO)
    numbers = {number for number, _ in live}
    moves = () if write is None else write.grants
    return brought, after + sum((move.change for move in moves if move.number in numbers), ZERO), after
