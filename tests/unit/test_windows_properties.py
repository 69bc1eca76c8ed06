"""Windows by property: they tile time, in every zone and across moves, and agree with a slow definition of a day."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from importlib import resources
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tollgate.periods import CALENDAR_MONTH, PeriodRule
from tollgate.windows import (
    CALENDAR_KINDS,
    DAY,
    HOURLY,
    LIFETIME,
    MINUTE,
    MONTH,
    PERIOD,
    WEEK,
    Calendar,
    Segment,
    Window,
    WindowKind,
    window_at,
)

ZONES = sorted(set(resources.files("tzdata").joinpath("zones").read_text(encoding="utf-8").split()) - {"Factory"})
AWKWARD = [
    "Africa/Cairo",
    "Africa/Casablanca",
    "Africa/Monrovia",
    "America/Havana",
    "America/Nuuk",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Antarctica/Troll",
    "Asia/Amman",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Kwajalein",
]
FIFTY_YEARS = 50 * 365 * 86_400
FIRST = 10 * 365 * 86_400
"""1980, so that windows around it do not reach before 1970."""

instants = st.integers(FIRST, FIRST + FIFTY_YEARS)
zones = st.one_of(st.sampled_from(ZONES), st.sampled_from(AWKWARD))
kinds = st.sampled_from([kind for kind in CALENDAR_KINDS if kind != LIFETIME])


@st.composite
def calendars(draw: st.DrawFn) -> Calendar:
    """A zone and up to four moves, some of them seconds or hours apart, some with a period that began at Stripe."""
    calendar = Calendar.of(draw(zones))
    since = draw(instants)
    for _ in range(draw(st.integers(0, 4))):
        calendar = calendar.moved(since, draw(zones))
        if draw(st.booleans()):
            begins = since - draw(st.one_of(st.integers(-5, 7200), st.integers(0, 40 * 86_400)))
            rule = PeriodRule("month", 1, "subscription", begins + draw(st.integers(-59, 40 * 86_400)))
            calendar = calendar.moved(since, period=draw(st.sampled_from([rule, CALENDAR_MONTH]))).begun(since, begins)
        since += draw(st.one_of(st.integers(0, 7200), st.integers(0, 40 * 86_400)))
    return calendar


def fresh(calendar: Calendar) -> Calendar:
    """The same calendar, remembering nothing."""
    return Calendar(calendar.segments)


def ask(kind: WindowKind, calendar: Calendar, moment: int) -> tuple[int, int]:
    start, end = window_at(kind, fresh(calendar), moment)
    assert end is not None
    return start, end


def near_moves(calendar: Calendar) -> st.SearchStrategy[int]:
    """Instants around the calendar's moves, where the mistakes would be; any instant if it has none."""
    moves = [segment.since for segment in calendar.segments[1:]]
    moves += [segment.begins for segment in calendar.segments if segment.begins is not None]
    if not moves:
        return instants
    return st.one_of(
        instants,
        st.builds(lambda move, apart: max(0, move + apart), st.sampled_from(moves), st.integers(-90_000, 3_000_000)),
    )


