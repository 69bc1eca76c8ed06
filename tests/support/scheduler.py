"""A deterministic scheduler: actors run as greenlets, one store call at a time, in an order that a chooser decides.

An actor stops before each store call. The scheduler picks who makes its call next: one move is that call and all of
the actor's own work up to its next call. So an order of moves is an interleaving between store calls, and the same
choices always give the same run: `explore` walks all of them depth first, `Random` takes some.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from random import Random
from typing import Protocol

from greenlet import getcurrent, greenlet


class Crashed(BaseException):
    """Kills an actor before its next store call, as a stopped function or a pulled plug would. Not an Exception:
    nothing in the product may catch it."""


class Fault(Enum):
    """What happens to a store call instead of a plain answer."""

    CRASH = "crash"
    """The actor dies before the call."""
    LOST = "lost"
    """The call never arrives; the caller gets no answer (calls that the SDK sends once)."""
    UNANSWERED = "unanswered"
    """The call is applied; the caller gets no answer (calls that the SDK sends once)."""
    DELAYED = "delayed"
    """The call is applied later, at any time; the caller gets no answer (calls that the SDK sends once)."""
    RESENT = "resent"
    """The call is applied, its answer is lost, and the SDK sends it again: the second answer is the one seen."""
    DOUBLED = "doubled"
    """The call is applied and answered, and a copy of it arrives later, at any time."""


SENT_ONCE = (Fault.LOST, Fault.UNANSWERED, Fault.DELAYED)
SENT_AGAIN = (Fault.RESENT, Fault.DOUBLED)


class Chooser(Protocol):
    def pick(self, count: int) -> int:
        """Which of `count` possible moves (at least 2) comes next."""

    def fault(self, faults: Sequence[Fault]) -> Fault | None:
        """Whether one of these happens to the call."""


@dataclass(slots=True)
class Prefix:
    """Follows given choices, then always the first; keeps what was chosen, of how many."""

    given: Sequence[int]
    made: list[tuple[int, int]] = field(default_factory=list)

    def pick(self, count: int) -> int:
        at = len(self.made)
        chosen = self.given[at] if at < len(self.given) else 0
        self.made.append((chosen, count))
        return chosen

    def fault(self, faults: Sequence[Fault]) -> Fault | None:
        chosen = self.pick(len(faults) + 1)
        return faults[chosen - 1] if chosen else None


@dataclass(slots=True)
class Dice:
    """Random choices; a call meets a fault with probability `chance`."""

    random: Random
    chance: float = 0.1

    def pick(self, count: int) -> int:
        return int(self.random.random() * count)

    def fault(self, faults: Sequence[Fault]) -> Fault | None:
        roll = self.random.random()
        return faults[int(roll / self.chance * len(faults))] if roll < self.chance else None


class Actor:
    """One caller: `body` makes store calls. `kind` names what it is doing now (the checks read it)."""

    __slots__ = ("body", "calls", "cursor", "done", "error", "kind", "name", "planned_ms", "resumed_ms", "skew_ms")

    def __init__(self, name: str, body: Callable[[Actor], None], skew_ms: int = 0) -> None:
        self.name, self.body, self.kind, self.skew_ms = name, body, name, skew_ms
        self.calls: str | None = None
        self.cursor: greenlet | None = None
        self.done = False
        self.error: BaseException | None = None
        self.planned_ms = self.resumed_ms = 0
        """World time at which the call that is made now was planned; and of the move that is under way."""


@dataclass(slots=True)
class InFlight:
    """A sent write that has not arrived."""

    actor: Actor
    kind: str
    apply: Callable[[], object]


class Scheduler:
    """One run. `crashes` and `faults` bound how many of each may happen; `late`: actors begin by a move of their own
    (their first reading of the clock is a move apart from the others')."""

    def __init__(
        self,
        actors: Sequence[Actor],
        chooser: Chooser,
        clock: Callable[[], int],
        *,
        crashes: int = 0,
        faults: int = 0,
        late: bool = False,
    ) -> None:
        self.actors, self.chooser, self.clock = actors, chooser, clock
        self.crashes, self.faults, self.late = crashes, faults, late
        self.flights: list[InFlight] = []
        self.moving: Actor | None = None
        self.log: list[str] = []
        self._hub = getcurrent()
        self._once = False

    # -- called by actors ------------------------------------------------------------------------------------------

    def pause(self, name: str, once: bool | None = None) -> Fault | None:
        """Stop before a store call; returns the fault it meets. `once`: whether the SDK sends the call only once;
        None: no write."""
        me = self.moving
        if me is None or getcurrent() is self._hub:
            return None  # set-up and final clean-up run straight through
        me.calls = name
        fault: Fault | None = self._hub.switch(once)
        return fault

    def send_later(self, apply: Callable[[], object]) -> None:
        assert self.moving is not None
        self.flights.append(InFlight(self.moving, self.moving.kind, apply))

    # -- the run ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """All actors to their end, and all sent writes delivered."""
        pending: dict[str, bool | None] = {}
        alive = list(self.actors)
        for actor in alive:
            actor.cursor = greenlet(self._body)
            pending[actor.name] = None
            if not self.late:
                pending[actor.name] = self._resume(actor, actor)
        alive = [actor for actor in alive if not actor.done]
        while alive or self.flights:
            count = len(alive) + len(self.flights)
            at = self.chooser.pick(count) if count > 1 else 0
            if at >= len(alive):
                self._deliver(self.flights.pop(at - len(alive)))
                continue
            actor = alive[at]
            fault = None if actor.calls is None else self._fault(pending[actor.name])
            self.log.append(f"{actor.name} {actor.calls or 'begins'}{f' ({fault.value})' if fault else ''}")
            if fault is Fault.CRASH:
                self._kill(actor)
            else:
                pending[actor.name] = self._resume(actor, actor if actor.calls is None else fault)
            if actor.done:
                alive.remove(actor)

    def _fault(self, once: bool | None) -> Fault | None:
        faults: tuple[Fault, ...] = (Fault.CRASH,) if self.crashes > 0 else ()
        if self.faults > 0 and once is not None:
            faults += SENT_ONCE if once else SENT_AGAIN
        found = self.chooser.fault(faults) if faults else None
        if found is Fault.CRASH:
            self.crashes -= 1
        elif found is not None:
            self.faults -= 1
        return found

    def _resume(self, actor: Actor, value: object) -> bool | None:
        self.moving = actor
        actor.planned_ms, actor.resumed_ms = actor.resumed_ms, self.clock()
        assert actor.cursor is not None
        once: bool | None = actor.cursor.switch(value)
        self.moving = None
        return once

    def _kill(self, actor: Actor) -> None:
        self.moving = actor
        assert actor.cursor is not None
        actor.cursor.throw(Crashed())
        self.moving = None

    def _deliver(self, flight: InFlight) -> None:
        self.log.append(f"{flight.actor.name}'s sent write arrives")
        kind, flight.actor.kind = flight.actor.kind, flight.kind
        self.moving = flight.actor
        flight.apply()
        self.moving = None
        flight.actor.kind = kind

    def _body(self, actor: Actor) -> None:
        try:
            actor.body(actor)
        except Crashed as crash:
            actor.error = crash
        actor.done = True


def explore(once: Callable[[Chooser], None]) -> Iterator[None]:
    """Every run of `once`, depth first; yields after each. `once` must make a fresh world each time."""
    given: list[int] = []
    while True:
        chooser = Prefix(given)
        once(chooser)
        yield
        made = chooser.made
        while made and made[-1][0] + 1 == made[-1][1]:
            made.pop()
        if not made:
            return
        given = [chosen for chosen, _ in made]
        given[-1] += 1
