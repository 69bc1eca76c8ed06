"""The scheduled look at all rollups of a day: once an hour at the day so far, once at each day when it is over.

A pass goes through 16 shards, account by account, for as long as there is time, and is gone on with by the next run
from where its state says. The state is saved after the alerts are put: a crash between repeats some accounts, whose
alerts have the same ids and are then no new ones. The look at a day that is over also adds up what the accounts of each
plan used; the sums are saved with the place, so that no account is added twice. Two runs at once do the same work
twice, each from the state that it began with; what the later one saves stands, whole, and is right by itself: if it had
come less far, accounts are looked at once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import groupby
from typing import Final, NamedTuple, Protocol

from tollgate.accounts.rules import Rules
from tollgate.alerts.outbox import Alert, Outbox
from tollgate.anomalies.case import DAYS, Case, Finding, PlanTypical
from tollgate.anomalies.detect import findings
from tollgate.billing.rollup import DAY_S, Rollup
from tollgate.clock import Clock, rfc3339
from tollgate.errors import UnknownAccount
from tollgate.quantities import ZERO, plain, quantize
from tollgate.usage.markers import SHARDS

OVER_S: Final = 3_600
"""So long after its end a day is over: by then its last window is sealed."""
HOUR_S: Final = 3_600
BEHIND: Final = 7
"""Days that are over and that nobody looked at are looked at, if they are no older than this."""
ESCALATES: Final = 2
"""Told again where the score is so many times what was told."""
LEAST: Final = Decimal(1)
"""The lowest score of a finding."""
KEEPS: Final = Decimal(6) / 7
"""What is left of a plan's sums after each day: an average over about a week, weekends among it."""
PAIRS: Final = 1_000
"""Plans and meters of which averages are kept, in one item of at most 400 KB: those of most accounts."""
AT_MOST: Final = 10
"""An account counts in its plan's average with at most so many times that average: one runaway does not hide others."""
_PLACES: Final = 6

Sums = Mapping[tuple[str, str], tuple[Decimal, Decimal]]
"""By plan and meter: accounts that used it, and their units."""


@dataclass(frozen=True, slots=True)
class Pass:
    """One look at a day (epoch seconds). `over`: it is over; else it is the day as of `hour`. What lies before `shard`,
    and in it up to account `after`, is done."""

    day: int
    over: bool
    hour: int
    shard: int = 0
    after: str | None = None
    sums: Sums = field(default_factory=dict)
    """Of a day that is over, so far."""


@dataclass(frozen=True, slots=True)
class State:
    """Where the task stands. `under_way`: the pass to go on with."""

    under_way: Pass | None = None
    over_until: int | None = None
    """The last day looked at after its end."""
    hour: int = 0
    """When the day so far was last looked at."""
    sums: Sums = field(default_factory=dict)
    """Of the days before, each day counting less than the one after it."""


class Noted(NamedTuple):
    """What was told last of a kind of trouble of an account on a day. `number` counts from 0."""

    score: Decimal
    number: int


class Rollups(Protocol):
    def of_account(self, account: str, first_day: int, last_day: int) -> Iterator[Rollup]: ...
    def of_day(self, day: int, shard: int, after: str | None = None) -> Iterator[Rollup]: ...


class RulesReader(Protocol):
    def fresh(self, account: str) -> Rules:
        """Raises UnknownAccount."""


class Memory(Protocol):
    def state(self) -> State: ...
    def save(self, state: State) -> None: ...
    def noted(self, account: str, day: int) -> Mapping[str, Noted]:
        """By kind."""

    def note(self, account: str, day: int, kind: str, noted: Noted) -> None:
        """Where more is noted already, by a higher number or a higher score of the same, that stands."""


@dataclass(frozen=True, slots=True)
class AnomalyDeps:
    rollups: Rollups
    rules: RulesReader
    memory: Memory
    outbox: Outbox
    clock: Clock


@dataclass(slots=True)
class Looked:
    """What one run did. `left`: whether time ran out before the passes that were due were through."""

    accounts: int = 0
    told: int = 0
    left: bool = False
    failures: list[Exception] = field(default_factory=list)


