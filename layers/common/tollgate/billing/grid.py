"""The grid of seal windows over time, so that each instant lies in exactly one window for ever.

The length of a window is a setting. Two lengths in force at once would seal the same rows twice, or not at all, so a
new length begins at an instant where both grids have an edge, and the past keeps its own. Markers may name windows of
either length meanwhile: seal takes them as hints and cuts time by the grid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

AHEAD_S: Final = 600
"""A new length begins no sooner: seals that run just now have read the grid already."""
NEAR_S: Final = 86_400
"""How long containers with another length may write markers around a change."""


class GridWindow(NamedTuple):
    start: int
    seconds: int

    @property
    def end(self) -> int:
        return self.start + self.seconds


@dataclass(frozen=True, slots=True)
class Grid:
    """(since, window length) in order, the first since 0; every since is an edge of both lengths around it."""

    reigns: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, seconds: int) -> Grid:
        return cls(((0, seconds),))

    def with_length(self, seconds: int, now: int) -> Grid:
        """This grid with the length wanted from now on; itself where that is so already."""
        if self.reigns[-1][1] == seconds:
            return self
        begun = tuple(reign for reign in self.reigns if reign[0] <= now + AHEAD_S)
        if begun[-1][1] == seconds:
            return Grid(begun)  # a change that had not begun is taken back
        edge = math.lcm(begun[-1][1], seconds)
        return Grid((*begun, (-(-(now + AHEAD_S) // edge) * edge, seconds)))

    def reach(self, window: int, seconds: int) -> int:
        """How far a marker at `window` may reach: the longest of its own length and those in force near it. Another
        container may have put the same marker, of another length, over it."""
        lengths = [seconds]
        for at, (since, length) in enumerate(self.reigns):
            until = self.reigns[at + 1][0] if at + 1 < len(self.reigns) else math.inf
            if since <= window + NEAR_S and window - NEAR_S < until:
                lengths.append(length)
        return max(lengths)

    def windows(self, start: int, end: int) -> list[GridWindow]:
        """The windows that overlap [start, end), in order."""
        found = []
        at = start
        while at < end:
            length = next(length for since, length in reversed(self.reigns) if since <= at)
            first = at // length * length
            found.append(GridWindow(first, length))
            at = first + length
        return found
