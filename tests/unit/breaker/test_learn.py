"""The daily task: what is typical is written once, page by page, whatever dies between; counters of older accounts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal

import pytest

from tests.unit.accounts.services import ENV, Clock
from tests.unit.breaker.stage import CATALOG, Process, new_account, process, told
from tollgate.accounts.rules import AccountRow, Typical, hour_counter
from tollgate.billing.rollup import DAY_S, NO_HOURS, Rollup
from tollgate.billing.sealed import MeterTotal
from tollgate.breaker import learn as learning
from tollgate.breaker.learn import GOOD, SAMPLED, LearnDeps, Progress, learn, sampled, typical_of_plans
from tollgate.breaker.learn_store import LearnTable
from tollgate.breaker.platform import resume_all
from tollgate.breaker.platform_store import PlatformTable
from tollgate.usage.markers import SHARDS, shard_of
from tollgate.windows import Calendar

pytestmark = pytest.mark.usefixtures("tables")


LOOKS = 2 * SHARDS
"""How often the look at cost asks for the time, before any page of accounts does."""


def always() -> bool:
    return True


@dataclass
class Memory:
    """Rollups by account."""

    rows: dict[str, list[Rollup]] = field(default_factory=dict)

    def of_account(self, account: str, first_day: int, last_day: int) -> Iterator[Rollup]:
        return (row for row in self.rows.get(account, ()) if first_day <= row.day <= last_day)

    def of_day(self, day: int, shard: int) -> Iterator[Rollup]:
        return (
            row for account, rows in self.rows.items() if shard_of(account) == shard for row in rows if row.day == day
        )

    def used(
        self,
        account: str,
        units: int,
        days: int,
        today: int,
        cost: str = "0",
        hours: tuple[Decimal, ...] = NO_HOURS,
    ) -> None:
        self.rows[account] = [
            Rollup(
                account,
                "tokens",
                today - day * DAY_S,
                MeterTotal(events=1, units=Decimal(units)),
                hours,
                cost=Decimal(cost),
            )
            for day in range(days + 1)
        ]


@pytest.fixture
def clock() -> Clock:
    return Clock("2026-11-21T12:05:00Z")


@pytest.fixture
def one(clock: Clock) -> Process:
    return process(clock, CATALOG)


def deps_of(one: Process, rollups: Memory) -> LearnDeps:
    billing = ENV["TOLLGATE_BILLING_TABLE"]
    return LearnDeps(one.deps, rollups, LearnTable(billing), PlatformTable(billing), one.stops.trips.outbox)


def test_it_learns_every_account_once_a_day_and_goes_on_where_it_stopped(
    one: Process, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning, "PAGE", 3)
    today = clock() // 1000 // DAY_S * DAY_S
    rollups = Memory()
    for number in range(8):
        new_account(one, f"learn-{number}")
        rollups.used(f"learn-{number}", 100 + number, 10, today)
        clock.ms += 1000
    new_account(one, "learn-young")
    rollups.used("learn-young", 5, 2, today)
    deps = deps_of(one, rollups)
    pages = iter([True] * LOOKS + [True, True, False])
    first = learn(deps, lambda: next(pages))
    assert (first.accounts, first.left) == (6, True)
    assert one.deps.catalog.breakers().rules["hot"].typical == {}
    second = learn(deps, always)
    assert (first.accounts + second.accounts, second.left, second.failures) == (9, False, [])
    assert one.rules("learn-3").row.typical == Typical({"tokens": Decimal(103)}, ("tokens",))
    assert one.rules("learn-young").row.typical == Typical({"tokens": Decimal(5)})
    assert one.deps.catalog.breakers().rules["hot"].typical == {"tokens": Decimal(104)}, "today does not count yet"
    again = learn(deps, always)
    assert (again.accounts, again.changed) == (0, 0)
    clock.ms += DAY_S * 1000
    assert learn(deps, always).accounts == 9
    one.deps.catalog.put_typical({})


def test_a_day_that_is_too_short_is_gone_on_with_on_the_next(
    one: Process, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning, "PAGE", 1)
    clock.ms += 5 * DAY_S * 1000
    rollups, last = Memory(), "in-the-end"
    for name in (last, "before-it"):  # the list begins with the newest
        new_account(one, name)
        clock.ms += 1000
    rollups.used(last, 7, 3, clock() // 1000 // DAY_S * DAY_S)
    deps = deps_of(one, rollups)
    for _ in range(30):
        pages = iter([True] * LOOKS + [True])
        learn(deps, lambda found=pages: next(found, False))  # type: ignore[misc]
        clock.ms += DAY_S * 1000
    assert one.rules(last).row.typical is not None


def test_a_look_at_cost_that_cannot_end_is_seen_and_says_nothing(one: Process, clock: Clock) -> None:
    clock.ms += 40 * DAY_S * 1000
    deps = deps_of(one, Memory())
    before = deps.store.looked()
    pages = iter([True] * 20)
    done = learn(deps, lambda: next(pages, False))
    assert [str(failure) for failure in done.failures] == ["looking at what providers cost came to shard 4 of 16"]
    assert done.left
    assert deps.store.looked() == before


def row_of(plan: str, number: int, *meters: str) -> AccountRow:
    own = Typical({meter: Decimal("123456789012345678.123456") for meter in meters}, meters)
    return AccountRow(f"a{number}", 1, plan, 1, 0, Calendar.of("UTC"), (), (), typical=own)


def test_what_is_sampled_fits_into_an_item_however_many_plans_there_are() -> None:
    """200 plans and 200 meters are what a catalogue may have."""
    meters = [f"{number:064}" for number in range(20)]
    found: learning.Samples = {}
    for number in range(12):
        for plan in range(60):
            found = sampled(found, row_of(f"{plan:064}", number, *meters))
    LearnTable(ENV["TOLLGATE_BILLING_TABLE"]).put_progress(Progress(0, "x", found))
    sizes = [len(days) for meters in found.values() for days in meters.values()]
    assert sum(sizes) <= SAMPLED
    assert len(typical_of_plans(found)) > 0


def test_plans_of_few_accounts_make_room_for_those_of_many() -> None:
    found: learning.Samples = {}
    for number in range(SAMPLED):
        found = sampled(found, row_of(f"private-{number}", number, "tokens"))
    for number in range(80):
        found = sampled(found, row_of("pro", SAMPLED + number, "tokens"))
    assert len(found["pro"]["tokens"]) == GOOD
    assert typical_of_plans(found).keys() == {"pro"}
    lowest = sorted(learning.hashed(f"a{SAMPLED + number}") for number in range(80))[:GOOD]
    assert sorted(found["pro"]["tokens"]) == lowest


def test_one_account_that_fails_keeps_no_other_from_its_turn(
    one: Process, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock.ms += 10 * DAY_S * 1000
    rollups, good = Memory(), "fails-not"
    new_account(one, "fails")
    new_account(one, good)
    rollups.used(good, 7, 3, clock() // 1000 // DAY_S * DAY_S)
    deps = deps_of(one, rollups)
    whole = deps.rollups.of_account

    def broken(account: str, first_day: int, last_day: int) -> Iterator[Rollup]:
        if account == "fails":
            raise RuntimeError(account)
        return whole(account, first_day, last_day)

    monkeypatch.setattr(rollups, "of_account", broken)
    done = learn(deps, always)
    assert [str(failure) for failure in done.failures] == ["fails"]
    assert one.rules(good).row.typical is not None


def test_an_account_from_before_gets_its_counter_with_what_it_used_this_hour(one: Process, clock: Clock) -> None:
    clock.ms += 20 * DAY_S * 1000
    new_account(one, "older")
    row = one.rules("older").row
    without = tuple((key, since) for key, since in row.counters if key.window != "hour")
    assert one.deps.accounts.update(replace(row, counters=without, rev=row.rev + 1), row)
    before = process(clock)
    assert before.rules("older").breakers == ()
    assert before.use(250, account="older").status == "recorded"
    assert learn(deps_of(one, Memory()), always).failures == []
    keys = [key for key, _ in one.rules("older").row.counters]
    assert hour_counter("tokens") in keys
    assert keys[: len(without)] == [key for key, _ in without], "slots are only appended"
    assert before.until_refused(50, account="older")[0] == 50, "it counts what was used before it began"


def test_the_rollups_stop_what_dead_processes_took_with_them(one: Process, clock: Clock) -> None:
    clock.ms += 30 * DAY_S * 1000
    today = clock() // 1000 // DAY_S * DAY_S
    rollups, platform = Memory(), PlatformTable(ENV["TOLLGATE_BILLING_TABLE"])
    deps = deps_of(one, rollups)
    rollups.used("dear", 1, 0, today, "1000")
    assert not learn(deps, always).stopped, "nothing to compare with"
    clock.ms += 3_600_000
    rollups.used("dear", 1, 0, today, "1050")
    assert not learn(deps, always).stopped, "exactly the cap"
    clock.ms += 3_600_000
    rollups.used("dear", 1, 0, today, "1100.01")
    assert learn(deps, always).stopped
    stop = platform.stopped()
    assert stop is not None
    assert stop.cost == Decimal("50.01")
    assert len(told("breaker_platform")) == 1
    resume_all(platform, clock() // 1000)
    clock.ms += 2 * 3_600_000
    rollups.used("dear", 1, 0, today, "1900")
    assert not learn(deps, always).stopped, "somebody resumed since"
    clock.ms += 3_600_000
    platform.forgive(clock() // 1000 // 3600 * 3600)
    clock.ms += 3_600_000
    rollups.used("dear", 1, 0, today, "2900")
    assert not learn(deps, always).stopped, "also in an hour between"
    clock.ms += 24 * 3_600_000
    rollups.used("dear", 1, 0, today, "9000")
    assert not learn(deps, always).stopped, "a look so long ago says nothing about an hour"


def test_what_an_outage_sealed_late_stops_nothing(one: Process, clock: Clock) -> None:
    clock.ms += 50 * DAY_S * 1000
    today = clock() // 1000 // DAY_S * DAY_S
    rollups = Memory()
    deps = deps_of(one, rollups)
    rollups.used("late", 1, 0, today, "1")
    assert not learn(deps, always).stopped
    clock.ms += 3_600_000
    evenly = (Decimal(1),) * 13 + NO_HOURS[13:]
    rollups.used("late", 13, 0, today, "200", evenly)
    assert not learn(deps, always).stopped, "two of thirteen hours, in what the last look cannot have seen"
    clock.ms += 3_600_000
    at_once = (*evenly[:13], Decimal(20), *NO_HOURS[14:])
    rollups.used("late", 33, 0, today, "900", at_once)
    assert learn(deps, always).stopped, "most of a day's cost in its last hours"
    stop = deps.platform.stopped()
    assert stop is not None
    assert stop.cost == Decimal("572.727273")
    resume_all(deps.platform, clock() // 1000)
