"""A synthetic month of daily rollups with planted anomalies: accounts of several kinds, and what happens
to them anyway.

Nothing here knows the detectors. What a planted anomaly is, is said by its kind in `PLANTS`; what belongs to ordinary
life (busy days, outages, new colleagues, models that are tried or moved to, jobs once a week) is never planted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from random import Random
from typing import Final

from tollgate.billing.rollup import DAY_S, Rollup, Share
from tollgate.billing.sealed import MeterTotal

FIRST_DAY: Final = 1_790_812_800
"""2026-10-01."""
BEFORE: Final = 28
MEASURED: Final = 30
METERS: Final = ("llm_tokens", "images")
PLACES: Final = {"America/Los_Angeles": -8, "America/New_York": -5, "Europe/Berlin": 1, "Asia/Tokyo": 9}

KINDS: Final = ("steady", "weekly", "bursty", "growing", "new", "seasonal", "tiny", "batch", "always")
PLANTS: Final[Mapping[str, str]] = {
    "level": "10 to 40 times the account's typical day, 40 calls and more",
    "plan": "3.5 to 10 times the plan's average, by an account that usually uses less than half of it",
    "burst": "1.2 to 4 times as much again as on such a day, in ten minutes, by an account that is not one job a day",
    "new_model": "0.7 to 2.5 typical days more, by a model that it never used",
    "new_member": "0.7 to 2.5 typical days more, by a member that its team of two or more never had",
    "night": "0.7 to 3 typical days more, in two to four hours in and beside which it never uses anything",
    "cache": "a cache that answered a third or more answers less than a quarter of that",
}
_OFTEN: Final = {"plan": 4, "cache": 4, "night": 2}
"""What can happen to few accounts is planted the more often there."""
SIZES: Final = {"free": 25, "pro": 150, "team": 700}
"""Events of a typical day of the plan's accounts; they differ by a factor of three around it."""


@dataclass(slots=True)
class Habits:
    """How an account uses one meter."""

    events: float
    """Of an ordinary working day."""
    units: float
    """Of an event."""
    noise: float
    """Of days: standard deviation of the logarithm."""
    hours: list[float]
    clumps: float
    """How uneven the five minutes of an hour are: an exponent."""
    cached: float
    cached_noise: float
    models: dict[str, float]
    members: dict[str, float]


@dataclass(slots=True)
class Account:
    name: str
    kind: str
    plan: str
    place: str
    begins: int
    habits: dict[str, Habits]
    weekend: float
    growth: float
    cycle: tuple[float, float]
    """Days, and how many times the low the high is."""
    job_every: int
    """Days between big jobs that run in one go; 0: none."""


@dataclass(frozen=True, slots=True)
class Plant:
    account: str
    day: int
    kind: str


@dataclass(slots=True)
class Months:
    """Rollups by day and account; what was planted."""

    accounts: list[Account]
    rollups: dict[int, dict[str, list[Rollup]]] = field(default_factory=dict)
    plants: list[Plant] = field(default_factory=list)

    def days(self) -> range:
        return range(FIRST_DAY, FIRST_DAY + (BEFORE + MEASURED) * DAY_S, DAY_S)

    def measured(self) -> range:
        return range(FIRST_DAY + BEFORE * DAY_S, FIRST_DAY + (BEFORE + MEASURED) * DAY_S, DAY_S)


@dataclass(slots=True)
class _Day:
    """One account, meter and day as it is made."""

    events: list[int]
    """By UTC hour."""
    units: list[int]
    peak: int
    cached: int
    models: dict[str, tuple[int, int]]
    members: dict[str, tuple[int, int]]

    def rollup(self, account: str, meter: str, day: int) -> Rollup:
        units = sum(self.units)
        return Rollup(
            account,
            meter,
            day,
            MeterTotal(sum(self.events), Decimal(units), billable=Decimal(units)),
            tuple(map(Decimal, self.units)),
            Decimal(self.peak),
            self.cached,
            models=_shares(self.models),
            members=_shares(self.members),
        )


def months(seed: int, accounts: int, planted: float = 0.7) -> Months:
    """`planted`: the share of accounts to which something happens in the measured month."""
    random = Random(seed)
    found = Months([_account(random, number) for number in range(accounts)])
    made: dict[tuple[str, str], list[_Day]] = {}
    strikes = _strikes(random, found, planted)
    models: dict[tuple[str, str], Iterator[dict[str, float]]] = {}
    for at, day in enumerate(found.days()):
        averages = _averages(found, made)
        rows = found.rollups[day] = {}
        for account in found.accounts:
            factor = _factor(random, account, at)
            for meter, habits in account.habits.items():
                key = (account.name, meter)
                mixing = models.setdefault(key, _mixes(random, habits))
                mix = next(mixing)
                if at < account.begins:
                    continue
                own = made.setdefault(key, [])
                one = _ordinary(random, account, habits, mix, factor, at)
                if strikes.get(account.name) == at and meter == METERS[0]:
                    kind = _planted(random, account, habits, one, own[-BEFORE:], averages.get((account.plan, meter)))
                    if kind:
                        found.plants.append(Plant(account.name, day, kind))
                own.append(one)
                if sum(one.events):
                    rows.setdefault(account.name, []).append(one.rollup(account.name, meter, day))
    return found