@settings(max_examples=600, deadline=None)
@given(st.data(), kinds, calendars())
def test_windows_tile_time(data: st.DataObject, kind: WindowKind, calendar: Calendar) -> None:
    moment = data.draw(near_moves(calendar))
    start, end = ask(kind, calendar, moment)
    assert start <= moment < end
    assert ask(kind, calendar, start) == (start, end)
    assert ask(kind, calendar, end - 1) == (start, end)
    assert ask(kind, calendar, (start + end) // 2) == (start, end)
    assert ask(kind, calendar, end)[0] == end
    assert ask(kind, calendar, start - 1)[1] == start


@settings(max_examples=300, deadline=None)
@given(st.data(), kinds, calendars())
def test_a_later_instant_is_never_in_an_earlier_window(
    data: st.DataObject, kind: WindowKind, calendar: Calendar
) -> None:
    moments = sorted(data.draw(st.lists(near_moves(calendar), min_size=2, max_size=8)))
    starts = [ask(kind, calendar, moment)[0] for moment in moments]
    assert starts == sorted(starts)


@settings(max_examples=300, deadline=None)
@given(st.data(), calendars())
def test_what_is_remembered_changes_no_answer(data: st.DataObject, calendar: Calendar) -> None:
    for moment in data.draw(st.lists(near_moves(calendar), min_size=1, max_size=10)):
        for kind in CALENDAR_KINDS:
            assert window_at(kind, calendar, moment) == window_at(kind, fresh(calendar), moment)


@settings(max_examples=300, deadline=None)
@given(st.data(), kinds, calendars(), zones)
def test_a_move_changes_no_window_that_has_begun(
    data: st.DataObject, kind: WindowKind, calendar: Calendar, zone: str
) -> None:
    last = calendar.segments[-1].since
    move = data.draw(st.integers(max(last, FIRST), last + FIFTY_YEARS))
    moved = Calendar((*calendar.segments, Segment(move, zone)))
    current = ask(kind, calendar, move)
    assert ask(kind, moved, move) == current
    before = data.draw(st.integers(0, current[1] - 1))
    assert ask(kind, moved, before) == ask(kind, calendar, before)
    assert ask(kind, moved, current[1])[0] == current[1]


@settings(max_examples=300, deadline=None)
@given(st.data(), calendars(), st.integers(-5, 40 * 86_400))
def test_a_period_begins_where_stripe_says_and_moves_nothing_else(
    data: st.DataObject, calendar: Calendar, late: int
) -> None:
    since = max(calendar.segments[-1].since, FIRST) + data.draw(st.integers(0, 40 * 86_400))
    begins = max(since - late, FIRST)
    begun = calendar.begun(since, begins)
    start, end = ask(PERIOD, begun, begins)
    assert start == begins < end
    assert ask(PERIOD, begun, begins - 1)[1] == begins
    moment = data.draw(near_moves(begun))
    if moment < begins:
        before = ask(PERIOD, calendar, moment)
        assert ask(PERIOD, begun, moment) == (before[0], min(before[1], begins))
    for kind in (MINUTE, HOURLY, DAY, WEEK, MONTH):
        assert ask(kind, begun, moment) == ask(kind, calendar, moment)
    known = data.draw(st.integers(FIRST, max(since, FIRST)))
    if moment < known:
        assert ask(PERIOD, begun.known_at(known), moment) == ask(PERIOD, calendar.known_at(known), moment)


def local(zone: str, moment: int) -> datetime:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=moment)).astimezone(ZoneInfo(zone))


def first_date(kind: WindowKind, day: date) -> date:
    if kind == MONTH:
        return day.replace(day=1)
    return day - timedelta(days=day.weekday()) if kind == WEEK else day


def highest_date(zone: str, moment: int) -> date:
    """The highest local date up to an instant, by looking at each minute of the day and night before it."""
    return max(local(zone, moment - minute * 60).date() for minute in range(26 * 60))


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([DAY, WEEK, MONTH]), zones, instants)
@example(DAY, "America/St_Johns", 1162089900)
@example(DAY, "Pacific/Apia", 1325239200)
@example(MONTH, "Pacific/Apia", 1325239200)
def test_a_date_window_is_the_stretch_of_one_highest_date(kind: WindowKind, zone: str, moment: int) -> None:
    start, end = ask(kind, Calendar.of(zone), moment)
    named = first_date(kind, highest_date(zone, moment))
    assert first_date(kind, highest_date(zone, start)) == named
    assert first_date(kind, highest_date(zone, start - 1)) < named
    assert first_date(kind, highest_date(zone, end - 1)) == named
    assert first_date(kind, highest_date(zone, end)) > named


@settings(max_examples=300, deadline=None)
@given(zones, instants)
def test_an_hour_starts_at_a_local_whole_hour_and_lasts_one_unless_the_grid_moves(zone: str, moment: int) -> None:
    for kind, step in ((HOURLY, 3600), (MINUTE, 60)):
        start, end = ask(kind, Calendar.of(zone), moment)
        offsets = [local(zone, t).utcoffset() for t in (start - 1, start, end - 1, end)]
        shifts = [offset % timedelta(seconds=step) for offset in offsets if offset is not None]
        if len(set(shifts)) == 1:
            assert end - start == step
            assert (start + shifts[1].seconds) % step == 0
        else:
            assert 0 < end - start <= step


@pytest.mark.parametrize("zone", AWKWARD)
def test_the_days_of_awkward_zones_follow_each_other_without_a_gap(zone: str) -> None:
    calendar = Calendar.of(zone)
    window = window_at(DAY, calendar, FIRST)
    lengths: dict[int, int] = {}
    while window.start < FIRST + FIFTY_YEARS:
        assert window.end is not None
        lengths[window.end - window.start] = lengths.get(window.end - window.start, 0) + 1
        after: Window = window_at(DAY, calendar, window.end)
        assert after.start == window.end
        window = after
    assert lengths[86_400] >= 0.97 * sum(lengths.values())
    assert all(20 * 3600 <= length <= 28 * 3600 for length in lengths), lengths
