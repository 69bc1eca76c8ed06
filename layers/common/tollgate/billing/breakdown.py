"""Who and what made up a sealed window's units: by model, by member, what the cache answered, what it cost.

Frozen with the totals, so that everything derived later (`rollup.py`) can be derived again. Bounded: the twenty shares
of most units are named, fewer where a window has very many meters; whatever else there was is the difference to the
total.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, NamedTuple

from tollgate.quantities import EXACT, ZERO
from tollgate.usage.outcome import Event, UsedItem

NAMED: Final = 20
"""Models and members named; the rest is one sum."""
NAMED_IN_ALL: Final = 800
"""Models and members named in one window, of all its meters: apps name them as they like, in up to 256 bytes each, and
the item that they are frozen in has at most 400 KB. If it had more, nothing of that window could be billed."""
REST: Final = ""
"""The name of what is not named: all that is not among the first, and what had no model or no member."""
MODEL: Final = "model"
"""The dimension that says which model was used."""

CostOf = Callable[[str, Mapping[str, str], Decimal, int], Decimal | None]
"""What the provider asks for (meter, dimensions, quantity, at epoch second), in US dollars; None: unknown."""


def unknown_cost(meter: str, dimensions: Mapping[str, str], quantity: Decimal, at: int) -> Decimal | None:
    """No price is known: only rows that bring their cost have one."""
    return None


class Share(NamedTuple):
    """What one model or member used. `cost`: of the provider, US dollars, as far as it is known."""

    events: int = 0
    units: Decimal = ZERO
    cost: Decimal = ZERO

    def plus(self, other: Share, sign: int = 1) -> Share:
        return Share(
            self.events + sign * other.events,
            EXACT.add(self.units, sign * other.units),
            EXACT.add(self.cost, sign * other.cost),
        )


Shares = Mapping[str, Share]


@dataclass(frozen=True, slots=True)
class Breakdown:
    """Of one meter in one window and billing period. `priced`: the units whose cost is known."""

    cached: int = 0
    cost: Decimal = ZERO
    priced: Decimal = ZERO
    models: Shares = field(default_factory=dict)
    members: Shares = field(default_factory=dict)


def summed(one: Shares, other: Shares) -> dict[str, Share]:
    found = dict(one)
    for name, share in other.items():
        found[name] = found.get(name, Share()).plus(share)
    return found


def largest(shares: Shares, many: int = NAMED) -> dict[str, Share]:
    """The shares that are named: those of most units, then of most events."""
    named = [name for name in shares if name != REST]
    named.sort(key=lambda name: (-shares[name].units, -shares[name].events, name))
    return {name: shares[name] for name in named[:many]}


def with_rest(named: Shares, whole: Share) -> dict[str, Share]:
    """The shares, and under REST what they lack to the whole; nothing there where they lack nothing."""
    rest = whole
    for share in named.values():
        rest = rest.plus(share, -1)
    return {**named, REST: rest} if any(rest) else dict(named)


class Tally:
    """Adds up the breakdowns of one window and billing period, row by row."""

    def __init__(self, cost_of: CostOf) -> None:
        self._cost_of = cost_of
        self._meters: dict[str, _Sum] = {}

    def add(self, event: Event) -> None:
        """A row's own provider cost is one amount for all its items: it stands at the first of them. What the app's
        cache answered cost nothing."""
        stated = ZERO if event.cached and event.provider_cost is None else event.provider_cost
        for at, item in enumerate(event.items):
            if stated is None:
                cost = self._cost_of(item.meter, item.dimensions, item.quantity, event.recorded_s)
            else:
                cost = ZERO if at else stated
            self._meters.setdefault(item.meter, _Sum()).add(event, item, cost)

    def breakdowns(self) -> dict[str, Breakdown]:
        many = min(NAMED, max(1, NAMED_IN_ALL // max(1, 2 * len(self._meters))))
        return {meter: one.breakdown(many) for meter, one in self._meters.items()}


class _Sum:
    def __init__(self) -> None:
        self._cached = 0
        self._cost = self._priced = ZERO
        self._models: dict[str, Share] = {}
        self._members: dict[str, Share] = {}

    def add(self, event: Event, item: UsedItem, cost: Decimal | None) -> None:
        units = ZERO if item.level is not None else item.units  # a level is no use that adds up
        share = Share(1, units, cost or ZERO)
        self._cached += event.cached
        self._cost = EXACT.add(self._cost, share.cost)
        if cost is not None:
            self._priced = EXACT.add(self._priced, units)
        for shares, name in ((self._models, item.dimensions.get(MODEL)), (self._members, event.member)):
            if name:
                shares[name] = shares.get(name, Share()).plus(share)

    def breakdown(self, many: int) -> Breakdown:
        """`many`: models, and members, that are named."""
        models, members = largest(self._models, many), largest(self._members, many)
        return Breakdown(self._cached, self._cost, self._priced, models, members)
