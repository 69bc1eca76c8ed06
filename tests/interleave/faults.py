"""The in-memory stores under a scheduler, with the faults of a network: lost answers, writes that come late or twice.

Each call says what it touches, so that the search need not try both orders of two calls that commute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import TypeVar

from tests.support.memory import MemoryGates, MemoryGrants, MemoryMarkers, MemoryOutcomes, MemoryRules, World
from tests.support.scheduler import Fault, Scheduler, Touches
from tollgate.accounts.rules import Rules
from tollgate.gate.item import Gate, GateWrite, Recounted, Written
from tollgate.gate.ports import AnswerLost, GateDeps
from tollgate.ids import uuid7
from tollgate.usage.grant import Clawback, Ended, GrantRow, Pending
from tollgate.usage.outcome import Event, Outcome, OutcomeKey, Void

T = TypeVar("T")
ROWS = "event rows"
RULES = "rules row"
GRANTS = "grant rows"
MARKERS = MemoryMarkers()


def faulty(world: World, scheduler: Scheduler, process: int, skew_ms: int, rules: dict[str, Rules]) -> GateDeps:
    """The dependencies of process number `process` under a scheduler. `rules`: its cache.

    Incarnations and nonces come from a count of the process's own: so moves that commute leave the same world behind
    in either order.
    """
    made = count(1)
    return GateDeps(
        gates=FaultyGates(world, scheduler),
        outcomes=FaultyOutcomes(world, scheduler),
        markers=MARKERS,
        rules=FaultyRules(world, scheduler, rules),
        clock=lambda: world.now_ms + skew_ms,
        incarnate=lambda now_ms: uuid7(now_ms, (next(made) << 8 | process).to_bytes(10, "big")),
        nonce=lambda: (next(made) << 8 | process).to_bytes(4, "big"),
        pause=lambda tried: None,
        grants=FaultyGrants(world, scheduler),
    )


def _send(scheduler: Scheduler, name: str, touches: Touches, once: bool, apply: Callable[[], T]) -> T:
    fault = scheduler.pause(name, touches, once)
    if fault is None:
        return apply()
    if fault is Fault.LOST:
        raise AnswerLost
    if fault is Fault.DELAYED:
        scheduler.send_later(apply)
        raise AnswerLost
    answer = apply()
    if fault is Fault.UNANSWERED:
        raise AnswerLost
    if fault is Fault.DOUBLED:
        scheduler.send_later(apply)
        return answer
    assert fault is Fault.RESENT
    scheduler.pause(f"{name} again", touches)
    return apply()


class FaultyGates(MemoryGates):
    def __init__(self, world: World, scheduler: Scheduler) -> None:
        super().__init__(world)
        self._scheduler = scheduler

    def write(self, write: GateWrite, *, retry: bool = True) -> Written:
        touches = ((write.subject, True),)
        name = f"writes gate {write.subject}"
        return self.answered(_send(self._scheduler, name, touches, not retry, lambda: self.apply(write)))

    def read(self, subject: str) -> Gate | None:
        self._scheduler.pause(f"reads gate {subject}", ((subject, False),))
        return super().read(subject)

    def finish_recount(self, write: Recounted) -> bool:
        self._scheduler.pause(f"ends the recount of {write.subject}", ((write.subject, True),))
        return super().finish_recount(write)


class FaultyOutcomes(MemoryOutcomes):
    """Rows only ever go one way: a put that its row refuses now, it refuses later, too, and so it only reads.

    The SDK gives a transaction a token by itself: sent again it is applied once and answered alike, so late commits
    need no fault."""

    def __init__(self, world: World, scheduler: Scheduler) -> None:
        super().__init__(world)
        self._scheduler = scheduler

    def origin(self, account: str, key: str, proposed_ms: int) -> int:
        unknown = (account, key) not in self._world.origins
        self._scheduler.pause(f"looks up the origin of {key}", ((f"origin {key}", unknown),))
        return super().origin(account, key, proposed_ms)

    def put_event(self, event: Event) -> Outcome | None:
        ended = isinstance(self._there(event.at), Event)
        touches: Touches = ((_row(event.at), False),) if ended else ((_row(event.at), True), (ROWS, True))
        return _send(self._scheduler, f"puts the event {event.at.key}", touches, False, lambda: self.apply_event(event))

    def put_void(self, void: Void) -> Outcome | None:
        touches = ((_row(void.at), self._raises(void)),)
        return _send(self._scheduler, f"puts the void {void.at.key}", touches, False, lambda: self.apply_void(void))

    def _raises(self, void: Void) -> bool:
        """Whether the void may change its row: an event stays, and so does a void that is as new."""
        there = self._there(void.at)
        if isinstance(there, Event):
            return False
        return there is None or any(there.incarnations.get(per, b"") < own for per, own in void.incarnations.items())

    def get(self, at: OutcomeKey) -> Outcome | None:
        self._scheduler.pause(f"reads the outcome {at.key}", ((_row(at), False),))
        return super().get(at)

    def events_between(self, account: str, first_ms: int, last_ms: int) -> Iterator[Event]:
        self._scheduler.pause("reads the events", ((ROWS, False),))
        return super().events_between(account, first_ms, last_ms)

    def commit_late(self, event: Event, over: Void, writes: Sequence[GateWrite]) -> bool:
        gates = ((write.subject, True) for write in writes)
        self._scheduler.pause(f"commits late {event.at.key}", ((_row(event.at), True), (ROWS, True), *gates))
        return super().commit_late(event, over, writes)


class FaultyGrants(MemoryGrants):
    """The SDK gives the transaction of `open` a token by itself: sent again it is applied once and answered alike."""

    def __init__(self, world: World, scheduler: Scheduler) -> None:
        super().__init__(world)
        self._scheduler = scheduler

    def open(self, row: GrantRow) -> GrantRow:
        self._scheduler.pause(f"opens the grant of {row.source_id}", ((GRANTS, True),))
        return super().open(row)

    def rows(self, account: str) -> list[GrantRow]:
        self._scheduler.pause("reads the grants", ((GRANTS, False),))
        return super().rows(account)

    def get(self, account: str, number: int) -> GrantRow | None:
        self._scheduler.pause(f"reads grant {number}", ((GRANTS, False),))
        return super().get(account, number)

    def by_source(self, account: str, source: str, source_id: str) -> GrantRow | None:
        self._scheduler.pause(f"reads the grant of {source_id}", ((GRANTS, False),))
        return super().by_source(account, source, source_id)

    def begin_clawback(self, row: GrantRow, pending: Pending) -> bool:
        begin = super().begin_clawback
        return self._update(f"begins to claw back grant {row.number}", lambda: begin(row, pending))

    def end_clawback(self, row: GrantRow, done: Clawback) -> bool:
        end = super().end_clawback
        return self._update(f"ends the clawback of grant {row.number}", lambda: end(row, done))

    def end(self, row: GrantRow, ended: Ended) -> None:
        end = super().end
        self._update(f"ends grant {row.number}", lambda: end(row, ended))

    def _update(self, name: str, apply: Callable[[], T]) -> T:
        return _send(self._scheduler, name, ((GRANTS, True),), False, apply)


class FaultyRules(MemoryRules):
    def __init__(self, world: World, scheduler: Scheduler, cache: dict[str, Rules]) -> None:
        super().__init__(world, cache)
        self._scheduler = scheduler

    def fresh(self, account: str) -> Rules:
        self._scheduler.pause("reads the rules", ((RULES, False),))
        return super().fresh(account)


def _row(at: OutcomeKey) -> str:
    return f"row {at.origin_ms} {at.key}"
