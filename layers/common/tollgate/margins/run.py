"""Once a day, the margins of all accounts in the month of yesterday: kept for reading, and told where they are bad.

Each month is looked at once as a whole when it is over, and once more some days later, for usage that was sealed late.
A look that was begun is finished before the next one begins, whatever day it is by then: else those last in the list
would never be looked at where a day is too short for all, and a month that is over not as a whole.

A run takes accounts page by page while there is time, and after each page writes down how far it came and what the
accounts so far add up to: a crash repeats a page whose sums were not written, so no account is added twice; its rows
and alerts are the same again. Two runs at once do the same work twice; what the later one saves stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, NamedTuple, Protocol

from tollgate.accounts import overrides
from tollgate.accounts.rules import AccountRow, Rules
from tollgate.alerts.outbox import Alert
from tollgate.alerts.telling import KnowingOutbox
from tollgate.billing.breakdown import REST
from tollgate.billing.rollup import DAY_S, Rollup
from tollgate.catalog.frozen import PlanVersion
from tollgate.catalog.model import Meter, Plan, level_meters
from tollgate.clock import Clock, parse_rfc3339, rfc3339
from tollgate.errors import UnknownAccount
from tollgate.gate.item import Gate
from tollgate.margins.book import PriceBook
from tollgate.margins.margin import Line, Margin, margin_of, months
from tollgate.quantities import ZERO, plain

PAGE: Final = 50
NAMED: Final = 100
"""Accounts of each list, and models: those of most dollars are named."""
SETTLING_S: Final = 7_200
"""After midnight: by then yesterday is sealed, and its rollups are."""
LATE_S: Final = 3 * DAY_S
"""After a month's end, what was sealed late is in: the month is looked at once more."""
REMEMBERED_S: Final = 40 * DAY_S
"""After a month's end nobody looks at it again."""
STAGES: Final = ("warning", "critical", "loss")
"""What is told of, from bad to worst."""


class PlanLine(NamedTuple):
    """All accounts of a plan in one currency. `usd` None: its revenue is in a currency without a rate."""

    accounts: int
    revenue: Decimal
    usd: Decimal | None
    cost: Decimal

    def plus(self, margin: Margin) -> PlanLine:
        usd = None if self.usd is None or margin.usd is None else self.usd + margin.usd
        return PlanLine(self.accounts + 1, self.revenue + margin.revenue, usd, self.cost + margin.cost)


@dataclass(frozen=True, slots=True)
class Ranked:
    """One account of a list. Money as in `Margin`."""

    account: str
    plan: str
    currency: str
    revenue: Decimal
    usd: Decimal | None
    cost: Decimal


@dataclass(frozen=True, slots=True)
class Summary:
    """What the accounts of a month add up to. `as_of`: epoch second of the day until which usage is in it."""

    month: str
    as_of: int
    accounts: int = 0
    unpriced: int = 0
    """Accounts with units whose cost is unknown."""
    unconverted: int = 0
    """Accounts with revenue in a currency without a rate: in no sum of dollars but their cost."""
    levels: Mapping[str, int] = field(default_factory=dict)
    plans: Mapping[tuple[str, str], PlanLine] = field(default_factory=dict)
    """By plan and currency."""
    models: Mapping[str, Line] = field(default_factory=dict)
    losing: tuple[Ranked, ...] = ()
    """Customers whose plan loses money, those first that lose most."""
    spenders: tuple[Ranked, ...] = ()
    """Those of most revenue: in dollars, or in its own currency where that has no rate."""


class Progress(NamedTuple):
    """`after`: how far it came in the list of accounts, "" at the beginning, None: through."""

    after: str | None
    summary: Summary


class Accounts(Protocol):
    def page(self, limit: int, before: str | None) -> tuple[list[str], str | None]: ...


class RulesReader(Protocol):
    def fresh(self, account: str) -> Rules:
        """Of an account that became another one: that one's. Raises UnknownAccount."""


class Rollups(Protocol):
    def of_account(self, account: str, first_day: int, last_day: int) -> Iterator[Rollup]: ...


class Plans(Protocol):
    def version(self, plan: str, version: int) -> PlanVersion:
        """Raises UnknownPlan."""


class Gates(Protocol):
    def read_all(self, subjects: Sequence[str]) -> Mapping[str, Gate]: ...


class MarginStore(Protocol):
    def progress(self) -> Progress | None: ...
    def put_progress(self, progress: Progress) -> None: ...
    def margin(self, month: str, account: str) -> Margin | None:
        """As the last look at that month left it."""

    def put_account(self, month: str, as_of: int, margin: Margin) -> None: ...
    def put_summary(self, summary: Summary) -> None: ...


@dataclass(frozen=True, slots=True)
class MarginDeps:
    accounts: Accounts
    rules: RulesReader
    plans: Plans
    rollups: Rollups
    gates: Gates
    book: Callable[[], PriceBook]
    store: MarginStore
    outbox: KnowingOutbox
    clock: Clock