def look(deps: AnomalyDeps, in_time: Callable[[], bool] = lambda: True) -> Looked:
    """Go through what is due. A failure keeps no other account from its look: it is in the answer, and the caller must
    raise it."""
    looked = Looked()
    state = deps.memory.state()
    while state.under_way is not None or (found := next_pass(state, deps.clock() // 1000)) is not None:
        current = state.under_way or found
        assert current is not None
        done = _go_on(deps, state, current, looked, in_time)
        if done.shard < SHARDS:
            deps.memory.save(replace(state, under_way=done))
            looked.left = True
            return looked
        state = ended(state, done)
        deps.memory.save(state)
    return looked


def next_pass(state: State, now: int) -> Pass | None:
    """What is due: first days that are over, oldest first, then the day so far."""
    last = (now - OVER_S) // DAY_S * DAY_S - DAY_S
    hour = now // HOUR_S * HOUR_S
    day = last if state.over_until is None else max(state.over_until + DAY_S, last - (BEHIND - 1) * DAY_S)
    if day <= last:
        return Pass(day, True, hour)
    if state.hour < hour:
        return Pass(now // DAY_S * DAY_S, False, hour)
    return None


def ended(state: State, done: Pass) -> State:
    """The state after a pass is through."""
    if not done.over:
        return replace(state, under_way=None, hour=done.hour)
    sums: dict[tuple[str, str], tuple[Decimal, Decimal]] = {}
    for key in {**state.sums, **done.sums}:
        accounts, units = state.sums.get(key, (ZERO, ZERO))
        more_accounts, more_units = done.sums.get(key, (ZERO, ZERO))
        accounts = quantize(accounts * KEEPS, _PLACES) + more_accounts
        if accounts >= 1:  # a plan that nobody has any more fades away
            sums[key] = (accounts, quantize(units * KEEPS, _PLACES) + more_units)
    return replace(state, under_way=None, over_until=done.day, sums=kept(sums))


def kept(sums: Sums) -> Sums:
    """As much as there is room for. Those of few accounts go: of them there is no average (`detect.PLAN_DAYS`)."""
    if len(sums) <= PAIRS:
        return sums
    return {pair: sums[pair] for pair in sorted(sums, key=lambda pair: (-sums[pair][0], pair))[:PAIRS]}


def _go_on(deps: AnomalyDeps, state: State, current: Pass, looked: Looked, in_time: Callable[[], bool]) -> Pass:
    """The pass as far as it came."""
    sums = dict(current.sums)
    for shard in range(current.shard, SHARDS):
        after = current.after if shard == current.shard else None
        day = deps.rollups.of_day(current.day, shard, after)
        for account, rollups in groupby(day, key=lambda one: one.account):
            if not in_time():
                return replace(current, shard=shard, after=after, sums=kept(sums))
            try:
                looked.told += _look_at(deps, state, current, account, list(rollups), sums)
            except Exception as error:  # noqa: BLE001 - kept, and raised by the caller once the others are done
                error.add_note(f"looking at account {account}")
                looked.failures.append(error)
            looked.accounts += 1
            after = account
    return replace(current, shard=SHARDS, after=None, sums=sums)


def _look_at(
    deps: AnomalyDeps,
    state: State,
    current: Pass,
    account: str,
    rollups: list[Rollup],
    sums: dict[tuple[str, str], tuple[Decimal, Decimal]],
) -> int:
    """Look at one account's day; returns how many alerts were new."""
    try:
        row = deps.rules.fresh(account).row
    except UnknownAccount:
        return 0  # deleted meanwhile
    past: dict[str, list[Rollup]] = {}
    for day in deps.rollups.of_account(account, current.day - DAYS * DAY_S, current.day - DAY_S):
        past.setdefault(day.meter, []).append(day)
    found: list[Finding] = []
    for rollup in rollups:
        key = (row.plan, rollup.meter)
        typical = typical_of(state.sums, *key)
        case = Case(rollup, tuple(past.get(rollup.meter, ())), current.over, typical, row.calendar.timezone)
        found += findings(case)
        if current.over and case.units:
            accounts, units = sums.get(key, (ZERO, ZERO))
            counted = case.units if typical is None else min(case.units, quantize(AT_MOST * typical.average, _PLACES))
            sums[key] = (accounts + 1, units + counted)
    return sum(_tell(deps, account, current.day, one) for one in worst(found)) if found else 0


def typical_of(sums: Sums, plan: str, meter: str) -> PlanTypical | None:
    accounts, units = sums.get((plan, meter), (ZERO, ZERO))
    if not accounts:
        return None
    return PlanTypical(plan, accounts, units / accounts)


def worst(found: list[Finding]) -> list[Finding]:
    """Of each kind the one of the highest score: an account's trouble is told once, not for each meter."""
    kinds: dict[str, Finding] = {}
    for one in found:
        if one.kind not in kinds or one.score > kinds[one.kind].score:
            kinds[one.kind] = one
    return list(kinds.values())


def _tell(deps: AnomalyDeps, account: str, day: int, finding: Finding) -> bool:
    """One alert for each account, kind and day; again only where it has become twice as bad."""
    last = deps.memory.noted(account, day).get(finding.kind)
    score = quantize(finding.score, 2)
    while last is None or score >= last.score * ESCALATES:
        number = 0 if last is None else last.number + 1
        if deps.outbox.put(alert_of(account, day, finding, number)):
            # A crash here leaves an alert that is not noted: the next run meets its id below.
            deps.memory.note(account, day, finding.kind, Noted(score, number))
            return True
        # Told by a run that died before its note, or by one at this moment. How bad it was then is not known: as little
        # as could be told under this number. Too little is told once more; too much would hide what has grown since.
        last = Noted(LEAST if last is None else last.score * ESCALATES, number)
        deps.memory.note(account, day, finding.kind, last)
    return False


_SUBJECTS: Final = {
    "level": "far above its typical day",
    "plan": "far above its plan's average",
    "burst": "a day's use in ten minutes",
    "new_model": "a model that is new to it",
    "new_member": "a member that is new to it",
    "night": "use in hours that it never uses",
    "cache": "the cache answers much less",
}


def alert_of(account: str, day: int, finding: Finding, number: int) -> Alert:
    """The message of a finding; `number`: how often it was told before."""
    date = rfc3339(day)[:10]
    again = "still growing: " if number else ""
    facts = {
        **finding.evidence,
        "anomaly": finding.kind,
        "meter": finding.meter,
        "day": date,
        "score": plain(quantize(finding.score, 2)),
    }
    return Alert(
        id=f"anomaly#{account}#{finding.kind}#{date}" + (f"#{number}" if number else ""),
        kind="anomaly",
        account=account,
        subject=f"{account}: {again}{_SUBJECTS[finding.kind]}",
        text=finding.text,
        at_ms=day * 1000,
        facts=facts,
    )
