"""Marks of what belongs to no account: shared limits and the expected volume, told to the operator once a window."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from tests.support.gate import NOON
from tests.support.telling import Told
from tollgate.alerts.platform import PlatformDeps, look_at_shared, look_at_volume
from tollgate.billing.rollup import DAY_S, Rollup
from tollgate.billing.sealed import MeterTotal
from tollgate.catalog.frozen import PlanVersion
from tollgate.catalog.model import Plan, SharedLimit
from tollgate.catalog.store import Current
from tollgate.gate.shares import of_plan
from tollgate.usage.markers import SHARDS, shard_of
from tollgate.windows import DAY

TODAY = NOON // 1000 // DAY_S * DAY_S
ALL = SharedLimit("all", ("ai_credits",), DAY, (), Decimal(1000))
ADDRESS = SharedLimit("address", ("ai_credits",), DAY, (), Decimal(10), "ip")
PLAN = Plan("free", 1, "Free", shared_limits=(ADDRESS, ALL))


@dataclass
class Books:
    """The catalogue, the shards and the rollups."""

    found: Current | None = None
    plan: Plan = PLAN
    shards: dict[str, Decimal] = field(default_factory=dict)
    rollups: list[Rollup] = field(default_factory=list)
    reads: int = 0

    def current(self) -> Current | None:
        return self.found

    def version(self, plan: str, version: int) -> PlanVersion:
        return PlanVersion(replace(self.plan, version=version), {})

    def counts(self, names: list[str]) -> list[Decimal]:
        return [self.shards.get(name, Decimal(0)) for name in names]

    def of_day(self, day: int, shard: int) -> Iterator[Rollup]:
        self.reads += 1
        yield from (one for one in self.rollups if one.day == day and shard_of(one.account) == shard)


class Stage:
    def __init__(self, **more: object) -> None:
        current = Current("usd", "free", True, {"free": 1})
        self.books, self.told = Books(replace_current(current, more)), Told()
        self.now_ms = NOON
        self.deps = PlatformDeps(self.books, self.books, self.books, self.told, lambda: self.now_ms)


def replace_current(current: Current, more: dict[str, object]) -> Current:
    return current._replace(**more)  # type: ignore[arg-type]


def test_a_limit_of_all_accounts_is_told_once_in_a_window_by_its_highest_mark() -> None:
    stage = Stage()
    assert look_at_shared(stage.deps) == 0
    (share,) = of_plan("free", PLAN.shared_limits, NOON // 1000)
    assert share.limit == ALL, "values of a dimension cannot be listed"
    for shard in range(len(share.parts)):
        stage.books.shards[f"{share.counter}#{shard}"] = Decimal(60)
    assert len(share.parts) == 15
    assert look_at_shared(stage.deps) == 1
    assert look_at_shared(stage.deps) == 0
    (alert,) = stage.told.alerts
    assert (alert.audience, alert.account, alert.facts["threshold"]) == ("operator", "", "90")
    assert alert.text == "All accounts on free together have used 900 out of 1,000 units of limit all."
    stage.now_ms += DAY_S * 1000
    assert look_at_shared(stage.deps) == 0, "a new window has its own counter"


def used(account: str, day: int, units: int, meter: str = "ai_credits") -> Rollup:
    return Rollup(account, meter, day, MeterTotal(1, Decimal(units)))


def test_the_expected_volume_is_told_by_what_all_accounts_used_this_month() -> None:
    stage = Stage(expected_volume={"ai_credits": Decimal(1000), "tokens": Decimal(10)}, thresholds=(50, 120))
    stage.books.rollups = [used("acme", TODAY, 300), used("other", TODAY - 20 * DAY_S, 199)]
    stage.books.rollups += [used("acme", TODAY - 21 * DAY_S, 5000), used("acme", TODAY, 9000, "unexpected")]
    assert look_at_volume(stage.deps) == (0, True)
    stage.books.rollups.append(used("third", TODAY, 1))
    assert look_at_volume(stage.deps) == (1, True)
    assert look_at_volume(stage.deps) == (0, True)
    stage.books.rollups.append(used("third", TODAY - DAY_S, 900))
    assert look_at_volume(stage.deps) == (1, True)
    assert stage.told.marks("expected_volume") == [50, 120]
    assert stage.told.alerts[0].text == (
        "All accounts together have used 500 out of 1,000 units of ai_credits that are expected in 2026-11."
    )
    assert {alert.audience for alert in stage.told.alerts} == {"operator"}


def test_the_last_day_of_a_month_is_looked_at_on_the_first_of_the_next() -> None:
    stage = Stage(expected_volume={"ai_credits": Decimal(1000)})
    first = int(datetime(2026, 12, 1, tzinfo=UTC).timestamp())
    stage.books.rollups = [used("acme", first - 5 * DAY_S, 400), used("acme", first - DAY_S, 400)]
    stage.books.rollups.append(used("acme", first, 499))
    stage.now_ms = (first + 3600) * 1000
    assert look_at_volume(stage.deps) == (1, True)
    (alert,) = stage.told.alerts
    assert (alert.facts["threshold"], alert.facts["used"], alert.facts["window_start"]) == (
        "80",
        "800",
        "2026-11-01T00:00:00Z",
    )
    stage.books.rollups.append(used("acme", first, 1))
    assert look_at_volume(stage.deps) == (1, True), "December's own 50 %"
    stage.now_ms += DAY_S * 1000
    reads = stage.books.reads
    assert look_at_volume(stage.deps) == (0, True)
    assert stage.books.reads - reads == 2 * SHARDS, "November is done"


def test_where_time_runs_out_what_was_read_is_told() -> None:
    stage = Stage(expected_volume={"ai_credits": Decimal(100)})
    stage.books.rollups = [used("acme", TODAY - 20 * DAY_S, 60), used("acme", TODAY, 40)]
    times = iter([True] * 16)
    assert look_at_volume(stage.deps, lambda: next(times, False)) == (1, False)
    assert stage.told.marks("expected_volume") == [50]


@pytest.mark.parametrize("found", [None, Current("usd", "free", True, {})])
def test_without_an_expected_volume_no_rollup_is_read(found: Current | None) -> None:
    stage = Stage()
    stage.books.found = found
    assert look_at_volume(stage.deps) == (0, True)
    assert look_at_shared(stage.deps) == 0
    assert stage.books.reads == 0
