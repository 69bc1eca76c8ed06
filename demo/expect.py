"""What Stripe must hold, computed from the trace and Tollgate's answers alone.

Reads `catalog.yaml` by itself and shares no code with Tollgate: two readings of one file have to agree to the last
unit.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal, localcontext
from pathlib import Path
from typing import Any

import yaml

from demo.answers import Answer
from demo.trace import Item

_DEFAULT_SCALE = 6
_PRECISION = 400


class CatalogUnreadable(Exception):
    """The catalogue cannot be read here; the text says why."""


@dataclass(frozen=True, slots=True)
class MeterReading:
    """A meter as one plan counts it. Rules are (dimension -> patterns, number), in the order of asking."""

    scale: int
    weights: tuple[tuple[Mapping[str, tuple[str, ...]], Decimal], ...]
    factors: tuple[tuple[Mapping[str, tuple[str, ...]], Decimal], ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """What the demo needs of a catalogue."""

    default_plan: str
    meters: Mapping[tuple[str, str], MeterReading]
    """By (plan, meter)."""
    event_names: Mapping[str, str]
    """Stripe's event name by meter, of those that Stripe counts."""
    priced: Mapping[str, frozenset[str]]
    """The meters that a plan has prices for, by plan."""

    def plan(self, named: str | None) -> str:
        """The plan that an account is on."""
        return self.default_plan if named is None else named

    def pays(self, plan: str | None) -> bool:
        """Whether accounts of the plan have something to be billed for."""
        return bool(self.priced.get(self.plan(plan)))


def read_catalog(path: Path) -> Reading:
    """Raises CatalogUnreadable."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        plans, meters = raw["plans"], raw["meters"]
        return Reading(
            default_plan=raw["default_plan"],
            meters={
                (plan, meter): _meter(rules, (plans[plan].get("weights") or {}).get(meter) or [])
                for plan in plans
                for meter, rules in meters.items()
            },
            event_names={
                meter: rules["stripe_event_name"] for meter, rules in meters.items() if rules.get("stripe_event_name")
            },
            priced={
                plan: frozenset(price["meter"] for price in rules.get("prices") or ()) for plan, rules in plans.items()
            },
        )
    except OSError as error:
        raise CatalogUnreadable(
            f"{path} cannot be read: {error.strerror}. Name the stack's own by --catalog."
        ) from None
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise CatalogUnreadable(
            f"{path} is no catalogue ({type(error).__name__}: {error}); `tollgate catalog check` explains more."
        ) from None


def _meter(rules: Mapping[str, Any], own: Iterable[Mapping[str, Any]]) -> MeterReading:
    return MeterReading(
        scale=int(rules.get("scale", _DEFAULT_SCALE)),
        weights=tuple((_when(rule), Decimal(rule["weight"])) for rule in (*own, *(rules.get("weights") or ()))),
        factors=tuple((_when(rule), Decimal(rule["factor"])) for rule in rules.get("multipliers") or ()),
    )


def _when(rule: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    when = rule.get("when") or {}
    return {name: tuple(wanted) if isinstance(wanted, list) else (wanted,) for name, wanted in when.items()}


def _fits(when: Mapping[str, tuple[str, ...]], dimensions: Mapping[str, str]) -> bool:
    return all(
        name in dimensions and any(_like(pattern, dimensions[name]) for pattern in patterns)
        for name, patterns in when.items()
    )


def _like(pattern: str, value: str) -> bool:
    expression = ".*".join(re.escape(part) for part in pattern.split("*"))
    return re.fullmatch(expression, value, re.DOTALL) is not None


def units_of(reading: Reading, plan: str | None, item: Item) -> Decimal:
    """Units of the quantity used: times the first weight that fits, times every factor that fits, rounded once."""
    meter = reading.meters[reading.plan(plan), item.meter]
    with localcontext(prec=_PRECISION):
        total = item.used * next((weight for when, weight in meter.weights if _fits(when, item.dimensions)), Decimal(1))
        for when, factor in meter.factors:
            if _fits(when, item.dimensions):
                total *= factor
        return total.quantize(Decimal(1).scaleb(-meter.scale), rounding=ROUND_HALF_UP)


@dataclass(frozen=True, slots=True)
class Expected:
    """Units by (account, meter), of all accounts, with those waived taken off; and where an answer said otherwise."""

    committed: Mapping[tuple[str, str], Decimal]
    billable: Mapping[tuple[str, str], Decimal]
    objections: tuple[str, ...]


def expect(reading: Reading, plans: Mapping[str, str | None], answers: Iterable[Answer]) -> Expected:
    """Counts what was recorded, once each however often it was sent. `plans` by account."""
    committed: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    billable: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    objections: list[str] = []
    for answer in answers:
        objections += answer.surprises
        request, plan = answer.request, plans[answer.request.account]
        free = request.outcome == "cached"
        counted = [
            Decimal(0) if free else units_of(reading, plan, item)
            for item, said in zip(request.items, answer.counted, strict=False)
            if said
        ]
        items = [item for item, said in zip(request.items, answer.counted, strict=False) if said]
        if sum(counted, Decimal(0)) != answer.units:
            objections.append(
                f"{request.id}: {plain(sum(counted, Decimal(0)))} units by the catalogue, "
                f"{plain(answer.units)} by Tollgate's answer"
            )
        for item, units in zip(items, counted, strict=True):
            committed[request.account, item.meter] += units
            billable[request.account, item.meter] += units
        for meter, units in _waived(answer, items, objections):
            billable[request.account, meter] -= units
    return Expected(dict(committed), dict(billable), tuple(objections))


def _waived(answer: Answer, items: list[Item], objections: list[str]) -> Iterable[tuple[str, Decimal]]:
    """Waived units by meter. A commit's answer gives one sum; over several meters it cannot be told whose it is."""
    if len(answer.waived) == len(answer.request.items) and answer.request.call == "usage":
        return [(item.meter, units) for item, units in zip(answer.request.items, answer.waived, strict=True)]
    total = sum(answer.waived, Decimal(0))
    meters = {item.meter for item in items}
    if total == 0:
        return []
    if len(meters) == 1:
        return [(meters.pop(), total)]
    objections.append(f"{answer.request.id}: {plain(total)} units waived over several meters; the answer names none")
    return []


