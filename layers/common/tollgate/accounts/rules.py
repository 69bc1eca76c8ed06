"""What binds one account now: its rules row and plan version, compiled for the gate.

A *counter* is kept by (meters, window kind, canonical `where`, subject kind), never by plan or limit id, so leaving a
plan and coming back refills nothing. The rules row numbers every counter that the account ever needed: that number
(the *slot*) is what gates and holds carry, because a hold must stay at about 50 bytes. Slots are only ever appended.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from tollgate.accounts import overrides
from tollgate.catalog.model import (
    BillingPeriod,
    BreakerRule,
    Limit,
    Meter,
    Plan,
    credited,
    level_meters,
    matches,
    weighed,
    weight_of,
)
from tollgate.errors import LevelMeter, MemberRequired, NoLevelMeter, TooManyCounters, UnknownMeter
from tollgate.periods import PeriodRule
from tollgate.quantities import EXACT, ONE, ZERO
from tollgate.windows import HOURLY, LIFETIME, PERIOD, Calendar, Window, WindowKind, first_use_window, window_at

if TYPE_CHECKING:
    from tollgate.accounts.terms import Terms

CONCURRENT = "concurrent"
NO_SLOT = -1
"""Of a level's limit: no counter is kept for it."""
ONE_PER_RESERVATION = 255
"""The meter slot of the group by which a hold takes one unit from each `concurrent` counter."""


class CounterKey(NamedTuple):
    """Identity of a counter inside one account."""

    per: str
    """`account` or `member`: which gate keeps it."""
    meters: tuple[str, ...]
    window: str
    """Canonical window kind (`day`, `first_use:5`, ...) or `concurrent`."""
    where: tuple[tuple[str, tuple[str, ...]], ...]


class Counter(NamedTuple):
    """A counter that this account keeps. `since` is the epoch second from which every event was counted on it."""

    slot: int
    key: CounterKey
    since: int
    kind: WindowKind | None
    """None for a `concurrent` counter."""

    def takes(self, meter: str, dimensions: Mapping[str, str]) -> bool:
        if self.key.meters and meter not in self.key.meters:
            return False
        return not self.key.where or matches(self.key.where, dimensions)


BREAKER = "breaker"
"""Names what the circuit breaker stops: refusals, the reason of a freeze."""


MOST_COUNTERS = 32
"""What one call may be counted on at one gate: its write names them all, up to 80 bytes for each, beside holds, money
and credits, and DynamoDB takes expressions of 4 KB (its page on limits; `tests/unit/gate/test_width.py`)."""

LEAST = Decimal(100)
"""Units an hour that stop nobody where nothing else says a floor: 30 are no runaway where 3 are typical."""


class Frozen(NamedTuple):
    reason: str
    since: int
    trip: str | None = None
    """Which trip of the breaker froze it, or would have, had the operator not (`breaker/trip.py`)."""


class Typical(NamedTuple):
    """What an account uses on a typical day, by meter. Of meters that are not `settled` there are too few days, or the
    plan was changed since: there the plan's typical day counts where that is more."""

    units: Mapping[str, Decimal]
    settled: tuple[str, ...] = ()


class Grace(NamedTuple):
    """After a resume: what the breaker lets through, by meter, in the hour that ends at epoch second `until`. `number`
    counts the resumes of that hour."""

    until: int
    maxima: Mapping[str, Decimal]
    number: int = 1


class Controls(NamedTuple):
    """What the customer set: money in the plan's currency, None where nothing was said. They never loosen the plan."""

    soft_limit: Decimal | None = None
    """Where the customer wants to be told."""
    hard_limit: Decimal | None = None
    """What usage of a billing period must not come to more than."""
    block_overage: bool | None = None
    """True: nothing past what is included and prepaid. False opts in to overage where the plan asks for that."""
    thresholds: tuple[int, ...] | None = None
    """Per cent at which the customer wants to be told, instead of the plan's; empty: never."""


class NextPlan(NamedTuple):
    """A plan version that the account moves to at epoch second `at`, the end of a billing period."""

    plan: str
    version: int
    at: int


