"""One run: a world, processes with clocks and caches of their own, and the calls that actors make."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from tests.interleave.faults import RULES, faulty
from tests.interleave.violation import Violation
from tests.interleave.watch import Watch
from tests.support.gate import assert_consistent
from tests.support.memory import World
from tests.support.scheduler import EVERYTHING, Actor, Chooser, Scheduler
from tollgate.accounts.rules import Frozen, Item, Rules
from tollgate.catalog.model import Plan
from tollgate.errors import AlreadyCommitted, AlreadyReleased, IdempotencyMismatch, MemberRequired, UnknownGrant
from tollgate.gate.apply_rules import apply_rules
from tollgate.gate.commit import Commit, Committed, commit
from tollgate.gate.extend import extend
from tollgate.gate.grants import OUTLIVED_S, SETTLED_S, claw_back, give
from tollgate.gate.hold import expiry_of
from tollgate.gate.ports import GateDeps
from tollgate.gate.reclaim import reclaim
from tollgate.gate.record import Recorded, Reported, record
from tollgate.gate.recount import recount
from tollgate.gate.release import release
from tollgate.gate.reservation_id import Reservation
from tollgate.gate.reserve import Asked, Denied, Granted, reserve
from tollgate.gate.sweep import Swept, sweep_gate
from tollgate.gate.taking import expired_keys
from tollgate.ids import fingerprint, key_hash
from tollgate.usage.grant import FOREVER, GrantRow, Pending
from tollgate.usage.outcome import Event

ACCOUNT = "acme"
REFUSALS = (AlreadyCommitted, AlreadyReleased, IdempotencyMismatch, MemberRequired)
METER = "ai_credits"
CREDITS_S = 7_200
"""Credits that were given before end so much later, in seconds."""


def copy_of(world: World) -> World:
    """Another world in the same state. Gates, rows and rules are immutable, so the maps alone are copied."""
    return World(
        world.now_ms,
        world.meters,
        world.plan,
        dict(world.gates),
        dict(world.outcomes),
        dict(world.origins),
        {account: list(rows) for account, rows in world.grants.items()},
        dict(world.rows),
        dict(world.plans),
        world.compiled,
        breaker=world.breaker,
    )


def state_of(stage: Stage) -> object:
    """Equal for runs that ended alike: what comes after them need be looked at once."""
    world = stage.world
    gates = (
        (
            name,
            gate.rev,
            gate.recount,
            frozenset(gate.counts.items()),
            frozenset(gate.holds.items()),
            gate.money and (*gate.money[:2], frozenset(gate.money.paid.items()), *gate.money[3:]),
            frozenset(gate.grants.items()),
        )
        for name, gate in world.gates.items()
    )
    rows = (
        (
            at,
            isinstance(row, Event)
            and (row.recorded_ms, row.units, row.late, row.call, row.waived, row.items[0].credits),
            frozenset(row.incarnations.items()),
        )
        for at, row in world.outcomes.items()
    )
    grants = ((held.asked.key, tuple(hold.incarnation for hold in held.holds.values())) for held in stage.open)
    ledger = ((name, frozenset(units.items())) for name, units in stage.watch.granted.items())
    return (
        world.now_ms,
        frozenset(gates),
        frozenset(rows),
        frozenset(world.origins.items()),
        tuple(grants),
        frozenset(ledger),
        world.row(ACCOUNT).rev,
        len(stage.watch.rules),
        tuple(world.grants.get(ACCOUNT, ())),
    )


@dataclass(frozen=True, slots=True)
class Key:
    """A caller's idempotency key; `origin_ms` set: it is a UUIDv7."""

    name: str
    origin_ms: int | None = None


@dataclass
class Process:
    """Where an actor runs: its clock's error and its cached rules (None: nothing cached)."""

    skew_ms: int = 0
    rules: Rules | None = None


def reservation_of(granted: Granted) -> Reservation:
    asked = granted.asked
    holds = {per: hold.pack() for per, hold in granted.holds.items()}
    return Reservation(asked.account, asked.member, asked.key, holds, granted.floor_ms, tuple(granted.items))