# --- accounts --------------------------------------------------------------------------------------------------------


def _account(random: Random, number: int) -> Account:
    kind = random.choices(KINDS, (20, 20, 12, 8, 10, 8, 10, 6, 6))[0]
    plan = "free" if kind == "tiny" else random.choices(tuple(SIZES), (4, 4, 2))[0]
    place = random.choice(tuple(PLACES))
    account = Account(
        f"{kind}-{number:04d}",
        kind,
        plan,
        place,
        begins=random.randrange(BEFORE, BEFORE + MEASURED - 4) if kind == "new" else 0,
        habits={},
        weekend=random.uniform(0.02, 0.3) if kind in ("weekly", "growing") else random.uniform(0.5, 1.1),
        growth=random.uniform(1.01, 1.03) if kind == "growing" else 1.0,
        cycle=(random.uniform(6, 15), random.uniform(2, 6)) if kind == "seasonal" else (7, 1),
        job_every=random.choice((7, 7, 10, 14)) if kind != "tiny" and random.random() < 0.06 else 0,
    )
    for meter in METERS[: 2 if random.random() < 0.3 else 1]:
        account.habits[meter] = _habits(random, account, meter)
    return account


def _habits(random: Random, account: Account, meter: str) -> Habits:
    kind = account.kind
    events = random.lognormvariate(math.log(SIZES[account.plan]), math.log(3) / 1.3)
    if kind == "tiny":
        events = random.uniform(0.2, 4)
    if meter == METERS[1]:
        events *= 0.2
    people = 1 if account.plan == "free" else random.randint(1, 4) if account.plan == "pro" else random.randint(4, 18)
    return Habits(
        events,
        random.lognormvariate(math.log(900), 0.8) if meter == METERS[0] else random.uniform(1, 4),
        {"steady": 0.25, "bursty": 0.8, "tiny": 0.6}.get(kind, random.uniform(0.25, 0.45)),
        _hours(random, account),
        random.uniform(0.3, 4),
        random.choice((0, 0, random.uniform(0.15, 0.8))),
        random.uniform(0.1, 0.4),
        {f"model-{name}": random.lognormvariate(0, 1) for name in random.sample("abcdefg", random.randint(1, 4))},
        {f"u{at}": random.lognormvariate(0, 0.9) for at in range(people)},
    )


def _hours(random: Random, account: Account) -> list[float]:
    """Weights of UTC hours: office hours with an evening, round the clock, or one hour at night and little else."""
    offset = PLACES[account.place]
    if account.kind == "always":
        local = [random.uniform(0.6, 1.4) for _ in range(24)]
    elif account.kind == "batch":
        local = [0.02] * 24
        local[random.randrange(24)] = 2.0
    else:
        noon, width = random.uniform(11.5, 15.5), random.uniform(2.2, 3.6)
        local = [math.exp(-(((hour - noon) / width) ** 2) / 2) for hour in range(24)]
        if random.random() < 0.4:
            local[20] += 0.2
            local[21] += 0.2
        stray = random.choice((0, 0, 0.002, 0.01))
        local = [(weight if weight > 0.01 else 0) + stray for weight in local]
    return [local[(hour + offset) % 24] for hour in range(24)]


def _mixes(random: Random, habits: Habits) -> Iterator[dict[str, float]]:
    """The models' weights day by day: some accounts move to another model within ten days, all try one now and then."""
    moves = random.randrange(5, BEFORE + MEASURED) if random.random() < 0.2 else None
    at = 0
    while True:
        mix = dict(habits.models)
        if moves is not None and at >= moves:
            whole, share = sum(mix.values()), min(0.05 + 0.08 * (at - moves), 0.85)
            mix = {name: weight * (1 - share) for name, weight in mix.items()} | {"model-next": whole * share}
        if random.random() < 0.03:
            mix[f"trial-{random.randrange(9)}"] = sum(mix.values()) * random.uniform(0.01, 0.15)
        yield mix
        at += 1


# --- ordinary days ---------------------------------------------------------------------------------------------------


