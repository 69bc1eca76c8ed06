"""The world and the processes of the machine: rules cached for a minute, clocks that differ, cuts between calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.model.rows import ROWS
from tests.support.memory import MemoryGates, MemoryGrants, MemoryMarkers, MemoryOutcomes, World
from tollgate.accounts.rules import AccountRow, Rules, compile_rules
from tollgate.catalog.model import Meter
from tollgate.gate.item import GateWrite
from tollgate.gate.ports import GateDeps
from tollgate.usage.outcome import Event, Outcome, Void

CACHE_MS = 60_000


class Cut(BaseException):
    """The process dies before its next store call. Not an Exception: nothing in the product may catch it."""


@dataclass
class WeighedWorld(World):
    """A world whose plan versions weigh differently."""

    meters_of: dict[int, Mapping[str, Meter]] = field(default_factory=dict)
    compiled_of: dict[tuple[str, int], tuple[AccountRow, Rules]] = field(default_factory=dict)

    def rules(self, account: str) -> Rules:
        row = self.row(account)
        known = self.compiled_of.get((account, row.rev))
        if known is None or known[0] != row:
            version = row.plan_version
            known = (row, compile_rules(row, self.plans[version], self.meters_of.get(version, self.meters)))
            self.compiled_of[account, row.rev] = known
        return known[1]


class CachedRules:
    """RulesSource of one process: what it read is good for a minute."""

    def __init__(self, world: WeighedWorld, skew_ms: int) -> None:
        self._world, self._skew_ms = world, skew_ms
        self._cache: dict[str, tuple[int, Rules]] = {}

    def known(self, account: str) -> int | None:
        """The revision that `get` would answer without a read."""
        cached = self._cache.get(account)
        if cached is None or not 0 <= self._world.now_ms + self._skew_ms - cached[0] < CACHE_MS:
            return None
        return cached[1].rev

    def forget(self, account: str) -> None:
        self._cache.pop(account, None)

    def get(self, account: str, accept: object = None) -> Rules:
        return self.fresh(account) if self.known(account) is None else self._cache[account][1]

    def fresh(self, account: str) -> Rules:
        self._world.called("rules.fresh")
        rules = self._world.rules(account)
        self._cache[account] = (self._world.now_ms + self._skew_ms, rules)
        return rules

    def stored(self, account: str) -> AccountRow:
        return self._world.row(account)


class CountingOutcomes(MemoryOutcomes):
    """Counts which row of the outcome table each call is."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.world = world
        self.conflicts = 0
        """How many late commits fail once, as a transaction that met another write does."""

    def put_event(self, event: Event) -> Outcome | None:
        if event.token is None:
            there = self._there(event.at)
            if there is None:
                ROWS.hit("commit, no row: the event is put")
            elif isinstance(there, Event):
                ROWS.hit(f"commit meets an event: {self._own(event, there.incarnations)}")
            elif there.blocks(event.incarnations):
                ROWS.hit(f"commit meets a void of its own or a newer incarnation: {self._own_there(event)}")
            else:
                ROWS.hit("commit over a void of an older incarnation: the event is put")
        return super().put_event(event)

    def put_void(self, void: Void) -> Outcome | None:
        who = {"released": "release", "expired": "reclaim", "refused": "drop after a wider refusal"}[void.why]
        there = self._there(void.at)
        if there is None:
            ROWS.hit(f"{who}, no row: the void is put")
        elif isinstance(there, Event):
            own = all(there.incarnations.get(per) == inc for per, inc in void.incarnations.items())
            ROWS.hit(f"{who} meets an event {'of its incarnation' if own else 'of another incarnation'}")
        elif any(there.incarnations.get(per, b"") < inc for per, inc in void.incarnations.items()):
            ROWS.hit(f"{who} over a void of an older incarnation: raised")
        else:
            ROWS.hit(f"{who} meets an equal or newer void: it stays")
        return super().put_void(void)

    def commit_late(self, event: Event, over: Void, writes: Sequence[GateWrite]) -> bool:
        if self.conflicts:
            self.conflicts -= 1
            self.world.called("outcome.commit_late")
            ROWS.hit("late commit whose transaction fails: again from the put")
            return False
        done = super().commit_late(event, over, writes)
        if done:
            ROWS.hit(f"late commit: {'units onto the gate' if event.late else 'own hold settled'}")
        return done

    def _own(self, event: Event, there: Mapping[str, bytes]) -> str:
        if self._own_there(event) == "hold gone":
            return "hold gone"
        same = there.get("account") == event.incarnations["account"]
        return "own hold of the row's incarnation" if same else "own hold of another incarnation"

    def _own_there(self, event: Event) -> str:
        gate = self.world.gates.get(event.at.account)
        raw = None if gate is None else gate.holds.get(event.at.key)
        return "own hold there" if raw is not None and raw[1:17] == event.incarnations["account"] else "hold gone"


class Process:
    """One function container: its clock's error, its rules, its stores."""

    def __init__(self, world: WeighedWorld, skew_ms: int) -> None:
        self.world, self.skew_ms = world, skew_ms
        self.rules = CachedRules(world, skew_ms)
        self.outcomes = CountingOutcomes(world)
        self.deps = GateDeps(
            gates=MemoryGates(world),
            outcomes=self.outcomes,
            markers=MemoryMarkers(),
            rules=self.rules,
            clock=lambda: world.now_ms + skew_ms,
            incarnate=world.incarnate,
            nonce=world.nonce,
            pause=lambda tried: None,
            grants=MemoryGrants(world),
        )

    @property
    def now_ms(self) -> int:
        return self.world.now_ms + self.skew_ms


@dataclass
class CutAfter:
    """A `World.step` that cuts the process before the call after `count` calls of `name`."""

    name: str
    count: int = 1
    fired: bool = False

    def __call__(self, name: str) -> None:
        if self.count == 0:
            self.fired = True
            raise Cut
        if name == self.name:
            self.count -= 1