def asked_for(
    key: Key, quantity: int, member: str | None, ttl: int, dimensions: dict[str, str], meter: str = METER
) -> Asked:
    return Asked(
        ACCOUNT,
        member,
        key_hash("reservation", key.name),
        key.origin_ms,
        fingerprint(f"{quantity} {member} {dimensions}".encode()),
        ttl,
        lambda rules: [rules.item(meter, Decimal(quantity), dimensions)],
    )


class Stage:
    """The world of one run and everything that callers were answered in it."""

    def __init__(
        self, world: World, chooser: Chooser, crashes: int = 0, faults: int = 0, late: bool = False, number: int = 1
    ) -> None:
        self.world = world
        self.actors: list[Actor] = []
        self.number = number
        """Of the first actor's process."""
        self.scheduler = Scheduler(self.actors, chooser, world.clock, crashes=crashes, faults=faults, late=late)
        self.watch = Watch(world, ACCOUNT, self.scheduler)
        self.committed: list[Committed] = []
        self.recorded: list[tuple[Reported, Recorded]] = []
        self.open: list[Granted] = []
        """Reservations granted in this run."""

    # -- actors ----------------------------------------------------------------------------------------------------

    def add(self, name: str, process: Process, body: Callable[[Caller], None]) -> None:
        cache = {} if process.rules is None else {ACCOUNT: process.rules}
        deps = faulty(self.world, self.scheduler, self.number + len(self.actors), process.skew_ms, cache)

        def run(actor: Actor) -> None:
            body(Caller(self, actor, deps))

        self.actors.append(Actor(name, run, process.skew_ms))

    def run(self) -> None:
        """Raises Violation, with the order of moves that led to it."""
        try:
            self.scheduler.run()
        except Exception as error:
            raise Violation(f"{type(error).__name__}: {error}\n{self.story()}") from error

    def story(self) -> str:
        return "\n".join(self.scheduler.log)


