"""Reads the books of an account: event rows, frozen windows and batches, by meter."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tollgate.accounts.rules import Rules
from tollgate.billing.batch import Batch
from tollgate.billing.grid import Grid
from tollgate.billing.seal import batches_of
from tollgate.billing.sealed import SealedWindow
from tollgate.reconcile.books import Books, Count, Slot
from tollgate.reconcile.ports import ReconcileDeps
from tollgate.usage.markers import coalesced
from tollgate.windows import PERIOD, window_at

NEAR_S: Final = 3_600
"""Rows whose ids begin this long before a stretch are read even where no marker or frozen window tells of them."""
LONGEST_WINDOW_S: Final = 3_600
"""A window that began so long before a stretch may have its timestamp inside."""


def books_of(
    deps: ReconcileDeps, rules: Rules, start: int, end: int, meters: Iterable[str] = (), *, rows: bool = True
) -> dict[str, Books]:
    """The books of all meters that have anything booked at the sink in [start, end), and of those named. The rows of
    accounts that became this one stand under their own ids, and belong to it. Without `rows` none is read: the frozen
    totals stand for them."""
    reader = _Reader(deps, rules, start, end, with_rows=rows)
    for meter in meters:
        reader.books(meter)
    for home in rules.homes:
        reader.read(home)
    for books in () if rows else reader.found.values():
        books.rows = dict(books.sealed)
    return reader.found


class _Reader:
    def __init__(self, deps: ReconcileDeps, rules: Rules, start: int, end: int, *, with_rows: bool) -> None:
        self._with_rows = with_rows
        self._deps, self._rules, self._start, self._end = deps, rules, start, end
        self._grid = deps.windows.known_grid() or Grid.of(deps.seal_seconds)
        self.found: dict[str, Books] = {}

    def books(self, meter: str) -> Books:
        if meter not in self.found:
            known = self._rules.meters.get(meter)
            self.found[meter] = Books(
                self._rules.account,
                meter,
                (known.stripe_event_name if known else None) or "",
                self._start,
                self._end,
                self._rules.row.stripe_customer_id,
                level=known is not None and known.kind == "level",
            )
        return self.found[meter]

    def read(self, home: str) -> None:
        first = self._start - LONGEST_WINDOW_S
        batches: dict[str, list[Batch]] = {}
        windows = list(self._deps.windows.between(home, first, self._end))
        periods = {window.total.period_start for window in windows} | self._periods()
        for meter in {*self.found, *(meter for window in windows for meter in window.total.meters)}:
            batches[meter] = [
                one
                for period in sorted(periods)
                for one in self._deps.batches.between(home, meter, period, first, self._end)
            ]
        if self._with_rows:
            self._rows(home, windows)
        for window in windows:
            self._frozen(home, window, batches)
        for meter, some in batches.items():
            mine = [one for one in some if self._inside(one.timestamp)]
            if mine:
                books = self.books(meter)
                books.batches += mine
                books.event_name = mine[-1].event_name or books.event_name

    def _rows(self, home: str, windows: Iterable[SealedWindow]) -> None:
        ranges = [((self._start - NEAR_S) * 1000, self._end * 1000 - 1)]
        for window in windows:
            ranges += [(at * 1000, (at + window.seal_seconds) * 1000 - 1) for at in window.range_starts]
        ranges += [marker.ids_ms for marker in self._deps.markers.of_account(home)]
        for first_ms, last_ms in coalesced(ranges):
            for event in self._deps.events.events_between(home, first_ms, last_ms):
                at = event.recorded_s
                if not self._start - LONGEST_WINDOW_S <= at < self._end + LONGEST_WINDOW_S:
                    continue
                slot = self._slot(at)
                if not self._inside(slot.timestamp):
                    continue
                for item in event.items:
                    books = self.books(item.meter)
                    books.rows[home, slot] = books.rows.get((home, slot), Count()).plus(1, item.billable)
                    origin = event.at.origin_ms // 1000 // self._deps.seal_seconds * self._deps.seal_seconds
                    books.origins.setdefault((home, slot), set()).add(origin)

    def _periods(self) -> set[int]:
        """Where the billing periods begin that the stretch touches."""
        found, at = set(), self._start
        while at < self._end:
            period = window_at(PERIOD, self._rules.row.calendar, at)
            if period.end is None:
                raise AssertionError("a billing period ends")
            found.add(period.start)
            at = period.end
        return found

    def _slot(self, at: int) -> Slot:
        (window,) = self._grid.windows(at, at + 1)
        period = window_at(PERIOD, self._rules.row.calendar.known_at(window.end), at)  # as seal assigns it
        if period.end is None:
            raise AssertionError("a billing period ends")
        return Slot(window.start, window.end, period.start, period.end)

    def _frozen(self, home: str, window: SealedWindow, batches: dict[str, list[Batch]]) -> None:
        total = window.total
        slot = Slot(window.window_start, window.window_end, total.period_start, total.period_end)
        if not self._inside(slot.timestamp):
            return
        for meter, amount in total.meters.items():
            books = self.books(meter)
            books.sealed[home, slot] = books.sealed.get((home, slot), Count()).plus(amount.events, amount.billable)
        for expected in batches_of(window, self._rules.row.stripe_customer_id, window.sealed_at, 0):
            if all(one.key != expected.key for one in batches.get(expected.meter, ())):
                self.books(expected.meter).missing.append(expected)

    def _inside(self, timestamp: int) -> bool:
        return self._start <= timestamp < self._end
