"""What drove an hour: who, with which model, doing what, in which pattern. From the hour's newest rows; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from tollgate.quantities import ZERO, plain
from tollgate.usage.outcome import Event

ACTIONS = ("action", "operation", "feature")
"""Dimensions that say what was done; the first that is there."""


class Top(NamedTuple):
    """The largest of its kind and its share of all units, in whole per cent."""

    name: str
    percent: int


class Drivers(NamedTuple):
    """`calls` were looked at; `alike` of them, in per cent, had the same quantity; they came within `seconds`."""

    calls: int
    units: Decimal
    seconds: int
    alike: int
    member: Top | None
    model: Top | None
    action: Top | None

    def facts(self) -> dict[str, str]:
        tops = {"member": self.member, "model": self.model, "action": self.action}
        found = {name: f"{top.name} ({top.percent} %)" for name, top in tops.items() if top is not None}
        return {**found, "pattern": self.pattern}

    @property
    def pattern(self) -> str:
        if not self.calls:
            return "open reservations, nothing committed yet"
        return f"{self.calls} calls of {plain(self.units)} units in {self.seconds} s, {self.alike} % of one size"


def drivers(events: Iterable[Event], meter: str) -> Drivers:
    """The drivers of `meter` in these events."""
    rows = [(event, item) for event in events for item in event.items if item.meter == meter and item.units > 0]
    times = [event.recorded_s for event, _ in rows]
    sizes: dict[Decimal, int] = {}
    for _, item in rows:
        sizes[item.quantity] = sizes.get(item.quantity, 0) + 1
    return Drivers(
        calls=len(rows),
        units=sum((item.units for _, item in rows), ZERO),
        seconds=max(times) - min(times) if times else 0,
        alike=max(sizes.values(), default=0) * 100 // max(len(rows), 1),
        member=_top([(event.member, item.units) for event, item in rows]),
        model=_top([(item.dimensions.get("model"), item.units) for _, item in rows]),
        action=_top([(_action(item.dimensions), item.units) for _, item in rows]),
    )


def _action(dimensions: Mapping[str, str]) -> str | None:
    return next((dimensions[name] for name in ACTIONS if name in dimensions), None)


def _top(named: Sequence[tuple[str | None, Decimal]]) -> Top | None:
    totals: dict[str, Decimal] = {}
    for name, units in named:
        if name is not None:
            totals[name] = totals.get(name, ZERO) + units
    if not totals:
        return None
    name = max(sorted(totals), key=lambda one: totals[one])
    return Top(name, int(totals[name] * 100 / sum((units for _, units in named), ZERO)))
