"""Whether an invoice is so much higher than the one before that a person should look first, and what drives it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Final, NamedTuple, Protocol, TypeVar

from tollgate.billing.invoice import Invoice, Invoices, amounts_by_meter, metered_lines
from tollgate.quantities import EXACT, ZERO, plain
from tollgate.usage.outcome import Event

K = TypeVar("K")

MOST: Final = 3
"""Drivers named of each kind."""
READ: Final = 5_000
"""Events read of each period to find the members with the largest growth: a hint for a person, not a bill."""


class Growth(NamedTuple):
    """`meters`: meter -> (amount before, amount now), `members`: (member, meter) -> (units before, units now), the
    largest growth first. `partial`: there are more events than were read for the members."""

    meters: Mapping[str, tuple[Decimal, Decimal]]
    members: Mapping[tuple[str, str], tuple[Decimal, Decimal]]
    partial: bool


class NewestEvents(Protocol):
    def newest(self, account: str, first_ms: int, last: str) -> Iterator[Event]:
        """As `usage.store.EventTable.newest`."""


def much_higher(now: Invoice, before: Invoice, percent: int) -> bool:
    """Whether an invoice is more than `percent` per cent above the one before. From nothing, everything is."""
    if now.currency != before.currency:
        return False  # not to be compared
    return EXACT.multiply(now.subtotal, Decimal(100)) > EXACT.multiply(before.subtotal, Decimal(100 + percent))


def meter_growth(invoices: Invoices, now: Invoice, before: Invoice) -> dict[str, tuple[Decimal, Decimal]]:
    """What metered lines grew by, by meter, the largest first."""
    current = amounts_by_meter(metered_lines(now, invoices.price))
    earlier = amounts_by_meter(metered_lines(before, invoices.price))
    return _largest({name: (earlier.get(name, ZERO), current.get(name, ZERO)) for name in {*current, *earlier}})


def member_growth(
    events: NewestEvents, homes: tuple[str, ...], now: tuple[int, int], before: tuple[int, int]
) -> tuple[dict[tuple[str, str], tuple[Decimal, Decimal]], bool]:
    """Units by (member, meter) in two periods (start and end in epoch seconds), the largest growth first; and whether
    there was more than was read."""
    current, cut = _units(events, homes, *now)
    earlier, cut_before = _units(events, homes, *before)
    pairs = {name: (earlier.get(name, ZERO), current.get(name, ZERO)) for name in {*current, *earlier}}
    return _largest(pairs), cut or cut_before


def _units(
    events: NewestEvents, homes: tuple[str, ...], start: int, end: int
) -> tuple[dict[tuple[str, str], Decimal], bool]:
    units: dict[tuple[str, str], Decimal] = {}
    read = 0
    for home in homes:
        for event in events.newest(home, start * 1000, f"{end * 1000:012x}"):
            read += 1
            if read > READ:
                return units, True
            for item in event.items:
                if event.member is not None and start <= event.recorded_s < end:
                    name = (event.member, item.meter)
                    units[name] = EXACT.add(units.get(name, ZERO), item.billable)
    return units, False


def _largest(pairs: dict[K, tuple[Decimal, Decimal]]) -> dict[K, tuple[Decimal, Decimal]]:
    grown = [(now - before, name) for name, (before, now) in pairs.items() if now > before]
    grown.sort(key=lambda one: (-one[0], str(one[1])))
    return {name: pairs[name] for _, name in grown[:MOST]}


def in_words(growth: Growth, currency: str) -> str:
    """The drivers as one sentence or two; empty where there are none."""
    meters = [
        f"{name} from {plain(before)} to {plain(now)} {currency}" for name, (before, now) in growth.meters.items()
    ]
    members = [
        f"{member} from {plain(before)} to {plain(now)} units of {meter}"
        for (member, meter), (before, now) in growth.members.items()
    ]
    found = []
    if meters:
        found.append(f"Meters: {', '.join(meters)}.")
    if members:
        part = f" (of the newest {READ} events)" if growth.partial else ""
        found.append(f"Members{part}: {', '.join(members)}.")
    return " ".join(found)
