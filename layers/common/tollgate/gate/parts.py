"""Who pays for units: the parts of a hold, and how they are shared out to what was used."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple

from tollgate.accounts.rules import Rules
from tollgate.gate.hold import PAID, WAIVED, Hold, Part, paid_whole
from tollgate.quantities import ZERO
from tollgate.usage.outcome import ACCOUNT, Event

Units = dict[int, Decimal]


def held_parts(rules: Rules, per: str, hold: Hold) -> tuple[Part, ...]:
    """How the units of a hold are paid for. A member's are all on its paid position, whatever the hold says."""
    if per == ACCOUNT:
        return hold.parts
    terms = rules.terms_of(per)
    return () if terms is None else tuple(part for part in paid_whole(hold.groups) if part.meter_slot in terms.fundings)


def by_source(parts: Iterable[Part]) -> tuple[dict[int, Decimal], dict[int, Decimal]]:
    """Paid units by meter slot, and credits by grant. A meter that was only waived or credited counts as 0 paid."""
    paid: dict[int, Decimal] = {}
    credits: dict[int, Decimal] = {}
    for part in parts:
        if part.source >= 0:
            credits[part.source] = credits.get(part.source, ZERO) + part.units
        elif part.source == PAID:
            paid[part.meter_slot] = paid.get(part.meter_slot, ZERO) + part.units
    return paid, credits


def used_by(rules: Rules, per: str, rows: list[Event]) -> tuple[Units, Units, Units, Units]:
    """What rows say was paid for, credited and waived by meter slot, and burned by grant."""
    paid: Units = {}
    credited: Units = {}
    waived: Units = {}
    burned: Units = {}
    terms = rules.terms_of(per)
    for row in rows:
        for item in row.items:
            if item.level is not None:
                continue  # a level is not paid for as usage
            slot = rules.row.meters.index(item.meter)
            if per != ACCOUNT:
                if terms is not None and slot in terms.fundings:
                    add(paid, slot, item.units)
                continue
            if item.priced:
                add(paid, slot, item.billable)
            add(credited, slot, item.credit_funded)
            add(waived, slot, item.waived)
            for number, units in item.credits:
                add(burned, number, units)
    return paid, credited, waived, burned


def add(totals: Units, name: int, units: Decimal) -> None:
    if units:
        totals[name] = totals.get(name, ZERO) + units


class Split(NamedTuple):
    """Who pays for the units of one row's item. `funded` False: its meter has no price and no credits."""

    funded: bool
    waived: Decimal = ZERO
    credits: tuple[tuple[int, Decimal], ...] = ()


class Splitter:
    """Shares the parts of a hold out to what was used, in their order: what is given back is what came last."""

    def __init__(self, parts: Iterable[Part]) -> None:
        self._left: dict[int, list[Part]] = {}
        for part in parts:
            self._left.setdefault(part.meter_slot, []).append(part)

    def take(self, slot: int, units: Decimal, *, keep: bool = False) -> Split:
        """The split of the next `units` of a meter; with `keep` they stay to be taken. Units that the hold does not
        cover are waived: nobody said who pays for them."""
        parts = self._left.get(slot)
        if parts is None:
            return Split(False)
        rest, waived = units, ZERO
        credits: dict[int, Decimal] = {}
        left = list(parts)
        while rest and left:
            part = left.pop(0)
            used = min(rest, part.units)
            rest -= used
            if part.source >= 0:
                credits[part.source] = credits.get(part.source, ZERO) + used
            elif part.source == WAIVED:
                waived += used
            if used < part.units:
                left.insert(0, part._replace(units=part.units - used))
        if not keep:
            self._left[slot] = left
        return Split(True, waived + rest, tuple(sorted(credits.items())))


def more_parts(before: tuple[Part, ...], added: tuple[Part, ...]) -> tuple[Part, ...]:
    """The parts of a hold that grows: by meter, what was added after what was there."""
    found: list[Part] = []
    for slot in sorted({part.meter_slot for part in (*before, *added)}):
        for part in (*before, *added):
            if part.meter_slot != slot:
                continue
            if found and found[-1][:2] == part[:2]:
                found[-1] = part._replace(units=found[-1].units + part.units)
            else:
                found.append(part)
    return tuple(found)


def less_parts(parts: Iterable[Part], without: Iterable[Part]) -> tuple[Part, ...]:
    """What `parts` have above `without`, by meter and source."""
    had: dict[tuple[int, int], Decimal] = {}
    for part in without:
        had[part[:2]] = had.get(part[:2], ZERO) + part.units
    rest = (part._replace(units=part.units - had.pop(part[:2], ZERO)) for part in parts)
    return tuple(part for part in rest if part.units)
