"""The daily look: every account once, whatever ends it between; who is told of what; the lists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tests.unit.margins.test_margin import CATALOG, NOVEMBER, catalog, day
from tollgate.accounts.overrides import canonical
from tollgate.accounts.rules import AccountRow, Rules, compile_rules, with_plan
from tollgate.alerts.outbox import Alert
from tollgate.billing.rollup import DAY_S, Rollup, Share
from tollgate.catalog.frozen import PlanVersion
from tollgate.catalog.model import Catalog
from tollgate.catalog.schema import parse_catalog
from tollgate.errors import UnknownAccount
from tollgate.gate.item import Gate, Level
from tollgate.margins.book import PriceBook
from tollgate.margins.margin import Margin
from tollgate.margins.run import (
    NAMED,
    PAGE,
    Looked,
    MarginDeps,
    Progress,
    Summary,
    days_of,
    look,
    month_of,
    sales_assist,
)
from tollgate.windows import Calendar

NOON = NOVEMBER + 20 * DAY_S + 12 * 3600


class World:
    """Accounts in memory, in the order in which they were made. `dies_at`: the write that ends the process."""

    def __init__(self, found: Catalog | None = None) -> None:
        self.catalog = found or catalog()
        self.rows: dict[str, Any] = {}
        self.days: dict[str, list[Rollup]] = {}
        self.saved: Progress | None = None
        self.summaries: dict[str, Summary] = {}
        self.kept: dict[tuple[str, str], Margin] = {}
        self.alerts: dict[str, Alert] = {}
        self.now = NOON
        self.levels: dict[int, Level] = {}
        self.writes, self.dies_at = 0, -1

    def account(self, name: str, plan: str, *days: Rollup, **row: Any) -> None:
        self.days[name] = [replace(one, account=name) for one in days]
        self.rows[name] = self.row(name, plan, **row)

    def row(self, name: str, plan: str, **more: Any) -> AccountRow:
        found = self.catalog.plans[plan]
        empty = AccountRow(name, 1, plan, 3, NOVEMBER - DAY_S, Calendar.of("UTC"), (), ())
        return replace(with_plan(empty, replace(found, version=3), dict(self.catalog.meters), 0), **more)

    def deps(self) -> MarginDeps:
        return MarginDeps(self, self, self, self, self, self.book, self, self, lambda: self.now * 1000)

    def look(self, times: int = 10**9) -> Looked:
        left = iter(range(times))
        return look(self.deps(), lambda: next(left, None) is not None)

    def summary(self) -> Summary:
        return self.summaries["2026-11"]

    def book(self) -> PriceBook:
        assert self.catalog.book is not None
        return self.catalog.book

    # -- accounts, plans, rollups, gates
    def page(self, limit: int, before: str | None) -> tuple[list[str], str | None]:
        names = list(self.rows)
        start = 0 if before is None else names.index(before) + 1
        found = names[start : start + limit]
        return found, found[-1] if start + limit < len(names) else None

    def fresh(self, account: str) -> Rules:
        row = self.rows[account]
        if row is None:
            raise UnknownAccount(account)
        if row.merged_into is not None:
            row = self.rows[row.merged_into]
        return compile_rules(row, replace(self.catalog.plans[row.plan], version=3), dict(self.catalog.meters))

    def version(self, plan: str, version: int) -> PlanVersion:
        return PlanVersion(replace(self.catalog.plans[plan], version=version), dict(self.catalog.meters))

    def of_account(self, account: str, first_day: int, last_day: int) -> Iterator[Rollup]:
        yield from (one for one in self.days.get(account, ()) if first_day <= one.day <= last_day)

    def read_all(self, subjects: Sequence[str]) -> Mapping[str, Gate]:
        return {one: Gate(one, 1, {}, {}, levels=self.levels) for one in subjects}

    # -- store, outbox
    def _write(self) -> None:
        if self.writes == self.dies_at:
            raise KeyboardInterrupt
        self.writes += 1

    def progress(self) -> Progress | None:
        return self.saved

    def put_progress(self, progress: Progress) -> None:
        self._write()
        self.saved = progress

    def margin(self, month: str, account: str) -> Margin | None:
        return self.kept.get((month, account))

    def put_summary(self, summary: Summary) -> None:
        self._write()
        self.summaries[summary.month] = summary

    def put_account(self, month: str, as_of: int, margin: Margin) -> None:
        self._write()
        self.kept[month, margin.account] = margin

    def knows(self, alert_id: str) -> bool:
        return alert_id in self.alerts

    def put(self, alert: Alert) -> bool:
        self._write()
        new = alert.id not in self.alerts
        self.alerts.setdefault(alert.id, alert)
        return new


@pytest.fixture
def world() -> World:
    found = World()
    found.account("well", "pro", day("tokens", 10, "2.90"))
    found.account("so-so", "pro", day("tokens", 10, "13.00"))
    found.account("poor", "pro", day("tokens", 10, "20.00"))
    found.account("loser", "pro", day("tokens", 10, "40.00"))
    found.account("free", "free", day("tokens", 10, "5.00"))
    return found


def test_sums_by_level_and_plan_and_the_losing(world: World) -> None:
    done = world.look()
    assert (done.accounts, done.told, done.left, done.failures) == (5, 3, False, [])
    found = world.summary()
    assert found.levels == {"healthy": 1, "warning": 1, "critical": 2, "free": 1}
    assert found.plans["pro", "usd"] == (4, Decimal(116), Decimal(116), Decimal("75.90"))
    assert found.plans["free", "usd"] == (1, Decimal(0), Decimal(0), Decimal(5))
    assert [one.account for one in found.losing] == ["loser"]
    assert [one.account for one in found.spenders] == ["loser", "poor", "so-so", "well"]
    assert world.kept["2026-11", "poor"].ratio == Decimal("0.6897")
    assert found.as_of == NOVEMBER + 20 * DAY_S


def test_one_alert_for_each_account_month_and_stage(world: World) -> None:
    world.look()
    assert set(world.alerts) == {
        "margin#so-so#2026-11#warning",
        "margin#poor#2026-11#critical",
        "margin#loser#2026-11#loss",
    }
    assert world.alerts["margin#loser#2026-11#loss"].text == (
        "In 2026-11, loser on plan pro cost 40 USD at providers and brought 29 USD: 137.93 %."
    )
    assert world.look().told == 0, "the day had its look"
    world.now += DAY_S
    world.days["so-so"].append(replace(day("tokens", 1, "5.00", 19), account="so-so"))  # $18 of $29
    world.days["loser"].append(replace(day("tokens", 8_000_000, number=19), account="loser"))  # recovers: $40 of $64
    assert world.look().told == 1
    assert "margin#so-so#2026-11#critical" in world.alerts
    assert "margin#loser#2026-11#critical" not in world.alerts, "worse was told already"


def test_nobody_is_told_of_small_amounts_or_of_half_the_revenue(world: World) -> None:
    world.rows.clear()
    cheap = parse_at('margins: {told_from: "30.00"}\n')
    world.catalog = cheap
    world.account("small", "pro", day("tokens", 10, "29.99"))
    world.account("packs", "pro", day("images", 100, "99", credit_funded=100))
    world.account("enough", "pro", day("tokens", 10, "30.00"))
    world.look()
    assert set(world.alerts) == {"margin#enough#2026-11#loss"}
    assert world.summary().losing[0].account == "packs", "it is on the list all the same"


def parse_at(more: str) -> Catalog:
    return parse_catalog(CATALOG + more)


def test_a_crash_at_every_write_adds_no_account_twice() -> None:
    def made() -> World:
        found = World()
        for number in range(PAGE + 7):
            found.account(f"a{number:03d}", "pro", day("tokens", 10, "13.00" if number % 2 else "1"))
        return found

    whole = made()
    whole.look()
    assert whole.summary().accounts == PAGE + 7
    for cut in (0, 1, PAGE, PAGE + PAGE // 2, PAGE + PAGE // 2 + 1, whole.writes - 2, whole.writes - 1):
        world = made()
        world.dies_at = cut
        with pytest.raises(KeyboardInterrupt):
            world.look()
        world.dies_at = -1
        world.look()
        assert world.summaries == whole.summaries, cut
        assert world.alerts.keys() == whole.alerts.keys(), cut


def test_time_that_runs_out_leaves_the_rest_to_the_next_run() -> None:
    world = World()
    for number in range(PAGE + 7):
        world.account(f"a{number:03d}", "pro")
    assert world.look(1).left
    assert not world.summaries
    done = world.look()
    assert (done.accounts, done.left) == (7, False)
    assert world.summary().accounts == PAGE + 7


def test_a_failure_keeps_no_other_account_from_its_look(world: World) -> None:
    world.rows["poor"] = replace(world.rows["poor"], plan="gone")
    world.rows["so-so"] = None  # deleted between the list and the look
    done = world.look()
    assert [str(failure) for failure in done.failures] == ["'gone'"]
    assert done.failures[0].__notes__ == ["margin of account poor"]
    assert world.summary().accounts == 3


def test_merged_accounts_count_with_what_they_became_and_late_ones_not_at_all(world: World) -> None:
    world.account("guest", "free", day("tokens", 10, "100"), merged_into="well")
    world.rows["well"] = replace(world.rows["well"], merged=("guest",))
    world.account("new", "pro", created_at=NOVEMBER + 30 * DAY_S)
    world.look()
    assert world.kept["2026-11", "well"].cost == Decimal("102.90")
    assert ("2026-11", "guest") not in world.kept
    assert ("2026-11", "new") not in world.kept


def test_only_whole_days_of_the_month_count(world: World) -> None:
    world.account("edge", "pro", *(day("tokens", 1, str(2**at), number) for at, number in enumerate((-1, 0, 19, 20))))
    world.look()
    assert world.kept["2026-11", "edge"].cost == 2 + 4, "neither October nor today"
    world.now = NOVEMBER + 31 * DAY_S
    world.account("end", "pro", day("tokens", 1, "1", 29), day("tokens", 1, "2", 30))
    world.look()
    assert [world.kept["2026-11", name].cost for name in ("edge", "end")] == [2 + 4 + 8, 1]


def test_each_month_is_looked_at_once_as_a_whole() -> None:
    december = NOVEMBER + 30 * DAY_S
    assert month_of(december + 7200) == "2026-11"
    assert month_of(december + DAY_S + 7199) == "2026-11"
    assert month_of(december + DAY_S + 7200) == "2026-12"
    assert days_of("2026-11") == (NOVEMBER, december)
    assert days_of("2026-12") == (december, december + 31 * DAY_S)
    world = World()
    world.account("a", "pro", day("tokens", 1, "4", 29))
    world.now = december + 7200
    world.look()
    assert world.kept["2026-11", "a"].cost == 4


def test_the_lists_and_models_stay_short() -> None:
    world = World()
    for number in range(NAMED + 20):
        models = {f"m{number:03d}": Share(1, Decimal(1), Decimal(100 + number))}
        world.account(f"a{number:03d}", "pro", day("tokens", 1, str(100 + number), models=models))
    world.look()
    found = world.summary()
    assert (len(found.losing), len(found.spenders), len(found.models)) == (NAMED, NAMED, NAMED + 1)
    assert found.losing[0].account == f"a{NAMED + 19:03d}", "those that lose most"
    assert "m000" not in found.models
    assert sum((line.cost for line in found.models.values()), Decimal(0)) == sum(range(100, 220))
    assert sum((line.revenue for line in found.models.values()), Decimal(0)) == 29 * 120


def test_revenue_without_a_rate_is_in_no_sum_of_dollars(world: World) -> None:
    yen = CATALOG.replace('"29.00"', '"4350"').replace('"120.00"', '"18000"').replace('"10.00"', '"1500"')
    yen = yen.replace('"7.00"', '"1000"').replace('"3.00"', '"450"').replace("currency: usd", "currency: jpy")
    world.catalog = parse_catalog(yen)
    world.look()
    found = world.summary()
    assert found.plans["pro", "jpy"] == (4, Decimal(17_400), None, Decimal("75.90"))
    assert (found.unconverted, found.losing, world.alerts) == (4, (), {})


def test_who_spends_much_is_known_without_a_rate(world: World) -> None:
    world.catalog = parse_catalog(CATALOG.replace("currency: usd", "currency: eur"))
    world.days["so-so"].append(replace(day("tokens", 9_000_000), account="so-so"))  # 45.00 on top of 29.00
    world.look()
    assert [one.account for one in sales_assist(world.summary(), Decimal(30), "eur")] == ["so-so"]
    assert len(world.summary().spenders) == 4, "who pays nothing is none"


def test_what_was_negotiated_is_what_the_account_brings(world: World) -> None:
    text = canonical(
        {"base_fee": "90.00", "prices": [{"meter": "tokens", "scheme": "per_unit", "unit_price": "0.00001"}]}
    )
    world.account("key", "pro", day("tokens", 100_000, "20.00"), overrides=text)
    world.look()
    assert (world.kept["2026-11", "key"].fixed, world.kept["2026-11", "key"].usage) == (
        Decimal("90.00"),
        Decimal("1.00"),
    )


def test_levels_that_were_set_before_the_month_are_those_on_the_gate(world: World) -> None:
    world.account("team", "team", day("tokens", 1_000_000, "1"))
    slot = world.rows["team"].meters.index("seats")
    world.levels = {slot: Level(4, Decimal(6), 0)}
    world.look()
    assert world.kept["2026-11", "team"].fixed == Decimal("52.00"), "$10 and six seats x $7"


DECEMBER = NOVEMBER + 30 * DAY_S


def test_a_look_that_was_begun_is_finished_though_another_day_came() -> None:
    world = World()
    for number in range(PAGE + 7):
        world.account(f"a{number:03d}", "pro", day("tokens", 1, "1", 29))
    world.now = DECEMBER + 7200
    assert world.look(1).left
    world.now = DECEMBER + DAY_S + 7200
    world.look()
    assert (world.summary().as_of, world.summary().accounts) == (DECEMBER, PAGE + 7), "November as a whole"
    assert world.summaries["2026-12"].as_of == DECEMBER + DAY_S


def test_a_month_whose_last_look_never_came_gets_it_later() -> None:
    world = World()
    world.account("a", "pro", day("tokens", 1, "4", 29))
    world.look()
    world.now = DECEMBER + 33 * DAY_S + 7200  # nothing ran in between
    world.look()
    assert {month: found.as_of for month, found in world.summaries.items()} == {
        "2026-11": DECEMBER,
        "2026-12": DECEMBER + 31 * DAY_S,
        "2027-01": DECEMBER + 33 * DAY_S,
    }
    assert world.kept["2026-11", "a"].cost == 4


def test_what_was_sealed_after_a_month_s_end_is_found_once_more() -> None:
    world = World()
    world.account("a", "pro", day("tokens", 1, "4", 29))
    for number in range(4):
        world.now = DECEMBER + number * DAY_S + 7200
        world.look()
        if not number:
            assert world.kept["2026-11", "a"].cost == 4
            world.days["a"].append(replace(day("images", 1, "40", 29), account="a"))
    assert world.kept["2026-11", "a"].cost == 44
    assert (world.summary().plans["pro", "usd"].cost, world.summary().as_of) == (Decimal(44), DECEMBER)
    assert "margin#a#2026-11#loss" in world.alerts
    assert world.summaries["2026-12"].as_of == DECEMBER + 3 * DAY_S, "and the day has its own look"
    before = world.writes
    world.now += DAY_S
    world.look()
    assert world.writes - before == 3, "one row, sums, progress: that month is done with"


def test_a_plan_that_began_with_the_next_month_is_no_measure_for_this_one() -> None:
    world = World()
    world.account("a", "pro", day("tokens", 1, "13", 1))
    world.look()
    moved = with_plan(world.rows["a"], replace(world.catalog.plans["free"], version=3), dict(world.catalog.meters), 0)
    for since in (DECEMBER - 1, DECEMBER + 60):
        world.rows["a"] = replace(moved, plan_since=since)
        world.saved, world.now = None, DECEMBER + 7200
        world.look()
        assert (world.kept["2026-11", "a"].plan, world.kept["2026-11", "a"].level) == ("pro", "warning")
    world.now += DAY_S
    world.look()
    assert world.kept["2026-12", "a"].plan == "free"
