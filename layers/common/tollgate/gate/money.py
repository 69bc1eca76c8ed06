"""The money of one gate: what the billing period has come to, as an instant and the rules in force make it.

Pure. Paid positions are kept by meter, the spend is their charge; both roll over, and are rated anew under other
prices, in one write. The paid position of a member's gate is all that the member took: it has no credits, and nothing
of it is waived.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from tollgate.accounts.rules import Rules
from tollgate.gate.hold import Hold
from tollgate.gate.item import Count, Gate, Money, MoneySet, Paid, PaidMove
from tollgate.gate.parts import Units, add, by_source, held_parts, used_by
from tollgate.quantities import ZERO
from tollgate.usage.outcome import ACCOUNT, Event
from tollgate.windows import PERIOD, window_at

if TYPE_CHECKING:
    from tollgate.accounts.terms import Terms

CLOSED_PERIODS = 3
"""Kept for the customer's typical spend."""


class State(NamedTuple):
    """Money as it is at an instant under given rules, and what it was made from."""

    stored: Money | None
    money: Money
    sure: tuple[tuple[int, Count | None], ...]

    @property
    def changed(self) -> bool:
        return self.money is not self.stored


# -- the state ---------------------------------------------------------------------------------------------------------


def state_of(rules: Rules, terms: Terms, per: str, gate: Gate | None, at: int | None) -> State:
    """The money of `gate` at epoch second `at` (None: whenever), rolled over and rated by `rules` where it must be."""
    stored = None if gate is None else gate.money
    start = rules.period_start(at) if at is not None else 0
    if per != ACCOUNT:
        start = max(start, _counted_in(rules, terms, per, gate))
    sure: tuple[tuple[int, Count | None], ...] = ()
    if stored is None:
        paid, sure = _begun(rules, terms, per, gate, start)
        return State(None, rated(terms, Money(start, ZERO, paid)), sure)
    assert gate is not None
    money = stored
    if stored.period < start:
        money = rolled(rules, terms, stored, start)
    if gate.rev != rules.rev or any(slot not in money.paid for slot in terms.fundings):
        if per == ACCOUNT:
            # A meter without a position has never been paid for in this period: it begins at 0, not at what was used.
            money = money._replace(paid={**{slot: Paid(ZERO, ZERO) for slot in terms.fundings}, **money.paid})
        else:
            paid, sure = _begun(rules, terms, per, gate, money.period)
            money = money._replace(paid=paid)
        money = rated(terms, money)
    return State(stored, stored if money == stored else money, sure)


def _begun(
    rules: Rules, terms: Terms, per: str, gate: Gate | None, start: int
) -> tuple[dict[int, Paid], tuple[tuple[int, Count | None], ...]]:
    """First positions: 0 for an account; for a member what its counters say, which must then be asserted."""
    if per == ACCOUNT:
        return {slot: Paid(ZERO, ZERO) for slot in terms.fundings}, ()
    paid, sure = {}, []
    for slot, counter in _counters(rules, terms, per).items():
        count = None if gate is None else gate.counts.get(counter)
        paid[slot] = Paid(ZERO, ZERO)
        if count is not None:
            paid[slot] = Paid(count.taken if count.window >= start else count.held, count.held)
        sure.append((counter, count))
    return paid, tuple(sure) if gate is not None else ()


def _counted_in(rules: Rules, terms: Terms, per: str, gate: Gate | None) -> int:
    """The period that a member's counters are in: a clock that is behind must not begin its money in an older one."""
    counts = () if gate is None else (gate.counts.get(slot) for slot in _counters(rules, terms, per).values())
    return max((count.window for count in counts if count is not None), default=0)


def begun_from(rules: Rules, per: str, gate: Gate | None) -> Units:
    """The counters that positions still to begin are read from, by slot, nothing of them needed: no write may make
    money of them before they are seeded. Empty for an account, and where all positions stand under these rules."""
    terms = None if per == ACCOUNT else rules.terms_of(per)
    if terms is None:
        return {}
    money = None if gate is None or gate.rev != rules.rev else gate.money
    if money is not None and all(slot in money.paid for slot in terms.fundings):
        return {}
    return dict.fromkeys(_counters(rules, terms, per).values(), ZERO)


def _counters(rules: Rules, terms: Terms, per: str) -> dict[int, int]:
    """Of a member: the slots of the period's counters, by meter slot. A cap for members counts all that is priced."""
    found = {}
    for slot, funding in terms.fundings.items():
        counter = rules.period_counter(funding.meter, per)
        assert counter is not None, "rules with a money limit for members count its meters for each of them"
        found[slot] = counter.slot
    return found


