"""Every day, what is typical of each account and of each plan's accounts; every run, what the last hours cost.

A run takes accounts page by page while there is time, and writes down after each page how far it came: a crash repeats
a page, which changes nothing twice. Where a day is too short for all, the next one goes on, else the last in the list
would never be learnt. Accounts made since come with the next time; their plan's typical day counts for them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Final, NamedTuple, Protocol

from tollgate.accounts.audit import SCHEDULE
from tollgate.accounts.rules import AccountRow, Typical, with_needed
from tollgate.accounts.service import AccountDeps, change
from tollgate.alerts.outbox import Outbox
from tollgate.billing.rollup import DAY_S, Rollup
from tollgate.breaker.baseline import first_day, of_plan, typical
from tollgate.breaker.platform import PlatformStore, Stop, stop_all
from tollgate.quantities import EXACT, ZERO, quantize
from tollgate.usage.markers import SHARDS
from tollgate.windows import HOUR

PAGE: Final = 50
SAMPLE: Final = 60
"""Accounts of a plan and meter that its typical day is found from: those whose hashes are lowest, so any."""
GOOD: Final = 20
"""Accounts that say well enough what is typical, where there is no room for more."""
SAMPLED: Final = 3_000
"""Of all plans and meters together: they are kept in one item of at most 400 KB."""
SETTLING_S: Final = 2 * HOUR
"""After midnight: by then yesterday is sealed, and its rollups are."""
COST_PLACES: Final = 6
"""Decimal places of a part of a day's cost."""
SEALED_S: Final = 900
"""What was used this long before a look may have been in no rollup yet."""
STALE_S: Final = 3 * HOUR
"""What was looked at longer ago says nothing about an hour."""

Samples = Mapping[str, Mapping[str, Mapping[str, Decimal]]]
"""By plan, meter and hash of the account: its typical day."""


class Progress(NamedTuple):
    """`day`: on which it began; `after`: how far it came in the list of accounts, None: through."""

    day: int
    after: str | None
    samples: Samples


class Looked(NamedTuple):
    """What days had cost by provider when they were looked at, at epoch second `at`."""

    at: int
    costs: Mapping[int, Decimal]


class Rollups(Protocol):
    def of_account(self, account: str, first_day: int, last_day: int) -> Iterator[Rollup]: ...
    def of_day(self, day: int, shard: int) -> Iterator[Rollup]: ...


class LearnStore(Protocol):
    def progress(self) -> Progress | None: ...
    def put_progress(self, progress: Progress) -> None: ...
    def looked(self) -> Looked | None: ...
    def put_looked(self, looked: Looked) -> None: ...


@dataclass(frozen=True, slots=True)
class LearnDeps:
    accounts: AccountDeps
    rollups: Rollups
    store: LearnStore
    platform: PlatformStore
    outbox: Outbox


@dataclass(slots=True)
class Learnt:
    """`stopped`: this run was the first to stop everything. `left`: there was no time for the rest of the accounts,
    which the next run goes on with."""

    accounts: int = 0
    changed: int = 0
    stopped: bool = False
    left: bool = False
    failures: list[Exception] = field(default_factory=list)


def learn(deps: LearnDeps, in_time: Callable[[], bool]) -> Learnt:
    """One run. One account's failure keeps no other from its turn."""
    done, now = Learnt(), deps.accounts.gate.clock() // 1000
    try:
        done.stopped = look_at_cost(deps, now, in_time)
    except OutOfTime as error:
        done.failures.append(error)  # the breaker of all accounts has only what processes add up: somebody must know
    today = (now - SETTLING_S) // DAY_S * DAY_S
    progress = deps.store.progress()
    if progress is None or (progress.after is None and progress.day < today):
        progress = Progress(today, "", {})
    while progress.after is not None:
        if not in_time():
            done.left = True
            return done
        accounts, after = deps.accounts.accounts.page(PAGE, progress.after or None)
        found = progress.samples
        for account in accounts:
            try:
                row = _learn_one(deps, account, today, now, done)
            except Exception as error:  # noqa: BLE001 - raised by the function once the others had their turn
                error.add_note(f"account {account}")
                done.failures.append(error)
                continue
            found = sampled(found, row) if row is not None else found
        if after is None:  # before the progress: a crash between repeats the last page
            deps.accounts.catalog.put_typical(typical_of_plans(found))
        progress = Progress(progress.day, after, found)
        deps.store.put_progress(progress)
    return done


