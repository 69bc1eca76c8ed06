"""The ledger of an account's credits, made from what cannot change: grant rows and event rows (pure).

Newest first, with the balance of the meter after each entry: all units that may still be used, open reservations
included. Every entry leads to a grant, and every burn to the event that burned it. An event stands at the time of its
id, and appears once its reservation is settled.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from heapq import merge
from typing import NamedTuple

from tollgate.quantities import ZERO
from tollgate.usage.grant import PLAN, GrantRow
from tollgate.usage.outcome import Event


class Standing(NamedTuple):
    """A grant as the gate has it: `left`, and `held` by open reservations."""

    left: Decimal
    held: Decimal
    carried: Decimal


class Entry(NamedTuple):
    """`units` are signed; `balance` is None until `balanced`. `place` orders entries, oldest first."""

    place: tuple[int, str]
    kind: str
    """`grant`, `rollover`, `burn`, `clawback` or `expiry`."""
    meter: str
    units: Decimal
    grant: GrantRow
    event: Event | None = None
    item: int = 0
    """Which of the event's items."""
    source: str | None = None
    source_id: str | None = None
    reason: str | None = None
    balance: Decimal = ZERO

    @property
    def at_ms(self) -> int:
        return self.place[0]


def fixed_entries(rows: Iterable[GrantRow], standings: Mapping[int, Standing], now: int) -> list[Entry]:
    """What grant rows say by themselves, up to epoch second `now`, newest first."""
    found = []
    for row in _given(rows, standings):
        name, there = f"g{row.number:08d}", standings.get(row.number)
        given = (row.source, row.source_id, row.reason)
        # A plan's grant counts from its window on, whoever asked first: that call's event may be older than the row.
        begun = min(row.created_ms, row.starts * 1000) if row.source == PLAN else row.created_ms
        found.append(Entry((begun, f"{name}a"), "grant", row.meter, row.units, row, None, 0, *given))
        carried = there.carried if there is not None else ZERO if row.ended is None else row.ended.carried
        if carried:
            found.append(Entry((begun, f"{name}b"), "rollover", row.meter, carried, row))
        for number, one in enumerate(row.clawbacks):
            if one.taken:
                told = (one.source, one.source_id, one.reason)
                place = (one.at_ms, f"{name}c{number:04d}")
                found.append(Entry(place, "clawback", row.meter, -one.taken, row, None, 0, *told))
        left = there.left if there is not None else ZERO if row.ended is None else row.ended.left
        if left and row.ends <= now:
            found.append(Entry((row.ends * 1000, f"{name}d"), "expiry", row.meter, -left, row))
    return sorted(found, reverse=True)


def _given(rows: Iterable[GrantRow], standings: Mapping[int, Standing]) -> Iterator[GrantRow]:
    """Without what a plan was about to give and did not: others had come first, with the last seat or with more."""
    for row in rows:
        if not row.every or row.ended is not None or row.number in standings:
            yield row


def burns(events: Iterable[Event], rows: Mapping[int, GrantRow]) -> Iterator[Entry]:
    """What events burned, in their order, newest first."""
    for event in events:
        entries = []
        for index, item in enumerate(event.items):
            for number, units in item.credits:
                row = rows[number]
                place = (event.at.origin_ms, f"e{event.at.key}{index}{number:08d}")
                entries.append(Entry(place, "burn", row.meter, -units, row, event, index))
        yield from sorted(entries, reverse=True)


def balances(rows: Iterable[GrantRow], standings: Mapping[int, Standing], now: int) -> dict[str, Decimal]:
    """The balance of each meter now: what is left of grants that have not ended, and what open reservations hold."""
    found: dict[str, Decimal] = {}
    for row in _given(rows, standings):
        there = standings.get(row.number)
        if there is not None:
            left = there.left if row.ends > now else ZERO
            found[row.meter] = found.get(row.meter, ZERO) + left + there.held
        elif row.ended is None:
            found[row.meter] = found.get(row.meter, ZERO) + row.units - row.clawed  # not on the gate yet
    return found


def balanced(fixed: Iterable[Entry], burned: Iterable[Entry], now: Mapping[str, Decimal]) -> Iterator[Entry]:
    """All entries, newest first, with their balances, going back from what is there `now`."""
    running = dict(now)
    for entry in merge(fixed, burned, key=lambda entry: entry.place, reverse=True):
        balance = running.get(entry.meter, ZERO)
        yield entry._replace(balance=balance)
        running[entry.meter] = balance - entry.units