@dataclass(frozen=True, slots=True)
class AccountRow:
    """The rules row of an account, as stored. `rev` grows by one with every change of it."""

    account: str
    rev: int
    plan: str
    plan_version: int
    created_at: int
    """Epoch seconds."""
    calendar: Calendar
    counters: tuple[tuple[CounterKey, int], ...]
    """(identity, since) by slot."""
    meters: tuple[str, ...]
    """Meter ids by meter slot."""
    frozen: Frozen | None = None
    stripe_customer_id: str | None = None
    email: str | None = None
    name: str | None = None
    overrides: str | None = None
    """Canonical JSON of the operator's overrides (`accounts/overrides.py`)."""
    next_plan: NextPlan | None = None
    subscription_anchor: int | None = None
    """Epoch seconds of the `billing_cycle_anchor` that Stripe told last; None: none yet."""
    controls: Controls = Controls()
    merged: tuple[str, ...] = ()
    """Ids of the accounts that became this one, in the order in which they did; only ever appended to."""
    merged_into: str | None = None
    """The account that this one became: its id is another name of that one from then on."""
    plan_since: int = 0
    """Epoch second at which the account came to its plan version."""
    typical: Typical | None = None
    """Written without a new revision (`store.AccountTable.set_typical`): nothing but the breaker depends on it."""
    grace: Grace | None = None

    @property
    def changes_at(self) -> int | None:
        """Epoch second at which the row changes without being asked: a plan begins, an override or a grace ends."""
        following, ends = self.next_plan, None if self.overrides is None else overrides.read(self.overrides).ends
        if self.grace is not None and (ends is None or self.grace.until < ends):
            ends = self.grace.until
        if following is None or (ends is not None and ends < following.at):
            return ends
        return following.at


class RuledLimit(NamedTuple):
    """A limit in force and the counter that it reads."""

    limit: Limit
    counter: Counter
    maximum: Decimal | None
    source: str = "plan"


