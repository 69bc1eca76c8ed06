"""The detectors: each looks at one meter of one account on one day, and says what is out of the ordinary. Pure.

All thresholds stand here; docs/anomalies.md says how they were found. Three detectors (level, plan, night) count units
that only grow during a day, so they also look at a day that is not over; the others wait for its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from tollgate.anomalies.case import DAYS, KNOWN, Case, Finding, median, spread
from tollgate.billing.rollup import REST, Rollup, Share
from tollgate.catalog.wording import number
from tollgate.clock import rfc3339
from tollgate.quantities import ZERO, plain
from tollgate.windows import zone

OWN_TIMES: Final = Decimal(10)
"""Level: times the account's typical day."""
OWN_BEYOND: Final = Decimal("4.5")
"""Level, plan: and times the farthest that its own days reach: an account of bursts is not told of for its bursts."""
SOME: Final = 3
"""Level: days with use that must be known."""
PLAN_TIMES: Final = Decimal(3)
"""Plan: times the average of its plan, by an account whose typical day is not half of that average."""
PLAN_FIRST: Final = Decimal(6)
"""Plan: times the average of its plan on the account's very first day: accounts differ in size."""
PLAN_DAYS: Final = 30
"""Plan: days of accounts that an average needs."""
EVENTS: Final = 30
"""Events of a day that is worth a look."""
BURST: Final = Decimal("0.5")
"""Burst: share of the day in ten minutes."""
BURST_EVENTS: Final = 30
BURST_SPREADS: Final = Decimal(4)
"""Burst: spreads above the account's usual share."""
BURST_BEYOND: Final = Decimal("1.5")
"""Burst: times the largest share of its days: of a job every two weeks there may be no second one among them."""
NEW_SHARE: Final[Mapping[str, Decimal]] = {"model": Decimal("0.28"), "member": Decimal("0.33")}
"""New model, member: share of the day's units."""
NEW_DAY: Final[Mapping[str, Decimal]] = {"model": ZERO, "member": Decimal("1.4")}
"""New model, member: the whole day's units, in typical days: a member instead of another is no news, one on top is."""
NEW_FAIR: Final[Mapping[str, Decimal]] = {"model": ZERO, "member": Decimal("1.25")}
"""New model, member: and times the share that each would have, if all had the same: a small team that grows by one is
no news."""
NEW_AMONG: Final[Mapping[str, int]] = {"model": 1, "member": 2}
"""New model, member: among so many known ones; one person who becomes two is no news."""
NEW_TYPICAL: Final[Mapping[str, Decimal]] = {"model": Decimal("0.6"), "member": Decimal(1)}
"""New model, member: its units, in typical days of the account."""
NEW_EVENTS: Final = 20
UNNAMED: Final = Decimal("0.05")
"""New model, member: share of the days before that has no name, above which nobody can say what is new."""
NIGHT_TYPICAL: Final = Decimal("0.5")
"""Night: units in hours never used, in typical days of the account."""
NIGHT_OF_DAY: Final = Decimal("0.2")
"""Night: and share of the day so far: a very busy day has something in every hour."""
NIGHT_DAYS: Final = 10
NIGHT_SHARE: Final = Decimal("0.005")
"""Night: share of the units of all days above which an hour counts as used."""
CACHED: Final = Decimal("0.2")
"""Cache: usual ratio from which there is something to collapse."""
CACHED_LEFT: Final = Decimal("0.4")
"""Cache: what is left of the usual ratio, at most."""
CACHED_BEYOND: Final = Decimal("0.15")
"""Cache: below the second-lowest ratio of its days: a weekly job that no cache knows is no collapse."""
CACHED_EVENTS: Final = 40
CACHED_SPREADS: Final = Decimal("2.5")

_TENTH: Final = Decimal("0.1")
_SHARE: Final = Decimal("0.01")
_LITTLE: Final = Decimal("0.02")
"""Shares that differ by less are alike."""


def level(case: Case) -> Finding | None:
    """Far above its own typical day."""
    if len(case.used) < SOME or not _worth(case):
        return None
    times = case.units / case.typical
    if times < OWN_TIMES or case.units < OWN_BEYOND * case.reach:
        return None
    text = (
        f"{_used(case)}: {_times(times)} its typical day ({_units(case.typical)}) and "
        f"{_times(case.units / case.reach)} the busiest that it is known for."
    )
    return Finding("level", case.today.meter, times / OWN_TIMES, text, _facts(case, times=times, typical=case.typical))


