"""Reads the sink's totals for one book, with as few reads as its differences need.

One read where all agrees. Where it does not, the minutes in doubt are read, then what is left over is narrowed down by
halves: the other half's total is known by subtraction.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from tollgate.quantities import EXACT
from tollgate.reconcile.books import MINUTE, Books, minute_of
from tollgate.reconcile.classify import Minute, doubts, minutes_of
from tollgate.reconcile.ports import Totals

MOST_READS: Final = 150
"""For one book; what is not narrowed down by then stays a longer stretch."""


class SinkReader:
    """Totals of one customer and meter. `reads` counts."""

    def __init__(self, totals: Totals, books: Books) -> None:
        if books.customer is None:
            raise ValueError("without a customer there is nothing to read")
        self._totals, self._books, self._customer = totals, books, books.customer
        self.reads = 0

    def total(self, start: int, end: int) -> Decimal:
        self.reads += 1
        return self._totals.total(self._customer, self._books.event_name, start, end)

    def gap(self, start: int, end: int, actual: Decimal) -> Decimal:
        return EXACT.subtract(actual, self._books.sent(start, end, self._customer))

    def differing(self, actual: Decimal) -> list[Minute]:
        """Minutes (or stretches, where reads ran out) that differ or hold doubts; `actual` is the whole total."""
        books = self._books
        found = {}
        rest = self.gap(books.start, books.end, actual)
        for minute in minutes_of(one for one in doubts(books)):
            if self.reads >= MOST_READS:
                break
            there = self.total(minute, minute + MINUTE)
            found[minute] = Minute(minute, minute + MINUTE, there)
            rest = EXACT.subtract(rest, self.gap(minute, minute + MINUTE, there))
        if rest:
            for one in self._halves(Minute(books.start, books.end, actual), found):
                found[one.start] = one
        return [found[start] for start in sorted(found)]

    def _halves(self, whole: Minute, known: dict[int, Minute]) -> list[Minute]:
        gap = self.gap(whole.start, whole.end, whole.actual)
        for start, one in known.items():
            if whole.start <= start < whole.end:
                gap = EXACT.subtract(gap, self.gap(one.start, one.end, one.actual))
        if not gap:
            return []
        if whole.end - whole.start <= MINUTE or self.reads >= MOST_READS:
            return [whole]
        middle = minute_of((whole.start + whole.end) // 2)
        left = self.total(whole.start, middle)
        right = EXACT.subtract(whole.actual, left)
        halves = (Minute(whole.start, middle, left), Minute(middle, whole.end, right))
        return [one for half in halves for one in self._halves(half, known)]