class Group(NamedTuple):
    """Units of one meter and the counters of one gate that take them; the grain of a hold."""

    meter_slot: int
    units: Decimal
    slots: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Item:
    """One measured thing of a request: `units` is what the meter counts for `quantity`."""

    meter: str
    quantity: Decimal
    units: Decimal
    dimensions: Mapping[str, str] = field(default_factory=dict)
    weight: Decimal = ONE
    """Units for each quantity, before rounding to the meter's scale."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules row and plan version, compiled. Immutable; a new revision is a new object."""

    row: AccountRow
    plan: Plan
    meters: Mapping[str, Meter]
    counters: tuple[Counter, ...]
    limits: tuple[RuledLimit, ...]
    terms: Terms | None = None
    """None: neither prices nor credits."""
    member_terms: Terms | None = None
    """None: no money limit for members."""
    level_limits: tuple[RuledLimit, ...] = ()
    """Those of level meters: no counter is kept for them, as the gate has the level itself."""
    breakers: tuple[RuledLimit, ...] = ()
    """What the circuit breaker lets through: limits of the account by the hour that no answer lists."""
    stopped: bool = False
    """All accounts together cost too much: nothing new is reserved until the operator resumes."""

    @property
    def account(self) -> str:
        return self.row.account

    @property
    def rev(self) -> int:
        return self.row.rev

    def item(self, meter: str, quantity: Decimal, dimensions: Mapping[str, str], path: str = "meter") -> Item:
        """Weigh a quantity. Raises UnknownMeter, LevelMeter, QuantityTooLarge."""
        found = self.meters.get(meter)
        if found is None:
            raise UnknownMeter(meter, path)
        if found.kind == "level":
            raise LevelMeter(meter, path)
        weight = weight_of(found, dimensions)
        return Item(meter, quantity, weighed(found, quantity, weight), dimensions, weight)

    def level_meter(self, meter: str) -> Meter:
        """A meter whose level can be set. Raises UnknownMeter, NoLevelMeter."""
        found = self.meters.get(meter)
        if found is None:
            raise UnknownMeter(meter)
        if found.kind != "level":
            raise NoLevelMeter(meter)
        return found

    def covers(self, meter: str) -> bool:
        """Whether the plan prices or limits the meter, gives credits of it or counts its seats by it, or takes
        everything."""
        return (
            self.plan.unlimited
            or any(price.meter == meter for price in self.plan.prices)
            or meter in credited(self.plan)
            or (self.plan.seats is not None and meter == self.plan.seats.meter)
            or any(meter in ruled.limit.meters for ruled in (*self.limits, *self.level_limits))
            or any(meter in shared.meters for shared in self.plan.shared_limits)
        )

    @property
    def own_seats(self) -> bool:
        """Whether each seat has units of its own."""
        sold = self.plan.seats
        return sold is not None and not sold.pooled and any(price.included_per_seat for price in self.plan.prices)

    def priced_meters(self) -> frozenset[str]:
        return frozenset(price.meter for price in self.plan.prices)

    @property
    def homes(self) -> tuple[str, ...]:
        """The ids that rows of this account stand under: its own first, then those of accounts that became it."""
        return (self.row.account, *self.row.merged)

    def hold_name(self, account: str, key: str) -> str:
        """What a hold is called in the gates: its key alone, or, where the call came under the id of an account that
        became this one, with that id's number. So a hold tells where its outcome stands, and the same key under two ids
        makes two holds."""
        return key if account == self.row.account else f"{self.row.merged.index(account)}~{key}"

    def home_of(self, name: str) -> tuple[str, str]:
        """The id and the key that a hold's name was made from."""
        number, joined, key = name.partition("~")
        return (self.row.merged[int(number)], key) if joined else (self.row.account, name)

    def terms_of(self, per: str) -> Terms | None:
        """What money and credits mean to one kind of gate."""
        return self.terms if per == "account" else self.member_terms

    def period_start(self, at: int) -> int:
        """The start of the billing period at an epoch second."""
        return window_at(PERIOD, self.row.calendar, at).start

    def period_counter(self, meter: str, per: str = "account") -> Counter | None:
        """The counter of a meter's units in the billing period, where the account keeps one."""
        key = CounterKey(per, (meter,), PERIOD.text, ())
        return next((counter for counter in self.counters if counter.key == key), None)

    def limits_for(self, items: Iterable[Item], per: str) -> list[RuledLimit]:
        listed = list(items)
        found = []
        for ruled in self.limits:  # a plain loop: this runs several times in each call
            if ruled.limit.per != per:
                continue
            for item in listed:
                if ruled.counter.takes(item.meter, item.dimensions):
                    found.append(ruled)
                    break
        return found

    def caps_for(self, items: Sequence[Item], per: str) -> list[RuledLimit]:
        """What a write to one kind of gate asserts: its limits, and the breaker's."""
        found = self.limits_for(items, per)
        if per == "account" and self.breakers:
            meters = {item.meter for item in items}
            found += [ruled for ruled in self.breakers if ruled.limit.meters[0] in meters]
        return found

    def member_needed(self, items: Iterable[Item], member: str | None) -> bool:
        """Whether a member gate takes part. Raises MemberRequired where a matching limit needs a member not sent."""
        matching = self.limits_for(items, "member")
        if matching and member is None:
            raise MemberRequired(matching[0].limit.id)
        return bool(matching) or (member is not None and self.keeps_members())

    def keeps_members(self) -> bool:
        """Whether any member counter is kept (also one of an earlier plan: counters once kept are kept)."""
        return any(counter.key.per == "member" for counter in self.counters)

    def groups(self, items: Iterable[Item], per: str) -> tuple[Group, ...]:
        """What `items` take from one gate: merged by (meter, counters), in a canonical order."""
        merged: dict[tuple[int, tuple[int, ...]], Decimal] = {}
        jobs: set[int] = set()
        for item in items:
            slots = []
            for counter in self.counters:
                if counter.key.per != per or not counter.takes(item.meter, item.dimensions):
                    continue
                if counter.kind is None:
                    jobs.add(counter.slot)
                else:
                    slots.append(counter.slot)
            key = (self.row.meters.index(item.meter), tuple(slots))
            merged[key] = merged[key] + item.units if key in merged else item.units
        groups = [Group(meter, total, slots) for (meter, slots), total in sorted(merged.items())]
        if jobs:
            groups.append(Group(ONE_PER_RESERVATION, Decimal(1), tuple(sorted(jobs))))
        return tuple(groups)

    def check_width(self, items: Iterable[Item]) -> None:
        """Raises TooManyCounters where one write cannot count `items`."""
        if len(self.counters) > MOST_COUNTERS:
            items = list(items)
            for per in ("account", "member"):
                if len(by_slot(self.groups(items, per))) > MOST_COUNTERS:
                    raise TooManyCounters(MOST_COUNTERS)

    def window(self, counter: Counter, at: int) -> Window:
        """The calendar window of a counter at an epoch second. Not for `first_use` or `concurrent` counters."""
        assert counter.kind is not None
        return window_at(counter.kind, self.row.calendar, at)


