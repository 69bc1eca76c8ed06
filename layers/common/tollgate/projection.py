"""What a billing period will come to at its end: units of each meter are projected, then rated (pure).

Money is never scaled: prices have tiers, so the projected units are rated. Of one meter, with all times in seconds:

    rate = (units of this period + earlier units / 6) / (time of this period + earlier time / 6)
    projected = units so far + rate x time left

- *Earlier* is what is known from before the period: the last three closed periods, or else the days before it. A sixth
  of it counts, so three whole periods weigh as much as half of this one, and their say fades as this one goes on. It
  counts as at least six hours, without use where nothing is known: a new account's first hours are not a whole day.
- *Bursts.* Of all that is known by day, the busiest day counts for at most twice the second busiest: what happened once
  (an import, a load test) is paid, but not expected again. The unfinished days at the period's edges are one more day.
- *Weekdays.* With two weeks of whole days or more, time on a weekday weighs as much as that weekday's days had of the
  average day, of two more average days for each. Nothing is assumed about weekends.
- All known days are UTC days, as the rollups are, and count once they have been over for an hour: rollups lag.

The sixth, the two and the two are choices; `docs/projection.md` has what they were measured against.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from types import MappingProxyType
from typing import Final, NamedTuple

from tollgate.catalog.model import Meter, Plan, Price
from tollgate.quantities import EXACT, ONE, ZERO, quantize
from tollgate.rating.bill import Used, bill, paid_units
from tollgate.rating.currency import floor_at

DAY_S: Final = 86_400
SILENT_S: Final = 6 * 3600
"""How long nothing is projected after a period's start, and the least that earlier time counts for."""
LAG_S: Final = 3600
"""After that a UTC day's rollup is complete: its last window is sealed."""
CLOSED_PERIODS: Final = 3
EARLIER: Final = 6
"""A second before the period counts as one `EARLIER`th of a second in it."""
BURST: Final = 2
BURST_DAYS: Final = 3
"""The unfinished ones included. Fewer do not tell which one was out of the ordinary."""
RHYTHM_DAYS: Final = 14
RHYTHM_PRIOR: Final = 2

_EVEN: Final = (ONE,) * 7
_NO_DAYS: Final[Mapping[int, Decimal]] = MappingProxyType({})


class Closed(NamedTuple):
    """A meter's units in a billing period that is over; `start` is the account's beginning where that was later."""

    start: int
    end: int
    units: Decimal


@dataclass(frozen=True, slots=True)
class History:
    """What is known of a meter besides its units so far. All of it may be missing, and each part alone helps.

    `closed`: the last closed periods. `days`: units by start of UTC day, from `days_since` on (epoch seconds; None: no
    day is known); a day that is missing since then had none. The period's own days, and those before it, are used.
    """

    closed: tuple[Closed, ...] = ()
    days: Mapping[int, Decimal] = field(default_factory=lambda: _NO_DAYS)
    days_since: int | None = None


NOTHING: Final = History()


class MeterState(NamedTuple):
    """One meter in this period. `used`: its units so far, and which of them are not paid (`rating.bill`).

    `credits`: prepaid units that are left. `most`: the most units that the period allows; None: no such limit. `own`:
    (used, left) of the units that each seat has for itself.
    """

    used: Used
    history: History = NOTHING
    credits: Decimal = ZERO
    most: Decimal | None = None
    own: tuple[tuple[Decimal, Decimal], ...] = ()


class Money(NamedTuple):
    """Under which terms the units are rated.

    `spent`: usage charges so far, as the gate has them. `cap`: the lowest money cap on them (plan, operator, customer).
    `overage` False: nothing beyond included units and credits is let through.
    """

    plan: Plan
    currency: str
    spent: Decimal
    seats: int = 0
    cap: Decimal | None = None
    overage: bool = True


class Projection(NamedTuple):
    """At the period's end: units by meter, usage charges, and those with base fee and seats.

    A money cap and blocked overage lower the charges, not the units: those are what customers would use.
    """

    units: Mapping[str, Decimal]
    usage: Decimal
    total: Decimal


def project(
    period: tuple[int, int],
    now: int,
    states: Mapping[str, MeterState],
    meters: Mapping[str, Meter],
    money: Money,
    since: int | None = None,
) -> Projection | None:
    """The projected end of a period (start, end); None in its first six hours. All times are epoch seconds.

    `states` by meter; priced meters that are missing have not been used. `since`: the account's beginning, where it may
    lie inside the period. Never below what is spent; once the period is over, exactly what it came to. Raises
    ValueError for an empty period or negative units.
    """
    if now - period[0] < SILENT_S:
        return None
    units: dict[str, Decimal] = {}
    for meter, state in states.items():
        found = projected_units(period, now, state.used.units, meters[meter].scale, state.history, since)
        units[meter] = found if state.most is None else max(state.used.units, min(found, state.most))
    prices = {price.meter: price for price in money.plan.prices}
    used = {
        meter: _at_end(money, prices[meter], state, units[meter], meters[meter].scale)
        for meter, state in states.items()
        if meter in prices
    }
    rated = bill(money.plan, money.currency, used, money.seats)
    usage = rated.usage if money.cap is None else min(rated.usage, money.cap)
    usage = max(usage, money.spent)
    with localcontext(EXACT):
        return Projection(units, usage, rated.total - rated.usage + usage)