@dataclass(slots=True)
class Looked:
    """What one run did. `left`: whether time ran out before all accounts had their turn."""

    accounts: int = 0
    told: int = 0
    left: bool = False
    failures: list[Exception] = field(default_factory=list)


def until(now: int) -> int:
    """The day (epoch seconds of its start) up to which rollups are whole."""
    return (now - SETTLING_S) // DAY_S * DAY_S


def month_of(now: int) -> str:
    """The month that is looked at: that of yesterday, so each is once looked at as a whole."""
    return rfc3339(until(now) - DAY_S)[:7]


def month_after(month: str) -> str:
    year, number = int(month[:4]), int(month[5:7])
    return f"{year + number // 12:04d}-{number % 12 + 1:02d}"


def days_of(month: str) -> tuple[int, int]:
    """The first day of a month, and that of the next: epoch seconds."""
    first, end = (parse_rfc3339(f"{one}-01T00:00:00+00:00") // 1000 for one in (month, month_after(month)))
    return first, end


def next_look(last: Progress | None, now: int) -> Progress | None:
    """What is due: the look that is not through, else the next one after it; None: nothing yet."""
    today = until(now)
    if last is None:
        return Progress("", Summary(month_of(now), today))
    if last.after is not None:
        return last
    month, as_of = last.summary.month, last.summary.as_of
    first, end = days_of(month)
    if as_of < first + LATE_S <= today:  # from here on the next look is at this month again, and later than that
        return Progress("", Summary(month_of(first), first))
    if as_of == end:
        month, (first, end) = month_after(month), days_of(month_after(month))
    as_of = max(as_of, first)
    return Progress("", Summary(month, min(today, end))) if as_of < today else None


def look(deps: MarginDeps, in_time: Callable[[], bool] = lambda: True) -> Looked:
    """Go on with the look that is due, or begin it. A failure keeps no other account from its look: it is in the
    answer, and the caller must raise it."""
    looked, last = Looked(), deps.store.progress()
    while (progress := next_look(last, deps.clock() // 1000)) is not None:
        if not in_time():
            looked.left = True
            return looked
        accounts, after = deps.accounts.page(PAGE, progress.after or None)
        summary = progress.summary
        month, as_of = summary.month, summary.as_of
        for account in accounts:
            try:
                margin = margin_in(deps, account, month, as_of)
                if margin is not None:
                    deps.store.put_account(month, as_of, margin)
                    looked.told += _tell(deps, month, margin)
            except Exception as error:  # noqa: BLE001 - raised by the function once the others had their turn
                error.add_note(f"margin of account {account}")
                looked.failures.append(error)
                continue
            if margin is not None:
                looked.accounts += 1
                summary = added(summary, margin)
        if after is None:  # before the progress: a crash between repeats the last page, and puts the same
            deps.store.put_summary(summary)
        last = Progress(after, summary)
        deps.store.put_progress(last)
    return looked


def margin_in(deps: MarginDeps, account: str, month: str, as_of: int) -> Margin | None:
    """An account's margin in a month up to the beginning of day `as_of`, usage of the accounts that became it among it;
    None where it is no account, was none yet, or became another one."""
    first, end = days_of(month)
    try:
        rules = deps.rules.fresh(account)  # with what the operator negotiated
    except UnknownAccount:
        return None  # deleted meanwhile
    if rules.account != account or rules.row.created_at >= end:
        return None
    used = months(day for home in rules.homes for day in deps.rollups.of_account(home, first, as_of - DAY_S))
    plan, meters = _plan_of(deps, rules, month, end)
    return margin_of(account, plan, meters, used, _standing(deps, rules.row, plan, meters), deps.book())


def _plan_of(deps: MarginDeps, rules: Rules, month: str, end: int) -> tuple[Plan, Mapping[str, Meter]]:
    """The plan that a month is rated by, with what the operator negotiated: the account's own, or the one that earlier
    looks rated it by, where it came to its own with the next month (a change to that is made in the last second)."""
    row = rules.row
    before = deps.store.margin(month, row.account) if row.plan_since >= end - 1 else None
    if before is None:
        return rules.plan, rules.meters
    version = deps.plans.version(before.plan, before.version)
    return overrides.applied(overrides.read(row.overrides), version.plan), version.meters


def _standing(deps: MarginDeps, row: AccountRow, plan: Plan, meters: Mapping[str, Meter]) -> dict[str, Decimal]:
    """What the levels that the plan charges stand at now. One read, for plans with such levels alone."""
    charged = {price.meter for price in plan.prices}
    if plan.seats is not None and plan.seats.meter is not None:
        charged.add(plan.seats.meter)
    wanted = sorted(charged & level_meters(meters) & set(row.meters))
    gate = deps.gates.read_all([row.account]).get(row.account) if wanted else None
    if gate is None:
        return {}
    found = {meter: gate.levels.get(row.meters.index(meter)) for meter in wanted}
    return {meter: level.units for meter, level in found.items() if level is not None}


def added(summary: Summary, margin: Margin) -> Summary:
    """With one more account."""
    key = (margin.plan, margin.currency)
    line = summary.plans.get(key, PlanLine(0, ZERO, ZERO, ZERO))
    models = dict(summary.models)
    for model, one in margin.models.items():
        models[model] = models.get(model, Line()).plus(one)
    ranked = Ranked(margin.account, margin.plan, margin.currency, margin.revenue, margin.usd, margin.cost)
    return Summary(
        month=summary.month,
        as_of=summary.as_of,
        accounts=summary.accounts + 1,
        unpriced=summary.unpriced + bool(margin.unpriced),
        unconverted=summary.unconverted + (margin.usd is None),
        levels={**summary.levels, margin.level: summary.levels.get(margin.level, 0) + 1},
        plans={**summary.plans, key: line.plus(margin)},
        models=_named(models),
        losing=_first((*summary.losing, ranked), _lost) if margin.loses else summary.losing,
        spenders=_first((*summary.spenders, ranked), _spent) if margin.revenue else summary.spenders,
    )


def _named(models: dict[str, Line]) -> dict[str, Line]:
    """No more models than are named; the others are added to REST."""
    names = sorted((name for name in models if name != REST), key=lambda name: (-models[name].cost, name))
    rest = models.get(REST, Line())
    for name in names[NAMED:]:
        rest = rest.plus(models[name])
    found = {name: models[name] for name in names[:NAMED]}
    return {**found, REST: rest} if any(rest) else found


def _first(accounts: Iterable[Ranked], by: Callable[[Ranked], Decimal]) -> tuple[Ranked, ...]:
    return tuple(sorted(accounts, key=lambda one: (-by(one), one.account))[:NAMED])


def _lost(one: Ranked) -> Decimal:
    return one.cost - (one.usd or ZERO)


def _spent(one: Ranked) -> Decimal:
    return one.revenue if one.usd is None else one.usd


def sales_assist(summary: Summary, above: Decimal | None, currency: str) -> list[Ranked]:
    """Customers who spent more than `above` in a currency, those first that spent most: of the spenders that a summary
    names, and nobody without a threshold."""
    found = (one for one in summary.spenders if above is not None and one.currency == currency and one.revenue > above)
    return sorted(found, key=lambda one: (-one.revenue, one.account))


def stage_of(margin: Margin, told_from: Decimal) -> str | None:
    """What there is to tell of a margin. Nothing where revenue is not known in full, nor of small amounts."""
    if margin.credits or margin.cost < told_from or margin.level not in ("warning", "critical"):
        return None
    return "loss" if margin.loses else margin.level


def _tell(deps: MarginDeps, month: str, margin: Margin) -> bool:
    """One alert for each account, month and stage; none where a worse one was told."""
    stage = stage_of(margin, deps.book().told_from)
    if stage is None:
        return False
    worse = STAGES[STAGES.index(stage) :]
    if any(deps.outbox.knows(_id(margin.account, month, one)) for one in worse):
        return False
    return deps.outbox.put(alert_of(month, margin, stage, deps.clock()))


def _id(account: str, month: str, stage: str) -> str:
    return f"margin#{account}#{month}#{stage}"


_SUBJECTS: Final = {
    "warning": "costs more than 40 % of what it brings",
    "critical": "costs more than 60 % of what it brings",
    "loss": "costs more than it brings",
}


def alert_of(month: str, margin: Margin, stage: str, now_ms: int) -> Alert:
    assert margin.usd is not None
    brought = f"{plain(margin.revenue)} {margin.currency.upper()}"
    if margin.currency != "usd":
        brought += f" (by your rate {plain(margin.usd)} USD)"
    ratio = margin.ratio
    share = "" if ratio is None else f": {plain(ratio * 100)} %"
    partly = " Some of its usage has no known cost." if margin.unpriced else ""
    return Alert(
        id=_id(margin.account, month, stage),
        kind="margin",
        account=margin.account,
        subject=f"{margin.account} {_SUBJECTS[stage]}",
        text=(
            f"In {month}, {margin.account} on plan {margin.plan} cost {plain(margin.cost)} USD at providers and "
            f"brought {brought}{share}.{partly}"
        ),
        at_ms=now_ms,
        facts={
            "stage": stage,
            "month": month,
            "plan": margin.plan,
            "provider_cost": plain(margin.cost),
            "revenue": plain(margin.revenue),
            "currency": margin.currency,
            **({} if ratio is None else {"ratio": plain(ratio)}),
        },
        guarded_until=days_of(month)[1] + REMEMBERED_S,
    )