def windowed_end(counter: Counter, start: int, calendar: Calendar) -> int | None:
    """The end of the window of `counter` that starts at `start`; None where it has none."""
    if counter.kind is None:
        return None
    if counter.kind.hours is not None:
        return first_use_window(start, counter.kind.hours).end
    return window_at(counter.kind, calendar, start).end


def by_slot(groups: Iterable[Group]) -> dict[int, Decimal]:
    """Units by counter slot."""
    totals: dict[int, Decimal] = {}
    for group in groups:
        for slot in group.slots:
            totals[slot] = totals[slot] + group.units if slot in totals else group.units
    return totals


def counter_key(limit: Limit) -> CounterKey:
    window = CONCURRENT if limit.window is None else limit.window.text
    return CounterKey(limit.per, tuple(sorted(limit.meters)), window, limit.where)


def hour_counter(meter: str) -> CounterKey:
    """What the breaker reads."""
    return CounterKey("account", (meter,), HOURLY.text, ())


def needed_counters(plan: Plan, levels: frozenset[str] = frozenset(), every: Iterable[str] = ()) -> list[CounterKey]:
    """The counters that a plan version reads, each once: those of its limits, and for each meter that it prices or
    limits the units of the billing period (what the usage answer shows, and what prices are counted on) and of the hour
    (for the breaker, whether it is on or not: turned on, it then needs no recount). `levels`: the meters that have a
    level; nothing of them is counted. `every`: all meters, where the plan takes those that it does not name, too."""
    priced = [price.meter for price in plan.prices if price.meter not in levels]
    metered = {*priced, *credited(plan)} | {meter for limit in plan.limits for meter in limit.meters}
    metered |= {meter for shared in plan.shared_limits for meter in shared.meters}
    totals = [CounterKey("account", (meter,), PERIOD.text, ()) for meter in sorted(metered - levels)]
    if any(limit.per == "member" for limit in plan.limits):
        totals += [CounterKey("member", (meter,), PERIOD.text, ()) for meter in sorted(metered - levels)]
    counted = [counter_key(limit) for limit in plan.limits if limit.amount is None and levels.isdisjoint(limit.meters)]
    hours = [hour_counter(meter) for meter in sorted(metered.union(every) - levels)]
    return list(dict.fromkeys([*counted, *totals, *hours]))


def period_rule(period: BillingPeriod, created_at: int, subscription_anchor: int | None = None) -> PeriodRule:
    """The billing periods that a plan means for an account created at `created_at` (epoch seconds). A subscription's
    anchor, once Stripe has told it, is that of every plan but those of the calendar: so Stripe reckons them."""
    if period.anchor == "calendar":
        return PeriodRule(period.interval)
    if subscription_anchor is not None:
        return PeriodRule(period.interval, 1, "subscription", subscription_anchor)
    return PeriodRule(period.interval, 1, period.anchor, created_at)


def with_needed(row: AccountRow, plan: Plan, meters: Mapping[str, Meter], now: int) -> AccountRow:
    """`row` with the counters and meters appended that its plan version needs, and that it does not keep yet."""
    kept = {key for key, _ in row.counters}
    needed = needed_counters(plan, level_meters(meters), meters if plan.unlimited else ())
    added = tuple((key, now) for key in needed if key not in kept)
    new_meters = tuple(sorted(set(meters) - set(row.meters)))
    return replace(row, counters=row.counters + added, meters=row.meters + new_meters)