def due_in_stripe(
    reading: Reading, plans: Mapping[str, str | None], billable: Mapping[tuple[str, str], Decimal]
) -> dict[tuple[str, str], Decimal]:
    """Units by (paying account, Stripe event name): zero where a paying account's meter has nothing to bill."""
    due: dict[tuple[str, str], Decimal] = {}
    for account, plan in plans.items():
        if not reading.pays(plan):
            continue
        for meter, event_name in reading.event_names.items():
            priced = meter in reading.priced[reading.plan(plan)]
            units = billable.get((account, meter), Decimal(0)) if priced else Decimal(0)
            due[account, event_name] = due.get((account, event_name), Decimal(0)) + units
    return due


@dataclass(frozen=True, slots=True)
class Difference:
    """An account's meter of which Stripe holds something else."""

    account: str
    event_name: str
    expected: Decimal
    found: Decimal


def compare(expected: Mapping[tuple[str, str], Decimal], found: Mapping[tuple[str, str], Decimal]) -> list[Difference]:
    """Every pair that differs, by the smallest unit; a pair that only one side has counts as 0 on the other."""
    return [
        Difference(account, event_name, wanted, there)
        for account, event_name in sorted({*expected, *found})
        if (wanted := expected.get((account, event_name), Decimal(0)))
        != (there := found.get((account, event_name), Decimal(0)))
    ]


def plain(value: Decimal) -> str:
    """A decimal without exponent and trailing zeros."""
    text = format(value, "f")
    return (text.rstrip("0").rstrip(".") if "." in text else text) or "0"