def plan(case: Case) -> Finding | None:
    """Far above the average of its plan, and unusual for itself as far as it is known."""
    of = case.plan
    if of is None or of.days < PLAN_DAYS or not of.average or not _worth(case):
        return None
    times = case.units / of.average
    if times < (PLAN_TIMES if case.past else PLAN_FIRST):
        return None
    # Whoever uses half of it and more on a typical day is no small account of its plan, and judged by itself.
    if case.units < OWN_BEYOND * case.reach or 2 * case.typical > of.average:
        return None
    own = f" Its own typical day: {_units(case.typical)}." if case.past else ""
    text = f"{_used(case)}: {_times(times)} the average of plan {of.plan} ({_units(of.average)} a day).{own}"
    return Finding(
        "plan",
        case.today.meter,
        times / PLAN_TIMES,
        text,
        _facts(case, times=times, average=of.average) | {"plan": of.plan},
    )


def burst(case: Case) -> Finding | None:
    """A day's use in ten minutes, where the account's days are not like that."""
    if not case.over or case.young or case.today.total.events < BURST_EVENTS or not case.units:
        return None
    share = case.today.peak / case.units
    if share < BURST or case.units * 2 < case.typical:
        return None
    # On a small day a few calls side by side are most of it: only days like this one say what is usual.
    large = [day for day in case.past if case.typical <= 2 * day.total.units > 0]
    shares = [day.peak / day.total.units for day in large]
    if len(shares) < KNOWN:
        return None
    usual = median(shares)
    spreads = (share - usual) / max(spread(shares), _LITTLE)
    if spreads < BURST_SPREADS or share < BURST_BEYOND * max(shares):
        return None
    text = (
        f"{_used(case)}, {_percent(share)} of it ({_units(case.today.peak)}) within ten minutes; "
        f"usually it is {_percent(usual)}."
    )
    return Finding("burst", case.today.meter, spreads / BURST_SPREADS, text, _facts(case, share=share, usual=usual))


def new_model(case: Case) -> Finding | None:
    return _new(case, "model", lambda day: day.models)


def new_member(case: Case) -> Finding | None:
    return _new(case, "member", lambda day: day.members)


def _new(case: Case, what: str, shares_of: Callable[[Rollup], Mapping[str, Share]]) -> Finding | None:
    """Somebody or something that was never there takes a large part of a day that is not a small one."""
    if not case.over or case.young or not case.units:
        return None
    known: set[str] = set()
    unnamed = all_units = ZERO
    for day in case.past:
        shares = shares_of(day)
        known |= shares.keys()
        unnamed += shares.get(REST, Share()).units
        all_units += day.total.units
    if unnamed > UNNAMED * all_units or len(known - {REST}) < NEW_AMONG[what]:
        return None
    shares = shares_of(case.today)
    new = {name: one for name, one in shares.items() if name and name not in known}
    if not new:
        return None
    name, one = max(new.items(), key=lambda found: (found[1].units, found[0]))
    share = one.units / case.units
    least = max(NEW_SHARE[what], NEW_FAIR[what] / (len(known - {REST}) + 1))
    if share < least or one.events < NEW_EVENTS or one.units < NEW_TYPICAL[what] * case.typical:
        return None
    if case.units < NEW_DAY[what] * case.typical:
        return None
    text = (
        f"{_used(case)}, {_percent(share)} of it ({_units(one.units)}) by {what} {name}, "
        f"which it did not have in the {DAYS} days before."
    )
    facts = _facts(case, share=share) | {what: name}
    return Finding(f"new_{what}", case.today.meter, share / least, text, facts)


def night(case: Case) -> Finding | None:
    """Use in hours in which the account never has any."""
    if len(case.past) < NIGHT_DAYS or not case.typical or not _worth(case):
        return None
    by_hour = [sum(hour, ZERO) for hour in zip(*(day.hours for day in case.past), strict=True)]
    least = sum(by_hour, ZERO) * NIGHT_SHARE
    used = {hour for hour in range(24) if by_hour[hour] > least}
    # The clock changes twice a year, and people begin a little earlier: the hours beside used ones are no news.
    near = {(hour + by) % 24 for hour in used for by in (-1, 0, 1)}
    hours = [hour for hour in range(24) if hour not in near and case.today.hours[hour]]
    units = sum((case.today.hours[hour] for hour in hours), ZERO)
    times = units / case.typical
    if not hours or times < NIGHT_TYPICAL or units < NIGHT_OF_DAY * case.units:
        return None
    text = (
        f"{_used(case)}, {_units(units)} of it between {_local(case, hours)}, hours that it has not used in the "
        f"{DAYS} days before."
    )
    facts = _facts(case, at_night=units, times=times) | {"hours_utc": ",".join(map(str, hours))}
    return Finding("night", case.today.meter, times / NIGHT_TYPICAL, text, facts)


