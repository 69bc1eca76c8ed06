"""Random triples: three actors of one to three calls each, on prepared worlds, in a random order, with clocks that
disagree, cached rules, time that passes, crashes, and writes that get lost, come late or twice. Each from one seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from random import Random

from tests.interleave.stage import (
    ACCOUNT,
    Caller,
    Key,
    Process,
    Stage,
    bring_to_rest,
    copy_of,
    each_answer_has_its_event,
)
from tests.interleave.worlds import MIDNIGHT, on_stage
from tests.support.gate import CREDITS, concurrent, limit, plan
from tests.support.memory import World
from tests.support.scheduler import Dice
from tollgate.accounts.rules import Rules
from tollgate.catalog.model import Plan
from tollgate.gate.reserve import Granted
from tollgate.windows import DAY, HOURLY, WindowKind

ENDINGS = ("swept", "committed", "late", "released")
PREMIUM = {"model": "premium"}
MEMBERS = ("alice", "bob")

PLANS: tuple[Plan, ...] = tuple(
    plan(*limits, version=version)
    for version, limits in enumerate(
        (
            (limit("daily", 10),),
            (limit("daily", 6),),
            (limit("daily", 10), limit("own", 6, per="member")),
            (limit("daily", 9), limit("own", 4, per="member")),
            (limit("daily", 10), limit("hourly", 8, HOURLY), limit("jobs", 2)),
            (limit("daily", 12), concurrent("jobs", 2), concurrent("seats", 1, per="member")),
            (limit("burst", 9, WindowKind.first_use(5)), limit("daily", 10, DAY)),
            (
                limit("daily", 10),
                limit("premium", 4, where=PREMIUM),
                limit("own premium", 3, per="member", where=PREMIUM),
            ),
            (limit("ever", 14, WindowKind("lifetime")), limit("own", 5, WindowKind.first_use(1), per="member")),
        ),
        start=1,
    )
)
STARTS = (MIDNIGHT - 43_180_000, MIDNIGHT - 43_180_000, MIDNIGHT - 100_000, MIDNIGHT - 1_000, MIDNIGHT + 500)


@dataclass(frozen=True, slots=True)
class Ground:
    """A prepared world with open, ended and expired reservations; `history`: its rules by revision."""

    world: World
    history: tuple[Rules, ...]
    held: tuple[Granted, ...]
    asked: tuple[tuple[Key, int, str | None, bool], ...]


GROUNDS = 240
"""How many prepared worlds there are."""


@lru_cache(maxsize=GROUNDS)
def ground(seed: int) -> Ground:
    random = Random(f"ground {seed}")
    start = random.choice(STARTS)
    first = random.choice(PLANS)
    world = World(start, {CREDITS.id: CREDITS}, first)
    history = [world.rules(ACCOUNT)]
    asked = []
    for at in range(random.randrange(4)):
        key = Key(f"k{at}", random.choice((None, start - at)))
        asked.append((key, random.randrange(1, 5), random.choice((None, *MEMBERS)), random.random() < 0.3))

    def prepare(caller: Caller) -> None:
        for key, quantity, member, premium in asked:
            caller.reserve(key, quantity, member, random.choice((60, 300)), PREMIUM if premium else None)
        for granted in list(caller.stage.open):
            fate = random.random()
            if fate < 0.15:
                caller.commit(granted)
            elif fate < 0.3:
                caller.release(granted)
        if random.random() < 0.2:
            caller.pass_time(random.choice((61_000, 301_000)))
            if random.random() < 0.5:
                caller.sweep()
        if random.random() < 0.3:
            caller.change_rules(random.choice(PLANS))
            history.append(world.rules(ACCOUNT))

    stage = on_stage(world, prepare)
    return Ground(copy_of(world), tuple(history), tuple(stage.open), tuple(asked))


Call = Callable[[Caller], None]


def _calls(random: Random, on: Ground, number: int) -> list[Call]:
    """The calls of one actor, one after the other."""
    kind = random.choice(KINDS)
    if kind == "client":
        return [_client(random, on, number)]
    if kind == "on held" and on.held:
        held = random.choice(on.held)
        return [_on_held(random, held) for _ in range(random.choice((1, 1, 2)))]
    if kind == "record":
        names = [random.randrange(3) for _ in range(random.choice((1, 2)))]
        keys = [Key(f"u{name}", on.world.now_ms if name else None) for name in names]
        quantity, member = random.randrange(1, 6), random.choice((None, *MEMBERS))
        return [lambda caller: caller.record(keys, quantity, member)]
    if kind == "sweep":
        return [_pass(random.choice((1_000, 61_000, 301_000))), lambda caller: caller.sweep()]
    if kind == "rules":
        if random.random() < 0.2:
            return [lambda caller: caller.change_rules(None, frozen=True)]
        to = random.choice(PLANS)
        return [lambda caller: caller.change_rules(to)]
    if kind == "audit":
        return [lambda caller: caller.audit()]
    if kind == "time":
        return [_pass(random.choice((1_000, 2_000, 61_000, 101_000, 301_000)))]
    return [_client(random, on, number)]


KINDS = ("client",) * 6 + ("on held",) * 6 + ("record", "sweep", "sweep", "rules", "audit", "time", "time")


def _pass(ms: int) -> Call:
    return lambda caller: caller.pass_time(ms)


def _client(random: Random, on: Ground, number: int) -> Call:
    """Reserves (a new key, one of two that actors share, or a prepared one again), and perhaps goes on with it."""
    how = random.random()
    ttl = random.choice((30, 300))
    if how < 0.3 and on.asked:
        key, quantity, member, premium = random.choice(on.asked)
    else:
        shared = how < 0.6
        name = f"shared{random.randrange(2)}" if shared else f"own{number}"
        key = Key(name, on.world.now_ms if name != "shared1" else None)
        member = "alice" if shared else random.choice((None, *MEMBERS))
        quantity, premium = 3 if shared else random.randrange(1, 7), not shared and random.random() < 0.3
    then = random.choice(("", "commit", "commit", "commit more", "release", "extend", "again", "extend and commit"))
    more, total = random.randrange(6), random.randrange(3, 9)

    def calls(caller: Caller) -> None:
        dimensions = PREMIUM if premium else None
        granted = caller.reserve(key, quantity, member, ttl, dimensions)
        if then == "again":
            granted = caller.reserve(key, quantity, member, ttl, dimensions)
        if not isinstance(granted, Granted):
            return
        if then.startswith("extend"):
            caller.extend(granted, total, 400)
        if then == "commit" or then.endswith("and commit"):
            caller.commit(granted)
        elif then == "commit more":
            caller.commit(granted, quantity + more)
        elif then == "release":
            caller.release(granted)

    return calls


def _on_held(random: Random, held: Granted) -> Call:
    reserved = int(held.items[0].quantity)
    what, amount = random.choice(("commit", "commit", "amount", "release", "extend", "longer")), random.randrange(9)
    if what == "commit":
        return lambda caller: _nothing(caller.commit(held))
    if what == "amount":
        return lambda caller: _nothing(caller.commit(held, amount))
    if what == "release":
        return lambda caller: caller.release(held)
    if what == "extend":
        return lambda caller: caller.extend(held, reserved + amount % 4, 400)
    return lambda caller: caller.extend(held, None, 400)


def _nothing(answer: object) -> None:
    """The answer is kept on the stage."""


def run(seed: int) -> None:
    """One random triple. Raises Violation."""
    random = Random(seed)
    on = ground(random.randrange(GROUNDS))
    trouble = random.random()
    stage = Stage(
        copy_of(on.world),
        Dice(random, random.choice((0.05, 0.2))),
        crashes=1 if trouble < 0.15 else 0,
        faults=2 if 0.1 < trouble < 0.5 else 0,
        late=True,
    )
    for rules in on.history:
        stage.watch.rules[rules.rev] = rules
    for number in range(3):
        calls = _calls(random, on, number)
        known = random.choice((*on.history, on.history[-1], None))
        skew = random.choice((0, 0, 3_000, -3_000))

        def body(caller: Caller, calls: list[Call] = calls) -> None:
            for call in calls:
                call(caller)

        stage.add("ABC"[number], Process(skew, known), body)
    stage.run()
    each_answer_has_its_event(stage)
    bring_to_rest(stage, ENDINGS[seed % len(ENDINGS)])
