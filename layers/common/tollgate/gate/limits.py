"""Limits as answers show them: what is used, held and left, and when the window resets."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple

from tollgate.accounts.rules import BREAKER, Counter, RuledLimit, Rules, windowed_end
from tollgate.catalog.model import SharedLimit
from tollgate.gate.item import Count, Gate
from tollgate.gate.steps import FAR
from tollgate.quantities import ZERO


class LimitState(NamedTuple):
    """One limit now. `maximum` None: unlimited. Epoch seconds; None: the window never ends, or has not begun."""

    ruled: RuledLimit
    member: str | None
    window_start: int | None
    resets_at: int | None
    used: Decimal
    held: Decimal

    @property
    def remaining(self) -> Decimal | None:
        if self.ruled.maximum is None:
            return None
        return max(self.ruled.maximum - self.used - self.held, ZERO)

    @property
    def over(self) -> bool:
        return self.ruled.maximum is not None and self.used + self.held > self.ruled.maximum


class SharedState(NamedTuple):
    """A limit that accounts share, as a process knows it. Epoch seconds; `resets_at` None: the window never ends."""

    limit: SharedLimit
    value: str | None
    """Of the limit's dimension, where it has one."""
    window_start: int
    resets_at: int | None
    counted: Decimal
    """Units used and held."""
    exact: bool
    """False: some of its shards were not looked at."""

    @property
    def remaining(self) -> Decimal:
        return max(self.limit.max - self.counted, ZERO)


class SharedRefusal(NamedTuple):
    """A shared limit that has no room for a request, and what was seen to be left."""

    state: SharedState
    requested: Decimal
    remaining: Decimal


class Taken(NamedTuple):
    """What a reservation took from one shared counter, so that it can be given back to the same shards."""

    base: str
    window: int
    ends: int | None
    pieces: tuple[tuple[int, Decimal], ...]
    """(shard, units)."""

    @property
    def units(self) -> Decimal:
        return sum((units for _, units in self.pieces), ZERO)


def window_of(rules: Rules, counter: Counter, count: Count | None, now: int) -> tuple[int | None, int | None]:
    """(start, end) of the window that is current at `now`, given the stored one."""
    if counter.kind is None:
        return None, None
    if count is not None:
        end = windowed_end(counter, count.window, rules.row.calendar)
        if end is None or end > now:
            return count.window, end
    if counter.kind.hours is not None:
        return None, None
    window = rules.window(counter, now)
    return window.start, window.end


def resets_at(rules: Rules, counter: Counter, count: Count | None, now: int) -> int:
    """When the current window ends, to order limits by; FAR where it does not end by itself."""
    end = window_of(rules, counter, count, now)[1]
    return FAR if end is None else end


def refusing_order(rules: Rules, ruled: RuledLimit, count: Count | None, now: int) -> int:
    """Of several limits that do not fit, the one with the most refuses: the one that resets last. The breaker comes
    after all others: it freezes the account, and what a limit refuses anyway runs away from nobody."""
    return -1 if ruled.source == BREAKER else resets_at(rules, ruled.counter, count, now)


def states(
    rules: Rules, limits: Iterable[RuledLimit], gate: Gate | None, member: str | None, now: int
) -> list[LimitState]:
    """The given limits of one gate, as the next reservation at `now` (epoch seconds) will see them."""
    found = []
    for ruled in limits:
        count = None if gate is None else gate.counts.get(ruled.counter.slot)
        start, end = window_of(rules, ruled.counter, count, now)
        used, held = ZERO, ZERO
        if count is not None:
            held = count.held
            if ruled.counter.kind is None or start == count.window:  # the stored window is the current one
                used = count.taken - count.held
        found.append(LimitState(ruled, member if ruled.limit.per == "member" else None, start, end, used, held))
    return found
