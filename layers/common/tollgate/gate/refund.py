"""What the end of holds changes on money and credits: what was not used goes back to whoever paid for it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from tollgate.accounts.rules import Rules
from tollgate.gate.funding import Look
from tollgate.gate.hold import Part
from tollgate.gate.item import Gate, GrantMove, Money, MoneyAdd, MoneySet, Paid, PaidMove
from tollgate.gate.money import State, moved, restated, rolled, state_of
from tollgate.gate.parts import by_source, used_by
from tollgate.quantities import ZERO
from tollgate.usage.outcome import Event

if TYPE_CHECKING:
    from tollgate.accounts.terms import Terms


class Ending(NamedTuple):
    money: MoneyAdd | MoneySet | None = None
    grants: tuple[GrantMove, ...] = ()


def end(
    rules: Rules,
    per: str,
    gate: Gate | None,
    reserved: Iterable[Part],
    events: Iterable[Event],
    now: int,
    *,
    certain: bool = True,
) -> Ending | Look:
    """What the end of holds with the parts `reserved` changes, where they became `events` (all recorded at one time;
    none: their units go back). `certain` False: nothing is known of the gate but its revision."""
    terms = rules.terms_of(per)
    held, returned = by_source(reserved)
    rows = list(events)
    used, credited, waived, burned = used_by(rules, per, rows)
    grants = []
    for number in sorted({*returned, *burned}):
        change = returned.get(number, ZERO) - burned.get(number, ZERO)
        if change:
            grants.append(GrantMove(number, change))
    touched = sorted({*held, *used, *credited, *waived})
    if not touched:
        return Ending(restated(rules, per, gate, now), tuple(grants))
    at = rows[0].recorded_s if rows else None
    stored = None if gate is None else gate.money
    if stored is None and certain:
        return Ending(None, tuple(grants))  # a member's gate that has no money yet: begun from its counters
    if gate is None or stored is None:
        positions = {slot: Paid(held.get(slot, ZERO), held.get(slot, ZERO)) for slot in touched}
        start = rules.period_start(now if at is None else at)
        gate = Gate("", rules.rev, {}, {}, None, Money(start, ZERO, positions))
        stored = gate.money
        assert stored is not None
    if terms is None:
        start = stored.period if at is None else rules.period_start(at)
        state = State(stored, stored if start <= stored.period else rolled(rules, None, stored, start), ())
    else:
        state = state_of(rules, terms, per, gate, now if at is None and gate.rev != rules.rev else at)
    late = at is not None and rules.period_start(at) < state.money.period
    # Units that credits paid for may have no position left: a period began under a plan without a price for them.
    moves, cost, exact = [], ZERO, state.changed or any(slot not in state.money.paid for slot in touched)
    for slot in touched:
        actual = ZERO if late else used.get(slot, ZERO)
        change = actual - held.get(slot, ZERO)
        settled = (ZERO, ZERO) if late else (credited.get(slot, ZERO), waived.get(slot, ZERO))
        move, price = _back(terms, state.money, slot, change, -held.get(slot, ZERO), settled)
        if move is None:
            exact = True
            move = PaidMove(slot, change, -held.get(slot, ZERO), None, False, None, *settled)
        moves.append(move)
        cost += price
    if not exact:
        return Ending(MoneyAdd(state.money.period, tuple(moves), cost), tuple(grants))
    if not certain:
        return Look()
    paid = dict(state.money.paid)
    for move in moves:
        paid[move.slot] = moved(paid.get(move.slot, Paid(ZERO, ZERO)), move)
    new = state.money._replace(paid=paid, spend=state.money.spend + cost)
    return Ending(MoneySet(state.stored, new, state.sure), tuple(grants))


def _back(
    terms: Terms | None, money: Money, slot: int, change: Decimal, d_held: Decimal, settled: tuple[Decimal, Decimal]
) -> tuple[PaidMove | None, Decimal]:
    """The move of a position by `change` inside a piece, read backwards where it is negative (None: across an edge),
    and what the spend changes by."""
    funding = None if terms is None else terms.fundings.get(slot)
    if not change or funding is None or funding.schedule is None:
        return PaidMove(slot, change, d_held, None, False, None, *settled), ZERO
    position = money.paid[slot].taken
    cost = funding.at(position + change) - funding.at(position)
    size = change.copy_abs()
    piece = funding.schedule.piece(min(position, position + change), size)
    if piece is None:
        return None, cost
    shift = size if change < 0 else ZERO
    high = None if piece.high is None else piece.high - size + shift
    return PaidMove(slot, change, d_held, piece.low + shift, piece.low_open, high, *settled), cost