def rolled(rules: Rules, terms: Terms | None, money: Money, start: int) -> Money:
    """A new period: open holds carry over. What was used in the closed ones is remembered. Without terms (the plan has
    no prices any more) the old period stays as it was rated last; the new one is rated once there are prices again."""
    used = {slot: paid.taken - paid.held for slot, paid in money.paid.items()}
    past = [money.spend if terms is None else terms.spend(used)]
    end = window_at(PERIOD, rules.row.calendar, money.period).end
    while end is not None and end < start and len(past) < CLOSED_PERIODS:
        past.append(ZERO if terms is None else terms.spend({}))
        end = window_at(PERIOD, rules.row.calendar, end).end
    kept = (*reversed(past), *money.past)[:CLOSED_PERIODS]
    # A position at 0 that no price asks for is as good as none: gates do not grow with every plan there ever was.
    asked = () if terms is None else terms.fundings
    paid = {slot: Paid(one.held, one.held) for slot, one in money.paid.items() if one.held or slot in asked}
    new = Money(start, ZERO, paid, kept)
    return new if terms is None else rated(terms, new)


def rated(terms: Terms, money: Money) -> Money:
    return money._replace(spend=terms.spend({slot: paid.taken for slot, paid in money.paid.items()}))


def restated(rules: Rules, per: str, gate: Gate | None, now: int) -> MoneySet | None:
    """For a write that brings a gate to newer rules and moves no money itself: the spend under their prices."""
    terms = rules.terms_of(per)
    if terms is None or gate is None or gate.money is None or gate.rev == rules.rev:
        return None
    state = state_of(rules, terms, per, gate, now)
    return MoneySet(state.stored, state.money, state.sure) if state.changed else None


def recalled(rules: Rules, gate: Gate | None) -> Gate | None:
    """What a process remembers of a gate, where that was under these rules."""
    return gate if gate is not None and gate.rev == rules.rev and gate.money is not None else None


def guessed(rules: Rules, per: str, subject: str, last: Gate | None, at: int) -> Gate | None:
    """A stand-in for a gate that was not read: as this process saw it last, else unused in this period."""
    terms = rules.terms_of(per)
    if terms is None:
        return None
    known = recalled(rules, last)
    if known is not None:
        return known
    positions = {slot: Paid(ZERO, ZERO) for slot in terms.fundings}
    return Gate(subject, rules.rev, {}, {}, None, rated(terms, Money(rules.period_start(at), ZERO, positions)))


def moved(paid: Paid, move: PaidMove) -> Paid:
    return Paid(
        paid.taken + move.d_taken,
        paid.held + move.d_held,
        paid.credited + move.d_credited,
        paid.waived + move.d_waived,
    )


def true_money(rules: Rules, per: str, gate: Gate, holds: Iterable[Hold], events: Iterable[Event]) -> Money | None:
    """The money of a gate that stands still, as its events and open holds say (invariant 8); None where nothing of it
    has been paid for yet."""
    if gate.money is None:
        return None
    terms = rules.terms_of(per)
    if terms is None and per != ACCOUNT:
        return gate.money  # kept by nobody until there is a limit again: then it begins from the counters
    recorded = [
        event
        for event in events
        if event.recorded_s >= gate.money.period and any(used_by(rules, per, [event]))  # others begin no period
    ]
    start = max([gate.money.period, *(rules.period_start(event.recorded_s) for event in recorded)])
    money = gate.money
    if start > money.period:
        money = rolled(rules, terms, money, start)
    current = [event for event in recorded if event.recorded_s >= start]
    end = window_at(PERIOD, rules.row.calendar, start).end
    used, credited, waived, _ = used_by(
        rules, per, [event for event in current if end is None or event.recorded_s < end]
    )
    held: Units = {}
    for hold in holds:
        for slot, units in by_source(held_parts(rules, per, hold))[0].items():
            add(held, slot, units)
    fundings = () if terms is None else terms.fundings
    slots = {*money.paid, *fundings} if per == ACCOUNT else {*fundings}
    paid = {
        slot: Paid(
            used.get(slot, ZERO) + held.get(slot, ZERO),
            held.get(slot, ZERO),
            credited.get(slot, ZERO),
            waived.get(slot, ZERO),
        )
        for slot in sorted(slots)
    }
    found = Money(start, money.spend, paid, money.past)
    return found if terms is None else rated(terms, found)
