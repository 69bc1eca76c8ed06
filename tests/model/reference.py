"""The reference: what the gate must answer, worked out from events and open holds by plain loops.

Nothing here is shared with the gate: no counters are kept. What is used is the sum of the events of a window, what is
held is the sum of the open holds. Of the product it uses `windows.window_at`, `catalog.model.units` and the pattern
match of conditions, which have tests of their own. Times are epoch milliseconds or seconds of the calling process.

The product's own choices that the design leaves open are written here as rules: the narrow gate decides first; of all
limits that do not fit, the one that resets last refuses; a counter that rules need for the first time starts from the
events of its window, and open holds are taken to match its `where`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Final, NamedTuple

from tests.model.shapes import Asked, Body
from tollgate.catalog.model import Condition, Limit, Meter, Plan, matches, units
from tollgate.windows import HOURLY, PERIOD, Calendar, WindowKind, window_at

ZERO: Final = Decimal(0)
NEVER: Final = 1 << 40
UNKNOWN_S: Final = 900
"""For so long after a change, usage may have been recorded by processes that did not know of it."""
SKEW_S: Final = 5
"""A first use that is over for one process may not be for another: so much longer it is looked for."""
LINGER_S: Final = 120
FORCED_S: Final = 300
RECLAIM_AT_ONCE: Final = 25
JOBS: Final = "concurrent"


class Counter(NamedTuple):
    """Identity of a counter inside one account."""

    per: str
    meters: tuple[str, ...]
    window: str
    where: Condition

    @property
    def kind(self) -> WindowKind | None:
        return None if self.window == JOBS else _kind(self.window)

    def takes(self, used: Used) -> bool:
        return (not self.meters or used.meter in self.meters) and matches(self.where, used.dims)


_KINDS: dict[str, WindowKind] = {}


def _kind(text: str) -> WindowKind:
    if text not in _KINDS:
        _KINDS[text] = WindowKind.parse(text)
    return _KINDS[text]


def counter_of(limit: Limit) -> Counter:
    window = JOBS if limit.window is None else limit.window.text
    return Counter(limit.per, tuple(sorted(limit.meters)), window, limit.where)


def maximum_of(limit: Limit) -> Decimal:
    if limit.concurrent is not None:
        return Decimal(limit.concurrent)
    assert limit.max is not None
    return limit.max


class Used(NamedTuple):
    """One measured thing and what its meter counts."""

    meter: str
    units: Decimal
    dims: Mapping[str, str]


@dataclass(frozen=True)
class Binding:
    """What binds an account under one revision."""

    plan: Plan
    meters: Mapping[str, Meter]
    calendar: Calendar
    frozen: str | None
    kept: Mapping[Counter, int]
    """Counters that the account keeps, and since when."""

    def weigh(self, body: Body) -> list[Used]:
        return [
            Used(one.meter, units(self.meters[one.meter], Decimal(one.quantity), one.dims), one.dims) for one in body
        ]

    def covers(self, meter: str) -> bool:
        return self.plan.unlimited or any(meter in limit.meters for limit in self.plan.limits)

    def limits_for(self, items: Sequence[Used], per: str) -> list[Limit]:
        return [
            limit
            for limit in self.plan.limits
            if limit.per == per and any(counter_of(limit).takes(item) for item in items)
        ]

    def on_counters(self, items: Sequence[Used], per: str, *, jobs: bool) -> dict[Counter, Decimal]:
        """What items take from each counter of one gate; one from each `concurrent` counter, where `jobs`."""
        found: dict[Counter, Decimal] = {}
        for counter in self.kept:
            if counter.per != per:
                continue
            taken = [item.units for item in items if counter.takes(item)]
            if taken and counter.kind is not None:
                found[counter] = sum(taken, ZERO)
            elif taken and jobs:
                found[counter] = Decimal(1)
        return found


def needed(plan: Plan, meters: Iterable[str]) -> list[Counter]:
    """The counters of a plan's limits, and each metered meter's units of the billing period, of members where they are
    limited; and for the circuit breaker its units of the hour, of all `meters` where the plan takes any."""
    metered = sorted({meter for limit in plan.limits for meter in limit.meters})
    totals = [Counter("account", (meter,), PERIOD.text, ()) for meter in metered]
    if any(limit.per == "member" for limit in plan.limits):
        totals += [Counter("member", (meter,), PERIOD.text, ()) for meter in metered]
    every = sorted({*metered, *(meters if plan.unlimited else ())})
    hours = [Counter("account", (meter,), HOURLY.text, ()) for meter in every]
    return list(dict.fromkeys([*(counter_of(limit) for limit in plan.limits), *totals, *hours]))


@dataclass
class Hold:
    """An open hold. `inc`: its incarnation as the product names it (an opaque, ordered token); b"" until adopted."""

    key: str
    inc: bytes
    expires_at: int
    body: bytes
    units: dict[Counter, Decimal]
    by_meter: dict[str, Decimal]
    made: int
    """Epoch second of the reserve that made it; a renewal keeps it."""


@dataclass
class GateState:
    """One subject. `windows`: for each counter in use, the start of the latest window that anything entered."""

    member: str | None
    holds: dict[str, Hold] = field(default_factory=dict)
    windows: dict[Counter, int] = field(default_factory=dict)
    begun: set[Counter] = field(default_factory=set)
    """Counters that the product's gate was seen to keep."""
    beginning: set[Counter] = field(default_factory=set)
    """Counters that it began to keep in the step that is being compared."""
    recounting: bool = False
    """A recount was broken off: whoever comes next finishes it, and begins every counter."""

    @property
    def per(self) -> str:
        return "account" if self.member is None else "member"

    def held(self, counter: Counter) -> Decimal:
        return sum((hold.units.get(counter, ZERO) for hold in self.holds.values()), ZERO)

    def expired(self, now: int) -> list[Hold]:
        found = [hold for hold in self.holds.values() if hold.expires_at <= now]
        return sorted(found, key=lambda hold: (hold.expires_at, hold.key))


