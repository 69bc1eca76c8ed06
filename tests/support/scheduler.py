"""A deterministic scheduler: actors run as greenlets, one store call at a time, in an order that a chooser decides.

An actor stops before each store call. The scheduler picks who makes its call next: one move is that call and all of
the actor's own work up to its next call. So an order of moves is an interleaving between store calls, and the same
choices always give the same run: `explore` walks all of them depth first, `Random` takes some.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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


Touches = tuple[tuple[str, bool], ...]
"""What a move reads (False) or writes (True). Two moves commute unless one writes what the other touches."""

EVERYTHING: Touches = (("everything", True),)


class Redundant(BaseException):
    """Every run from here on would repeat one that was made, with independent moves in another order."""


class Chooser(Protocol):
    def next(self, scheduler: Scheduler) -> Move:
        """What happens next."""


class Actor:
    """One caller: `body` makes store calls. `kind` names what it is doing now (the checks read it)."""

    __slots__ = (
        "body",
        "calls",
        "cursor",
        "done",
        "error",
        "kind",
        "name",
        "once",
        "planned_ms",
        "resumed_ms",
        "skew_ms",
        "touches",
    )

    def __init__(self, name: str, body: Callable[[Actor], None], skew_ms: int = 0) -> None:
        self.name, self.body, self.kind, self.skew_ms = name, body, name, skew_ms
        self.calls: str | None = None
        self.touches: Touches = ()
        self.once: bool | None = None
        self.cursor: greenlet | None = None
        self.done = False
        self.error: BaseException | None = None
        self.planned_ms = self.resumed_ms = 0
        """World time at which the call that is made now was planned; and of the move that is under way."""


@dataclass(slots=True)
class InFlight:
    """A sent write that has not arrived."""

    number: int
    actor: Actor
    kind: str
    touches: Touches
    apply: Callable[[], object]


@dataclass(slots=True)
class Move:
    """One possible next step: an actor's call (with a fault, or None), or the arrival of a sent write."""

    actor: Actor
    fault: Fault | None = None
    flight: InFlight | None = None

    @property
    def name(self) -> tuple[str, object]:
        return self.actor.name, self.fault if self.flight is None else self.flight.number

    @property
    def touches(self) -> Touches:
        if self.flight is not None:
            return self.flight.touches
        if self.fault is None:
            return self.actor.touches
        if self.fault in (Fault.CRASH, Fault.LOST, Fault.DELAYED):
            return (("faults", True),)
        return (("faults", True), *self.actor.touches)


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
        self.alive: list[Actor] = []
        self.flights: list[InFlight] = []
        self.moving: Actor | None = None
        self.log: list[str] = []
        self._hub = getcurrent()
        self._sent = 0

    # -- called by actors ------------------------------------------------------------------------------------------

    def pause(self, name: str, touches: Touches, once: bool | None = None) -> Fault | None:
        """Stop before a store call; returns the fault it meets. `once`: whether the SDK sends the call only once;
        None: no write."""
        me = self.moving
        if me is None or getcurrent() is self._hub:
            return None  # set-up and final clean-up run straight through
        me.calls, me.touches, me.once = name, touches, once
        fault: Fault | None = self._hub.switch()
        return fault

    def send_later(self, apply: Callable[[], object]) -> None:
        me = self.moving
        assert me is not None
        self._sent += 1
        self.flights.append(InFlight(self._sent, me, me.kind, me.touches, apply))

    # -- the run ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """All actors to their end, and all sent writes delivered. Raises Redundant, and whatever an actor raises."""
        try:
            self._run()
        finally:
            self._give_up()

    def _run(self) -> None:
        for actor in self.actors:
            actor.cursor = greenlet(self._body)
            if not self.late:
                self._resume(actor, actor)
        self.alive = [actor for actor in self.actors if not actor.done]
        while self.alive or self.flights:
            move = self.chooser.next(self)
            if move.flight is not None:
                self._deliver(move.flight)
                continue
            actor, fault = move.actor, move.fault
            self.log.append(f"{actor.name} {actor.calls or 'begins'}{f' ({fault.value})' if fault else ''}")
            if fault is Fault.CRASH:
                self.crashes -= 1
                self._kill(actor)
            else:
                self.faults -= fault is not None
                self._resume(actor, actor if actor.calls is None else fault)
            if actor.done:
                self.alive.remove(actor)

    def possible(self, actor: Actor) -> tuple[Fault, ...]:
        """The faults that the next call of an actor can meet."""
        if actor.calls is None:
            return ()
        faults: tuple[Fault, ...] = (Fault.CRASH,) if self.crashes > 0 else ()
        if self.faults > 0 and actor.once is not None:
            faults += SENT_ONCE if actor.once else SENT_AGAIN
        return faults

    def _resume(self, actor: Actor, value: object) -> None:
        self.moving = actor
        actor.planned_ms, actor.resumed_ms = actor.resumed_ms, self.clock()
        assert actor.cursor is not None
        actor.cursor.switch(value)
        self.moving = None

    def _kill(self, actor: Actor) -> None:
        self.moving = actor
        assert actor.cursor is not None
        actor.cursor.throw(Crashed())
        self.moving = None

    def _give_up(self) -> None:
        """Ends the actors that a run leaves in mid-call: a suspended greenlet that knows itself is never collected."""
        for actor in self.actors:
            self.moving = actor  # what it still calls on its way out goes nowhere
            while actor.cursor:
                actor.cursor.throw()
            actor.cursor = None
        self.moving = None

    def _deliver(self, flight: InFlight) -> None:
        self.log.append(f"{flight.actor.name}'s sent write arrives")
        self.flights.remove(flight)
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


