"""Exactly one message for each mark, window and subject: 64 callers at once, each call sent twice, writes lost, late
and doubled, and a crash before any call to a store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from random import Random

import pytest

from tests.interleave.faults import faulty
from tests.support.gate import Client, limit, reservation_of, world
from tests.support.memory import World
from tests.support.scheduler import Actor, Chooser, Crashed, Dice, Scheduler, explore
from tests.support.telling import Told, look_at_all
from tests.unit.gate.test_money import CREDITS, PER_UNIT, TOKENS, priced
from tollgate.alerts.outbox import Alert
from tollgate.alerts.telling import tell, tell_standing
from tollgate.alerts.watch import Watched
from tollgate.catalog.model import Plan
from tollgate.errors import Busy
from tollgate.gate.ports import GateDeps
from tollgate.gate.reserve import Granted
from tollgate.windows import MONTH

CALLERS, MEMBERS = 64, 4
MARKS = (10, 25, 50, 60)
PLAN = replace(
    priced(PER_UNIT, cap="2", limits=(limit("monthly", 100, MONTH), limit("each", 25, MONTH, per="member"))),
    thresholds=MARKS,
)
"""64 units are 64 % of the account's limit, of its spending cap, and of each of four members' limits."""
ALL = Counter(
    [("limit", "monthly", "", mark) for mark in MARKS]
    + [("spend_cap", "spend_cap", "", mark) for mark in MARKS]
    + [("limit", "each", f"m{member}", mark) for member in range(MEMBERS) for mark in MARKS]
)


@dataclass
class Scheduled(Told):
    """The outbox under a scheduler: a caller may be killed before each call."""

    scheduler: Scheduler | None = None

    def put(self, alert: Alert) -> bool:
        if self.scheduler is not None:
            self.scheduler.pause(f"puts {alert.id}", (("outbox", True),))
        return super().put(alert)

    def knows(self, alert_id: str) -> bool:
        if self.scheduler is not None:
            self.scheduler.pause(f"asks for {alert_id}", (("outbox", False),))
        return super().knows(alert_id)

    def found(self) -> Counter[tuple[str, str, str, int]]:
        return Counter(
            (alert.facts["of"], alert.facts["limit"], alert.facts.get("member", ""), int(alert.facts["threshold"]))
            for alert in self.alerts
        )


class Race:
    """Callers on one account, each in a process of its own."""

    def __init__(self, of: Plan = PLAN) -> None:
        self.world: World = world(of, CREDITS, TOKENS)
        self.told = Scheduled()
        self.actors: list[Actor] = []
        self.scheduler: Scheduler | None = None

    def call(self, number: int) -> None:
        """A unit of its own, and the same call once more from another process."""
        for _ in range(2):
            self._act(lambda deps: self._use(deps, number))

    def commit(self, held: Granted) -> None:
        self._act(lambda deps: Client(self.world, deps=deps).commit(reservation_of(held)))

    def look(self) -> None:
        """The scheduled function, in the midst of it."""

        def body(deps: GateDeps) -> None:
            rules, gate = self.world.rules("acme"), deps.gates.read("acme")
            if gate is not None:
                tell_standing(self.told, rules, gate, None, self.world.now_ms)

        self._act(body)

    def run(self, chooser: Chooser, crashes: int = 0, faults: int = 0) -> None:
        self.scheduler = Scheduler(self.actors, chooser, self.world.clock, crashes=crashes, faults=faults)
        self.told.scheduler = self.scheduler
        self.scheduler.run()
        self.told.scheduler = None
        for actor in self.actors:
            assert actor.error is None or isinstance(actor.error, Crashed)

    def _use(self, deps: GateDeps, number: int) -> None:
        client = Client(self.world, deps=deps)
        held = client.reserve(1, key=f"call {number}", member=f"m{number % MEMBERS}", ttl=3600)
        assert isinstance(held, Granted)
        client.commit(held)

    def _act(self, body: Callable[[GateDeps], object]) -> None:
        number = len(self.actors)

        def run(actor: Actor) -> None:
            assert self.scheduler is not None
            deps = faulty(self.world, self.scheduler, number, 0, {})

            def passed(*what: object) -> None:
                tell(self.told, *what)  # type: ignore[arg-type]

            deps = replace(deps, gates=Watched(deps.gates, deps.rules, deps.clock, passed))
            while True:
                try:
                    body(deps)
                    return
                except Busy:
                    continue

        self.actors.append(Actor(f"caller {number}", run))


def racing(seed: int, crashes: int, faults: int) -> Race:
    race = Race()
    for number in range(CALLERS):
        race.call(number)
    race.run(Dice(Random(seed), 0.02), crashes, faults)
    return race


@pytest.mark.parametrize("seed", range(3))
def test_64_callers_and_their_doubles_are_told_each_mark_by_one_of_them(seed: int) -> None:
    race = racing(seed, 0, 0)
    assert race.told.found() == ALL
    assert race.told.puts == len(race.told.alerts), "no two writes saw the same mark: the outbox had nothing to refuse"
    assert look_at_all(race.world, race.told) == 0


def test_what_crashes_and_lost_answers_kept_back_the_scheduled_look_tells_once() -> None:
    late = 0
    for seed in range(6):
        race = racing(seed, crashes=12, faults=24)
        before = race.told.found()
        late += look_at_all(race.world, race.told)
        found = race.told.found()
        assert set(found.values()) == {1}, "a mark was told twice"
        assert set(before) <= set(found) <= set(ALL)
        assert look_at_all(race.world, race.told) == 0
        # The highest mark that each thing has passed is told; a lower one that nobody told stands in it.
        for subject, gate in race.world.gates.items():
            used = gate.counts[0].taken - gate.counts[0].held if "#" not in subject else None
            if used is not None:
                highest = max((mark for mark in MARKS if used >= mark), default=None)
                assert highest is None or found["limit", "monthly", "", highest] == 1
    assert late > 0, "nothing was kept back: the faults are none"


def two(look: bool) -> Race:
    """One unit of four is used; two more calls pass a half and three quarters."""
    race = Race(replace(priced(PER_UNIT, limits=(limit("monthly", 4, MONTH),)), thresholds=(50, 75)))
    client = Client(race.world)
    client.commit(client.granted(1, key="zero"))
    first, second = client.granted(1, key="one"), client.granted(1, key="two")
    race.commit(first)
    race.commit(first if look else second)
    if look:
        race.look()
    return race


@pytest.mark.parametrize(("crashes", "faults"), [(0, 0), (1, 0), (0, 1)])
@pytest.mark.parametrize("look", [False, True], ids=["two calls", "one call twice, and the scheduled look"])
def test_every_order_of_calls_and_every_crash(look: bool, crashes: int, faults: int) -> None:
    silent = 0

    def once(chooser: Chooser) -> None:
        nonlocal silent
        race = two(look)
        race.run(chooser, crashes, faults)
        before = len(race.told.alerts)
        look_at_all(race.world, race.told)
        found = race.told.found()
        used = race.world.gates["acme"].counts[0].taken - race.world.gates["acme"].counts[0].held
        assert set(found.values()) <= {1}
        marks = [percent for _, _, _, percent in found]
        if used >= Decimal(2):
            assert (75 if used >= Decimal(3) else 50) in marks
        if not crashes and not faults:
            assert sorted(marks) == ([50] if look else [50, 75])
        silent += before < len(race.told.alerts)

    assert explore(once) > 1
    assert (silent > 0) == bool(crashes or faults), "only a crash or a lost answer leaves something to be found"
