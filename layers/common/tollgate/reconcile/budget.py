"""Stripe's reads are rationed: 500 GETs for each transaction of the last 30 days, at least 10,000 a month [docs: rate
limits]. Reconciliation counts its own, month by month, and stops politely at its share."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol

from tollgate.clock import Clock
from tollgate.reconcile.ports import OutOfReads


class Spent(Protocol):
    def spent(self, month: str) -> int: ...
    def add_reads(self, month: str, reads: int) -> None: ...


class ReadBudget:
    """Reads of a process. They are noted with `note`: a crash before that loses the count of a few, never more than
    one part of a run."""

    def __init__(self, store: Spent, monthly: int, clock: Clock) -> None:
        self._store, self._monthly, self._clock = store, monthly, clock
        self._month, self._known, self.fresh = "", 0, 0
        self.total = 0
        """All reads of this process."""

    def spend(self, reads: int) -> None:
        """Raises OutOfReads where the month's share is spent."""
        month = month_of(self._clock)
        if month != self._month:
            self.note()
            self._month, self._known = month, self._store.spent(month)
        if self._known + self.fresh + reads > self._monthly:
            raise OutOfReads(f"{self._monthly} reads of {month} are spent")
        self.fresh += reads
        self.total += reads

    def note(self) -> None:
        """Add what was spent to the month's row."""
        if self.fresh:
            self._store.add_reads(self._month, self.fresh)
            self._known, self.fresh = self._known + self.fresh, 0


def month_of(clock: Clock) -> str:
    return datetime.fromtimestamp(clock() // 1000, UTC).strftime("%Y-%m")
