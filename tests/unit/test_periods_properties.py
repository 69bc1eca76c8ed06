"""Billing periods by property: they tile time under every rule, zone and history, and start where a slow search finds
that the local clock first shows the anchor's time."""

from __future__ import annotations

import calendar as months
from datetime import UTC, datetime, timedelta, tzinfo
from importlib import resources
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tollgate.periods import Anchor, Interval, PeriodRule, period_at
from tollgate.windows import PERIOD, Calendar, Segment, window_at

ZONES = sorted(set(resources.files("tzdata").joinpath("zones").read_text(encoding="utf-8").split()) - {"Factory"})
NASTY = [
    "Africa/Casablanca",
    "America/New_York",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Europe/Berlin",
    "Pacific/Apia",
]
INTERVALS: tuple[Interval, ...] = ("minute", "hour", "day", "week", "month", "year")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST = 10 * 365 * 86_400
"""1980, so that periods around it do not reach before 1970."""
FIFTY_YEARS = 50 * 365 * 86_400

instants = st.integers(FIRST, FIRST + FIFTY_YEARS)
zones = st.one_of(st.sampled_from(NASTY), st.sampled_from(ZONES))


def seconds_of(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(seconds=1)


@st.composite
def anchors(draw: st.DrawFn) -> int:
    """Any instant, or one at the end of a month: 28 to 31, among them 29 February, at hours where clocks change."""
    if draw(st.booleans()):
        return draw(instants)
    year, month = draw(st.integers(1980, 2029)), draw(st.sampled_from([1, 2, 2, 3, 4, 10, 11, 12]))
    day = min(draw(st.integers(28, 31)), months.monthrange(year, month)[1])
    time = timedelta(seconds=draw(st.integers(0, 86_399)))
    return seconds_of(datetime(year, month, day, tzinfo=UTC) + time)


@st.composite
def rules(draw: st.DrawFn, longest: int = 13) -> PeriodRule:
    interval = draw(st.sampled_from(INTERVALS))
    count = draw(st.one_of(st.just(1), st.integers(1, 3 if interval == "year" else longest)))
    anchor: Anchor = draw(st.sampled_from(("calendar", "signup", "signup", "subscription")))
    return PeriodRule(interval, count, anchor, None if anchor == "calendar" else draw(anchors()))


@st.composite
def histories(draw: st.DrawFn) -> Calendar:
    """Up to four changes of timezone, rule or both, some of them seconds or hours apart."""
    calendar = Calendar.of(draw(zones), draw(rules()))
    since = draw(instants)
    for _ in range(draw(st.integers(0, 4))):
        zone, rule = draw(st.one_of(st.none(), zones)), draw(st.one_of(st.none(), rules()))
        calendar = calendar.moved(since, zone, rule)
        since += draw(st.one_of(st.integers(0, 7200), st.integers(0, 40 * 86_400), st.integers(0, 800 * 86_400)))
    return calendar


def ask(calendar: Calendar, moment: int) -> tuple[int, int]:
    """The billing period, by a calendar that remembers nothing."""
    start, end = window_at(PERIOD, Calendar(calendar.segments), moment)
    assert end is not None
    return start, end


@settings(max_examples=1000, deadline=None)
@given(rules(), zones, instants, st.integers(0, 1_000))
def test_periods_tile_time(rule: PeriodRule, zone: str, moment: int, part: int) -> None:
    place = ZoneInfo(zone)
    start, end = period_at(rule, place, moment)
    assert start <= moment < end
    for inside in (start, end - 1, start + (end - 1 - start) * part // 1000):
        assert period_at(rule, place, inside) == (start, end)
    assert period_at(rule, place, end)[0] == end
    assert period_at(rule, place, start - 1)[1] == start


@settings(max_examples=500, deadline=None)
@given(st.data(), histories())
def test_the_periods_of_an_account_tile_time_through_its_changes(data: st.DataObject, calendar: Calendar) -> None:
    changes = [segment.since for segment in calendar.segments[1:]] or [FIRST]
    near = st.builds(lambda change, apart: change + apart, st.sampled_from(changes), st.integers(-90_000, 40_000_000))
    moment = data.draw(st.one_of(instants, near))
    start, end = ask(calendar, moment)
    assert start <= moment < end
    assert ask(calendar, start) == ask(calendar, end - 1) == ask(calendar, (start + end) // 2) == (start, end)
    assert ask(calendar, end)[0] == end
    assert ask(calendar, start - 1)[1] == start
    later = data.draw(near)
    assert (ask(calendar, later)[0] - start) * (later - moment) >= 0


@settings(max_examples=500, deadline=None)
@given(st.data(), histories(), zones, rules())
def test_a_change_moves_no_period_that_has_begun(
    data: st.DataObject, calendar: Calendar, zone: str, rule: PeriodRule
) -> None:
    last = max(calendar.segments[-1].since, FIRST)
    change = data.draw(st.integers(last, last + FIFTY_YEARS))
    moved = Calendar((*calendar.segments, Segment(change, zone, rule)))
    current = ask(calendar, change)
    assert ask(moved, change) == current
    before = data.draw(st.integers(FIRST - 5 * 365 * 86_400, current[1] - 1))
    assert ask(moved, before) == ask(calendar, before)
    after = ask(moved, current[1])
    assert after == (current[1], period_at(rule, ZoneInfo(zone), current[1])[1])
    assert ask(moved, after[1]) == period_at(rule, ZoneInfo(zone), after[1])


# --- against a slow definition ---------------------------------------------------------------------------------------


def shown(clock: tzinfo, moment: int) -> datetime:
    return (EPOCH + timedelta(seconds=moment)).astimezone(clock).replace(tzinfo=None, fold=0)


def first_shown(clock: tzinfo, wall: datetime) -> int:
    """The first instant at which the clock shows `wall` or later, by looking at each quarter of an hour of the two days
    around it, then at each second."""
    moment = seconds_of(wall.replace(tzinfo=UTC)) - 26 * 3600
    while shown(clock, moment) < wall:
        moment += 900
    return next(second for second in range(moment - 900, moment + 1) if shown(clock, second) >= wall)


def wall_after(anchor: datetime, rule: PeriodRule, number: int) -> datetime:
    """The anchor's date and time `number` periods on, by counting months one by one."""
    if rule.interval in ("day", "week"):
        return anchor + timedelta(days=(7 if rule.interval == "week" else 1) * rule.count * number)
    left = (12 if rule.interval == "year" else 1) * rule.count * number
    year, month = anchor.year, anchor.month
    while left:
        step = 1 if left > 0 else -1
        month += step
        if month in (0, 13):
            year, month = year + step, 12 if month == 0 else 1
        left -= step
    return anchor.replace(year=year, month=month, day=min(anchor.day, months.monthrange(year, month)[1]))


@settings(max_examples=250, deadline=None)
@given(rules(longest=3), st.sampled_from(NASTY), st.integers(-40, 40), st.integers(0, 999))
def test_a_period_starts_when_the_local_clock_first_shows_the_anchors_time(
    rule: PeriodRule, zone: str, number: int, part: int
) -> None:
    assume(rule.interval not in ("minute", "hour"))
    clock: tzinfo = UTC if rule.anchor == "subscription" else ZoneInfo(zone)
    if rule.at is None:  # the calendar's own: midnight of the first, of Monday
        anchor = datetime(2001, 1, 1) if rule.interval in ("month", "year") else datetime(1970, 1, 5)
        rule = PeriodRule(rule.interval, 1)
    else:
        anchor = shown(clock, rule.at)
    assume(wall_after(anchor, rule, number).year >= 1975 and wall_after(anchor, rule, number + 1).year <= 2037)
    starts = [
        rule.at if rule.at is not None and which == 0 else first_shown(clock, wall_after(anchor, rule, which))
        for which in (number, number + 1)
    ]
    assume(starts[0] < starts[1])  # a day that the zone skips
    moment = starts[0] + (starts[1] - 1 - starts[0]) * part // 999
    assert period_at(rule, ZoneInfo(zone), moment) == (starts[0], starts[1])


@pytest.mark.parametrize("zone", NASTY)
@pytest.mark.parametrize("day", ["2024-01-29", "2024-01-30", "2024-01-31", "2024-02-29"])
@pytest.mark.parametrize("interval", ["month", "year"])
def test_fifty_years_of_periods_follow_each_other_and_keep_to_the_anchors_day(
    zone: str, day: str, interval: Interval
) -> None:
    place = ZoneInfo(zone)
    anchor = datetime.fromisoformat(f"{day}T02:30").replace(tzinfo=place)
    rule = PeriodRule(interval, 1, "signup", seconds_of(anchor))
    asked = anchor.replace(tzinfo=None)
    start, end = period_at(rule, place, FIRST)
    began = shown(place, start)
    for _ in range(600 if interval == "month" else 50):
        local = shown(place, start)
        due = local.replace(day=min(asked.day, months.monthrange(local.year, local.month)[1]), hour=2, minute=30)
        skipped = shown(place, start - 1) < due < local  # by the clock, or by the calendar (Apia)
        assert skipped or local == due.replace(second=0)
        assert interval == "month" or local.month == asked.month
        start, end = period_at(rule, place, end)
    after = shown(place, start)
    assert (after.year - began.year, after.month) == (50, began.month)
