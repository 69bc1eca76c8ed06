"""Who pays for units that are taken: a seat's own first, then included ones, then credits, then overage as far as the
cap on spend allows.

Pure. The rest is refused, or, where the usage has happened, waived. DynamoDB cannot compute a charge inside a
condition, so a write asserts that the paid position lies in a piece of the price where its units cost a constant
(`MoneyAdd`); across an edge it asserts the money exactly as seen (`MoneySet`).
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from tollgate.accounts.rules import Rules
from tollgate.errors import QuantityTooLarge
from tollgate.gate.hold import PAID, WAIVED, Hold, Part, meter_units
from tollgate.gate.item import Gate, Grant, GrantMove, MoneyAdd, MoneySet, PaidMove
from tollgate.gate.money import State, moved, restated, state_of
from tollgate.quantities import EXACT, ZERO
from tollgate.usage.grant import whose
from tollgate.usage.outcome import ACCOUNT
from tollgate.windows import PERIOD, window_at

if TYPE_CHECKING:
    from tollgate.accounts.terms import Funding, Terms


MAX_DIGITS = 38
"""Of a number in DynamoDB (Amazon DynamoDB Developer Guide, "Data types": up to 38 digits of precision)."""


class Taking(NamedTuple):
    """What taking units does: the parts of the hold, and the conditions and changes of its write."""

    parts: tuple[Part, ...] = ()
    money: MoneyAdd | MoneySet | None = None
    grants: tuple[GrantMove, ...] = ()
    grants_known: int | None = None
    cost: Decimal = ZERO


class Short(NamedTuple):
    """Nobody pays for all of it. `code`: `spend_cap`, `hard_limit`, `overage_blocked` or `credits_exhausted`."""

    code: str
    source: str
    requested: Decimal
    remaining: Decimal
    resets_at: int | None


class Look(NamedTuple):
    """A guess is not enough: read the gate first."""


def take(
    rules: Rules,
    per: str,
    gate: Gate | None,
    units: Mapping[int, Decimal],
    now: int,
    *,
    forced: bool = False,
    certain: bool = True,
    held: bool = True,
    member: str | None = None,
) -> Taking | Short | Look:
    """Who pays for `units` (by meter slot) more at epoch second `now`.

    `forced`: they were used, so nothing refuses them. `certain` False: `gate` is a guess (`guessed`). `held` False:
    they go onto the gate as used (a late commit). `member`: who asks, and may burn what a seat brought it.
    """
    terms = rules.terms_of(per)
    if terms is None:
        return Taking(money=restated(rules, per, gate, now))
    state = state_of(rules, terms, per, gate, now)
    plan = _Plan(terms, state, gate if per == ACCOUNT else None, now, forced, held, member)
    if member is not None and per == ACCOUNT and rules.own_seats:
        plan.know_grants()  # a seat's units that came meanwhile pay first
    for slot, wanted in sorted(units.items()):
        funding = terms.fundings.get(slot)
        if funding is None or not wanted:
            continue
        lacking = plan.fund(funding, wanted)
        if lacking:
            if not certain:
                return Look()
            return _short(rules, per, plan, funding, wanted, wanted - lacking, now)
    if plan.exact and not certain:
        return Look()
    return plan.taking()


def take_late(
    rules: Rules, per: str, gate: Gate, units: Mapping[int, Decimal], recorded_s: int, member: str | None
) -> Taking:
    """Used units whose hold is gone: straight onto the gate, forced. Where a clock behind recorded them in a period
    that the gate has left, they are waived: nothing can tell any more what its cap left."""
    terms = rules.terms_of(per)
    if terms is not None and gate.money is not None and rules.period_start(recorded_s) < gate.money.period:
        return Taking(tuple(Part(slot, WAIVED, n) for slot, n in sorted(units.items()) if n and slot in terms.fundings))
    found = take(rules, per, gate, units, recorded_s, forced=True, held=False, member=member)
    assert isinstance(found, Taking), "used units are never refused"
    return found


class Quote(NamedTuple):
    """What units would cost, and who would pay for them, whatever promises stand in the way; in units."""

    cost: Decimal = ZERO
    included: Decimal = ZERO
    credits: Decimal = ZERO
    overage: Decimal = ZERO


def quote(rules: Rules, gate: Gate | None, units: Mapping[int, Decimal], now: int, member: str | None = None) -> Quote:
    """A quote for `units` (by meter slot) more on an account's gate at epoch second `now`, asked for by `member`."""
    terms = rules.terms
    if terms is None:
        return Quote(included=sum(units.values(), ZERO))
    state = state_of(rules, terms, ACCOUNT, gate, now)
    grants = {} if gate is None else gate.grants
    mine = whose(member)
    found = Quote()
    for slot, wanted in sorted(units.items()):
        funding = terms.fundings.get(slot)
        if funding is None:
            found = found._replace(included=found.included + wanted)
            continue
        position, usable = state.money.paid[slot].taken, burn_order(grants, slot, now, mine)
        own = min(wanted, sum((grants[number].left for number in usable if grants[number].whose), ZERO))
        free = wanted - own
        if funding.included is not None:
            free = min(free, max(funding.included - position, ZERO))
        left = sum((grants[number].left for number in usable if not grants[number].whose), ZERO)
        credited = min(wanted - own - free, left)
        over = wanted - own - free - credited
        cost = funding.at(position + free + over) - funding.at(position)
        found = Quote(found.cost + cost, found.included + free, found.credits + own + credited, found.overage + over)
    return found


