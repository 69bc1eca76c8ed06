"""Defects put into the money and credits of the gate on purpose, as in `mutants.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

from tests.interleave.mutants import Patch, changed
from tests.support import memory
from tollgate.accounts.rules import Rules
from tollgate.gate import (
    apply,
    apply_rules,
    commit,
    extend,
    force,
    funding,
    grants,
    money,
    parts,
    record,
    recurring,
    refund,
)
from tollgate.gate.hold import WAIVED, Hold, Part
from tollgate.gate.item import Gate, GateWrite, Grant, GrantMove, Money, MoneyAdd, MoneySet, PaidMove
from tollgate.gate.ports import GateDeps
from tollgate.usage.grant import GrantRow, Pending


def position_not_asserted(patch: Patch) -> None:
    """Units are added at the price of a piece that the position may have left."""
    patch.setattr(apply, "_in_bounds", lambda position, move: True)


def spend_not_asserted(patch: Patch) -> None:
    """The cap is compared with the spend as last seen, and not asserted by the write."""
    original = apply._added
    patch.setattr(apply, "_added", lambda there, write: original(there, changed(write, most=None)))


def money_overwritten(patch: Patch) -> None:
    """Across an edge the money is replaced, whatever it has become since it was seen."""
    original = apply.applied

    def applied(gate: Gate | None, write: GateWrite) -> Gate | None:
        if gate is not None and isinstance(write.money, MoneySet):
            write = changed(write, money=changed(write.money, expect=gate.money))
        return original(gate, write)

    patch.setattr(memory, "applied", applied)


def refund_forgets_held(patch: Patch) -> None:
    """What comes back is taken off the position, and stays in what is held of it."""
    original = refund._back

    def back(*args: Any) -> tuple[PaidMove | None, Decimal]:
        move, cost = original(*args)
        return None if move is None else changed(move, d_held=Decimal(0)), cost

    patch.setattr(refund, "_back", back)


def _sorted_splitter(patch: Patch, order: Callable[[Part], Any]) -> None:
    original = parts.Splitter

    class Sorted(original):  # type: ignore[misc, valid-type]
        def __init__(self, held: Iterable[Part]) -> None:
            super().__init__(sorted(held, key=order))

    for module in (commit, record):
        patch.setattr(module, "Splitter", Sorted)


def waived_first(patch: Patch) -> None:
    """What is used of a hold is first what nobody pays for."""
    _sorted_splitter(patch, lambda part: part.source != WAIVED)


def credits_first(patch: Patch) -> None:
    """What is used of a hold is first what credits pay for, before the included units."""
    _sorted_splitter(patch, lambda part: part.source < 0)


def split_by_own_hold(patch: Patch) -> None:
    """A commit above its reservation is paid for as the hold said before it grew."""
    original = force.grow

    def grow(*args: Any) -> force.Grown:
        return original(*args)._replace(hold=args[6])

    patch.setattr(commit, "grow", grow)


def grant_not_asserted(patch: Patch) -> None:
    """Credits are burned that may be gone since they were seen."""
    original = apply._granted

    def granted(gate: Gate, write: GateWrite) -> Mapping[int, Grant] | None:
        moves = tuple(changed(move, low=None, exactly=None) for move in write.grants)
        return original(gate, changed(write, grants=moves))

    patch.setattr(apply, "_granted", granted)


def new_grant_overlooked(patch: Patch) -> None:
    """Units are waived or charged although credits came onto the gate meanwhile."""
    original = apply._granted
    patch.setattr(apply, "_granted", lambda gate, write: original(gate, changed(write, grants_known=None)))


def renewal_forgets_who_pays(patch: Patch) -> None:
    """A renewed hold no longer says how its units are paid for."""
    original = Hold._replace

    def replace(hold: Hold, **changes: Any) -> Hold:
        if "incarnation" in changes:
            changes["parts"] = ()
        return original(hold, **changes)

    patch.setattr(Hold, "_replace", replace)


def new_period_forgets_held(patch: Patch) -> None:
    """A new billing period begins at 0, whatever open reservations hold."""
    original = money.rolled

    def rolled(rules: Any, terms: Any, there: Money, start: int) -> Money:
        paid = {slot: changed(one, taken=one.taken - one.held, held=Decimal(0)) for slot, one in there.paid.items()}
        return original(rules, terms, there._replace(paid=paid), start)

    for module in (money, refund):
        patch.setattr(module, "rolled", rolled)


def new_prices_for_new_units(patch: Patch) -> None:
    """A change of plan leaves the spend as the old prices made it."""
    for module in (apply_rules, funding, refund):
        patch.setattr(module, "restated", lambda *args: None)
    original = money.state_of

    def state_of(rules: Rules, terms: Any, per: str, gate: Gate | None, at: int | None) -> money.State:
        return original(rules, terms, per, None if gate is None else changed(gate, rev=rules.rev), at)

    for module in (funding, refund):
        patch.setattr(module, "state_of", state_of)


def overage_not_stopped(patch: Patch) -> None:
    """Overage that is off is paid for as far as the cap goes."""
    original = funding._Plan._overage
    patch.setattr(
        funding._Plan,
        "_overage",
        lambda self, one, position, rest: original(self, changed(one, stopped_by=None), position, rest),
    )


def clawed_twice(patch: Patch) -> None:
    """Whoever finds a clawback under way takes the units, though another may have."""
    original = grants._take_back

    def take_back(deps: GateDeps, rules: Rules, row: GrantRow, pending: Pending) -> None:
        gate = deps.gates.read(rules.account)
        there = None if gate is None else gate.grants.get(row.number)
        original(deps, rules, row, pending if there is None else pending._replace(before=there.clawed))

    patch.setattr(grants, "_take_back", take_back)


def carried_and_left(patch: Patch) -> None:
    """What rolls over stays in the grant that it was left of."""
    patch.setattr(
        recurring,
        "carrying",
        lambda one, gate, more: tuple(
            GrantMove(number, Decimal(0), exactly=gate.grants[number].left) for number in one.previous
        ),
    )


def off_the_gate_at_once(patch: Patch) -> None:
    """A used-up grant goes off the gate while a repeat of its purchase may be under way."""
    patch.setattr(grants, "OUTLIVED_S", 0)
    original = grants.take_off

    def take_off(deps: GateDeps, rules: Rules, gate: Gate) -> Gate | None:
        seen = original(deps, rules, gate)
        return seen if seen is None else original(deps, rules, seen)

    from tollgate.gate import sweep

    patch.setattr(sweep, "take_off", take_off)


def growth_not_paid_for(patch: Patch) -> None:
    """An extension adds units to a hold that nobody pays for."""
    patch.setattr(extend, "fund_growth", lambda *args, **how: funding.Taking())


def extension_beyond_the_cap(patch: Patch) -> None:
    """An extension is funded as if its units had been used already."""
    original = force.fund_growth
    patch.setattr(extend, "fund_growth", lambda *args, **how: original(*args, **{**how, "forced": True}))


def settled_at_another_price(patch: Patch) -> None:
    """What comes back changes the spend by the price of the last unit, across edges too."""
    original = refund.end

    def end(*args: Any, **how: Any) -> Any:
        ended = original(*args, **how)
        if isinstance(ended, refund.Ending) and isinstance(ended.money, MoneyAdd):
            moves = tuple(changed(move, low=None, high=None) for move in ended.money.moves)
            return changed(ended, money=changed(ended.money, moves=moves))
        return ended

    patch.setattr(refund, "end", end)


MONEY_MUTANTS: dict[str, Callable[[Patch], None]] = {
    mutant.__name__: mutant
    for mutant in (
        position_not_asserted,
        spend_not_asserted,
        money_overwritten,
        refund_forgets_held,
        waived_first,
        credits_first,
        split_by_own_hold,
        grant_not_asserted,
        new_grant_overlooked,
        renewal_forgets_who_pays,
        new_period_forgets_held,
        new_prices_for_new_units,
        overage_not_stopped,
        clawed_twice,
        carried_and_left,
        off_the_gate_at_once,
        growth_not_paid_for,
        extension_beyond_the_cap,
        settled_at_another_price,
    )
}