class Straight:
    """The first actor until it ends, then the next."""

    def next(self, scheduler: Scheduler) -> Move:
        if scheduler.alive:
            return Move(scheduler.alive[0])
        return Move(scheduler.flights[0].actor, flight=scheduler.flights[0])


@dataclass(slots=True)
class Dice:
    """Random moves; a call that can meet a fault does so with probability `chance`."""

    random: Random
    chance: float = 0.1

    def next(self, scheduler: Scheduler) -> Move:
        alive, flights = scheduler.alive, scheduler.flights
        count = len(alive) + len(flights)
        at = int(self.random.random() * count) if count > 1 else 0
        if at >= len(alive):
            flight = flights[at - len(alive)]
            return Move(flight.actor, flight=flight)
        actor = alive[at]
        faults = scheduler.possible(actor)
        if faults:
            roll = self.random.random() / self.chance
            if roll < 1:
                return Move(actor, faults[int(roll * len(faults))])
        return Move(actor)


@dataclass(slots=True)
class _Node:
    """One point of the search: what can happen there, and what need not be tried (any more)."""

    touches: dict[tuple[str, object], Touches]
    """By move, as it stands at this point: an actor's own changes with each of its calls."""
    asleep: dict[tuple[str, object], Touches]
    chosen: tuple[str, object] = ("", None)

    def advance(self) -> bool:
        for name in self.touches:
            if name not in self.asleep:
                self.chosen = name
                return True
        return False


class Search:
    """Every interleaving, depth first, each once up to the order of moves that commute (sleep sets: Godefroid,
    Partial-Order Methods for the Verification of Concurrent Systems, 1996)."""

    def __init__(self) -> None:
        self._nodes: list[_Node] = []
        self._depth = 0

    def next(self, scheduler: Scheduler) -> Move:
        moves = [Move(actor, fault) for actor in scheduler.alive for fault in (None, *scheduler.possible(actor))] + [
            Move(flight.actor, flight=flight) for flight in scheduler.flights
        ]
        if self._depth == len(self._nodes):
            node = _Node({move.name: move.touches for move in moves}, self._still_asleep())
            if not node.advance():
                raise Redundant
            self._nodes.append(node)
        node = self._nodes[self._depth]
        self._depth += 1
        return next(move for move in moves if move.name == node.chosen)

    def again(self) -> bool:
        """Back to the last point where something is left to try; False: all is done."""
        self._depth = 0
        while self._nodes:
            node = self._nodes[-1]
            node.asleep[node.chosen] = node.touches[node.chosen]
            if node.advance():
                return True
            self._nodes.pop()
        return False

    def _still_asleep(self) -> dict[tuple[str, object], Touches]:
        if not self._nodes:
            return {}
        above = self._nodes[-1]
        made = above.touches[above.chosen]
        return {
            name: touches
            for name, touches in above.asleep.items()
            if independent(touches, made) and not _one_actors(name, above.chosen)
        }


def _one_actors(some: tuple[str, object], other: tuple[str, object]) -> bool:
    """Whether two moves are calls of one actor: once it has made one, its next call is another move of the same name.
    What it sent arrives by itself (a number)."""
    return some[0] == other[0] and not isinstance(some[1], int) and not isinstance(other[1], int)


def independent(some: Touches, others: Touches) -> bool:
    """Whether two moves commute."""
    if some is EVERYTHING or others is EVERYTHING:
        return False
    return not any(name == other and (writes or also) for name, writes in some for other, also in others)


def explore(once: Callable[[Chooser], None]) -> int:
    """Every run of `once` (which must make a fresh world each time); returns how many there were."""
    search, count = Search(), 0
    while True:
        try:
            once(search)
            count += 1
        except Redundant:
            pass
        if not search.again():
            return count
