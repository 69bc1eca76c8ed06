"""What falls due when, for everything that changes as time passes."""

from __future__ import annotations

import heapq


class Schedule:
    """Ids by due time, epoch seconds; of equal times the first put comes first.

    An id may stand here several times, also for times that no longer hold: whoever takes one looks at the object.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, str]] = []
        self._count = 0

    def put(self, at: int | None, thing_id: str) -> None:
        """Note that this falls due then; None: never."""
        if at is not None:
            self._count += 1
            heapq.heappush(self._heap, (at, self._count, thing_id))

    def take(self, now: int) -> tuple[int, str] | None:
        """The earliest (due time, id) that is not after `now`."""
        if not self._heap or self._heap[0][0] > now:
            return None
        at, _, thing_id = heapq.heappop(self._heap)
        return at, thing_id
