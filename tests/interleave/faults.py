"""The in-memory stores with the faults of a network: lost answers, writes that arrive late or twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from tests.support.memory import MemoryGates, MemoryOutcomes, World
from tests.support.scheduler import Fault, Scheduler
from tollgate.accounts.rules import Rules
from tollgate.gate.item import GateWrite, Written
from tollgate.gate.ports import AnswerLost, GateDeps
from tollgate.usage.outcome import Event, Outcome, Void

T = TypeVar("T")


def faulty(world: World, scheduler: Scheduler, skew_ms: int, rules: dict[str, Rules]) -> GateDeps:
    """One process's dependencies under a scheduler. `rules`: its cache."""
    return replace(
        world.deps(skew_ms, rules), gates=FaultyGates(world, scheduler), outcomes=FaultyOutcomes(world, scheduler)
    )


def _send(scheduler: Scheduler, name: str, once: bool, apply: Callable[[], T]) -> T:
    fault = scheduler.pause(name, once)
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
    scheduler.pause(f"{name} again")
    return apply()


class FaultyGates(MemoryGates):
    def __init__(self, world: World, scheduler: Scheduler) -> None:
        super().__init__(world)
        self._scheduler = scheduler

    def write(self, write: GateWrite, *, retry: bool = True) -> Written:
        return _send(self._scheduler, "writes the gate", not retry, lambda: self.apply(write))


class FaultyOutcomes(MemoryOutcomes):
    """The SDK gives a transaction a token by itself: sent again it is applied once and answered alike, so late commits
    need no fault."""

    def __init__(self, world: World, scheduler: Scheduler) -> None:
        super().__init__(world)
        self._scheduler = scheduler

    def put_event(self, event: Event) -> Outcome | None:
        return _send(self._scheduler, "puts an event", False, lambda: self.apply_event(event))

    def put_void(self, void: Void) -> Outcome | None:
        return _send(self._scheduler, "puts a void", False, lambda: self.apply_void(void))