def _factor(random: Random, account: Account, at: int) -> float:
    """What the day does to all the account does."""
    factor = account.growth**at
    if at % 7 in (2, 3):  # 2026-10-03 is a Saturday
        factor *= account.weekend
    length, times = account.cycle
    factor *= 1 + (times - 1) * (1 + math.sin(2 * math.pi * at / length)) / 2
    chance = random.random()
    if chance < 0.015:
        factor *= max(1.0, random.lognormvariate(math.log(2.5), 0.35))  # a launch, a demo, month's end
    elif chance < 0.025:
        factor *= 0.1  # an outage, a holiday
    if account.kind == "new":
        factor *= min(1.0, 0.3 + 0.15 * (at - account.begins))
    return factor


def _ordinary(random: Random, account: Account, habits: Habits, mix: dict[str, float], factor: float, at: int) -> _Day:
    expected = habits.events * factor * random.lognormvariate(0, habits.noise)
    weights = [weight and weight * random.uniform(0.6, 1.6) for weight in habits.hours]
    whole = sum(weights)
    events = [poisson(random, expected * weight / whole) if weight else 0 for weight in weights]
    each = habits.units * random.lognormvariate(0, 0.1)
    cached = _chance(habits.cached, random.gauss(0, habits.cached_noise))
    answered = _binomial(random, sum(events), cached)
    left = 1 - answered / sum(events) if sum(events) else 1
    units = [_amount(random, count, each * left) for count in events]
    peak = _peak(random, units, habits.clumps)
    if account.job_every and at % account.job_every == 3:
        hour = random.randrange(24) if account.kind == "always" else habits.hours.index(max(habits.hours))
        more = round(each * habits.events * random.uniform(0.8, 2))
        units[hour] += more
        events[hour] += max(1, round(habits.events))
        peak = max(peak, more)
    day = _Day(events, units, peak, answered, {}, {})
    if random.random() < 0.01 and account.plan != "free":
        habits.members[f"u{len(habits.members)}"] = random.lognormvariate(0, 0.9)  # a colleague joins
    day.models = _split(random, sum(events), sum(units), mix)
    day.members = _split(random, sum(events), sum(units), habits.members)
    return day


def poisson(random: Random, expected: float) -> int:
    if expected > 12:
        return max(0, round(random.gauss(expected, math.sqrt(expected))))
    count, product, limit = 0, random.random(), math.exp(-expected)
    while product > limit:
        count += 1
        product *= random.random()
    return count


def _binomial(random: Random, count: int, chance: float) -> int:
    if count < 40:
        return sum(1 for _ in range(count) if random.random() < chance)
    return min(count, max(0, round(random.gauss(count * chance, math.sqrt(count * chance * (1 - chance))))))


def _amount(random: Random, events: int, each: float) -> int:
    """Units of some events, whose sizes differ as those of prompts do."""
    if not events:
        return 0
    if events <= 8:
        return round(sum(each * random.lognormvariate(-0.32, 0.8) for _ in range(events)))
    return max(0, round(each * events * (1 + random.gauss(0, 0.95 / math.sqrt(events)))))


def _chance(usual: float, noise: float) -> float:
    if not usual:
        return 0.0
    return 1 / (1 + math.exp(-(math.log(usual / (1 - usual)) + noise)))


def _peak(random: Random, hours: list[int], clumps: float) -> int:
    """Of the three busiest hours, the two five minutes side by side that have most."""
    found = 0
    for units in sorted(hours)[-3:]:
        if not units:
            continue
        weights = [random.random() ** clumps for _ in range(12)]
        whole = sum(weights) or 1
        found = max(
            found, *(round(units * (one + two) / whole) for one, two in zip(weights, weights[1:], strict=False))
        )
    return found