@dataclass
class Recorded:
    """A usage event. `incs`: the holds it became of, by subject kind."""

    key: str
    member: str | None
    items: tuple[Used, ...]
    at: int
    """Epoch seconds."""
    incs: dict[str, bytes]
    body: bytes
    version: int
    commit_key: str | None = None
    late: bool = False
    over_reserved: bool = False
    _units: dict[Counter, Decimal] = field(default_factory=dict)

    @property
    def units(self) -> Decimal:
        return sum((item.units for item in self.items), ZERO)

    def on(self, counter: Counter) -> Decimal:
        if counter not in self._units:
            self._units[counter] = sum((item.units for item in self.items if counter.takes(item)), ZERO)
        return self._units[counter]


@dataclass
class Voided:
    """A high-water mark: holds of these incarnations and older ones are void."""

    incs: dict[str, bytes]
    why: str
    release_key: str | None = None

    def blocks(self, incs: Mapping[str, bytes]) -> bool:
        return any(per in self.incs and self.incs[per] >= inc for per, inc in incs.items())


class Shown(NamedTuple):
    """A limit as an answer shows it."""

    id: str
    member: str | None
    start: int | None
    resets_at: int | None
    used: Decimal
    held: Decimal
    maximum: Decimal


class Refused(NamedTuple):
    """`limit` None: no limit refuses, `code` says what does."""

    code: str
    limit: str | None
    requested: Decimal
    remaining: Decimal
    resets_at: int | None
    shown: tuple[Shown, ...]


class Failed(NamedTuple):
    """A problem answer."""

    code: str


@dataclass(frozen=True)
class Ticket:
    """What a granted reservation's id says: everything that later calls need."""

    account: str
    member: str | None
    key: str
    incs: dict[str, bytes]
    units: dict[str, dict[Counter, Decimal]]
    by_meter: dict[str, Decimal]
    floor: int
    digest: bytes
    body: Body
    items: tuple[Used, ...]


class Grant(NamedTuple):
    holds: dict[str, Hold]
    """By subject kind, as they stand."""
    floor: int
    shown: tuple[Shown, ...]
    items: tuple[Used, ...]