def with_plan(row: AccountRow, plan: Plan, meters: Mapping[str, Meter], now: int) -> AccountRow:
    """`row` moved to a plan version at `now` (epoch seconds): its counters and meters are appended where the account
    does not keep them yet. Another rule of billing periods binds from the end of the period that contains `now`: a
    change that is to bind with the next period is made with the last second of this one."""
    return replace(
        with_needed(row, plan, meters, now),
        plan=plan.id,
        plan_version=plan.version,
        plan_since=now,
        # What was typical on another plan is no measure for this one.
        typical=None if row.typical is None else row.typical._replace(settled=()),
        calendar=row.calendar.moved(now, period=period_rule(plan.period, row.created_at, row.subscription_anchor)),
    )


def moved_on(row: AccountRow, plan: Plan, meters: Mapping[str, Meter]) -> AccountRow:
    """`row` once its next plan is due: `plan` is that version. Its billing periods begin with the new one."""
    assert row.next_plan is not None
    return with_plan(replace(row, next_plan=None), plan, meters, row.next_plan.at - 1)


def _ruled(limit: Limit, counter: Counter, maxima: Mapping[str, Decimal | None]) -> RuledLimit:
    if limit.id in maxima:
        return RuledLimit(limit, counter, maxima[limit.id], "operator")
    return RuledLimit(limit, counter, Decimal(limit.concurrent) if limit.concurrent else limit.max)


def _breakers(row: AccountRow, rule: BreakerRule, by_key: Mapping[CounterKey, Counter]) -> Iterable[RuledLimit]:
    """By meter the larger of `multiple` typical days and the floor (the limit's `max`), and what a grace lets through.
    There is none where nothing is known but what the plan gives, and the few days of a young account."""
    own = row.typical or Typical({})
    for meter in row.meters:
        counter, said, plans = by_key.get(hour_counter(meter)), rule.floors.get(meter), rule.typical.get(meter)
        settled = meter in own.settled
        if counter is None or (said is None and plans is None and not settled):
            continue
        floor = rule.had.get(meter, LEAST) if said is None else said
        days = [own.units.get(meter, ZERO)]
        if plans is not None and not (settled and (said is not None or meter in rule.had)):
            days.append(plans)
        most = max(floor, EXACT.multiply(rule.multiple, max(days)))
        grace = ZERO if row.grace is None else row.grace.maxima.get(meter, ZERO)
        limit = Limit(BREAKER, (meter,), "account", HOURLY, None, (), most)
        yield RuledLimit(limit, counter, max(most, grace), BREAKER)


def compile_rules(
    row: AccountRow,
    plan: Plan,
    meters: Mapping[str, Meter],
    breaker: BreakerRule | None = None,
    *,
    stopped: bool = False,
) -> Rules:
    """`breaker`: the one of the plan, None where it is off."""
    counters = tuple(
        Counter(slot, key, since, None if key.window == CONCURRENT else WindowKind.parse(key.window))
        for slot, (key, since) in enumerate(row.counters)
    )
    by_key = {counter.key: counter for counter in counters}
    said = overrides.read(row.overrides)
    plan = overrides.applied(said, plan)
    levels = level_meters(meters)
    counted = [limit for limit in plan.limits if limit.amount is None and levels.isdisjoint(limit.meters)]
    limits = tuple(_ruled(limit, by_key[counter_key(limit)], said.maxima) for limit in counted)
    of_levels = tuple(
        _ruled(limit, Counter(NO_SLOT, counter_key(limit), 0, LIFETIME), said.maxima)
        for limit in plan.limits
        if not levels.isdisjoint(limit.meters)
    )
    stops = () if breaker is None else tuple(_breakers(row, breaker, by_key))
    if levels.issuperset(price.meter for price in plan.prices) and not credited(plan):
        return Rules(row, plan, meters, counters, limits, None, None, of_levels, stops, stopped)
    from tollgate.accounts import terms  # with the first account that has prices: the gate starts without rating

    slots = {meter: slot for slot, meter in enumerate(row.meters)}
    controls = row.controls
    cap = terms.lowest_cap(plan, meters, {**said.caps, "customer": controls.hard_limit})
    account = terms.account_terms(plan, meters, slots, cap, terms.overage_stopped(plan, controls.block_overage))
    members = terms.member_terms(plan, meters, slots, overridden=said.amounts.keys())
    return Rules(row, plan, meters, counters, limits, account, members, of_levels, stops, stopped)