def _learn_one(deps: LearnDeps, account: str, today: int, now: int, done: Learnt) -> AccountRow | None:
    """The row with what is typical now; None where the account is gone, or was changed meanwhile."""
    row = deps.accounts.accounts.read(account)
    if row is None or row.merged_into is not None:
        return None
    done.accounts += 1
    version = deps.accounts.catalog.version(row.plan, row.plan_version)
    if with_needed(row, version.plan, version.meters, now) != row:
        # It is from before there was a breaker: its counters begin now, as those of a limit that is added.
        change(deps.accounts, account, lambda found: with_needed(found, version.plan, version.meters, now), SCHEDULE)
        row = deps.accounts.rules.stored(account)
    found = typical(_rollups(deps, row, today), row.plan_since)
    if found == row.typical:
        return row
    if not deps.accounts.accounts.set_typical(row, found):
        return None
    done.changed += 1
    return replace(row, typical=found)


def _rollups(deps: LearnDeps, row: AccountRow, today: int) -> Iterable[Rollup]:
    for home in (row.account, *row.merged):
        yield from deps.rollups.of_account(home, first_day(today), today - DAY_S)


def hashed(account: str) -> str:
    return hashlib.sha256(account.encode()).hexdigest()[:16]


def sampled(samples: Samples, row: AccountRow) -> Samples:
    """With what is typical of a settled account, where its hash is among the lowest: any accounts, in any order."""
    own = row.typical or Typical({})
    name = hashed(row.account)
    found = {plan: {meter: dict(days) for meter, days in meters.items()} for plan, meters in samples.items()}
    for meter in own.settled:
        days = found.setdefault(row.plan, {}).setdefault(meter, {})
        days[name] = own.units[meter]
        if len(days) > SAMPLE:
            del days[max(days)]
    _cut(found)
    return found


def _cut(samples: dict[str, dict[str, dict[str, Decimal]]]) -> None:
    """No more than are kept: those go that are least missed, of the largest samples, as long as these are good; then
    the smallest as a whole, of plans with too few accounts to say what is typical of them."""
    many = sum(len(days) for meters in samples.values() for days in meters.values())
    while many > SAMPLED:
        pairs = [(len(days), plan, meter) for plan, meters in samples.items() for meter, days in meters.items()]
        size, plan, meter = max(pairs)
        if size <= GOOD:
            size, plan, meter = min(pairs)
            del samples[plan][meter]
            many -= size
            continue
        days = samples[plan][meter]
        del days[max(days)]
        many -= 1


def typical_of_plans(samples: Samples) -> dict[str, dict[str, Decimal]]:
    found: dict[str, dict[str, Decimal]] = {}
    for plan, meters in samples.items():
        for meter, days in meters.items():
            day = of_plan(days.values())
            if day is not None:
                found.setdefault(plan, {})[meter] = day
    return found


class OutOfTime(Exception):
    """Two days of rollups are more than one run can read."""


def look_at_cost(deps: LearnDeps, now: int, in_time: Callable[[], bool]) -> bool:
    """The platform's breaker once more, from rollups: what processes took with them when they died is in there. It is
    per hour since the last look; where somebody resumed since, that hour is theirs. What an outage kept from being
    sealed counts where it was used, not where it came in. Returns whether it stopped. Raises OutOfTime."""
    cap = deps.accounts.catalog.breakers().cost_cap
    if cap is None:
        return False
    today = now // DAY_S * DAY_S
    before, stopped = deps.store.looked(), False
    since = now if before is None else before.at - SEALED_S
    costs = {day: _cost(deps, day, since, in_time) for day in (today - DAY_S, today)}
    looked = Looked(now, {day: cost for day, (cost, _) in costs.items()})
    if before is not None and before.at < now <= before.at + STALE_S:
        new = sum((cost - before.costs.get(day, ZERO) for day, cost in looked.costs.items()), ZERO)
        more = min(new, sum((late for _, late in costs.values()), ZERO))
        hours = range(before.at // HOUR * HOUR, now + 1, HOUR)
        forgiven = any(deps.platform.spent(hour).resumes for hour in hours)
        if not forgiven and EXACT.multiply(more, Decimal(HOUR)) > cap * max(now - before.at, HOUR):
            stopped = stop_all(deps.platform, deps.outbox, Stop(now, hours[-1], more, cap))
    deps.store.put_looked(looked)
    return stopped


def _cost(deps: LearnDeps, day: int, since: int, in_time: Callable[[], bool]) -> tuple[Decimal, Decimal]:
    """What a day cost, and how much of that in the hours that end after epoch second `since`, by their units."""
    whole = late = ZERO
    for shard in range(SHARDS):
        if not in_time():
            raise OutOfTime(f"looking at what providers cost came to shard {shard} of {SHARDS}")
        for rollup in deps.rollups.of_day(day, shard):
            whole += rollup.cost
            units = sum(rollup.hours, ZERO)
            ended = sum(rollup.hours[: max((since - day) // HOUR, 0)], ZERO)
            late += rollup.cost * (units - ended) / units if units else rollup.cost
    return whole, quantize(late, COST_PLACES)
