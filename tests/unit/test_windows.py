"""Windows by example: daylight saving, odd offsets, skipped days, moves, first use."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tollgate import periods, windows
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
    UnknownTimezone,
    Window,
    WindowKind,
    first_use_at,
    first_use_window,
    window_at,
)


def at(text: str) -> int:
    """Epoch seconds of a time in UTC, or with its own offset."""
    moment = datetime.fromisoformat(text)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def window(kind: WindowKind, timezone: str, text: str) -> Window:
    return window_at(kind, Calendar.of(timezone), at(text))


def between(start: str, end: str) -> Window:
    return Window(at(start), at(end))


@pytest.mark.parametrize(
    ("kind", "timezone", "moment", "start", "end"),
    [
        (MINUTE, "UTC", "2026-11-20T10:15:59", "2026-11-20T10:15:00", "2026-11-20T10:16:00"),
        (HOURLY, "UTC", "2026-11-20T10:15:59", "2026-11-20T10:00:00", "2026-11-20T11:00:00"),
        (DAY, "UTC", "2026-11-20T00:00:00", "2026-11-20T00:00:00", "2026-11-21T00:00:00"),
        (DAY, "UTC", "2026-11-20T23:59:59", "2026-11-20T00:00:00", "2026-11-21T00:00:00"),
        (WEEK, "UTC", "2026-11-22T23:59:59", "2026-11-16T00:00:00", "2026-11-23T00:00:00"),
        (WEEK, "UTC", "2026-11-23T00:00:00", "2026-11-23T00:00:00", "2026-11-30T00:00:00"),
        (MONTH, "UTC", "2028-02-29T12:00:00", "2028-02-01T00:00:00", "2028-03-01T00:00:00"),
        (MONTH, "UTC", "2026-12-31T23:59:59", "2026-12-01T00:00:00", "2027-01-01T00:00:00"),
        (PERIOD, "Asia/Tokyo", "2026-11-30T15:00:00", "2026-11-30T15:00:00", "2026-12-31T15:00:00"),
        # Kathmandu is at +05:45: its hours start at :15 UTC
        (HOURLY, "Asia/Kathmandu", "2026-11-20T10:20:00", "2026-11-20T10:15:00", "2026-11-20T11:15:00"),
        (DAY, "Asia/Kathmandu", "2026-11-20T18:15:00", "2026-11-20T18:15:00", "2026-11-21T18:15:00"),
        # Berlin: 23 hours in March, 25 in October
        (DAY, "Europe/Berlin", "2026-03-29T12:00:00", "2026-03-28T23:00:00", "2026-03-29T22:00:00"),
        (DAY, "Europe/Berlin", "2026-10-25T12:00:00", "2026-10-24T22:00:00", "2026-10-25T23:00:00"),
        # the hour that comes twice is two windows
        (HOURLY, "Europe/Berlin", "2026-10-25T00:30:00", "2026-10-25T00:00:00", "2026-10-25T01:00:00"),
        (HOURLY, "Europe/Berlin", "2026-10-25T01:30:00", "2026-10-25T01:00:00", "2026-10-25T02:00:00"),
        # Sao Paulo skipped midnight (00:00 -> 01:00), and repeated 23:00 when it went back
        (DAY, "America/Sao_Paulo", "2018-11-04T03:00:00", "2018-11-04T03:00:00", "2018-11-05T02:00:00"),
        (DAY, "America/Sao_Paulo", "2018-02-18T02:30:00", "2018-02-17T02:00:00", "2018-02-18T03:00:00"),
        # St. John's went back at 00:01, so 23:01..24:00 came again after the new day had begun: it stays in the new day
        (DAY, "America/St_Johns", "2006-10-29T02:45:00", "2006-10-29T02:30:00", "2006-10-30T03:30:00"),
        # Apia skipped 30 December 2011
        (DAY, "Pacific/Apia", "2011-12-30T09:59:59", "2011-12-29T10:00:00", "2011-12-30T10:00:00"),
        (DAY, "Pacific/Apia", "2011-12-30T10:00:00", "2011-12-30T10:00:00", "2011-12-31T10:00:00"),
        (WEEK, "Pacific/Apia", "2011-12-30T10:00:00", "2011-12-26T10:00:00", "2012-01-01T10:00:00"),
        # Lord Howe moves by half an hour, which shifts the grid of hours: one is cut
        (HOURLY, "Australia/Lord_Howe", "2026-10-03T15:29:59", "2026-10-03T14:30:00", "2026-10-03T15:30:00"),
        (HOURLY, "Australia/Lord_Howe", "2026-10-03T15:30:00", "2026-10-03T15:30:00", "2026-10-03T16:00:00"),
        (HOURLY, "Australia/Lord_Howe", "2026-10-03T16:00:00", "2026-10-03T16:00:00", "2026-10-03T17:00:00"),
        # Pyongyang went from +08:30 to +09:00 in the middle of an hour: that hour ends there
        (HOURLY, "Asia/Pyongyang", "2018-05-04T14:45:00", "2018-05-04T14:30:00", "2018-05-04T15:00:00"),
        (HOURLY, "Asia/Pyongyang", "2018-05-04T15:00:00", "2018-05-04T15:00:00", "2018-05-04T16:00:00"),
    ],
)
def test_window(kind: WindowKind, timezone: str, moment: str, start: str, end: str) -> None:
    assert window(kind, timezone, moment) == between(start, end)


def test_a_day_whose_midnight_was_skipped_from_before_it_starts_at_the_change() -> None:
    # Toronto 1919 put its clocks from 23:30 to 00:30: no zone did so since 1970, but a law may
    assert periods.reached(windows.zone("America/Toronto"), datetime(1919, 3, 31)) == at("1919-03-31T04:30:00")


def test_lifetime_never_ends() -> None:
    assert window(LIFETIME, "Asia/Tokyo", "2026-11-20T00:00:00") == Window(0, None)


def test_a_move_binds_at_the_end_of_the_window_that_contains_it() -> None:
    moved = Calendar.of("UTC").moved(at("2026-11-20T12:00:00"), "America/New_York")
    assert window_at(DAY, moved, at("2026-11-20T13:00:00")) == between("2026-11-20T00:00:00", "2026-11-21T00:00:00")
    # partial: from the old zone's midnight to the new zone's
    assert window_at(DAY, moved, at("2026-11-21T00:00:00")) == between("2026-11-21T00:00:00", "2026-11-21T05:00:00")
    assert window_at(DAY, moved, at("2026-11-21T05:00:00")) == between("2026-11-21T05:00:00", "2026-11-22T05:00:00")
    # each kind at its own end
    assert window_at(MONTH, moved, at("2026-11-30T23:00:00")) == between("2026-11-01T00:00:00", "2026-12-01T00:00:00")
    assert window_at(MONTH, moved, at("2026-12-01T00:00:00")) == between("2026-12-01T00:00:00", "2026-12-01T05:00:00")
    assert window_at(WEEK, moved, at("2026-11-23T05:00:00")) == between("2026-11-23T05:00:00", "2026-11-30T05:00:00")


def test_a_move_at_the_start_of_a_window_binds_at_its_end() -> None:
    moved = Calendar.of("UTC").moved(at("2026-11-20T00:00:00"), "Asia/Tokyo")
    assert window_at(DAY, moved, at("2026-11-20T00:00:00")) == between("2026-11-20T00:00:00", "2026-11-21T00:00:00")
    assert window_at(DAY, moved, at("2026-11-21T00:00:00")) == between("2026-11-21T00:00:00", "2026-11-21T15:00:00")


def test_of_two_moves_in_one_window_the_last_binds() -> None:
    moved = Calendar.of("UTC").moved(at("2026-11-20T01:00:00"), "Asia/Tokyo")
    moved = moved.moved(at("2026-11-20T02:00:00"), "America/New_York")
    assert window_at(DAY, moved, at("2026-11-21T01:00:00")) == between("2026-11-21T00:00:00", "2026-11-21T05:00:00")


def test_moving_there_and_back_in_one_window_changes_nothing() -> None:
    moved = Calendar.of("UTC").moved(at("2026-11-20T01:00:00"), "Asia/Tokyo").moved(at("2026-11-20T02:00:00"), "UTC")
    assert window_at(DAY, moved, at("2026-11-21T01:00:00")) == between("2026-11-21T00:00:00", "2026-11-22T00:00:00")


def test_moving_to_the_same_zone_is_no_move() -> None:
    calendar = Calendar.of("UTC")
    assert calendar.moved(at("2026-11-20T01:00:00"), "UTC") is calendar


SUBSCRIBED = PeriodRule("month", 1, "subscription", at("2026-12-11T14:37:00"))


def test_a_period_that_began_in_another_one_ends_that_one_though_it_is_told_later() -> None:
    begins, told = at("2026-11-11T14:37:25"), at("2026-11-11T14:39:00")
    calendar = Calendar.of("Asia/Tokyo").moved(told, period=SUBSCRIBED).begun(told, begins)
    assert window_at(PERIOD, calendar, begins - 1) == between("2026-10-31T15:00:00", "2026-11-11T14:37:25")
    assert window_at(PERIOD, calendar, begins) == between("2026-11-11T14:37:25", "2026-12-11T14:37:00")
    after = at("2026-12-11T14:37:00")
    assert window_at(PERIOD, calendar, after) == between("2026-12-11T14:37:00", "2027-01-11T14:37:00")
    assert calendar.last_begun == begins
    assert calendar.begun(told + 60, begins) is calendar, "told again"
    for kind in (DAY, WEEK, MONTH, HOURLY):
        assert window_at(kind, calendar, begins) == window_at(kind, Calendar.of("Asia/Tokyo"), begins)


def test_a_longer_period_that_begins_where_another_one_does_takes_its_place() -> None:
    begins = at("2026-11-01T00:00:00")
    year = PeriodRule("year", 1, "subscription", begins)
    calendar = Calendar.of("UTC").moved(begins + 30, period=year).begun(begins + 30, begins)
    assert window_at(PERIOD, calendar, begins) == between("2026-11-01T00:00:00", "2027-11-01T00:00:00")
    assert calendar.begun(begins + 60, begins) is calendar
    month = Calendar.of("UTC")
    assert month.begun(begins + 30, begins) is month


def test_what_was_known_before_a_period_was_told_of() -> None:
    begins, told = at("2026-11-11T14:37:25"), at("2026-11-11T14:39:00")
    before = Calendar.of("UTC")
    calendar = before.moved(told, period=SUBSCRIBED).begun(told, begins)
    assert calendar.known_at(told) == before
    assert calendar.known_at(told + 1) is calendar
    assert before.moved(told, period=SUBSCRIBED).known_at(0).segments[-1].since == told, "it binds later anyway"


def test_a_change_that_waits_for_the_end_of_a_period_does_not_come_when_that_ends_early() -> None:
    waits = Calendar.of("UTC").moved(at("2026-11-05T00:00:00"), period=PeriodRule("year"))
    calendar = waits.moved(at("2026-11-11T00:00:00"), period=CALENDAR_MONTH).begun(
        at("2026-11-11T00:00:00"), at("2026-11-10T00:00:00")
    )
    assert window_at(PERIOD, calendar, at("2026-12-02T00:00:00")) == between(
        "2026-12-01T00:00:00", "2027-01-01T00:00:00"
    )
    later = calendar.moved(at("2026-11-12T00:00:00"), period=PeriodRule("year"))
    assert window_at(PERIOD, later, at("2026-12-02T00:00:00")) == between("2026-12-01T00:00:00", "2027-01-01T00:00:00")


def test_a_second_move_may_fall_into_the_partial_window() -> None:
    moved = Calendar.of("UTC").moved(at("2026-11-20T12:00:00"), "America/New_York")
    moved = moved.moved(at("2026-11-21T01:00:00"), "Asia/Tokyo")
    assert window_at(DAY, moved, at("2026-11-21T01:00:00")) == between("2026-11-21T00:00:00", "2026-11-21T05:00:00")
    assert window_at(DAY, moved, at("2026-11-21T05:00:00")) == between("2026-11-21T05:00:00", "2026-11-21T15:00:00")


@pytest.mark.parametrize(
    "name",
    ["", "Mars/Olympus", "America", "../etc/passwd", "/etc/localtime", "right/UTC", "posix/UTC", "localtime", "UTC\n"],
)
def test_a_name_that_is_no_zone_is_refused(name: str) -> None:
    with pytest.raises(UnknownTimezone) as refused:
        Calendar.of(name)
    assert refused.value.code == "unknown_timezone"
    assert refused.value.status == 422


@pytest.mark.parametrize(
    "segments",
    [(), (Segment(5, "UTC"),), (Segment(0, "UTC"), Segment(9, "Asia/Tokyo"), Segment(8, "UTC"))],
)
def test_a_calendar_starts_at_0_and_stands_in_order(segments: tuple[Segment, ...]) -> None:
    with pytest.raises(ValueError, match="calendar"):
        Calendar(segments)


def test_calendars_are_compared_by_their_segments_alone() -> None:
    asked = Calendar.of("Asia/Tokyo")
    window_at(DAY, asked, at("2026-11-20T00:00:00"))
    assert asked == Calendar.of("Asia/Tokyo")
    assert asked != Calendar.of("UTC")


@pytest.mark.parametrize("moment", [-1, periods.LAST_INSTANT + 1])
def test_an_instant_outside_the_calendar_is_refused(moment: int) -> None:
    with pytest.raises(ValueError, match="no instant"):
        window_at(DAY, Calendar.of("UTC"), moment)


@pytest.mark.parametrize("kind", CALENDAR_KINDS)
@pytest.mark.parametrize("timezone", ["Pacific/Kiritimati", "Pacific/Niue"])
@pytest.mark.parametrize("moment", [0, periods.LAST_INSTANT])
def test_the_first_and_the_last_instant_have_windows(kind: WindowKind, timezone: str, moment: int) -> None:
    start, end = window_at(kind, Calendar.of(timezone), moment)
    assert start <= moment
    assert end is None or moment < end


def test_a_repeated_call_computes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    calendar = Calendar.of("Europe/Berlin")
    first = [window_at(kind, calendar, at("2026-11-20T10:15:10")) for kind in CALENDAR_KINDS]
    monkeypatch.delattr(windows, "_compute")
    assert [window_at(kind, calendar, at("2026-11-20T10:15:50")) for kind in CALENDAR_KINDS] == first
    with pytest.raises(NameError):
        window_at(MINUTE, calendar, at("2026-11-20T10:16:00"))


# --- kinds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*CALENDAR_KINDS, WindowKind.first_use(5), WindowKind.first_use(1000)])
def test_the_canonical_form_reads_back(kind: WindowKind) -> None:
    assert WindowKind.parse(kind.text) == kind
    assert str(kind) == kind.text


def test_the_canonical_forms_are_stored_in_counters_and_must_not_change() -> None:
    forms = [kind.text for kind in (*CALENDAR_KINDS, WindowKind.first_use(5))]
    assert forms == ["minute", "hour", "day", "week", "month", "period", "lifetime", "first_use:5"]


@pytest.mark.parametrize(
    "text",
    ["", "days", "Day", "day:1"]
    + ["first_use", "first_use:", "first_use:0", "first_use:05", "first_use:-1", "first_use:٥"],
)
def test_another_text_is_no_kind(text: str) -> None:
    with pytest.raises(ValueError, match="window"):
        WindowKind.parse(text)


# --- first use -------------------------------------------------------------------------------------------------------


def test_first_use_starts_when_used_and_lasts_its_hours() -> None:
    assert first_use_window(1000, 5) == Window(1000, 1000 + 5 * 3600)
    assert first_use_at(None, 5, 1000) == first_use_window(1000, 5)


@pytest.mark.parametrize(
    ("moment", "start"),
    [(1000, 1000), (1000 + 5 * 3600 - 1, 1000), (1000 + 5 * 3600, 1000 + 5 * 3600), (90_000, 90_000), (999, 1000)],
)
def test_a_stored_first_use_is_current_until_its_end_and_for_clocks_that_are_behind(moment: int, start: int) -> None:
    assert first_use_at(1000, 5, moment) == first_use_window(start, 5)


def test_window_at_cannot_know_a_first_use() -> None:
    with pytest.raises(ValueError, match="first_use_at"):
        window_at(WindowKind.first_use(5), Calendar.of("UTC"), 1000)
