"""EventBridge's rate() schedules in stack time."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from local.clock import StackClock
from local.functions import FunctionPool, Outcome
from local.logs import console
from local.settings import ACCOUNT_ID, REGION
from local.template import Schedule

_MINUTE = 60


def shared_input(schedules: Sequence[Schedule]) -> dict[str, Any]:
    """What all schedules of a function say alike: a run by hand gets that, and nothing that only divides the work."""
    inputs = [schedule.event for schedule in schedules if isinstance(schedule.event, dict)]
    if not inputs:
        return {}
    return {key: value for key, value in inputs[0].items() if all(key in one and one[key] == value for one in inputs)}


class Scheduler:
    """Runs schedules when they fall due. A rule whose last run is still going is not started again."""

    def __init__(
        self, schedules: Sequence[Schedule], pools: Mapping[str, FunctionPool], clock: StackClock, minute_seconds: int
    ) -> None:
        """`minute_seconds`: what rate(1 minute) means here, so that a local stack seals within seconds."""
        self.schedules = schedules
        self._pools = pools
        self._clock = clock
        self._minute = minute_seconds
        self._moved = asyncio.Event()
        now = clock.now()
        self._due = {schedule.logical_id: now + self.period(schedule) for schedule in schedules}
        self._running: dict[str, asyncio.Task[None]] = {}

    def period(self, schedule: Schedule) -> int:
        """Seconds of stack time between two runs."""
        return self._minute if schedule.every_seconds == _MINUTE else schedule.every_seconds

    def of(self, function: str) -> list[Schedule]:
        """The schedules of one function."""
        return [schedule for schedule in self.schedules if schedule.function == function]

    def clock_moved(self) -> None:
        """Look at once for what has fallen due."""
        self._moved.set()

    async def run(self) -> None:
        """Start schedules until cancelled."""
        while True:
            self._moved.clear()
            now = self._clock.now()
            for schedule in self.schedules:
                if self._due[schedule.logical_id] <= now:
                    # After a jump a rule runs once, not once for each period that was jumped over.
                    self._due[schedule.logical_id] = now + self.period(schedule)
                    self._start(schedule)
            wait = max(0.01, min(self._due.values(), default=now + _MINUTE) - self._clock.now())
            try:
                async with asyncio.timeout(wait):
                    await self._moved.wait()
            except TimeoutError:
                continue

    def _start(self, schedule: Schedule) -> None:
        running = self._running.get(schedule.logical_id)
        if running is None or running.done():
            self._running[schedule.logical_id] = asyncio.get_running_loop().create_task(self._invoke(schedule))

    async def _invoke(self, schedule: Schedule) -> None:
        event = self.own_event(schedule) if schedule.event is None else schedule.event
        outcome = await self._pools[schedule.function].invoke(json.dumps(event).encode())
        if outcome.failure is not None:
            text = outcome.payload.decode("utf-8", "replace")
            console(
                f"  {schedule.function} failed on its schedule {schedule.logical_id} ({outcome.failure.value}): {text}"
            )

    def own_event(self, schedule: Schedule) -> dict[str, Any]:
        """EventBridge's event of a rule without Input."""
        return {
            "version": "0",
            "id": str(uuid.uuid4()),
            "detail-type": "Scheduled Event",
            "source": "aws.events",
            "account": ACCOUNT_ID,
            "time": datetime.fromtimestamp(int(self._clock.now()), UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "region": REGION,
            "resources": [f"arn:aws:events:{REGION}:{ACCOUNT_ID}:rule/{schedule.logical_id}"],
            "detail": {},
        }

    async def run_now(self, function: str, extra: Mapping[str, Any]) -> Outcome:
        """Run a scheduled function with what its schedules say alike and `extra` on top."""
        event = {**shared_input(self.of(function)), **extra}
        return await self._pools[function].invoke(json.dumps(event).encode())