def cache(case: Case) -> Finding | None:
    """The app's cache answers far less than it used to."""
    events = case.today.total.events
    if not case.over or case.young or events < CACHED_EVENTS:
        return None
    ratios = [Decimal(day.cached) / day.total.events for day in case.past if day.total.events >= CACHED_EVENTS // 2]
    if len(ratios) < KNOWN:
        return None
    usual = median(ratios)
    ratio = Decimal(case.today.cached) / events
    if usual < CACHED or ratio > CACHED_LEFT * usual or ratio + CACHED_BEYOND > sorted(ratios)[1]:
        return None
    chance = (usual * (1 - usual) / events).sqrt()
    spreads = (usual - ratio) / max(spread(ratios), chance, _LITTLE)
    if spreads < CACHED_SPREADS:
        return None
    text = (
        f"Of {number(Decimal(events))} calls of {case.today.account} on {_date(case)} ({case.today.meter}) the app's "
        f"cache answered {_percent(ratio)}; usually it answers {_percent(usual)}."
    )
    return Finding("cache", case.today.meter, spreads / CACHED_SPREADS, text, _facts(case, share=ratio, usual=usual))


DETECTORS: Final[tuple[Callable[[Case], Finding | None], ...]] = (
    level,
    plan,
    burst,
    new_model,
    new_member,
    night,
    cache,
)
KINDS: Final = ("level", "plan", "burst", "new_model", "new_member", "night", "cache")


def findings(case: Case) -> Iterator[Finding]:
    """What all detectors see. The level of a meter that is set is no use; nothing is seen in it."""
    if case.today.total.level is not None:
        return
    found = [one for detector in DETECTORS if (one := detector(case))]
    # Far above its own days and far above its plan is one trouble.
    own = any(one.kind == "level" for one in found)
    known = _known(case)
    yield from (replace(one, text=one.text + known) for one in found if not (own and one.kind == "plan"))


def _worth(case: Case) -> bool:
    """Whether a day is large enough to look at: by its events, or by what its plan is used to."""
    return case.today.total.events >= EVENTS or (
        case.plan is not None and case.plan.average > ZERO and case.units >= PLAN_TIMES * case.plan.average
    )


# --- words -----------------------------------------------------------------------------------------------------------


def _used(case: Case) -> str:
    so_far = "" if case.over else " so far"
    return f"{case.today.account} used {_units(case.units)} units of {case.today.meter} on {_date(case)}{so_far}"


def _known(case: Case) -> str:
    """What an operator must know of an alarm on an account of which little is known, or which was quiet until then."""
    many = len(case.past)
    if not many:
        return f" It is this account's first busy day: it used nothing in the {DAYS} days before."
    said = ""
    if all(day.total.events < EVENTS for day in case.past):
        said = f" It is this account's first busy day: none in the {DAYS} days before had {EVENTS} calls."
    return said + (f" Little is known of this account: {_days(many)} with use before." if case.young else "")


def _days(many: int) -> str:
    return "1 day" if many == 1 else f"{many} days"


def _date(case: Case) -> str:
    return rfc3339(case.today.day)[:10]


def _units(units: Decimal) -> str:
    return number(units.quantize(Decimal(1)) if units >= 100 else units.quantize(_SHARE))


def _times(times: Decimal) -> str:
    return f"{number(times.quantize(_TENTH))} times"


def _percent(share: Decimal) -> str:
    return f"{number((share * 100).quantize(Decimal(1)))} %"


def _local(case: Case, hours: list[int]) -> str:
    """Stretches of UTC hours on the account's own clock: `02:00 and 05:00, 23:00 and 00:00 (Europe/Berlin)`."""
    place = zone(case.timezone)
    stretches: list[tuple[int, int]] = []
    for hour in hours:
        if stretches and stretches[-1][1] == hour:
            stretches[-1] = (stretches[-1][0], hour + 1)
        else:
            stretches.append((hour, hour + 1))

    def at(hour: int) -> str:
        return datetime.fromtimestamp(case.today.day + hour * 3600, UTC).astimezone(place).strftime("%H:%M")

    return ", ".join(f"{at(first)} and {at(last)}" for first, last in stretches) + f" ({case.timezone})"


def _facts(case: Case, **values: Decimal) -> dict[str, str]:
    return {
        "units": plain(case.units),
        "events": str(case.today.total.events),
        "days_known": str(len(case.past)),
        **{name: plain(value.quantize(_SHARE)) for name, value in values.items()},
    }
