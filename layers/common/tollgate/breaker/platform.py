"""The breaker of all accounts together: what their usage costs the operator in an hour.

Commits bring the cost. Each process adds what it saw to the hour's one row, not with every commit: with the first one
in ten seconds, or once it has seen a hundredth of the cap. So a row takes at most a write in ten seconds or a hundredth
of the cap from each process, and needs no shards up to 10,000 busy processes. What nobody has added yet is at most a
hundredth of the cap in each process, and that is what dies with it; the scheduled task finds it in the rollups.

Past the cap the alert is put, then the stop, which gates read once a minute: a crash between leaves a stop to the next
commit with a cost. Only reservations are refused: what has run is recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, NamedTuple, Protocol

from tollgate.alerts.outbox import Alert, Outbox
from tollgate.clock import Clock, rfc3339
from tollgate.quantities import ZERO, plain
from tollgate.windows import HOUR

EVERY_MS: Final = 10_000
STEPS: Final = 100


class Spent(NamedTuple):
    """What an hour cost so far, and how much of that was let through by a resume."""

    cost: Decimal
    resumed: Decimal = ZERO
    resumes: int = 0


class Stop(NamedTuple):
    """`since`: epoch seconds. `resumes`: of its hour, when it was stopped: one more of them, and it holds no more."""

    since: int
    hour: int
    cost: Decimal
    cap: Decimal
    resumes: int = 0


class PlatformStore(Protocol):
    def add(self, hour: int, cost: Decimal) -> Spent | None:
        """Add to what the hour cost. None: nobody knows whether it was added."""

    def spent(self, hour: int) -> Spent: ...

    def forgive(self, hour: int) -> None:
        """What the hour cost so far counts no more."""

    def stop(self, stop: Stop) -> bool:
        """Put, but for where there is that one, or a later one; returns whether it was put."""

    def stopped(self) -> Stop | None:
        """The stop that holds. One that a slow process put after its hour was resumed holds nothing."""

    def go_on(self) -> None: ...


@dataclass(slots=True)
class Platform:
    """One process's part. `cap`: None where there is none; `stopped`: told when this process found everything to be
    stopped, and whether it was the first."""

    store: PlatformStore
    outbox: Outbox
    clock: Clock
    cap: Callable[[], Decimal | None]
    stopped: Callable[[bool], None]
    _seen: Decimal = ZERO
    _hour: int = 0
    _added_ms: int = -EVERY_MS

    def spent(self, cost: Decimal) -> None:
        """Usage that is recorded cost this much."""
        cap, now_ms = self.cap(), self.clock()
        if cap is None:
            return
        hour = now_ms // 1000 // HOUR * HOUR
        if hour != self._hour:
            if self._seen:
                self._add(cap)
            self._hour = hour
        self._seen += cost
        if self._seen * STEPS >= cap or not 0 <= now_ms - self._added_ms < EVERY_MS:
            self._added_ms = now_ms
            self._add(cap)

    def _add(self, cap: Decimal) -> None:
        seen, self._seen = self._seen, ZERO
        found = self.store.add(self._hour, seen)
        if found is not None and found.cost - found.resumed > cap:
            stop = Stop(self.clock() // 1000, self._hour, found.cost, cap, found.resumes)
            self.stopped(stop_all(self.store, self.outbox, stop))


def stop_all(store: PlatformStore, outbox: Outbox, stop: Stop) -> bool:
    """Tell, and stop what is new. Harmless to repeat: each stop of an hour is told once. Returns whether it is new."""
    outbox.put(
        Alert(
            id=f"breaker-platform:{stop.hour}:{stop.resumes}",
            kind="breaker_platform",
            account="",
            subject=f"Everything is stopped: provider cost reached {plain(stop.cost)} USD within an hour",
            text=f"All accounts together cost {plain(stop.cost)} USD in the hour from {rfc3339(stop.hour)}; the "
            f"catalogue allows {plain(stop.cap)}. No reservation is granted until you resume: "
            "POST /v1/platform/resume, or `tollgate breaker resume --platform`.",
            at_ms=stop.since * 1000,
            facts={"window": rfc3339(stop.hour), "cost": plain(stop.cost), "cap": plain(stop.cap)},
        )
    )
    return store.stop(stop)


def resume_all(store: PlatformStore, now: int) -> Stop | None:
    """Go on, with a whole cap more for the hour of `now`. Returns what was stopped; None: nothing was, and nothing
    changes. A crash after the first of two hours leaves the stop, and the call is repeated; the last forgiveness ends
    it, and its row is no more than in the way."""
    stop, hour = store.stopped(), now // HOUR * HOUR
    if stop is not None:
        if hour != stop.hour:
            store.forgive(hour)
        store.forgive(stop.hour)
        store.go_on()
    return stop
