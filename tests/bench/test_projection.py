"""The section on projected totals: what it measures, by hand where that can be, and the figures that the page shows."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from bench import projection
from bench.months import Stream, World, sessions, spread, with_burst, world
from bench.projection import SHARES, known_mean, money_errors, section, straight_line, unit_errors
from bench.report import Listing, Section, failures, shown
from demo.generate import generate
from tollgate.projection import DAY_S, SILENT_S, projected_units

DOC = (Path(__file__).resolve().parents[2] / "docs" / "projection.md").read_text(encoding="utf-8")
HOUR = 3600


@pytest.fixture(scope="module")
def whole() -> Section:
    return section()


@pytest.fixture(scope="module")
def short() -> World:
    return world(generate(requests=3000))


def every(many: int) -> bool:
    return True


def steady(of: World, last: Decimal, before: Decimal) -> World:
    """One account's units an hour: `before` in the first three months, `last` in the one projected."""
    start, end = of.period
    uses = [(at, last if at >= start else before) for at in range(of.months[0][0], end, HOUR)]
    days: dict[int, Decimal] = {}
    for at, many in uses:
        days[at // DAY_S * DAY_S] = days.get(at // DAY_S * DAY_S, Decimal(0)) + many
    return replace(of, streams=[Stream("a0000", "ai_credits", uses, days)])


def markdown(listing: Listing) -> str:
    """A listing as the page shows it: median / p90."""
    lines = [f"| {listing.title} | how many | 10 % | 50 % | 90 % |", "| --- | ---: | ---: | ---: | ---: |"]
    for name, many, *cells in listing.rows:
        pairs = [f"{shown(cells[index])} / {shown(cells[index + 1])}" for index in range(0, len(cells), 2)]
        lines.append(f"| {name} | {many} | {' | '.join(pairs)} |")
    return "\n".join(lines) + "\n"


def test_the_page_shows_what_the_benchmark_prints(whole: Section) -> None:
    assert len(whole.listings) == 5
    for listing in whole.listings:
        assert markdown(listing) in DOC, f"docs/projection.md should have:\n{markdown(listing)}"


def test_both_promises_are_checked_and_kept(whole: Section) -> None:
    assert [(check.measured, check.exact) for check in whole.checks] == [(0, True), (0, True)]


def test_every_share_of_the_period_is_there(whole: Section) -> None:
    for listing in whole.listings:
        assert [column for column in listing.columns if "median" in column] == [f"{n} %: median" for n in (10, 50, 90)]
        assert all(len(row) == len(listing.columns) for row in listing.rows)


def test_a_projection_below_what_is_used_fails_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "projected_units", lambda period, now, used, *more: used - 1)
    monkeypatch.setattr(projection, "BUSY", 15)
    assert [check.what for check in failures([section(3000)])] == ["projections below what is used or spent"]


def test_a_projection_in_the_first_six_hours_fails_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "SILENT_S", SILENT_S + 1)
    monkeypatch.setattr(projection, "BUSY", 15)
    assert [check.what for check in failures([section(3000)])] == ["projections in a period's first six hours"]


def test_steady_use_is_projected_without_error(short: World) -> None:
    of = steady(short, Decimal(1), Decimal(1))
    for errors in (straight_line(of, every), known_mean(of, every), unit_errors(of, of.everything, every)):
        assert [len(errors.found[share]) for share in SHARES] == [1, 1, 1]
        assert max(errors.found[share][0] for share in SHARES) < Decimal("0.3")  # an hour begins at its start


@pytest.mark.parametrize("last", [2, 1])
def test_an_error_is_the_distance_by_what_it_came_to(short: World, last: int) -> None:
    """Four units an hour before, or none, and 720 hours of `last` units."""
    before = 0 if last == 2 else 4
    of = steady(short, Decimal(last), Decimal(before))
    assert [straight_line(of, every).found[share][0] for share in SHARES] == [0, 0, 0]
    # Half the month: 360 hours in 15 days, and a sixth of 2208 hours in 92 days before.
    rate = (360 * last + Decimal(2208 * before) / 6) / (15 + Decimal(92) / 6)
    expected = abs(360 * last + rate * 15 - 720 * last) / (720 * last) * 100
    found = unit_errors(of, lambda stream: replace(of.everything(stream), days_since=None), every)
    assert abs(found.found[50][0] - expected) < Decimal("0.001")


def test_calls_that_are_not_charged_are_no_usage() -> None:
    trace = generate(requests=300)
    charged = {request.account for request in trace if request.outcome in ("ok", "late")}
    assert {stream.account for stream in world(trace).streams} == charged
    free = [replace(request, outcome="failed") for request in trace]
    assert world(free).streams == []


def test_projecting_does_not_look_ahead(short: World) -> None:
    """The same without the units that are yet to come."""
    now = short.moment(50)
    blind = [
        replace(stream, days={day: many for day, many in stream.days.items() if day < now}) for stream in short.streams
    ]
    seen = [projected_units(short.period, now, Decimal(1), 6, short.everything(s)) for s in short.streams]
    assert seen == [projected_units(short.period, now, Decimal(1), 6, short.everything(s)) for s in blind]
    assert len(set(seen)) > 10


def test_a_session_stays_together_and_all_months_are_used(short: World) -> None:
    trace = generate(requests=3000)
    begins = sessions(trace)
    assert {request.id for _, request in begins} == {request.id for request in trace}
    assert all(begin <= request.at for begin, request in begins)
    assert 1 < len(begins) / len({(begin, request.account) for begin, request in begins}) < 8
    of_month = [
        sum(len([at for at, _ in s.uses if start <= at < end]) for s in short.streams) for start, end in short.months
    ]
    assert min(of_month) > max(of_month) / 2


def test_weekends_are_quiet_where_asked() -> None:
    start = 1_798_761_600 - 1_798_761_600 % DAY_S
    monday = next(day for day in range(start, start + 7 * DAY_S, DAY_S) if (day // DAY_S + 3) % 7 == 0)
    place = spread(Decimal(5399), monday, monday + 7 * DAY_S, weekends=True)
    days = [(place(Decimal(at)) - monday) // DAY_S for at in range(5400)]
    assert [days.count(day) for day in range(7)] == [1000, 1000, 1000, 1000, 1000, 200, 200]
    even = spread(Decimal(6999), monday, monday + 7 * DAY_S, weekends=False)
    assert [even(Decimal(at)) for at in (0, 1000, 6999)][:2] == [monday, monday + DAY_S]


def test_a_burst_is_three_tenths_more_in_the_second_hour(short: World) -> None:
    start, end = short.period
    for before, after in zip(short.streams, with_burst(short).streams, strict=True):
        month = before.between(start, end)
        assert after.between(start, end) == month * Decimal("1.3")
        assert after.between(start, start + 2 * HOUR) == before.between(start, start + 2 * HOUR)
        assert after.between(start + 2 * HOUR, start + 2 * HOUR + 1) >= month * Decimal("0.3")
        assert sum(after.days.values()) == sum(many for _, many in after.uses)


def test_money_is_of_the_plan_s_accounts_only(short: World) -> None:
    totals, charges = money_errors(short, "team", short.everything)
    accounts = {stream.account for stream in short.streams if short.plans[stream.account].id == "team"}
    assert {len(totals.found[share]) for share in SHARES} == {len(accounts)}
    assert 0 < len(charges.found[50]) <= len(accounts)
    assert totals.below == 0