def _split(random: Random, events: int, units: int, weights: Mapping[str, float]) -> dict[str, tuple[int, int]]:
    """Events and units by name; of few events each goes somewhere."""
    day = {name: weight * random.lognormvariate(0, 0.5) for name, weight in weights.items()}
    whole = sum(day.values())
    names = list(day)
    counts = dict.fromkeys(names, 0)
    if events <= 40:
        for name in random.choices(names, list(day.values()), k=events):
            counts[name] += 1
    else:
        for name in names:
            counts[name] = poisson(random, events * day[name] / whole)
        top = max(names, key=lambda name: counts[name])
        counts[top] = max(0, counts[top] + events - sum(counts.values()))
    together = sum(counts.values()) or 1
    return {name: (count, units * count // together) for name, count in counts.items() if count}


def _shares(split: Mapping[str, tuple[int, int]]) -> dict[str, Share]:
    return {name: Share(events, Decimal(units)) for name, (events, units) in split.items()}


# --- planted ---------------------------------------------------------------------------------------------------------


def _strikes(random: Random, of: Months, planted: float) -> dict[str, int]:
    """On which day something happens to whom: `new` accounts mostly soon."""
    found = {}
    for account in of.accounts:
        if random.random() < planted:
            first = max(BEFORE, account.begins + 1)
            found[account.name] = random.randrange(first, BEFORE + MEASURED)
    return found


def _averages(of: Months, made: Mapping[tuple[str, str], list[_Day]]) -> dict[tuple[str, str], float]:
    """What accounts of a plan used a day in the last week."""
    sums: dict[tuple[str, str], list[int]] = {}
    for account in of.accounts:
        for meter in account.habits:
            for day in made.get((account.name, meter), [])[-7:]:
                if sum(day.units):
                    sums.setdefault((account.plan, meter), []).append(sum(day.units))
    return {key: sum(values) / len(values) for key, values in sums.items()}


def _planted(
    random: Random, account: Account, habits: Habits, day: _Day, past: list[_Day], average: float | None
) -> str | None:
    """Change a day into one of an anomaly that can happen to the account; which one, or None."""
    used = sorted(sum(one.units) for one in past if sum(one.units))
    typical = used[len(used) // 2] if used else 0
    calls = sorted(sum(one.events) for one in past if sum(one.events))
    often = calls[len(calls) // 2] if calls else 0
    possible, wanted = [], 0.0
    much = typical * _log_uniform(random, 10, 40)
    if len(used) >= 3 and often * much >= 40 * typical > 0:  # of fewer calls nothing is told
        possible.append("level")
    if average and len(used) >= 1 and 2 * typical < average:
        wanted = average * _log_uniform(random, 3.5, 10)
        if len(used) < 3 or wanted < 9 * typical:  # else it is one of the first kind
            possible.append("plan")
    if len(used) >= 10 and often >= 10:
        possible.append("new_model")
        if account.kind != "batch":  # its nature is a burst a day
            possible.append("burst")
        if len(habits.members) > 1:
            possible.append("new_member")
        if len(_nights(habits)) > 1:
            possible.append("night")
        if habits.cached > 1 / 3 and sum(day.events) >= 40:
            possible.append("cache")
    if not possible:
        return None
    kind = random.choices(possible, [_OFTEN.get(one, 1) for one in possible])[0]
    each = max(1.0, typical / often)
    if kind == "level":
        _grow(random, habits, day, much, each)
    elif kind == "plan":
        _grow(random, habits, day, wanted, each)
    elif kind == "cache":
        day.cached = round(day.cached * random.uniform(0, 0.25))
    else:
        _add(random, habits, day, kind, typical, each)
    return kind


def _nights(habits: Habits) -> list[int]:
    """Hours in which, and in those beside which, it never uses anything."""
    return [hour for hour in range(24) if not any(habits.hours[(hour + by) % 24] for by in (-1, 0, 1))]


def _log_uniform(random: Random, least: float, most: float) -> float:
    return math.exp(random.uniform(math.log(least), math.log(most)))


def _grow(random: Random, habits: Habits, day: _Day, wanted: float, each: float) -> None:
    """A day of `wanted` units: in its own hours as on other days, or a loop that runs for some of them."""
    more = max(0, round(wanted) - sum(day.units))
    hours = [hour for hour in range(24) if habits.hours[hour] > 0.05]
    if random.random() < 0.5:
        first = random.randrange(len(hours))
        hours = hours[first : first + 4]
    for hour in hours:
        day.units[hour] += more // len(hours)
        day.events[hour] += max(1, round(more / len(hours) / each))
    day.peak = max(day.peak, more // len(hours) // 4)
    _spread(random, day, habits)


def _spread(random: Random, day: _Day, habits: Habits) -> None:
    """By whom and with what: as ever."""
    day.models = _split(random, sum(day.events), sum(day.units), habits.models)
    day.members = _split(random, sum(day.events), sum(day.units), habits.members)


def _add(random: Random, habits: Habits, day: _Day, kind: str, typical: int, each: float) -> None:
    most = {"burst": 4.0, "night": 3.0}.get(kind, 2.5)
    if kind == "burst":
        more = round(max(typical, sum(day.units)) * random.uniform(1.2, most))
    else:
        more = round(typical * random.uniform(0.7, most))
    calls = max(20, round(more / each))
    hours = [hour for hour in range(24) if habits.hours[hour] > 0.05]
    if kind == "night":
        free = _nights(habits)
        first = random.randrange(max(1, len(free) - 3))
        hours = free[first : first + random.randint(2, 4)]
    elif kind == "burst":
        hours = [random.choice(hours)]
        day.peak = max(day.peak, more)
    for hour in hours:
        day.units[hour] += more // len(hours)
        day.events[hour] += max(1, calls // len(hours))
    if kind in ("burst", "night"):
        if kind == "night":
            day.peak = max(day.peak, more // len(hours) // 4)
        _spread(random, day, habits)
    elif kind == "new_model":
        day.models["model-nobody-knew"] = (calls, more)
        day.members = _split(random, sum(day.events), sum(day.units), habits.members)
    else:
        day.members["who-is-this"] = (calls, more)
        day.models = _split(random, sum(day.events), sum(day.units), habits.models)