def _short(
    rules: Rules, per: str, plan: _Plan, funding: Funding, wanted: Decimal, remaining: Decimal, now: int
) -> Short:
    at = max(now, plan.state.money.period)
    resets_at = window_at(PERIOD, rules.row.calendar, at).end
    stopped = funding.stopped_by
    if stopped is None:
        return cap_short(rules, per, wanted, remaining, at)
    if stopped == "customer":
        return Short("overage_blocked", "customer", wanted, remaining, resets_at)
    if funding.credited or any(
        grant.meter == funding.slot and grant.burned_by(plan.mine) for grant in plan.credits.values()
    ):
        return Short("credits_exhausted", "credits", wanted, remaining, resets_at)
    return Short("overage_blocked", "plan", wanted, remaining, resets_at)


class _Plan:
    """Collects the money side of one write, meter by meter."""

    def __init__(
        self,
        terms: Terms,
        state: State,
        gate: Gate | None,
        now: int,
        forced: bool,
        held: bool,
        member: str | None = None,
    ) -> None:
        self.terms, self.state, self.now, self.forced, self.held, self.mine = (
            terms,
            state,
            now,
            forced,
            held,
            whose(member),
        )
        self.credits: Mapping[int, Grant] = {} if gate is None else gate.grants
        self.given = 0 if gate is None else gate.given
        self.exact = state.changed
        self.parts: list[Part] = []
        self.moves: list[PaidMove] = []
        self.burns: list[GrantMove] = []
        self.known: int | None = None
        self.cost = ZERO

    def know_grants(self) -> None:
        """No grant may be overlooked: a newer one may come first, or pay for what the others do not cover."""
        self.known = self.given

    def fund(self, funding: Funding, wanted: Decimal) -> Decimal:
        """Find who pays for `wanted` units; returns how many nobody pays for (0 where they were used already)."""
        position = self.state.money.paid[funding.slot].taken
        usable = burn_order(self.credits, funding.slot, self.now, self.mine)
        burned = len(self.burns)
        unpaid = self._burn([number for number in usable if self.credits[number].whose], wanted)
        own, free = wanted - unpaid, unpaid
        first = [(move.number, -move.change) for move in self.burns[burned:]]
        burned = len(self.burns)
        if funding.included is not None:
            free = min(unpaid, max(funding.included - position, ZERO))
        rest = self._burn([number for number in usable if not self.credits[number].whose], unpaid - free)
        if own or unpaid > free:
            self.know_grants()
        credited, over = unpaid - free - rest, ZERO
        waived = ZERO
        if rest:
            over = self._overage(funding, position + free, rest)
            waived = rest - over
            if waived and not self.forced:
                return waived
        parts = [*first, (PAID, free), *((move.number, -move.change) for move in self.burns[burned:])]
        parts += [(PAID, over), (WAIVED, waived)]
        self.parts += [Part(funding.slot, source, units) for source, units in parts if units]
        self._move(funding, position, own, free, credited, over, waived)
        return ZERO

    def _burn(self, usable: list[int], rest: Decimal) -> Decimal:
        """Burn these grants, in their order, for `rest` units; returns what they do not cover."""
        if not rest:
            return rest
        for number in usable:
            left = self.credits[number].left
            if rest <= left:
                self.burns.append(GrantMove(number, -rest, low=rest))
                return ZERO
            self.burns.append(GrantMove(number, -left, exactly=left))
            rest -= left
        return rest

    def _overage(self, funding: Funding, position: Decimal, rest: Decimal) -> Decimal:
        """How many of `rest` units may be paid for as overage."""
        cap = self.terms.cap
        if self.forced and not self.terms.waives:
            return rest
        if funding.stopped_by is not None:
            return ZERO
        if cap is None:
            return rest
        assert funding.schedule is not None
        room = cap.usable - self.state.money.spend - self.cost
        # Past the cap (it was lowered, or prices rose) units that cost nothing more are still good.
        fit = funding.schedule.buys(position, max(room, ZERO))
        return rest if fit is None else min(rest, fit)

    def _move(
        self,
        funding: Funding,
        position: Decimal,
        own: Decimal,
        free: Decimal,
        credited: Decimal,
        over: Decimal,
        waived: Decimal,
    ) -> None:
        paid = free + over
        self.cost += funding.at(position + paid) - funding.at(position)
        low, low_open, high = None, False, None
        if paid:
            piece = None if funding.schedule is None else funding.schedule.piece(position, paid)
            if piece is None:
                self.exact = True
            else:
                low, low_open = piece.low, piece.low_open
                high = None if piece.high is None else piece.high - paid
        if free and not (credited or over or waived):
            if funding.included is not None:
                last = funding.included - free
                high = last if high is None else min(high, last)
        elif free or waived:
            self.exact = True
        elif (credited or over) and funding.included and (low is None or funding.included > low):
            low, low_open = funding.included, False
        settled = (ZERO, ZERO) if self.held else (own + credited, waived)
        move = PaidMove(funding.slot, paid, paid if self.held else ZERO, low, low_open, high, *settled)
        if paid or low is not None or any(settled):
            self.moves.append(move)

    def taking(self) -> Taking:
        _check_digits(self.state.money.spend + self.cost)
        grants = tuple(self.burns)
        if self.exact:
            money = self.state.money
            paid = dict(money.paid)
            for move in self.moves:
                paid[move.slot] = moved(paid[move.slot], move)
            new = money._replace(paid=paid, spend=money.spend + self.cost)
            return Taking(
                tuple(self.parts), MoneySet(self.state.stored, new, self.state.sure), grants, self.known, self.cost
            )
        if not self.moves:
            return Taking(tuple(self.parts), None, grants, self.known)
        most = None
        if self.cost and self.terms.cap is not None and (self.terms.waives or not self.forced):
            most = self.terms.cap.usable - self.cost
        add = MoneyAdd(self.state.money.period, tuple(self.moves), self.cost, most)
        return Taking(tuple(self.parts), add, grants, self.known, self.cost)