def projected_units(
    period: tuple[int, int], now: int, used: Decimal, scale: int, history: History = NOTHING, since: int | None = None
) -> Decimal:
    """The units of one meter at the end of a period, at the meter's `scale`; at least `used`, the units so far.

    Grows with `used` and with everything in `history.closed`. Raises ValueError for an empty period or negative units.
    """
    start, end = period
    if start >= end or used < 0:
        raise ValueError(f"{used} units in a period from {start} to {end}")
    with localcontext(EXACT):
        begin = start if since is None else max(start, since)
        days = _whole_days(history, now, since)
        own = [many for day, many in days.items() if day >= begin]
        rest = used - sum(own, ZERO)
        ceiling = _ceiling([rest, *days.values()])
        burst = sum((many - min(many, ceiling) for many in (rest, *own)), ZERO)
        before = [min(many, ceiling) for day, many in days.items() if day + DAY_S <= start]
        earlier_units, earlier_time = _earlier(history.closed, before)
        rhythm = _rhythm(days)  # of whole days alone: more units so far must not change it
        rate = (max(ZERO, used - burst) + earlier_units) / (_weighed(begin, now, rhythm) + earlier_time)
        return max(used, quantize(used + rate * _weighed(now, end, rhythm), scale))


def _whole_days(history: History, now: int, since: int | None) -> dict[int, Decimal]:
    """Units of every UTC day that is known, over, and began with the account or later; days without units included."""
    if history.days_since is None:
        return {}
    first = history.days_since if since is None else max(history.days_since, since)
    last = now - LAG_S - DAY_S
    return {day: history.days.get(day, ZERO) for day in range(-(-first // DAY_S) * DAY_S, last + 1, DAY_S)}


def _ceiling(days: Iterable[Decimal]) -> Decimal:
    """What a day counts for at most. Only the busiest one can be above that."""
    ranked = sorted(days)
    return BURST * ranked[-2] if len(ranked) >= BURST_DAYS else ranked[-1]


def _rhythm(days: Mapping[int, Decimal]) -> tuple[Decimal, ...]:
    """What time on each weekday weighs, Thursday first (as 1970 began); 1 each as long as too few days are known, and
    on average always."""
    if len(days) < RHYTHM_DAYS:
        return _EVEN
    ceiling = _ceiling(days.values())
    counted = {day: min(many, ceiling) for day, many in days.items()}
    average = sum(counted.values(), ZERO) / len(days)
    if not average:
        return _EVEN
    units, count = [RHYTHM_PRIOR * average] * 7, [RHYTHM_PRIOR] * 7
    for day, many in counted.items():
        units[_weekday(day)] += many
        count[_weekday(day)] += 1
    means = [one / many for one, many in zip(units, count, strict=True)]
    every = sum(means, ZERO) / 7
    return tuple(mean / every for mean in means)


def _weekday(day: int) -> int:
    return day // DAY_S % 7


def _weighed(begin: int, end: int, rhythm: tuple[Decimal, ...]) -> Decimal:
    """Seconds from `begin` to `end`, each times the weight of its weekday."""
    seconds = [0] * 7
    while begin < end:
        midnight = min(end, (begin // DAY_S + 1) * DAY_S)
        seconds[_weekday(begin)] += midnight - begin
        begin = midnight
    return sum((weight * many for weight, many in zip(rhythm, seconds, strict=True)), ZERO)


def _earlier(closed: tuple[Closed, ...], days: Sequence[Decimal]) -> tuple[Decimal, Decimal]:
    """Units and seconds from before the period, as much of them as counts; `days` are the whole days before it."""
    units, seconds = ZERO, 0
    for one in sorted(closed)[-CLOSED_PERIODS:]:
        units += one.units
        seconds += one.end - one.start
    if not seconds:
        units, seconds = sum(days, ZERO), DAY_S * len(days)
    return units / EARLIER, max(Decimal(seconds) / EARLIER, Decimal(SILENT_S))


# --- money -----------------------------------------------------------------------------------------------------------


def _at_end(money: Money, price: Price, state: MeterState, units: Decimal, scale: int) -> Used:
    """A meter's use at the period's end: seats pay for their own units to come, credits for others as long as there are
    any, and overage for the rest where it is allowed. Included units among them cost nothing, whoever pays."""
    used = state.used
    later = used._replace(units=units, by_seat=_seats_at_end(used, units, scale))
    to_come = paid_units(money.plan, price, later, money.seats) - paid_units(money.plan, price, used, money.seats)
    funded = min(to_come, state.credits + _own_at_end(state, units, scale))
    refused = ZERO if money.overage else to_come - funded
    return later._replace(credit_funded=used.credit_funded + funded, waived=used.waived + refused)


def _own_at_end(state: MeterState, units: Decimal, scale: int) -> Decimal:
    """What seats will burn of their own: each goes on in the proportion of all units, as far as it has some left."""
    if not state.used.units:
        return ZERO
    with localcontext(EXACT):
        more = units - state.used.units
        return sum((min(left, floor_at(used * more / state.used.units, scale)) for used, left in state.own), ZERO)


def _seats_at_end(used: Used, units: Decimal, scale: int) -> tuple[Decimal, ...]:
    """The units of each seat, which go on in the same proportion; rounded down, so not beyond the meter's."""
    if not used.units:
        return used.by_seat
    with localcontext(EXACT):
        return tuple(floor_at(own * units / used.units, scale) for own in used.by_seat)
