"""What fills up, and which marks it has passed: limits, levels, included units, money and credits of one gate. Pure.

A *reading* is one thing that fills up, as a gate shows it; its marks are percentages of its maximum. What is *used*
counts, not what open reservations hold: it changes only in the write that settles a call, and inside a window it never
falls, so of all writes exactly one sees a mark between what was used before it and after it. Credits are the exception:
they count when they are taken, and one that comes back and is taken again passes the same mark under the same id.

Of several marks that one write passes, the highest is told; the others stand in its facts. The scheduled function looks
at what a gate shows, tells the highest mark that is passed, and so agrees: it finds what a crash kept from being told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import NamedTuple

from tollgate.accounts.rules import Rules
from tollgate.gate.item import Gate
from tollgate.gate.limits import states
from tollgate.quantities import EXACT, ZERO
from tollgate.usage.outcome import ACCOUNT, MEMBER
from tollgate.windows import WindowKind

DEFAULT = (50, 80, 90, 100)
"""Percent at which a plan tells, where it says nothing."""


class Reading(NamedTuple):
    """One thing that fills up. `kind`: `limit`."""

    kind: str
    id: str
    """Of the limit, or the meter."""
    meters: tuple[str, ...]
    maximum: Decimal
    used: Decimal
    start: int
    """Of the window, epoch seconds; 0 where it has none."""
    ends: int | None
    window: WindowKind | None = None
    member: str | None = None


class Crossing(NamedTuple):
    """A mark that is passed. `passed`: the percentages below it that were passed with it."""

    reading: Reading
    percent: int
    passed: tuple[int, ...] = ()


def mark(maximum: Decimal, percent: int) -> Decimal:
    return EXACT.multiply(maximum, Decimal(percent).scaleb(-2))


def passed(reading: Reading, percents: Iterable[int], before: Decimal | None = None) -> Crossing | None:
    """The highest mark in (before, used]; `before` None: of all up to what is used."""
    if reading.maximum <= 0:
        return None
    found = sorted(
        percent
        for percent in set(percents)
        if (at := mark(reading.maximum, percent)) <= reading.used and (before is None or before < at)
    )
    return Crossing(reading, found[-1], tuple(found[:-1])) if found else None


def readings(rules: Rules, gate: Gate, member: str | None, now: int) -> Iterator[Reading]:
    """What fills up on one gate at epoch second `now`. `member` None: the account's gate."""
    per = ACCOUNT if member is None else MEMBER
    limits = [ruled for ruled in rules.limits if ruled.limit.per == per and ruled.limit.concurrent is None]
    for state in states(rules, limits, gate, member, now):
        limit, maximum = state.ruled.limit, state.ruled.maximum
        if maximum is None or not state.used:
            continue
        start = state.window_start or 0
        yield Reading(
            "limit", limit.id, limit.meters, maximum, state.used, start, state.resets_at, limit.window, state.member
        )


def standing(rules: Rules, gate: Gate, member: str | None, now: int) -> list[Crossing]:
    """The highest mark that each thing on a gate has passed."""
    found = (passed(reading, DEFAULT) for reading in readings(rules, gate, member, now))
    return [crossing for crossing in found if crossing is not None and crossing.reading.used > ZERO]