def _check_digits(spend: Decimal) -> None:
    """Raises QuantityTooLarge where a spend does not fit DynamoDB's 38 digits: many places of a price times many of a
    quantity."""
    exponent = spend.as_tuple().exponent
    assert isinstance(exponent, int)
    if spend.adjusted() - exponent >= MAX_DIGITS and len(spend.normalize(EXACT).as_tuple().digits) > MAX_DIGITS:
        raise QuantityTooLarge


def burn_order(grants: Mapping[int, Grant], slot: int, now: int, mine: bytes = b"") -> list[int]:
    """Numbers of the grants of a meter that the member `mine` (`usage.grant.whose`) can burn at epoch second `now`:
    lowest priority first, then the one that ends first, then the oldest."""
    found = [
        (grant.priority, grant.ends, number)
        for number, grant in grants.items()
        if grant.meter == slot and grant.starts <= now < grant.ends and grant.burned_by(mine)
    ]
    return [number for _, _, number in sorted(found)]


def cap_short(rules: Rules, per: str, requested: Decimal, remaining: Decimal, now: int) -> Short:
    """The refusal by the cap on spend."""
    terms = rules.terms_of(per)
    assert terms is not None
    assert terms.cap is not None
    code = "hard_limit" if terms.cap.source == "customer" else "spend_cap"
    return Short(code, terms.cap.source, requested, remaining, window_at(PERIOD, rules.row.calendar, now).end)


def stands(rules: Rules, per: str, gate: Gate, hold: Hold, now: int) -> bool:
    """Whether a dead hold may live on as it was funded: its credits have not ended, and what nobody had to pay for when
    it was made is free still. Else it ends, and the request is a new one."""
    if per != ACCOUNT:
        return True
    funded = {part.meter_slot for part in hold.parts}
    for part in hold.parts:
        grant = gate.grants.get(part.source) if part.source >= 0 else None
        if part.source >= 0 and (grant is None or grant.ends <= now):
            return False
    fundings = () if rules.terms is None else rules.terms.fundings
    return all(slot in funded for slot, units in meter_units(hold.groups).items() if units and slot in fundings)


def past_promise(rules: Rules, per: str, gate: Gate, units: Mapping[int, Decimal], now: int) -> Short | None:
    """The refusal of units (by meter slot) that are on the gate already, where they would not be put there again: a
    dead hold grants nothing by itself."""
    terms = rules.terms_of(per)
    if terms is None or gate.money is None:
        return None
    state = state_of(rules, terms, per, gate, now)
    plan = _Plan(terms, state, gate if per == ACCOUNT else None, now, False, True)
    for slot, wanted in sorted(units.items()):
        funding = terms.fundings.get(slot)
        if funding is None or not wanted:
            continue
        position = state.money.paid[slot].taken
        if funding.stopped_by is not None and funding.included is not None and position > funding.included:
            return _short(rules, per, plan, funding, wanted, ZERO, now)
        if terms.cap is not None and state.money.spend > terms.cap.usable:
            return cap_short(rules, per, wanted, ZERO, now)
    return None
