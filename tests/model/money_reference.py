"""The reference of money and credits: who pays for units, worked out by plain loops over holds, grants and rows.

From the design alone (section 4, "Money caps" and "Credits", and invariant 9): included units, then credits by
priority, expiry and age, then overage as far as the cap goes; the rest is refused, or waived where it was used already.
Nothing of the product's funding, rating or period arithmetic is used. One account, months of UTC.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from typing import Final, NamedTuple

from tollgate.catalog.model import GrantRule, Plan, Price
from tollgate.usage.grant import FOREVER

ZERO: Final = Decimal(0)
PAID, WAIVED = "paid", "waived"
METERS: Final = ("ai_credits", "tokens")
STEP: Final = {"ai_credits": Decimal("0.000001"), "tokens": Decimal(1)}
LINGER_S: Final = 120


class Terms(NamedTuple):
    """A plan, and how much of its cap may be spent, worked out by hand: half a cent less for each line beyond the first
    that can end on a fraction of a cent."""

    plan: Plan
    usable: Decimal | None

    def price(self, meter: str) -> Price | None:
        return next((price for price in self.plan.prices if price.meter == meter), None)

    def rule(self, meter: str) -> GrantRule | None:
        return next((rule for rule in self.plan.grants if rule.meter == meter), None)

    def charge(self, meter: str, units: Decimal) -> Decimal:
        price = self.price(meter)
        return ZERO if price is None else _charge(price, units)

    def included(self, meter: str) -> Decimal:
        price = self.price(meter)
        if price is None or not price.tiers or price.tiers[0].unit_price or price.tiers[0].flat:
            return ZERO
        return price.tiers[0].up_to or ZERO


def _charge(price: Price, units: Decimal) -> Decimal:
    if price.scheme == "per_unit":
        assert price.unit_price is not None
        return price.unit_price * units
    if price.scheme == "package":
        assert price.package_size is not None
        assert price.package_price is not None
        return (units / price.package_size).to_integral_value(ROUND_CEILING) * price.package_price
    highest, total, low = ZERO, ZERO, ZERO
    for number, tier in enumerate(price.tiers):
        if number and units <= low:
            break
        high = units if tier.up_to is None else min(units, tier.up_to)
        total += tier.flat + (high - low) * tier.unit_price
        highest = max(highest, tier.flat + high * tier.unit_price)
        low = high if tier.up_to is None else tier.up_to
    return total if price.scheme == "graduated" else highest


def month(now: int) -> tuple[int, int]:
    """Start and end of the month of an epoch second."""
    at = datetime.fromtimestamp(now, UTC)
    start = at.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    after = start.replace(year=start.year + 1, month=1) if start.month == 12 else start.replace(month=start.month + 1)
    return int(start.timestamp()), int(after.timestamp())


@dataclass
class Grant:
    number: int
    meter: str
    left: Decimal
    priority: int
    ends: int
    every: str = ""
    units: Decimal = ZERO
    starts: int = 0
    carried: Decimal = ZERO
    clawed: Decimal = ZERO
    moved: Decimal = ZERO


Parts = list[tuple[str, str | int, Decimal]]
"""(meter, who pays: PAID, WAIVED or a grant's number, units), in the order in which the units are used."""


@dataclass
class Hold:
    expires_at: int
    wanted: dict[str, Decimal]
    parts: Parts = field(default_factory=list)


class Short(NamedTuple):
    code: str
    requested: Decimal
    remaining: Decimal
    resets_at: int


class Row(NamedTuple):
    meter: str
    units: Decimal
    credits: dict[int, Decimal]
    waived: Decimal


class Account:
    """What the gate must have come to."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.plan_since = 0
        self.period: int | None = None
        self.taken: dict[str, Decimal] = {}
        self.credited: dict[str, Decimal] = {}
        self.waived: dict[str, Decimal] = {}
        self.past: list[Decimal] = []
        self.holds: dict[str, Hold] = {}
        self.grants: dict[int, Grant] = {}
        self.ended: dict[int, Grant] = {}
        self.numbers = 0
        self.bought: dict[str, int] = {}
        self.plan_since = 0

    # -- what has been spent -----------------------------------------------------------------------------------------

    def metered(self) -> list[str]:
        return [m for m in METERS if self.terms.price(m) is not None or self.terms.rule(m) is not None]

    def held(self, meter: str) -> Decimal:
        parts = (part for hold in self.holds.values() for part in hold.parts)
        return sum((units for m, source, units in parts if (m, source) == (meter, PAID)), ZERO)

    def spend(self) -> Decimal:
        return sum((self.terms.charge(meter, units) for meter, units in self.taken.items()), ZERO)

    def touch(self, now: int) -> None:
        """Whoever moves money does it in the month of `now`; a new month begins with what is held."""
        start, _ = month(now)
        if self.period is None:
            self.period = start
        if self.period < start:
            closed = [sum((self.terms.charge(m, n - self.held(m)) for m, n in self.taken.items()), ZERO)]
            at = month(self.period)[1]
            while at < start and len(closed) < 3:
                closed.insert(0, sum((self.terms.charge(m, ZERO) for m in METERS), ZERO))
                at = month(at)[1]
            self.past = [*closed, *self.past][:3]
            self.taken = {meter: self.held(meter) for meter in self.taken}
            self.credited, self.waived, self.period = {}, {}, start
        for meter in self.metered():
            self.taken.setdefault(meter, ZERO)

    # -- credits -----------------------------------------------------------------------------------------------------

    def give_due(self, now: int) -> None:
        """The plan's credits of this month, where they did not come yet."""
        for rule in self.terms.plan.grants:
            same = [one for one in self.grants.values() if (one.meter, one.every) == (rule.meter, rule.every)]
            current = [one for one in same if one.ends > now]
            more = rule.units - sum((one.units for one in current), ZERO)
            if more <= 0:
                continue
            start, end = month(now)
            carried = ZERO
            if not current and same:
                ended = max(one.ends for one in same)
                last = [one for one in same if one.ends == ended]
                rest = sum((one.left for one in last), ZERO)
                if ended < self.plan_since:
                    rest = ZERO  # a month without this plan lies between
                while self.plan_since <= ended < start and rule.rollover_max:
                    rest, ended = rest + rule.units, month(ended)[1]
                carried = to_move = min(rest, rule.rollover_max or ZERO)
                if last[0].ends < self.plan_since:  # there was time without this plan
                    carried = to_move = ZERO
                for one in last:
                    moved = min(one.left, to_move)
                    one.left, one.moved, to_move = one.left - moved, one.moved + moved, to_move - moved
            made = Grant(self.numbers, rule.meter, more + carried, rule.priority, end, rule.every, more, start, carried)
            self.grants[self.numbers] = made
            self.numbers += 1

    def buy(self, name: str, units: Decimal, priority: int, ends: int) -> None:
        if name not in self.bought:
            self.bought[name] = self.numbers
            self.grants[self.numbers] = Grant(self.numbers, "ai_credits", units, priority, ends)
            self.numbers += 1

    def claw_back(self, name: str, units: Decimal, now: int) -> Decimal:
        grant = self.grants.get(self.bought[name])
        if grant is None or grant.ends <= now:
            return ZERO
        taken = min(grant.left, units)
        grant.left, grant.clawed = grant.left - taken, grant.clawed + taken
        return taken

    # -- who pays ----------------------------------------------------------------------------------------------------

    def fund(self, wanted: dict[str, Decimal], now: int, *, forced: bool) -> Parts | Short:
        """Who pays for more units; changes nothing where they are refused."""
        found: Parts = []
        taken = dict(self.taken)
        left = {number: grant.left for number, grant in self.grants.items()}
        spent = self.spend()
        for meter in METERS:
            rest = wanted.get(meter, ZERO)
            if not rest or meter not in self.metered():
                continue
            free = min(rest, max(self.terms.included(meter) - taken[meter], ZERO))
            parts: Parts = [(meter, PAID, free)]
            rest -= free
            usable = [g for g in self.grants.values() if g.meter == meter and g.starts <= now < g.ends]
            for grant in sorted(usable, key=lambda g: (g.priority, g.ends, g.number)):
                burned = min(rest, left[grant.number])
                parts.append((meter, grant.number, burned))
                left[grant.number] -= burned
                rest -= burned
            over = self._overage(meter, taken[meter] + free, rest, spent)
            parts.append((meter, PAID, over))
            rest -= over
            if rest and not forced:
                return self._short(meter, wanted[meter], wanted[meter] - rest, now)
            parts.append((meter, WAIVED, rest))
            before = self.terms.charge(meter, taken[meter])
            taken[meter] += free + over
            spent += self.terms.charge(meter, taken[meter]) - before
            found += [part for part in parts if part[2]]
        self.taken = taken
        for number, units in left.items():
            self.grants[number].left = units
        return found

    def _overage(self, meter: str, position: Decimal, rest: Decimal, spent: Decimal) -> Decimal:
        """The most of `rest` that is paid for: tried step by step, by halves."""
        if self.terms.price(meter) is None or self.terms.plan.overage == "off":
            return ZERO
        if self.terms.usable is None:
            return rest
        room = max(self.terms.usable - spent, ZERO)
        begin = self.terms.charge(meter, position)
        if self.terms.charge(meter, position + rest) - begin <= room:
            return rest
        low, high = 0, int(rest / STEP[meter])
        while high - low > 1:
            middle = (low + high) // 2
            if self.terms.charge(meter, position + middle * STEP[meter]) - begin <= room:
                low = middle
            else:
                high = middle
        return low * STEP[meter]

    def _short(self, meter: str, wanted: Decimal, remaining: Decimal, now: int) -> Short:
        if self.terms.price(meter) is not None and self.terms.plan.overage != "off":
            return Short("spend_cap", wanted, remaining, month(now)[1])
        credited = self.terms.rule(meter) is not None or any(g.meter == meter for g in self.grants.values())
        return Short("credits_exhausted" if credited else "overage_blocked", wanted, remaining, month(now)[1])

    # -- calls -------------------------------------------------------------------------------------------------------

    def reserve(self, key: str, wanted: dict[str, Decimal], now: int, ttl: int) -> Hold | Short:
        self.give_due(now)
        before = self._state()
        self.touch(now)
        found = self.fund(wanted, now, forced=False)
        if isinstance(found, Short) and any(hold.expires_at <= now for hold in self.holds.values()):
            self._restore(before)
            for name in [name for name, hold in self.holds.items() if hold.expires_at <= now]:
                self.give_back(name)
            before = self._state()
            self.touch(now)
            found = self.fund(wanted, now, forced=False)
        if isinstance(found, Short):
            self._restore(before)  # a refusal writes nothing
            return found
        self.holds[key] = Hold(now + ttl, dict(wanted), found)
        return self.holds[key]

    def _state(self) -> tuple[int | None, dict[str, Decimal], dict[str, Decimal], dict[str, Decimal], list[Decimal]]:
        return self.period, dict(self.taken), dict(self.credited), dict(self.waived), list(self.past)

    def _restore(
        self, state: tuple[int | None, dict[str, Decimal], dict[str, Decimal], dict[str, Decimal], list[Decimal]]
    ) -> None:
        self.period, self.taken, self.credited, self.waived, self.past = state

    def extend(self, key: str, wanted: dict[str, Decimal], now: int, expires_at: int) -> Hold | Short:
        hold = self.holds[key]
        more = {m: max(n - hold.wanted.get(m, ZERO), ZERO) for m, n in wanted.items()}
        if any(more.values()):
            self.give_due(now)
            before = self._state()
            self.touch(now)
            found = self.fund(more, now, forced=False)
            others = [n for n, one in self.holds.items() if one.expires_at <= now and n != key]
            if isinstance(found, Short) and others:
                self._restore(before)
                for name in others:
                    self.give_back(name)
                before = self._state()
                self.touch(now)
                found = self.fund(more, now, forced=False)
            if isinstance(found, Short):
                self._restore(before)
                return found
            self._grow(hold, more, found)
        hold.expires_at = max(hold.expires_at, expires_at)
        return hold

    def _grow(self, hold: Hold, more: dict[str, Decimal], parts: Parts) -> None:
        hold.parts += parts
        for meter, units in more.items():
            hold.wanted[meter] = hold.wanted.get(meter, ZERO) + units

    def give_back(self, key: str) -> None:
        """A hold ends unused."""
        self._back(self.holds.pop(key).parts)

    def _back(self, parts: Parts) -> None:
        for meter, source, units in parts:
            if source == PAID:
                self.taken[meter] -= units
            elif isinstance(source, int):
                self.grants[source].left += units

    def commit(self, key: str, used: dict[str, Decimal], now: int) -> list[Row]:
        """A hold becomes rows: its first units are used, what the hold does not have is funded first."""
        hold = self.holds[key]
        more = {meter: max(units - hold.wanted.get(meter, ZERO), ZERO) for meter, units in used.items()}
        if any(more.values()):
            self.give_due(now)
            self.touch(now)
            parts = self.fund(more, now, forced=True)
            assert not isinstance(parts, Short)
            self._grow(hold, more, parts)
        self.touch(now)
        del self.holds[key]
        return self._settled(hold.parts, used)

    def use(self, used: dict[str, Decimal], now: int) -> list[Row]:
        """Used without a hold, or after it ended."""
        self.give_due(now)
        self.touch(now)
        parts = self.fund(used, now, forced=True)
        assert not isinstance(parts, Short)
        return self._settled(parts, used)

    def _settled(self, parts: Parts, used: dict[str, Decimal]) -> list[Row]:
        rows = []
        for meter in METERS:
            if meter not in used:
                continue
            rest, waived = used[meter], ZERO
            credits: dict[int, Decimal] = {}
            for at, source, units in (part for part in parts if part[0] == meter):
                taken = min(rest, units)
                rest -= taken
                if source == WAIVED:
                    waived += taken
                elif isinstance(source, int) and taken:
                    credits[source] = credits.get(source, ZERO) + taken
                self._back([(at, source, units - taken)])
            assert not rest, "all that is used was funded or waived"
            self.credited[meter] = self.credited.get(meter, ZERO) + sum(credits.values(), ZERO)
            self.waived[meter] = self.waived.get(meter, ZERO) + waived
            rows.append(Row(meter, used[meter], credits, waived))
        return rows

    def move(self, terms: Terms, now: int) -> None:
        """Another plan, now: what was paid for is rated by its prices."""
        self.plan_since = now
        self.terms, self.plan_since = terms, now
        if self.period is not None:
            self.touch(now)


__all__ = ["FOREVER", "Account", "Grant", "Hold", "Row", "Short", "Terms", "month"]
