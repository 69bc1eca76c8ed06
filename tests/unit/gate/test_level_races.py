"""Levels under interleavings: calls at once on one account, one store call at a time, with stops anywhere.

Whatever the order: each key counts once, rows are numbered as the levels stood, a freeze and a lowered limit bind the
next raise, and nothing of it disturbs what is reserved.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal
from random import Random

import pytest

from tests.support.gate import Client, assert_consistent, limit, world
from tests.support.levels import CREDITS, SEATS, STORAGE, assert_levels_recorded, level_plan, put, rows
from tests.support.memory import MemoryGates, World
from tests.support.scheduler import EVERYTHING, Actor, Chooser, Dice, Scheduler, Touches, explore
from tollgate.accounts.rules import Frozen
from tollgate.errors import Busy, IdempotencyMismatch
from tollgate.gate.apply_rules import apply_rules
from tollgate.gate.item import GateWrite, Written
from tollgate.gate.levels import Refused, Standing
from tollgate.gate.ports import GateDeps
from tollgate.gate.reserve import Granted
from tollgate.gate.sweep import Swept, sweep_gate

TOUCHES: dict[str, Touches] = {
    "gate.read": (("gate", False),),
    "gate.write": (("gate", True),),
    "outcome.find": (("rows", False),),
    "outcome.get": (("rows", False),),
    "outcome.put_event": (("rows", True),),
    "outcome.origin": (("origins", True),),
    "rules.fresh": (("rules", False),),
    "rules.change": (("rules", True),),
}
LOWER = level_plan("10", limit("daily", 10), version=2)


@dataclass
class Race:
    """One run: a world in which a level of 20 stands, its actors, and what they were told."""

    world: World = field(default_factory=lambda: world(level_plan("100", limit("daily", 10)), CREDITS, STORAGE, SEATS))
    actors: list[Actor] = field(default_factory=list)
    told: list[tuple[str, Standing | Refused]] = field(default_factory=list)
    bound: Decimal | None = None
    """Set once a freeze (0) or a lowered limit was answered: nothing is raised above it from then on."""

    def __post_init__(self) -> None:
        put(self.deps(), 20, "first")

    def deps(self) -> GateDeps:
        return replace(self.world.deps(), gates=Watched(self))

    def act(self, name: str, body: Callable[[], None]) -> None:
        def until_done(actor: Actor) -> None:
            while True:
                try:
                    return body()
                except Busy:
                    continue

        self.actors.append(Actor(f"{len(self.actors)} {name}", until_done))

    def put(self, level: int, key: str) -> None:
        """A call that is sent again by a caller who got no answer, or did not trust it."""
        deps = self.deps()

        def body() -> None:
            with suppress(IdempotencyMismatch):  # another level under this key came first
                self.told.append((key, put(deps, level, key)))

        self.act(f"put {level}", body)

    def change(self, name: str, bound: int, changed: Callable[[], None]) -> None:
        def body() -> None:
            self.world.called("rules.change")
            changed()
            apply_rules(self.deps(), self.world.rules("acme"))
            self.bound = Decimal(bound)

        self.act(name, body)

    def freeze(self) -> None:
        def changed() -> None:
            row = self.world.row("acme")
            self.world.rows["acme"] = replace(row, frozen=Frozen("unpaid", 0), rev=row.rev + 1)

        self.change("freeze", 0, changed)

    def lower(self) -> None:
        self.change("lower", 10, lambda: self.world.move_to("acme", LOWER))

    def reserve(self) -> None:
        client = Client(self.world, deps=self.deps())

        def body() -> None:
            held = client.reserve(4, key="r")
            if isinstance(held, Granted):
                client.commit(held)

        self.act("reserve", body)

    def sweep(self) -> None:
        self.act("sweep", lambda: sweep_gate(self.deps(), self.world.gates["acme"], Swept(), audit=True))

    def run(self, chooser: Chooser, crashes: int = 0) -> None:
        scheduler = Scheduler(self.actors, chooser, self.world.clock, crashes=crashes)
        self.world.step = lambda name: self._step(scheduler, name)
        scheduler.run()
        self.world.step = lambda name: None
        self.check()

    @staticmethod
    def _step(scheduler: Scheduler, name: str) -> None:
        scheduler.pause(name, TOUCHES.get(name, EVERYTHING))

    def check(self) -> None:
        assert_levels_recorded(self.world)
        assert_consistent(self.world, "acme")
        recorded = {row.at.key: row for row in rows(self.world)}
        answers: dict[str, tuple[int, Decimal]] = {}
        for key, found in self.told:
            if isinstance(found, Refused):
                continue
            assert found.event is not None
            assert recorded[found.event.at.key] == found.event
            assert found.event.items[0].units == found.units
            assert answers.setdefault(key, (found.number, found.units)) == (found.number, found.units)


class Watched(MemoryGates):
    """Sees that no level is raised past what a change of rules had promised by then."""

    def __init__(self, race: Race) -> None:
        super().__init__(race.world)
        self._race = race

    def write(self, write: GateWrite, *, retry: bool = True) -> Written:
        self._race.world.called("gate.write")
        before = self._race.world.gates.get(write.subject)
        written = self.apply(write)
        if written.applied and write.level is not None and before is not None and self._race.bound is not None:
            there = before.levels.get(write.level.slot)
            stood = Decimal(0) if there is None else there.units
            assert write.level.new.units <= max(stood, self._race.bound), "raised under rules that are over"
        return written


def two_levels(race: Race) -> None:
    race.put(30, "a")
    race.put(40, "b")


def the_same_twice(race: Race) -> None:
    race.put(30, "a")
    race.put(30, "a")


def with_freeze(race: Race) -> None:
    race.put(30, "a")
    race.freeze()


def with_lower(race: Race) -> None:
    race.put(30, "a")
    race.lower()


def with_reserve(race: Race) -> None:
    race.put(30, "a")
    race.reserve()


PAIRS = (two_levels, the_same_twice, with_freeze, with_lower, with_reserve)


@pytest.mark.parametrize("crashes", [0, 1])
@pytest.mark.parametrize("pair", PAIRS)
def test_every_interleaving_of_a_pair(pair: Callable[[Race], None], crashes: int) -> None:
    def once(chooser: Chooser) -> None:
        race = Race()
        pair(race)
        race.run(chooser, crashes)
        if pair is two_levels and not crashes:
            gate = race.world.gates["acme"]
            (level,) = gate.levels.values()
            last = max((found for _, found in race.told if isinstance(found, Standing)), key=lambda one: one.number)
            assert [level.number, level.units] == [last.number, last.units] == [3, last.units]

    assert explore(once) >= 10


@pytest.mark.parametrize("block", range(15))
def test_many_calls_at_once(block: int) -> None:
    for seed in range(block * 100, block * 100 + 100):
        random = Random(seed)
        race = Race()
        for at in range(random.randint(2, 4)):
            race.put(random.choice([0, 5, 15, 30, 99, 101]), random.choice(["a", f"k{at}"]))
        for begin in random.sample([race.freeze, race.lower, race.reserve, race.sweep], random.randint(0, 2)):
            begin()
        race.run(Dice(random), crashes=random.randint(0, 2))