class Block(NamedTuple):
    """Why a gate does not take it. `limit` None: too many open holds."""

    limit: Limit | None
    requested: Decimal
    remaining: Decimal


def named_by(hold: Hold, counter: Counter) -> Decimal:
    """What a counter that begins after a hold takes from it: a `where` is taken to match."""
    return sum((hold.by_meter[meter] for meter in hold.by_meter if not counter.meters or meter in counter.meters), ZERO)


def by_meter(items: Iterable[Used]) -> dict[str, Decimal]:
    found: dict[str, Decimal] = {}
    for item in items:
        found[item.meter] = found.get(item.meter, ZERO) + item.units
    return found


def shrinks(hold: Hold, wanted: Mapping[Counter, Decimal]) -> bool:
    """Whether a dead hold would lose units by a renewal for `wanted`."""
    return any(units > wanted.get(counter, ZERO) for counter, units in hold.units.items())


class Account:
    """One account: its rules by revision, gates, outcomes and usage."""

    def __init__(self, name: str, first: Binding, max_holds: int) -> None:
        self.name, self.max_holds = name, max_holds
        self.bindings = [first]
        self.gates: dict[str | None, GateState] = {}
        self.outcomes: dict[str, Recorded | Voided] = {}
        self.usage: dict[str, Recorded] = {}
        self.known = 1
        """The revision that the process now acting knows: on a member's gate it may get by with that."""

    @property
    def rev(self) -> int:
        return len(self.bindings)

    @property
    def now_bound(self) -> Binding:
        return self.bindings[-1]

    def bound(self, rev: int) -> Binding:
        return self.bindings[rev - 1]

    def gate(self, member: str | None) -> GateState:
        return self.gates.setdefault(member, GateState(member))

    def events(self) -> Iterator[Recorded]:
        for outcome in self.outcomes.values():
            if isinstance(outcome, Recorded):
                yield outcome
        yield from self.usage.values()

    # -- what is used and held -------------------------------------------------------------------------------------

    def counted(self, gate: GateState, counter: Counter) -> list[Recorded]:
        """The events that a counter counts, in any window; those whose own hold is open are held, not used."""
        found = []
        for event in self.events():
            if (gate.member is not None and event.member != gate.member) or not event.on(counter):
                continue
            hold = gate.holds.get(event.key)
            if hold is None or hold.inc != event.incs.get(gate.per):
                found.append(event)
        return found

    def end_of(self, counter: Counter, start: int, calendar: Calendar) -> int | None:
        kind = counter.kind
        assert kind is not None
        return start + kind.hours * 3600 if kind.hours is not None else window_at(kind, calendar, start).end

    def used_in(self, gate: GateState, counter: Counter, start: int, calendar: Calendar) -> Decimal:
        if counter.kind is None:
            return ZERO
        end = self.end_of(counter, start, calendar)
        return sum(
            (
                event.on(counter)
                for event in self.counted(gate, counter)
                if start <= event.at and (end is None or event.at < end)
            ),
            ZERO,
        )

    def view(
        self, gate: GateState, counter: Counter, now: int, bound: Binding
    ) -> tuple[int | None, int | None, Decimal]:
        """(start, end, used) of the window that is current at `now`."""
        kind = counter.kind
        if kind is None:
            return None, None, ZERO
        start = gate.windows.get(counter)
        if start is not None:
            end = self.end_of(counter, start, bound.calendar)
            if end is None or end > now:
                return start, end, self.used_in(gate, counter, start, bound.calendar)
        if kind.hours is not None:
            return None, None, ZERO
        window = window_at(kind, bound.calendar, now)
        return window.start, window.end, self.used_in(gate, counter, window.start, bound.calendar)

    def taken(self, gate: GateState, counter: Counter, now: int) -> Decimal:
        return self.view(gate, counter, now, self.now_bound)[2] + gate.held(counter)

    def show(self, bound: Binding, gate: GateState, items: Sequence[Used], now: int) -> tuple[Shown, ...]:
        found = []
        for limit in bound.limits_for(items, gate.per):
            counter = counter_of(limit)
            start, end, used = self.view(gate, counter, now, bound)
            found.append(Shown(limit.id, gate.member, start, end, used, gate.held(counter), maximum_of(limit)))
        return tuple(found)

    # -- windows and seeding ---------------------------------------------------------------------------------------

    def enter(self, gate: GateState, counters: Iterable[Counter], at: int) -> None:
        """Something is counted on counters at epoch second `at`. Windows only move forward."""
        for counter in counters:
            kind, before = counter.kind, gate.windows.get(counter)
            if kind is None:
                gate.windows[counter] = 0
            elif kind.hours is not None:
                if before is None or before + kind.hours * 3600 <= at:
                    gate.windows[counter] = at
            else:
                start = window_at(kind, self.now_bound.calendar, at).start
                gate.windows[counter] = start if before is None else max(before, start)

    def seed_where_needed(self, gate: GateState, counters: Iterable[Counter], now: int) -> None:
        """A counter needed for the first time in mid-window: from here on it is kept, with what happened before."""
        if gate.recounting or any(self._unseeded(gate, counter, now) for counter in counters):
            gate.recounting = False
            self.seed(gate, now)

    def _unseeded(self, gate: GateState, counter: Counter, now: int) -> bool:
        since = self.now_bound.kept[counter]
        if since == 0 or counter in gate.windows:
            return False
        if gate.holds:
            return True
        kind = counter.kind
        if kind is None:
            return False
        start = (
            now - kind.hours * 3600 if kind.hours is not None else window_at(kind, self.now_bound.calendar, now).start
        )
        return since + UNKNOWN_S > start

    def seed(self, gate: GateState, now: int, only: Collection[Counter] | None = None) -> None:
        """Every counter of the gate that is not in use yet begins now (or `only` these)."""
        fresh = [c for c in self.now_bound.kept if c.per == gate.per and c not in gate.windows]
        fresh = fresh if only is None else [c for c in fresh if c in only]
        for hold in gate.holds.values():
            for counter in fresh:
                since = self.now_bound.kept[counter]
                if since == 0 or hold.made >= since + UNKNOWN_S:
                    continue  # it was there when the hold was made, which names it where it takes from it
                if counter.kind is None:
                    hold.units[counter] = Decimal(1)
                    continue
                named = named_by(hold, counter)
                if named:
                    hold.units[counter] = named
        for counter in fresh:
            gate.windows[counter] = self._seeded_start(gate, counter, now)

    def _seeded_start(self, gate: GateState, counter: Counter, now: int) -> int:
        kind = counter.kind
        if kind is None:
            return 0
        times = [event.at for event in self.counted(gate, counter)]
        if kind.hours is not None:
            times += [hold.made for hold in gate.holds.values() if hold.units.get(counter)]
            recent = sorted(at for at in times if at > now - SKEW_S - kind.hours * 3600)
            start = recent[0] if recent else 0
            for at in recent:
                start = at if at >= start + kind.hours * 3600 else start
            return start
        return window_at(kind, self.now_bound.calendar, max([now, *times])).start

    # -- ending holds ----------------------------------------------------------------------------------------------

    def settle(self, gate: GateState, event: Recorded, now: int) -> None:
        """The event's own hold on this gate is no more; the event counts in the window of its time."""
        bound = self.now_bound if gate.member is None else self.bound(self.known)
        on = [c for c in self.now_bound.kept if c.per == gate.per and c.kind is not None and event.on(c)]
        on = [counter for counter in on if counter in bound.kept or counter in gate.windows]
        if not on and event.key not in gate.holds:
            return
        self.seed_where_needed(gate, on, now)
        gate.holds.pop(event.key, None)
        self.enter(gate, on, event.at)

    def void(
        self, key: str, incs: Mapping[str, bytes], why: str, release_key: str | None = None
    ) -> Recorded | Voided | None:
        """Put a void, or raise the one there. Returns what stood there where that stays."""
        there = self.outcomes.get(key)
        if isinstance(there, Recorded):
            return there
        if there is None:
            self.outcomes[key] = Voided(dict(incs), why, release_key)
            return None
        newer = {per: inc for per, inc in incs.items() if there.incs.get(per, b"") < inc}
        if not newer:
            return there
        self.outcomes[key] = Voided({**there.incs, **newer}, why, release_key)
        return None

    def reclaim(self, gate: GateState, hold: Hold, now: int) -> None:
        """An expired hold ends: what it became, or void."""
        there = self.void(hold.key, {gate.per: hold.inc}, "expired")
        if isinstance(there, Recorded) and there.incs.get(gate.per) == hold.inc:
            self.settle(gate, there, now)
        else:
            del gate.holds[hold.key]

    # -- reserve ---------------------------------------------------------------------------------------------------

    def reserve(
        self, now_ms: int, member: str | None, key: str, body_digest: bytes, body: Body, ttl: int
    ) -> Grant | Refused | Failed:
        now, bound = now_ms // 1000, self.now_bound
        items = bound.weigh(body)
        if bound.limits_for(items, "member") and member is None:
            return Failed("member_required")
        gates = [self.gate(None)]
        if member is not None and bound.on_counters(items, "member", jobs=True):
            gates = [self.gate(member), self.gate(None)]
        outside = "frozen" if bound.frozen is not None else None
        if outside is None and not all(bound.covers(item.meter) for item in items):
            outside = "not_in_plan"
        if outside is not None:
            again = self._open_everywhere(gates, key, body_digest, items, now)
            if isinstance(again, Failed):
                return again
            if again:
                return self._grant(gates, key, items, now)
            return Refused(outside, None, sum((item.units for item in items), ZERO), ZERO, None, ())
        created: dict[str, bool] = {}
        for gate in gates:
            hold = gate.holds.get(key)
            if hold is not None and hold.body != body_digest:
                self._drop_narrow(gates, gate, key, created)
                return Failed("idempotency_mismatch")
            wanted = bound.on_counters(items, gate.per, jobs=True)
            self.seed_where_needed(gate, wanted, now)
            if hold is not None and hold.expires_at > now:
                if gate.per == "member":
                    again = self._open_everywhere(gates, key, body_digest, items, now)
                    if isinstance(again, Failed):
                        return again
                    if again:
                        return self._grant(gates, key, items, now)
                    created["member"] = False
                    block = self._over(gate, hold, items, wanted, now)
                    if block is not None:
                        self._drop_narrow(gates, self.gate(None), key, created)
                        return self._refused(gate, block, items, now)
                continue
            if hold is not None and shrinks(hold, wanted):
                # It was extended or grown meanwhile: what became of it is settled first.
                self.reclaim(gate, hold, now)
                hold = None
            block = self.fit(gate, key, wanted, hold.units if hold else {}, bound.limits_for(items, gate.per), now)
            if block is not None:
                self._drop_narrow(gates, gate, key, created)
                return self._refused(gate, block, items, now)
            created[gate.per] = hold is None
            inc, made = (b"", now) if hold is None else (hold.inc, hold.made)
            gate.holds[key] = Hold(key, inc, now + ttl, body_digest, dict(wanted), by_meter(items), made)
            self.enter(gate, wanted, now)
        return self._grant(gates, key, items, now)

    def _open_everywhere(
        self, gates: Sequence[GateState], key: str, body: bytes, items: Sequence[Used], now: int
    ) -> bool | Failed:
        for gate in reversed(gates):
            limits = self.now_bound.limits_for(items, gate.per)
            self.seed_where_needed(gate, [counter_of(limit) for limit in limits], now)
            hold = gate.holds.get(key)
            if hold is None or hold.expires_at <= now:
                return False
            if hold.body != body:
                return Failed("idempotency_mismatch")
        return True

    def fit(
        self,
        gate: GateState,
        key: str,
        more: Mapping[Counter, Decimal],
        instead: Mapping[Counter, Decimal],
        limits: Sequence[Limit],
        now: int,
    ) -> Block | None:
        """Whether `more` fits every limit once `instead` is gone; expired holds in the way are reclaimed."""
        while True:
            if key not in gate.holds and len(gate.holds) >= self.max_holds:
                in_way = gate.expired(now)
                block = Block(None, Decimal(1), ZERO)
            else:
                worst: tuple[int, Block, Counter] | None = None
                for limit in limits:
                    counter, most = counter_of(limit), maximum_of(limit)
                    asked = more.get(counter, ZERO)
                    taken = self.taken(gate, counter, now) - instead.get(counter, ZERO)
                    if taken + asked <= most:
                        continue
                    end = self.view(gate, counter, now, self.now_bound)[1]
                    resets = NEVER if end is None else end
                    if worst is None or resets > worst[0]:
                        worst = (resets, Block(limit, asked, max(most - taken, ZERO)), counter)
                if worst is None:
                    return None
                block = worst[1]
                in_way = [h for h in gate.expired(now) if h.key != key and h.units.get(worst[2], ZERO) > 0]
            if not in_way:
                return block
            for hold in in_way[:RECLAIM_AT_ONCE]:
                self.reclaim(gate, hold, now)

    def _over(
        self, gate: GateState, hold: Hold, items: Sequence[Used], wanted: Mapping[Counter, Decimal], now: int
    ) -> Block | None:
        """A hold that an unfinished try left here stands only if the gate is within its limits with it."""
        worst: tuple[int, Block] | None = None
        for limit in self.now_bound.limits_for(items, "member"):
            counter, most = counter_of(limit), maximum_of(limit)
            taken = self.taken(gate, counter, now)
            if taken <= most:
                continue
            own = hold.units.get(counter, ZERO)
            end = self.view(gate, counter, now, self.now_bound)[1]
            resets = NEVER if end is None else end
            if worst is None or resets > worst[0]:
                worst = (resets, Block(limit, wanted.get(counter, ZERO), max(most - (taken - own), ZERO)))
        return None if worst is None else worst[1]

    def _drop_narrow(self, gates: Sequence[GateState], at: GateState, key: str, created: Mapping[str, bool]) -> None:
        """The wider gate refused: the own narrow hold goes back."""
        if at.per != "account" or "member" not in created:
            return
        narrow = gates[0]
        hold = narrow.holds[key]
        if not created["member"] and isinstance(self.void(key, {"member": hold.inc}, "refused"), Recorded):
            return
        del narrow.holds[key]

    def _refused(self, gate: GateState, block: Block, items: Sequence[Used], now: int) -> Refused:
        shown = self.show(self.now_bound, gate, items, now)
        if block.limit is None:
            return Refused("too_many_open", None, block.requested, block.remaining, None, shown)
        resets_at = next(one.resets_at for one in shown if one.id == block.limit.id)
        if block.limit.concurrent is not None:
            resets_at = min((hold.expires_at for hold in gate.holds.values()), default=None)
        return Refused("limit_reached", block.limit.id, block.requested, block.remaining, resets_at, shown)

    def _grant(self, gates: Sequence[GateState], key: str, items: Sequence[Used], now: int) -> Grant:
        shown: list[Shown] = []
        floor = 0
        for gate in gates:
            shown += self.show(self.now_bound, gate, items, now)
            for counter in gate.holds[key].units:
                floor = max(floor, gate.windows.get(counter, 0))
        holds = {gate.per: gate.holds[key] for gate in gates}
        return Grant(holds, floor, tuple(shown), tuple(items))

    # -- commit, release, extend -----------------------------------------------------------------------------------

    def own(self, ticket: Ticket, per: str) -> Hold | None:
        gate = self.gate(None if per == "account" else ticket.member)
        hold = gate.holds.get(ticket.key)
        return hold if hold is not None and per in ticket.incs and hold.inc == ticket.incs[per] else None

    def subjects(self, ticket: Ticket) -> list[GateState]:
        return [self.gate(None if per == "account" else ticket.member) for per in sorted(ticket.incs)]


def with_plan(bound: Binding, plan: Plan, meters: Mapping[str, Meter], now: int) -> Binding:
    kept = dict(bound.kept)
    for counter in needed(plan, meters):
        kept.setdefault(counter, now)
    return replace(bound, plan=plan, meters=meters, kept=kept)


__all__ = ["Account", "Asked", "Binding", "Failed", "Grant", "Hold", "Recorded", "Refused", "Shown", "Ticket", "Used"]
