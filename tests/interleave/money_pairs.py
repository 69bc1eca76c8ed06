"""Pairs of calls on gates with prices, money caps and credits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations_with_replacement, product

from tests.interleave.money_worlds import (
    MEMBER_MONEY,
    MONEY_SHAPES,
    NO_OVERAGE,
    PER_UNIT,
    PREPAID,
    SPLIT,
    TIERS,
    TWO_METERS,
)
from tests.interleave.pairs import FAST, SLOW, Scenario, sensible
from tests.interleave.worlds import Shape

CLIENT = ("reserve", "reserve new", "commit", "commit over", "release", "extend", "record")
CALLS = (*CLIENT, "reclaim", "rollover", "lower limit")
ON_CREDITS = ("give", "claw back", "refund", "tidy")
NOON_MS = 43_200_000


def _keys(scenario: Scenario) -> Iterator[Scenario]:
    yield scenario
    if sensible(scenario.first, scenario.second, False):
        yield replace(scenario, same=False)


def _calls(shape: Shape) -> tuple[str, ...]:
    return (*CALLS, *ON_CREDITS) if shape in (SPLIT, PREPAID) else CALLS


def money_pairs() -> Iterator[Scenario]:
    """Each pair of calls on each kind of money. `rollover` begins a new billing period, `lower limit` another price."""
    for shape in MONEY_SHAPES:
        for first, second in combinations_with_replacement(_calls(shape), 2):
            yield from _keys(Scenario(shape, first, second))


def money_clocks() -> Iterator[Scenario]:
    """One clock is already in the next billing period, one still in the last."""
    small = ("reserve new", "commit", "commit over", "extend", "record")
    for shape, before in product((PER_UNIT, SPLIT, PREPAID, TWO_METERS), (1_000, -1_000)):
        for first, second in product(small, small):
            yield from _keys(Scenario(shape, first, second, skews=(FAST, SLOW), before_midnight_ms=before))


def money_stale() -> Iterator[Scenario]:
    """The first caller has the rules from before other prices that are in force."""
    for shape in (TIERS, SPLIT, NO_OVERAGE, MEMBER_MONEY):
        for first, second in product(CLIENT, ("reserve new", "commit", "extend", "record")):
            yield from _keys(Scenario(shape, first, second, stale=True))


def money_afterwards() -> Iterator[Scenario]:
    """The reservations have been committed, released, or have expired."""
    for shape, gone in product((TIERS, SPLIT), ("committed", "voided", "expired")):
        for first, second in combinations_with_replacement((*CLIENT, "reclaim"), 2):
            yield Scenario(shape, first, second, gone=gone, before_midnight_ms=NOON_MS)
    for shape in (PER_UNIT, SPLIT, MEMBER_MONEY):
        for second in ("record shared", "reserve new", "commit"):
            yield Scenario(shape, "record shared", second)


def money_late_rows() -> Iterator[Scenario]:
    """What was reserved is on the bill of the period that ends: one clock is in the next, one still in that one."""
    calls = ("burst", "record many", "reserve new", "rollover")
    for shape, before in product((PER_UNIT, TIERS, SPLIT, PREPAID, NO_OVERAGE), (1_000, -1_000)):
        for first, second in product(calls, calls):
            yield from _keys(
                Scenario(shape, first, second, skews=(FAST, SLOW), gone="committed", before_midnight_ms=before)
            )


def money_used_credits() -> Iterator[Scenario]:
    """Credits that are used up or have ended go off the gate while others give them or take them back."""
    for gone in ("committed", "voided"):
        for first, second in combinations_with_replacement((*ON_CREDITS, "give again", "tidy later", "reserve new"), 2):
            yield Scenario(SPLIT, first, second, gone=gone)


def money_faults() -> Iterator[Scenario]:
    """One call is lost, answered to nobody, applied later, or applied twice."""
    small = ("reserve new", "commit", "commit over", "release", "extend")
    for shape, (first, second) in product((TIERS, SPLIT), combinations_with_replacement(small, 2)):
        yield Scenario(shape, first, second, faults=1, before_midnight_ms=NOON_MS)
    for first in ON_CREDITS:
        for second in (*ON_CREDITS, "reserve new", "commit"):
            yield Scenario(SPLIT, first, second, faults=1, before_midnight_ms=NOON_MS)


def money_crashes() -> Iterator[Scenario]:
    """One of the two dies before any one of its calls."""
    for shape in (SPLIT, TWO_METERS, MEMBER_MONEY):
        for first, second in combinations_with_replacement(("reserve new", "commit", "commit over", "extend"), 2):
            yield Scenario(shape, first, second, crashes=1, before_midnight_ms=NOON_MS)
    for shape in (SPLIT, PREPAID):
        for first in (*ON_CREDITS, "lower limit", "rollover"):
            for second in (*ON_CREDITS, "reserve new"):
                yield Scenario(shape, first, second, crashes=1)


MONEY_FAMILIES: dict[str, Callable[[], Iterator[Scenario]]] = {
    "money": money_pairs,
    "money, skewed clocks": money_clocks,
    "money, stale rules": money_stale,
    "money, afterwards": money_afterwards,
    "money, rows of the last period": money_late_rows,
    "money, used credits": money_used_credits,
    "money, faults": money_faults,
    "money, crash": money_crashes,
}
