"""Recall and false alarms of the anomaly detectors on a synthetic month (`bench.anomaly_months`), day by day through
the product's own run, on seeds that no threshold was chosen by."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, Final

from bench.anomaly_months import PLANTS, Account, Months, months
from bench.report import Check, Listing, Section
from tollgate.alerts.outbox import Alert
from tollgate.anomalies.run import HOUR_S, AnomalyDeps, Noted, State, look
from tollgate.billing.rollup import DAY_S, Rollup
from tollgate.usage.markers import shard_of

TUNED: Final = (1, 2, 3, 4, 101, 102, 103, 104)
"""Seeds that the thresholds were chosen by; 101 to 104 had been put aside to measure, and made some of them change."""
MEASURED: Final = (201, 202, 203, 204)
"""Seeds that are measured: chosen before the first look at them."""
ACCOUNTS: Final = 150
RECALL: Final = 90
"""Per cent of the planted anomalies that must be found, each by an alert of its own kind."""
FALSE: Final = Decimal(1)
"""Alerts for 1,000 days of accounts on which nothing was planted, at most."""
LOOKS: Final = (6, 12, 18, 26)
"""Hours after a day's begin at which is looked: at the day so far, and two hours after its end at the whole day."""
_WARM: Final = 8
"""Days before the measured ones from which on days are looked at, so that plans have their averages."""


class _Rollups:
    """Those of days that are over, and of a measured day so far."""

    def __init__(self, of: Months, now: Callable[[], int]) -> None:
        self._days, self._now, self._measured = of.rollups, now, of.measured()
        self._of: dict[tuple[str, int], list[Rollup]] = {
            (account, day): rows for day, accounts in of.rollups.items() for account, rows in accounts.items()
        }

    def of_account(self, account: str, first_day: int, last_day: int) -> Iterator[Rollup]:
        for day in range(first_day, last_day + 1, DAY_S):
            yield from self._of.get((account, day), ())

    def of_day(self, day: int, shard: int, after: str | None = None) -> Iterator[Rollup]:
        hours = (self._now() - day) // HOUR_S
        if hours < 24 and day not in self._measured:
            return
        for account in sorted(self._days.get(day, ())):
            if shard_of(account) == shard and (after is None or account > after):
                for row in self._days[day][account]:
                    if hours >= 24:
                        yield row
                    elif any(row.hours[:hours]):
                        yield so_far(row, hours)


def so_far(row: Rollup, hours: int) -> Rollup:
    """A day after some of its hours. What is looked at only when it is over stays as it is."""
    units = sum(row.hours[:hours], Decimal(0))
    events = math.ceil(row.total.events * units / row.total.units)
    total = replace(row.total, events=events, units=units, billable=units)
    return replace(row, total=total, hours=row.hours[:hours] + (Decimal(0),) * (24 - hours))


class _Rules:
    def __init__(self, accounts: Sequence[Account]) -> None:
        self._rows = {
            one.name: SimpleNamespace(plan=one.plan, calendar=SimpleNamespace(timezone=one.place)) for one in accounts
        }

    def fresh(self, account: str) -> Any:
        return SimpleNamespace(row=self._rows[account])


class _Memory:
    def __init__(self) -> None:
        self._state, self._noted = State(), dict[tuple[str, int], dict[str, Noted]]()

    def state(self) -> State:
        return self._state

    def save(self, state: State) -> None:
        self._state = state

    def noted(self, account: str, day: int) -> Mapping[str, Noted]:
        return self._noted.get((account, day), {})

    def note(self, account: str, day: int, kind: str, noted: Noted) -> None:
        self._noted.setdefault((account, day), {})[kind] = noted


class _Outbox:
    def __init__(self) -> None:
        self.alerts: dict[str, Alert] = {}

    def put(self, alert: Alert) -> bool:
        new = alert.id not in self.alerts
        self.alerts[alert.id] = alert
        return new


@dataclass(slots=True)
class Score:
    """What was planted, found and cried, by kind."""

    planted: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    false: Counter[str] = field(default_factory=Counter)
    days: int = 0
    """Days of accounts with use, on which nothing was planted."""
    missed: list[str] = field(default_factory=list)
    cried: list[Alert] = field(default_factory=list)

    def add(self, other: Score) -> None:
        self.planted += other.planted
        self.found += other.found
        self.false += other.false
        self.days += other.days
        self.missed += other.missed
        self.cried += other.cried

    def recall(self, kind: str | None = None) -> Decimal:
        """Per cent."""
        found, planted = (
            (self.found.total(), self.planted.total()) if kind is None else (self.found[kind], self.planted[kind])
        )
        return (Decimal(100) * found / planted).quantize(Decimal("0.1"))

    def alarms(self, kind: str | None = None) -> Decimal:
        """False ones for 1,000 days of accounts."""
        false = self.false.total() if kind is None else self.false[kind]
        return (Decimal(1000) * false / self.days).quantize(Decimal("0.01"))


def score(of: Months) -> Score:
    """Run one synthetic month."""
    outbox, now = _Outbox(), [0]
    deps = AnomalyDeps(_Rollups(of, lambda: now[0]), _Rules(of.accounts), _Memory(), outbox, lambda: now[0] * 1000)
    measured = of.measured()
    for day in range(measured.start - _WARM * DAY_S, measured.stop, DAY_S):
        for hour in LOOKS:
            now[0] = day + hour * HOUR_S
            looked = look(deps)
            if looked.failures:
                raise ExceptionGroup("the look failed", looked.failures)
    return held_against(of, list(outbox.alerts.values()))


def held_against(of: Months, alerts: list[Alert]) -> Score:
    """An alert finds what was planted if it names the account, the day and the kind."""
    found = Score(Counter(plant.kind for plant in of.plants))
    told = {(alert.account, alert.at_ms // 1000, alert.facts["anomaly"]): alert for alert in alerts}
    struck = {(plant.account, plant.day) for plant in of.plants}
    for plant in of.plants:
        if (plant.account, plant.day, plant.kind) in told:
            found.found[plant.kind] += 1
        else:
            found.missed.append(f"{plant.kind} {plant.account} {plant.day}")
    for (account, day, kind), alert in told.items():
        if day >= of.measured().start and (account, day) not in struck:
            found.false[kind] += 1
            found.cried.append(alert)
    found.days = sum(len(of.rollups[day]) for day in of.measured()) - len(of.plants)
    return found


def section(seeds: Sequence[int] = MEASURED, accounts: int = ACCOUNTS) -> Section:
    whole = Score()
    for seed in seeds:
        whole.add(score(months(seed, accounts)))
    rows = [(kind, what, whole.planted[kind], whole.recall(kind), whole.alarms(kind)) for kind, what in PLANTS.items()]
    return Section(
        "Anomalies: a synthetic month with planted ones",
        [
            Listing(
                ("kind", "what was planted", "how many", "found, %", "false alarms for 1,000 account-days"),
                [*rows, ("all", "", whole.planted.total(), whole.recall(), whole.alarms())],
            )
        ],
        [
            Check("planted anomalies missed", 100 - whole.recall(), Decimal(100 - RECALL), "%"),
            Check("false alarms for 1,000 days of accounts", whole.alarms(), FALSE, "alarms"),
        ],
        [
            f"{accounts} accounts, 28 days before and 30 measured, seeds {', '.join(map(str, seeds))}; thresholds "
            f"were chosen by seeds {', '.join(map(str, TUNED))}. Nothing "
            f"was planted on {whole.days} days of accounts.",
        ],
        {"planted": whole.planted.total(), "account_days": whole.days},
    )
