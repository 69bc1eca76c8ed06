"""Seal asks for the closes that are due to be looked at: it runs anyway, and it has no key to Stripe."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, Protocol

from tollgate.billing.close_row import Close, CloseKey
from tollgate.clock import Clock

AGAIN_S: Final = 300
"""When a close is asked for again if nothing came of its message: longer than a step takes."""
MOST_A_RUN: Final = 500
"""Closes of one shard in one run; the rest follow in the next ones, oldest due time first."""
TASK: Final = "close"


class DueCloses(Protocol):
    def due(self, shard: int, until: int) -> Iterator[CloseKey]: ...
    def get(self, key: CloseKey) -> Close | None: ...
    def replace(self, before: Close, after: Close) -> Close | None: ...


class Tasks(Protocol):
    def task(self, name: str, fields: Mapping[str, str]) -> None:
        """Queue a task for whoever has the key to Stripe."""


@dataclass(frozen=True, slots=True)
class CloseDueDeps:
    closes: DueCloses
    tasks: Tasks
    clock: Clock


def ask_for_due(deps: CloseDueDeps, shards: Iterable[int], in_time: Callable[[], bool] = lambda: True) -> int:
    """Queue a task `{"task": "close", "customer", "invoice"}` for each close that is due; returns how many.

    The row's due time moves on first. A crash between the two, or a lost message, is made up for at that time.
    """
    asked = 0
    for shard in shards:
        now = deps.clock() // 1000
        for number, key in enumerate(deps.closes.due(shard, now)):
            if number >= MOST_A_RUN or not in_time():
                break
            row = deps.closes.get(key)
            if row is None or row.due_at is None or row.due_at > now:
                continue  # the index lags behind the row
            if deps.closes.replace(row, replace(row, due_at=now + AGAIN_S)) is not None:
                deps.tasks.task(TASK, {"customer": key.customer, "invoice": key.invoice})
                asked += 1
    return asked
