"""What must hold of money and credits in every run: at every single write of a gate, and once everything is at rest.

Charges, splits and sums are made here from the catalogue's prices, the packed holds and the stored rows, without the
product's rating, funding or recount: a defect there cannot hide itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache

from tests.interleave.violation import Violation
from tests.support.memory import World
from tests.support.prices import charge
from tollgate.accounts.rules import ONE_PER_RESERVATION, Rules
from tollgate.catalog.model import Plan
from tollgate.gate.hold import PAID, WAIVED, Hold, Part, unpack
from tollgate.gate.item import Gate, Grant, Paid
from tollgate.usage.outcome import ACCOUNT, Event, UsedItem

ZERO, CENT = Decimal(0), Decimal("0.01")
Units = dict[int, Decimal]
SKEW_S = 5
"""More than any two clocks differ."""


def included(plan: Plan, meter: str) -> Decimal:
    """The units of a meter that cost nothing, without credits."""
    price = next((price for price in plan.prices if price.meter == meter), None)
    if price is None or not price.tiers:
        return ZERO
    first = price.tiers[0]
    return first.up_to if first.up_to is not None and not (first.unit_price or first.flat) else ZERO


def _add(totals: dict[int, Decimal], name: int, units: Decimal) -> None:
    totals[name] = totals.get(name, ZERO) + units


@lru_cache(maxsize=50_000)
def _unpacked(raw: bytes) -> Hold:
    return unpack(raw)


class MoneyWatch:
    """The checks of one run over one account. `rules`: by revision, as the run meets them."""

    def __init__(self, world: World, account: str, rules: Mapping[int, Rules]) -> None:
        self.world, self.account, self.rules = world, account, rules
        self.given: Units = {}
        """By grant number: the units that it came onto the gate with."""
        self.gone: set[int] = set()
        self.parts: dict[tuple[str, bytes], tuple[Part, ...]] = {}
        """(key, incarnation) -> how the units of the hold were last said to be paid."""

    def begin(self) -> None:
        """What stands on the gate when the run begins."""
        gate = self.world.gates.get(self.account)
        if gate is None:
            return
        rows = self.world.grants.get(self.account, [])
        self.given = {number: rows[number].units + grant.carried for number, grant in gate.grants.items()}
        self.gone = {row.number for row in rows if row.ended is not None and row.number not in gate.grants}
        self.parts = {(key, raw[1:17]): _unpacked(raw).parts for key, raw in gate.holds.items()}

    def copy_for(self, world: World, rules: Mapping[int, Rules]) -> MoneyWatch:
        """The same history, for another world that is in the same state."""
        made = MoneyWatch(world, self.account, rules)
        made.given, made.gone, made.parts = dict(self.given), set(self.gone), dict(self.parts)
        return made

    # -- at every write --------------------------------------------------------------------------------------------

    def gate_written(self, before: Gate | None, after: Gate, *, granting: bool) -> None:
        rules = self.rules[abs(after.rev)]
        if after.subject != self.account:
            self._member_positions(rules, before, after, granting)
            return
        held: Units = {}
        named: Units = {}
        for key, raw in after.holds.items():
            hold = _unpacked(raw)
            self._parts_of(key, hold, None if before is None else before.holds.get(key), granting)
            for part in hold.parts:
                if part.source == PAID:
                    _add(held, part.meter_slot, part.units)
                elif part.source >= 0:
                    _add(named, part.source, part.units)
        self._funded_in_order(rules, before, after)
        self._positions(after, held)
        self._spend(rules, before, after)
        self._grants(before, after, named)

    def _parts_of(self, key: str, hold: Hold, old: bytes | None, granting: bool) -> None:
        units: Units = {}
        for group in hold.groups:
            if group.meter_slot != ONE_PER_RESERVATION:
                _add(units, group.meter_slot, group.units)
        funded: Units = {}
        for part in hold.parts:
            _add(funded, part.meter_slot, part.units)
        for slot, paid in funded.items():
            whole = paid == units.get(slot) or len(self.rules) > 1  # what grows without prices has nobody to pay
            if not whole or paid > units.get(slot, ZERO):
                raise Violation(f"the hold {key} is {units}, paid for are {funded}")
        known = self.parts.get((key, hold.incarnation))
        if granting and (old is None or hold.parts != _unpacked(old).parts):
            waived = sum((part.units for part in hold.parts if part.source == WAIVED), ZERO)
            before = () if old is None else _unpacked(old).parts
            if waived > sum((part.units for part in before if part.source == WAIVED), ZERO):
                raise Violation(f"granted with waived units: {hold.parts}")
        if known is None or _begins(hold.parts, known):
            self.parts[key, hold.incarnation] = hold.parts
        elif not _begins(known, hold.parts):
            raise Violation(f"the hold {key} was paid for by {known}, now by {hold.parts}")

    def _funded_in_order(self, rules: Rules, before: Gate | None, after: Gate) -> None:
        """What a hold newly has beyond the included units is charged or waived only once no credits are left."""
        if before is None or before.rev != after.rev:
            return
        for key, raw in after.holds.items():
            old = before.holds.get(key)
            if raw == old:
                continue
            new: Units = {}
            for part in _unpacked(raw).parts:
                if part.source < 0:
                    _add(new, part.meter_slot, part.units)
            for part in () if old is None else _unpacked(old).parts:
                if part.source < 0:
                    _add(new, part.meter_slot, -part.units)
            for slot, units in new.items():
                free = included(rules.plan, rules.row.meters[slot]) - _position(before, after, slot)
                if units > max(free, ZERO) and self._usable(after, slot):
                    raise Violation(f"{units} units were charged or waived beside the credits {after.grants}")

    def _usable(self, gate: Gate, slot: int) -> Decimal:
        """Units of the grants that every clock takes for usable."""
        now = self.world.now_ms // 1000
        usable = (one for one in gate.grants.values() if one.starts + SKEW_S <= now < one.ends - SKEW_S)
        return sum((one.left for one in usable if one.meter == slot), ZERO)

    def _positions(self, after: Gate, held: Units) -> None:
        paid = {} if after.money is None else after.money.paid
        for slot, one in paid.items():
            if not ZERO <= one.held <= one.taken or one.credited < 0 or one.waived < 0:
                raise Violation(f"the position of meter {slot} of {after.subject} is {one}")
            if one.held != held.get(slot, ZERO):
                raise Violation(f"meter {slot} of {after.subject} is {one}; its open holds say {held.get(slot)}")
        if not held.keys() <= paid.keys():
            raise Violation(f"holds of {after.subject} are paid on positions that are not there: {held}")

    def _spend(self, rules: Rules, before: Gate | None, after: Gate) -> None:
        if after.money is None or after.rev < 0:
            return
        plan, was = rules.plan, {} if before is None or before.money is None else dict(before.money.paid)
        if before is not None and before.money is not None and before.money.period < after.money.period:
            was = {slot: Paid(one.held, one.held) for slot, one in was.items()}
        spend, base = ZERO, ZERO
        for price in plan.prices:
            slot = rules.row.meters.index(price.meter)
            position, earlier = after.money.paid[slot].taken, was.get(slot, Paid(ZERO, ZERO)).taken
            spend += charge(price, position)
            base += charge(price, earlier)
            if plan.overage == "off" and position > max(included(plan, price.meter), earlier):
                raise Violation(f"overage is off, and {earlier} paid units became {position}")
        if plan.prices and after.money.spend != spend:
            raise Violation(f"the spend is {after.money.spend}, its positions come to {spend}")
        if plan.spend_cap is not None and spend > max(plan.spend_cap, base):
            raise Violation(f"{spend} were spent, {base} before; the cap is {plan.spend_cap}")

    def _member_positions(self, rules: Rules, before: Gate | None, after: Gate, granting: bool) -> None:
        """A member's position is all that the member took; only what was asked for beforehand meets the limit."""
        limit = next((limit for limit in rules.plan.limits if limit.amount is not None), None)
        if after.money is None or limit is None or after.rev < 0:
            return
        assert limit.amount is not None
        held: Units = {}
        for raw in after.holds.values():
            for group in _unpacked(raw).groups:
                _add(held, group.meter_slot, group.units)
        spend, base = ZERO, ZERO
        for price in rules.plan.prices:
            slot = rules.row.meters.index(price.meter)
            now = after.money.paid[slot]
            if not ZERO <= now.held <= now.taken or now.held != held.get(slot, ZERO):
                raise Violation(f"meter {slot} of {after.subject} is {now}; its open holds say {held.get(slot)}")
            spend += charge(price, now.taken)
            if before is not None and before.money is not None:
                was = before.money.paid.get(slot, Paid(ZERO, ZERO))
                base += charge(price, was.taken)
        if after.money.spend != spend:
            raise Violation(f"the spend of {after.subject} is {after.money.spend}, its positions come to {spend}")
        begun = before is not None and before.money is not None and before.rev == after.rev
        if granting and begun and spend > max(limit.amount, base):
            raise Violation(f"{after.subject} was granted {spend}, {base} before; its limit is {limit.amount}")

    def _grants(self, before: Gate | None, after: Gate, named: Units) -> None:
        there = {} if before is None else before.grants
        rows = self.world.grants.get(self.account, [])
        for number, grant in after.grants.items():
            if number not in there:
                if number in self.given or number in self.gone:
                    raise Violation(f"grant {number} came back: {grant}")
                if grant.clawed or grant.left != rows[number].units + grant.carried:
                    raise Violation(f"{rows[number]} came onto the gate as {grant}")
                self.given[number] = grant.left
            held = named.pop(number, ZERO)
            if grant.left < 0 or grant.clawed < 0:
                raise Violation(f"grant {number} is {grant}")
            if self.given[number] < grant.unused + held + grant.clawed:
                raise Violation(f"of {self.given[number]} units, grant {number} is {grant}, {held} are held")
        if before is not None:
            self._carried(before.grants, after.grants)
        if named:
            raise Violation(f"holds name grants that are not there: {named}")
        for number, last in there.items():
            if number in after.grants:
                continue
            ended = rows[number].ended
            if ended is None or (ended.left, ended.carried) != (last.unused, last.carried):
                raise Violation(f"grant {number} was taken off as {last}; its row says {ended}")
            self.gone.add(number)

    @staticmethod
    def _carried(before: Mapping[int, Grant], after: Mapping[int, Grant]) -> None:
        """What a plan's grant begins with beyond its units was left of the one before, which has it no more."""
        for number, grant in after.items():
            if number in before or not grant.carried:
                continue
            last = [at for at, old in before.items() if (old.meter, old.every) == (grant.meter, grant.every)]
            gone = sum((before[at].left - after[at].left for at in last), ZERO)
            if gone != grant.carried:
                raise Violation(f"grant {number} began with {grant.carried} carried units, {gone} left the last one")

    # -- at rest ---------------------------------------------------------------------------------------------------

    def at_rest(self, events: Sequence[Event]) -> None:
        """Positions and grants equal the rows; every row was paid for as its hold says; no bill is past its cap."""
        gate = self.world.gates.get(self.account)
        if gate is None or not any(rules.plan.prices or rules.plan.grants for rules in self.rules.values()):
            return
        for event in events:
            for item in event.items:
                _sound(event, item)
            if event.token is None and not event.late:
                self._as_held([event], event)
        for token in {event.token for event in events if event.token is not None}:
            batch = [event for event in events if event.token == token]
            self._as_held(batch, batch[0])
        self._positions_equal_rows(gate, events)
        self._grants_equal_rows(gate, events)
        self._bills(events)

    def _as_held(self, rows: Sequence[Event], one: Event) -> None:
        """Rows in time are paid for by the first units of their hold; what the hold does not have is waived."""
        parts = self.parts.get((one.hold_key, one.incarnations[ACCOUNT]))
        if not parts:
            return
        items = [item for row in rows for item in row.items]
        rest, waived = sum((item.units for item in items), ZERO), ZERO
        credits: Units = {}
        for part in parts:
            used = min(rest, part.units)
            rest -= used
            if part.source >= 0 and used:
                _add(credits, part.source, used)
            elif part.source == WAIVED:
                waived += used
        burned: Units = {}
        for item in items:
            for number, units in item.credits:
                _add(burned, number, units)
        if burned != credits or sum((item.waived for item in items), ZERO) != waived + rest:
            raise Violation(f"{items} were paid for otherwise than their hold says: {parts}")

    def _positions_equal_rows(self, gate: Gate, events: Iterable[Event]) -> None:
        rules = self.rules[abs(gate.rev)]
        if gate.money is None:
            if any(item.priced and item.billable for event in events for item in event.items):
                raise Violation(f"rows are to be paid, and the gate has no money: {events}")
            return
        used: dict[int, list[Decimal]] = {slot: [ZERO, ZERO, ZERO] for slot in gate.money.paid}
        for event in events:
            start = rules.period_start(event.recorded_s)
            if start < gate.money.period:
                continue
            for item in event.items:
                sums = used.get(rules.row.meters.index(item.meter), [ZERO, ZERO, ZERO])
                sums[0] += item.billable
                sums[1] += item.credit_funded
                sums[2] += item.waived
                if start > gate.money.period and item.priced:
                    raise Violation(f"the money of {gate.money.period} was not rolled over for {event}")
        for slot, one in gate.money.paid.items():
            if [one.taken, one.credited, one.waived] != used[slot] or one.held:
                raise Violation(f"meter {slot} is {one}, its rows say {used[slot]}")

    def _grants_equal_rows(self, gate: Gate, events: Iterable[Event]) -> None:
        burned: Units = {}
        for event in events:
            for item in event.items:
                for number, units in item.credits:
                    _add(burned, number, units)
        for row in self.world.grants.get(self.account, []):
            used, there = burned.pop(row.number, ZERO), gate.grants.get(row.number)
            if row.number not in self.given:
                accounted, given = used, ZERO  # never on the gate
            elif there is not None:
                accounted, given = there.unused + used + there.clawed, self.given[row.number]
                if row.clawed > there.clawed or (row.pending is None and row.clawed != there.clawed):
                    raise Violation(f"{row} was clawed back on the gate as {there}")
            else:
                assert row.ended is not None
                accounted, given = row.ended.left + used + row.clawed, self.given[row.number]
            if accounted != given:
                raise Violation(f"of {given} units of {row}, {accounted} are accounted for: {there}, burned {used}")
        if burned:
            raise Violation(f"rows burned grants that never were: {burned}")

    def _bills(self, events: Iterable[Event]) -> None:
        """What the rows of each period come to, line by line as an invoice rounds them, where one plan was in force."""
        plans = {(rules.plan.prices, rules.plan.spend_cap) for rules in self.rules.values()}
        prices, cap = next(iter(plans))
        if len(plans) > 1 or cap is None:
            return
        rules = next(iter(self.rules.values()))
        periods: dict[int, dict[str, Decimal]] = {}
        for event in events:
            units = periods.setdefault(rules.period_start(event.recorded_s), {})
            for item in event.items:
                units[item.meter] = units.get(item.meter, ZERO) + item.billable
        for start, units in periods.items():
            lines = [
                charge(price, units.get(price.meter, ZERO)).quantize(CENT, rounding=ROUND_HALF_UP) for price in prices
            ]
            if sum(lines, ZERO) > cap:
                raise Violation(f"the period {start} is billed at {lines}; the cap is {cap}")


def _position(before: Gate, after: Gate, slot: int) -> Decimal:
    """A meter's paid position before a write, in the billing period of the write."""
    if before.money is None or after.money is None:
        return ZERO
    one = before.money.paid.get(slot, Paid(ZERO, ZERO))
    return one.taken if before.money.period == after.money.period else one.held


def _begins(parts: Sequence[Part], with_parts: Sequence[Part]) -> bool:
    """Whether the first units of `parts` are paid for as `with_parts` says."""
    rest = list(parts)
    for part in with_parts:
        units = part.units
        while units:
            mine = next((one for one in rest if one.meter_slot == part.meter_slot), None)
            if mine is None or mine.source != part.source:
                return False
            taken = min(units, mine.units)
            units -= taken
            at = rest.index(mine)
            rest[at : at + 1] = [mine._replace(units=mine.units - taken)] if mine.units > taken else []
    return True


def _sound(event: Event, item: UsedItem) -> None:
    burned = sum((units for _, units in item.credits), ZERO)
    if item.credit_funded != burned or item.waived < 0 or item.billable < 0 or any(n <= 0 for _, n in item.credits):
        raise Violation(f"an item of {event} does not add up: {item}")
