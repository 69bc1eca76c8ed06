"""rate() schedules in stack time."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any, cast

import pytest

from local.clock import StackClock
from local.functions import FunctionPool, Outcome
from local.schedules import Scheduler, shared_input
from local.template import Schedule


class Recorder:
    """Stands in for a pool: remembers events, and can take its time."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.hold: asyncio.Event | None = None

    async def invoke(self, event: bytes) -> Outcome:
        self.events.append(json.loads(event))
        if self.hold is not None:
            await self.hold.wait()
        return Outcome(b"null")


def scheduler_of(recorder: Recorder, clock: StackClock, *schedules: Schedule) -> Scheduler:
    return Scheduler(schedules, {"seal": cast(FunctionPool, recorder)}, clock, minute_seconds=5)


def rule(name: str, seconds: int, event: Any) -> Schedule:
    return Schedule(name, "seal", seconds, event)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0.005)


def test_a_minute_is_the_seal_window_and_other_rates_are_their_own(tmp_path: Path) -> None:
    async def body() -> None:
        clock, recorder = StackClock.create(tmp_path / "clock"), Recorder()
        scheduler = scheduler_of(recorder, clock, rule("a", 60, {"n": 1}), rule("b", 900, {"n": 15}))
        task = asyncio.create_task(scheduler.run())
        await settle()
        assert recorder.events == [], "nothing is due at the start"
        clock.advance(6)
        scheduler.clock_moved()
        await settle()
        assert recorder.events == [{"n": 1}]
        clock.advance(900)
        scheduler.clock_moved()
        await settle()
        assert sorted(event["n"] for event in recorder.events) == [1, 1, 15], "a jump runs each rule once"
        task.cancel()

    asyncio.run(body())


def test_a_rule_falls_due_by_itself(tmp_path: Path) -> None:
    async def body() -> None:
        clock, recorder = StackClock.create(tmp_path / "clock"), Recorder()
        scheduler = Scheduler([rule("a", 60, {})], {"seal": cast(FunctionPool, recorder)}, clock, minute_seconds=1)
        task = asyncio.create_task(scheduler.run())
        started = time.monotonic()
        while len(recorder.events) < 2:
            assert time.monotonic() - started < 20
            await asyncio.sleep(0.01)
        assert time.monotonic() - started > 1.9
        task.cancel()

    asyncio.run(body())


def test_a_rule_that_still_runs_is_not_started_again(tmp_path: Path) -> None:
    async def body() -> None:
        clock, recorder = StackClock.create(tmp_path / "clock"), Recorder()
        recorder.hold = asyncio.Event()
        scheduler = scheduler_of(recorder, clock, rule("a", 60, {}))
        task = asyncio.create_task(scheduler.run())
        for _ in range(3):
            clock.advance(6)
            scheduler.clock_moved()
            await settle()
        assert len(recorder.events) == 1
        recorder.hold.set()
        await settle()
        clock.advance(6)
        scheduler.clock_moved()
        await settle()
        assert len(recorder.events) == 2
        task.cancel()

    asyncio.run(body())


@pytest.mark.parametrize(
    ("events", "shared"),
    [
        ([{"shards": [0]}, {"shards": [1]}], {}),
        ([{"kind": "seal", "shards": [0]}, {"kind": "seal", "shards": [1]}], {"kind": "seal"}),
        ([{"only": 1}], {"only": 1}),
        ([{"a": 1}, {}], {}),
        ([None], {}),
        ([], {}),
    ],
)
def test_a_run_by_hand_gets_what_all_rules_say_alike(events: list[Any], shared: dict[str, Any]) -> None:
    assert shared_input([rule(str(i), 60, event) for i, event in enumerate(events)]) == shared


def test_a_rule_without_input_gets_eventbridges_event_in_stack_time(tmp_path: Path) -> None:
    async def body() -> None:
        clock, recorder = StackClock.create(tmp_path / "clock"), Recorder()
        scheduler = scheduler_of(recorder, clock, rule("Nightly", 60, None))
        clock.advance(50 * 366 * 86_400)
        event = scheduler.own_event(scheduler.schedules[0])
        assert (event["source"], event["detail-type"]) == ("aws.events", "Scheduled Event")
        assert int(event["time"][:4]) >= 2070
        assert event["resources"][0].endswith("rule/Nightly")

    asyncio.run(body())


def test_a_run_by_hand_lays_the_callers_event_on_top(tmp_path: Path) -> None:
    async def body() -> None:
        clock, recorder = StackClock.create(tmp_path / "clock"), Recorder()
        scheduler = scheduler_of(recorder, clock, rule("a", 60, {"kind": "seal", "shards": [0]}))
        await scheduler.run_now("seal", {"shards": [3], "extra": True})
        assert recorder.events == [{"kind": "seal", "shards": [3], "extra": True}]

    asyncio.run(body())