class Caller:
    """The calls of one actor. Each is what one HTTP request or one scheduled function does."""

    def __init__(self, stage: Stage, actor: Actor, deps: GateDeps) -> None:
        self.stage, self.actor, self.deps = stage, actor, deps

    def reserve(
        self,
        key: Key,
        quantity: int,
        member: str | None = None,
        ttl: int = 300,
        dimensions: dict[str, str] | None = None,
        meter: str = METER,
    ) -> Granted | Denied | None:
        self.actor.kind = "reserve"
        self.stage.watch.ask(key_hash("reservation", key.name), Decimal(quantity))
        try:
            found = reserve(self.deps, asked_for(key, quantity, member, ttl, dimensions or {}, meter))
        except REFUSALS:
            return None
        if isinstance(found, Granted):
            self.stage.open.append(found)
        return found

    def commit(self, held: Granted | Reservation, quantity: int | None = None) -> Committed | None:
        reservation = reservation_of(held) if isinstance(held, Granted) else held
        self.actor.kind = "commit"
        self._ask(reservation, quantity)

        def weigh(rules: Rules) -> Sequence[Item]:
            if quantity is None:
                return list(reservation.items)
            first = reservation.items[0]
            return [rules.item(first.meter, Decimal(quantity), first.dimensions)]

        done = commit(self.deps, Commit(reservation, weigh))
        self.stage.committed.append(done)
        return done

    def _ask(self, reservation: Reservation, quantity: int | None) -> None:
        most = reservation.items[0].quantity if quantity is None else Decimal(quantity)
        self.stage.watch.ask(reservation.key, most)

    def release(self, held: Granted | Reservation) -> None:
        self.actor.kind = "release"
        try:
            release(self.deps, reservation_of(held) if isinstance(held, Granted) else held)
        except REFUSALS:
            return

    def extend(self, held: Granted | Reservation, total: int | None, ttl: int | None) -> None:
        reservation = reservation_of(held) if isinstance(held, Granted) else held
        self.actor.kind = "extend"
        self._ask(reservation, total)
        expires_at = None if ttl is None else self.deps.clock() // 1000 + ttl

        def weigh(rules: Rules) -> Sequence[Item]:
            assert total is not None
            first = reservation.items[0]
            return [rules.item(first.meter, Decimal(total), first.dimensions)]

        try:
            extend(self.deps, reservation, expires_at, None if total is None else weigh)
        except REFUSALS:
            return

    def record(self, ids: Sequence[Key], quantity: int, member: str | None = None, meter: str = METER) -> None:
        self.actor.kind = "record"
        events = [
            Reported(
                key.name,
                key_hash("usage", key.name),
                key.origin_ms,
                fingerprint(f"{quantity} {member}".encode()),
                ACCOUNT,
                member,
                meter,
                Decimal(quantity),
                {},
            )
            for key in ids
        ]
        results = record(self.deps, events)
        self.stage.recorded += zip(events, results, strict=True)

    def sweep(self) -> None:
        """Every gate's expired holds end, and a recount that was broken off is finished."""
        self.actor.kind = "sweep"
        for subject in sorted(self.stage.world.gates):
            member = subject.partition("#")[2] or None
            gate = self.deps.gates.read(subject)
            if gate is not None and gate.rev < 0:
                recount(self.deps, self.deps.rules.fresh(ACCOUNT), subject, member)
                gate = self.deps.gates.read(subject)
            if gate is None:
                continue
            keys = expired_keys(gate, self.deps.clock() // 1000)
            if keys:
                reclaim(self.deps, self.deps.rules.get(ACCOUNT), gate, keys, member)

    def audit(self) -> None:
        """A recount of every gate: it must find nothing to change."""
        self.actor.kind = "audit"
        for subject in sorted(self.stage.world.gates):
            member = subject.partition("#")[2] or None
            recount(self.deps, self.deps.rules.get(ACCOUNT), subject, member)

    def give(self, units: int, source_id: str, ends: int = FOREVER) -> None:
        """Credits are bought, as `POST /v1/accounts/{id}/credits` gives them."""
        self.actor.kind = "give"
        row = GrantRow(ACCOUNT, 0, METER, Decimal(units), "shop", source_id, 50, 0, ends, self.deps.clock())
        found, _ = give(self.deps, self.deps.rules.get(ACCOUNT), row)
        if found.number not in self.stage.watch.money.given:
            raise Violation(f"{source_id} was answered as given, and never was on the gate")

    def claw_back(self, of: str, units: int, source_id: str) -> None:
        """A refund takes credits back."""
        self.actor.kind = "claw back"
        wanted = Pending("shop", source_id, Decimal(units), Decimal(0), self.deps.clock())
        try:
            _, done = claw_back(self.deps, self.deps.rules.get(ACCOUNT), METER, ("shop", of), wanted)
        except UnknownGrant:
            return
        if not 0 <= done.taken <= units:
            raise Violation(f"{done.taken} of {units} were clawed back")

    def tidy(self) -> None:
        """The sweep of the account's gate with its audit: lost grants onto it, ended ones off, nothing to repair."""
        self.actor.kind = "sweep"
        gate = self.deps.gates.read(ACCOUNT)
        if gate is None:
            return
        swept = Swept()
        sweep_gate(self.deps, gate, swept, audit=True)
        if swept.repaired:
            raise Violation(f"an audit repaired {swept.repaired}")

    def change_rules(self, plan: Plan | None, frozen: bool = False) -> None:
        """A change of plan, or a freeze, as the accounts service makes it: the rules row, then the gate."""
        self.actor.kind = "rules"
        world = self.stage.world
        self.stage.scheduler.pause("writes the rules row", ((RULES, True),))
        if plan is not None:
            world.move_to(ACCOUNT, plan)
        else:
            row = world.row(ACCOUNT)
            world.rows[ACCOUNT] = replace(
                row, rev=row.rev + 1, frozen=Frozen("unpaid", world.now_ms // 1000) if frozen else None
            )
        self.stage.watch.see_rules()
        rules = self.deps.rules.fresh(ACCOUNT)
        apply_rules(self.deps, rules)
        gate = world.gates.get(ACCOUNT)
        if gate is None or abs(gate.rev) < rules.rev:
            raise Violation(f"revision {rules.rev} was answered before the gate had it")
        self.stage.watch.applied_rev = max(self.stage.watch.applied_rev, rules.rev)

    def pass_time(self, ms: int) -> None:
        """Time passes for everybody."""
        self.stage.scheduler.pause(f"lets {ms / 1000:g} s pass", EVERYTHING)
        self.stage.world.now_ms += ms


# -- after the run -------------------------------------------------------------------------------------------------


def bring_to_rest(stage: Stage, ending: str) -> None:
    """What happens after the actors, in a copy of the world: `swept`: nothing but time; `committed`: every granted
    reservation is committed; `late`: they are committed after expiry and sweep; `released`: they are released.
    Then all holds expire and are swept, and the checks of a world at rest are made."""
    world = copy_of(stage.world)
    last = Stage(world, stage.scheduler.chooser)
    last.watch.rules, last.watch.granted = dict(stage.watch.rules), {k: dict(v) for k, v in stage.watch.granted.items()}
    last.watch.windows, last.watch.asked = dict(stage.watch.windows), dict(stage.watch.asked)
    last.watch.applied_rev = stage.watch.applied_rev
    last.watch.money = stage.watch.money.copy_for(world, last.watch.rules)
    last.committed, last.recorded = list(stage.committed), list(stage.recorded)
    actor = Actor("end", lambda actor: None)
    last.scheduler.moving, actor.planned_ms = actor, world.now_ms
    caller = Caller(last, actor, faulty(world, last.scheduler, 255, 0, {}))
    try:
        if ending == "committed":
            for granted in stage.open:
                caller.commit(granted)
        elif ending == "released":
            for granted in stage.open:
                caller.release(granted)
        _expire_all(caller)
        if ending == "late":
            for granted in stage.open:
                caller.commit(granted)
            _expire_all(caller)
        last.watch.at_rest()
        assert_consistent(world, ACCOUNT)
        gate = world.gates.get(ACCOUNT)
        if gate is not None and gate.grants:
            _end_credits(caller)
        each_answer_has_its_event(last)
    except Exception as error:
        raise Violation(f"{type(error).__name__}: {error}\n{stage.story()}\n({ending})") from error


def _expire_all(caller: Caller) -> None:
    world = caller.stage.world
    for _ in range(4):
        expiries = [expiry_of(raw) for gate in world.gates.values() for raw in gate.holds.values()]
        frozen = any(gate.rev < 0 for gate in world.gates.values())
        if not expiries and not frozen:
            return
        world.now_ms = max([world.now_ms, *(expiry * 1000 for expiry in expiries)])
        caller.actor.planned_ms = world.now_ms
        caller.sweep()


def _end_credits(caller: Caller) -> None:
    """All that was bought ends and goes off the gate; what the rows say of it still adds up."""
    for seconds in (CREDITS_S + SETTLED_S, OUTLIVED_S):
        caller.stage.world.now_ms += seconds * 1000
        caller.actor.planned_ms = caller.stage.world.now_ms
        caller.tidy()
    caller.stage.watch.money.at_rest(caller.stage.world.events(ACCOUNT))


def each_answer_has_its_event(stage: Stage) -> None:
    """Raises Violation where a commit or a usage event was answered as new and its row does not stand."""
    new = [done.event for done in stage.committed if not done.duplicate]
    for event in new:
        stands = stage.world.outcomes.get((event.at.account, event.at.origin_ms, event.at.key))
        if stands != event:
            raise Violation(f"a commit was answered with {event}, but {stands} stands")
    if len({event.at.key for event in new}) != len(new):
        raise Violation(f"a key was answered as newly committed twice: {new}")
    for sent, result in stage.recorded:
        if result.status == "recorded" and not any(row.at.key == sent.key for row in stage.world.events(ACCOUNT)):
            raise Violation(f"{sent} was answered as recorded, but has no row")
