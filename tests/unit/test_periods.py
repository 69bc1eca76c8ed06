"""Billing periods by example: short months, leap days, daylight saving, skipped days, changes, the last year."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tollgate import windows
from tollgate.periods import CALENDAR_MONTH, LAST_INSTANT, MAX_COUNT, Anchor, Interval, PeriodRule, period_at
from tollgate.windows import MONTH, PERIOD, WEEK, Calendar, Segment, Window, window_at


def at(text: str) -> int:
    """Epoch seconds of a time in UTC; a date alone is its midnight."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def between(start: str, end: str) -> Window:
    return Window(at(start), at(end))


def signup(anchor: str, interval: Interval = "month", count: int = 1) -> PeriodRule:
    return PeriodRule(interval, count, "signup", at(anchor))


def subscription(anchor: str, interval: Interval = "month") -> PeriodRule:
    return PeriodRule(interval, 1, "subscription", at(anchor))


def period(rule: PeriodRule, timezone: str, moment: str) -> Window:
    return window_at(PERIOD, Calendar.of(timezone, rule), at(moment))


@pytest.mark.parametrize(
    ("rule", "timezone", "moment", "start", "end"),
    [
        (CALENDAR_MONTH, "UTC", "2026-11-30T23:59:59", "2026-11-01", "2026-12-01"),
        (CALENDAR_MONTH, "Asia/Kathmandu", "2026-11-30T18:15", "2026-11-30T18:15", "2026-12-31T18:15"),
        (PeriodRule("year"), "UTC", "2028-02-29T12:00", "2028-01-01", "2029-01-01"),
        (PeriodRule("year"), "UTC", "2028-12-31T23:59:59", "2028-01-01", "2029-01-01"),
        (PeriodRule("year"), "Europe/Berlin", "2026-12-31T23:00", "2026-12-31T23:00", "2027-12-31T23:00"),
        # Samoa's zone had no 30 December 2011, and its year began a day early by UTC
        (PeriodRule("year"), "Pacific/Apia", "2011-12-31T09:59:59", "2011-01-01T10:00", "2011-12-31T10:00"),
        (PeriodRule("year"), "Pacific/Apia", "2011-12-31T10:00", "2011-12-31T10:00", "2012-12-31T10:00"),
        # several at a time count from 1970: quarters of the year, even years, every second Monday
        (PeriodRule("month", 3), "UTC", "2026-11-20", "2026-10-01", "2027-01-01"),
        (PeriodRule("year", 2), "UTC", "2027-05-01", "2026-01-01", "2028-01-01"),
        (PeriodRule("week", 2), "UTC", "1970-01-10", "1970-01-05", "1970-01-19"),
        (PeriodRule("week"), "UTC", "2026-11-22T23:59:59", "2026-11-16", "2026-11-23"),
        (PeriodRule("day", 10), "UTC", "1970-01-21", "1970-01-21", "1970-01-31"),
    ],
)
def test_calendar_periods(rule: PeriodRule, timezone: str, moment: str, start: str, end: str) -> None:
    assert period(rule, timezone, moment) == between(start, end)


@pytest.mark.parametrize(
    ("rule", "moment", "start", "end"),
    [
        # the 31st: to the end of short months and back to the 31st, reckoned from the anchor
        (signup("2026-01-31T10:20:30"), "2026-01-31T10:20:30", "2026-01-31T10:20:30", "2026-02-28T10:20:30"),
        (signup("2026-01-31T10:20:30"), "2026-02-28T10:20:29", "2026-01-31T10:20:30", "2026-02-28T10:20:30"),
        (signup("2026-01-31T10:20:30"), "2026-02-28T10:20:30", "2026-02-28T10:20:30", "2026-03-31T10:20:30"),
        (signup("2026-01-31T10:20:30"), "2026-04-15", "2026-03-31T10:20:30", "2026-04-30T10:20:30"),
        (signup("2026-01-31T10:20:30"), "2026-05-15", "2026-04-30T10:20:30", "2026-05-31T10:20:30"),
        (signup("2026-01-31T10:20:30"), "2028-02-29T11:00", "2028-02-29T10:20:30", "2028-03-31T10:20:30"),
        (signup("2026-01-31T10:20:30"), "2027-01-31T10:20:29", "2026-12-31T10:20:30", "2027-01-31T10:20:30"),
        (signup("2026-01-30T10:00"), "2026-03-01", "2026-02-28T10:00", "2026-03-30T10:00"),
        (signup("2026-01-29T10:00"), "2027-03-01", "2027-02-28T10:00", "2027-03-29T10:00"),
        (signup("2026-01-29T10:00"), "2028-03-01", "2028-02-29T10:00", "2028-03-29T10:00"),
        # 1900 and 2100 have no 29 February; 2000 had one
        (signup("2026-01-31T10:00"), "2100-03-01", "2100-02-28T10:00", "2100-03-31T10:00"),
        (signup("2026-01-31T10:00"), "2000-03-01", "2000-02-29T10:00", "2000-03-31T10:00"),
        # 29 February: the 28th in common years, the 29th in each leap year
        (signup("2028-02-29T10:00", "year"), "2028-03-01", "2028-02-29T10:00", "2029-02-28T10:00"),
        (signup("2028-02-29T10:00", "year"), "2031-12-31", "2031-02-28T10:00", "2032-02-29T10:00"),
        (signup("2028-02-29T10:00", "year"), "2032-02-29T10:00", "2032-02-29T10:00", "2033-02-28T10:00"),
        (signup("2028-02-29T10:00"), "2028-03-15", "2028-02-29T10:00", "2028-03-29T10:00"),
        # a clock that was behind when the account was created: the period before
        (signup("2026-03-31T10:00"), "2026-03-31T09:59:58", "2026-02-28T10:00", "2026-03-31T10:00"),
        # several months, weeks, days at a time
        (signup("2025-11-30T10:00", "month", 3), "2026-03-01", "2026-02-28T10:00", "2026-05-30T10:00"),
        (signup("2026-11-18T10:00", "week", 2), "2026-12-02T09:59:59", "2026-11-18T10:00", "2026-12-02T10:00"),
        (signup("2026-11-18T10:00", "day"), "2026-11-17T09:59:59", "2026-11-16T10:00", "2026-11-17T10:00"),
        # elapsed time
        (signup("2026-11-18T10:00:07", "hour", 5), "2026-11-18T15:00:06", "2026-11-18T10:00:07", "2026-11-18T15:00:07"),
        (signup("2026-11-18T10:00:07", "minute"), "2026-11-18T10:00:06", "2026-11-18T09:59:07", "2026-11-18T10:00:07"),
    ],
)
def test_anchored_periods(rule: PeriodRule, moment: str, start: str, end: str) -> None:
    assert period(rule, "UTC", moment) == between(start, end)


@pytest.mark.parametrize(
    ("timezone", "anchor", "starts"),
    [
        # 02:30 in New York; on 8 March clocks went from 02:00 to 03:00: the period starts at the change
        ("America/New_York", "2026-01-08T07:30", ["2026-02-08T07:30", "2026-03-08T07:00", "2026-04-08T06:30"]),
        # 01:30 in New York; on 1 November it came twice: the first one counts, in daylight time
        ("America/New_York", "2026-09-01T05:30", ["2026-10-01T05:30", "2026-11-01T05:30", "2026-12-01T06:30"]),
        # an account created in the second 01:30 of that night: its period starts at that very instant
        ("America/New_York", "2026-11-01T06:30", ["2026-10-01T05:30", "2026-11-01T06:30", "2026-12-01T06:30"]),
        # and no other: 1 November 2020 had two of them as well
        ("America/New_York", "2026-11-01T06:30", ["2020-10-01T05:30", "2020-11-01T05:30", "2020-12-01T06:30"]),
        # 02:30 and 02:15 in Berlin; clocks changed on 29 March (02:00 to 03:00) and 25 October (03:00 to 02:00)
        ("Europe/Berlin", "2026-01-29T01:30", ["2026-02-28T01:30", "2026-03-29T01:00", "2026-04-29T00:30"]),
        ("Europe/Berlin", "2026-08-25T00:15", ["2026-09-25T00:15", "2026-10-25T00:15", "2026-11-25T01:15"]),
        # Lord Howe skips half an hour: 02:15 on 4 October
        ("Australia/Lord_Howe", "2026-08-03T15:45", ["2026-09-03T15:45", "2026-10-03T15:30", "2026-11-03T15:15"]),
        # Sao Paulo skipped midnight on 4 November 2018
        ("America/Sao_Paulo", "2018-09-04T03:00", ["2018-10-04T03:00", "2018-11-04T03:00", "2018-12-04T02:00"]),
        # Casablanca is an hour back in Ramadan: 02:30 came an hour later on 22 February, and was skipped on 22 March
        ("Africa/Casablanca", "2026-01-22T01:30", ["2026-02-22T02:30", "2026-03-22T02:00", "2026-04-22T01:30"]),
        # Apia skipped 30 December 2011: that period starts with the 31st
        ("Pacific/Apia", "2011-10-30T19:00", ["2011-11-30T19:00", "2011-12-30T10:00", "2012-01-29T19:00"]),
        # and the month's last day is a local date: 31 January in Apia is 30 January in UTC
        ("Pacific/Apia", "2026-01-30T19:00", ["2026-02-27T19:00", "2026-03-30T19:00", "2026-04-29T19:00"]),
    ],
)
def test_anchored_months_follow_the_local_clock(timezone: str, anchor: str, starts: list[str]) -> None:
    for start, end in zip(starts, starts[1:], strict=False):
        assert period(signup(anchor), timezone, start) == between(start, end)
        assert period(signup(anchor), timezone, end).start == at(end)
        assert window_at(PERIOD, Calendar.of(timezone, signup(anchor)), at(end) - 1) == between(start, end)


def test_a_daily_period_whose_day_the_zone_skips_has_no_instant() -> None:
    rule = signup("2011-12-28T10:00", "day")  # midnight of 28 December
    assert period(rule, "Pacific/Apia", "2011-12-30T09:59:59") == between("2011-12-29T10:00", "2011-12-30T10:00")
    assert period(rule, "Pacific/Apia", "2011-12-30T10:00") == between("2011-12-30T10:00", "2011-12-31T10:00")


def test_a_period_that_has_begun_goes_on_when_clocks_are_put_back_over_its_start() -> None:
    # St. John's at 00:01 on 29 October 2006 went back to 23:01; a period that started at 00:00 does not start again
    rule = signup("2006-09-29T02:30")
    again = "2006-10-29T02:45"
    assert period(rule, "America/St_Johns", again) == between("2006-10-29T02:30", "2006-11-29T03:30")


def test_hours_are_elapsed_time_through_a_change_of_clocks() -> None:
    rule = signup("2026-10-24T22:00", "hour", 24)
    assert period(rule, "Europe/Berlin", "2026-10-25T21:59:59") == between("2026-10-24T22:00", "2026-10-25T22:00")


def test_a_subscriptions_periods_are_stripes_in_utc_whatever_the_timezone() -> None:
    told, created = subscription("2026-01-31T12:00"), signup("2026-01-31T12:00")
    assert period(told, "Europe/Berlin", "2026-04-15") == between("2026-03-31T12:00", "2026-04-30T12:00")
    assert period(created, "Europe/Berlin", "2026-04-15") == between("2026-03-31T11:00", "2026-04-30T11:00")
    assert period(told, "Pacific/Kiritimati", "2026-02-28T11:59:59") == between("2026-01-31T12:00", "2026-02-28T12:00")


def test_an_annual_period_stands_beside_monthly_limits() -> None:
    calendar = Calendar.of("UTC", signup("2026-01-31T10:00", "year"))
    assert window_at(PERIOD, calendar, at("2026-11-20")) == between("2026-01-31T10:00", "2027-01-31T10:00")
    assert window_at(MONTH, calendar, at("2026-11-20")) == between("2026-11-01", "2026-12-01")
    assert window_at(WEEK, calendar, at("2026-11-20")) == between("2026-11-16", "2026-11-23")


# --- changes ---------------------------------------------------------------------------------------------------------


def test_another_anchor_binds_from_the_end_of_the_period_and_the_next_one_is_partial() -> None:
    moved = Calendar.of("UTC").moved(at("2026-11-20T12:00"), period=signup("2026-05-10T08:30"))
    assert window_at(PERIOD, moved, at("2026-11-20T12:00")) == between("2026-11-01", "2026-12-01")
    assert window_at(PERIOD, moved, at("2026-12-01")) == between("2026-12-01", "2026-12-10T08:30")
    assert window_at(PERIOD, moved, at("2026-12-10T08:30")) == between("2026-12-10T08:30", "2027-01-10T08:30")
    assert window_at(PERIOD, moved, at("2026-08-20")) == between("2026-08-01", "2026-09-01")
    assert window_at(MONTH, moved, at("2026-12-10T08:30")) == between("2026-12-01", "2027-01-01")


def test_from_monthly_to_annual_and_back() -> None:
    calendar = Calendar.of("UTC", signup("2026-01-05T10:00"))
    calendar = calendar.moved(at("2026-11-20"), period=signup("2026-01-05T10:00", "year"))
    assert window_at(PERIOD, calendar, at("2026-11-20")) == between("2026-11-05T10:00", "2026-12-05T10:00")
    assert window_at(PERIOD, calendar, at("2026-12-06")) == between("2026-12-05T10:00", "2027-01-05T10:00")
    assert window_at(PERIOD, calendar, at("2027-01-05T10:00")) == between("2027-01-05T10:00", "2028-01-05T10:00")
    back = calendar.moved(at("2027-03-01"), period=signup("2026-01-05T10:00"))
    assert window_at(PERIOD, back, at("2027-12-31")) == between("2027-01-05T10:00", "2028-01-05T10:00")
    assert window_at(PERIOD, back, at("2028-01-05T10:00")) == between("2028-01-05T10:00", "2028-02-05T10:00")


def test_another_timezone_moves_the_wall_time_from_the_end_of_the_period() -> None:
    moved = Calendar.of("Europe/Berlin", signup("2026-01-10T12:00")).moved(at("2026-07-20"), "America/New_York")
    # 13:00 in Berlin, in winter as in summer; 07:00 in New York
    assert window_at(PERIOD, moved, at("2026-07-20")) == between("2026-07-10T11:00", "2026-08-10T11:00")
    assert window_at(PERIOD, moved, at("2026-08-10T11:00")) == between("2026-08-10T11:00", "2026-09-10T11:00")
    # Berlin is back to winter on 25 October, New York on 1 November: no boundary lies between
    assert window_at(PERIOD, moved, at("2027-03-20")) == between("2027-03-10T12:00", "2027-04-10T11:00")


def test_of_two_changes_in_one_period_the_last_binds_also_of_timezone_and_rule() -> None:
    moved = Calendar.of("UTC").moved(at("2026-11-20"), "Asia/Tokyo").moved(at("2026-11-21"), period=PeriodRule("year"))
    assert moved.timezone == "Asia/Tokyo"
    assert moved.period == PeriodRule("year")
    assert window_at(PERIOD, moved, at("2026-12-01")) == between("2026-12-01", "2026-12-31T15:00")
    there_and_back = Calendar.of("UTC").moved(at("2026-11-20"), period=PeriodRule("year"))
    there_and_back = there_and_back.moved(at("2026-11-21"), period=CALENDAR_MONTH)
    assert window_at(PERIOD, there_and_back, at("2026-12-05")) == between("2026-12-01", "2027-01-01")


def test_a_change_to_what_holds_already_is_none() -> None:
    calendar = Calendar.of("Asia/Tokyo", PeriodRule("year"))
    assert calendar.moved(5, "Asia/Tokyo", PeriodRule("year")) is calendar
    assert calendar.moved(5, period=PeriodRule("year")) is calendar
    assert calendar.moved(5) is calendar


def test_a_change_by_a_clock_that_is_behind_follows_the_last_one() -> None:
    calendar = Calendar.of("UTC").moved(1000, "Asia/Tokyo").moved(990, period=PeriodRule("year"))
    assert calendar.segments[1:] == (Segment(1000, "Asia/Tokyo"), Segment(1000, "Asia/Tokyo", PeriodRule("year")))


def test_a_change_of_the_rule_moves_no_other_window() -> None:
    calendar = Calendar.of("Europe/Berlin").moved(at("2026-11-20T12:00"), period=signup("2026-05-10T08:30"))
    plain = Calendar.of("Europe/Berlin")
    for kind in (kind for kind in windows.CALENDAR_KINDS if kind != PERIOD):
        for moment in ("2026-11-20T12:00", "2026-11-20T12:01", "2026-12-01", "2026-12-10T08:30"):
            assert window_at(kind, calendar, at(moment)) == window_at(kind, plain, at(moment))


# --- what is no rule, and the edges of time --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"interval": "decade"}, "interval"),
        ({"count": 0}, "intervals"),
        ({"count": MAX_COUNT + 1}, "intervals"),
        ({"anchor": "payday", "at": 5}, "anchor"),
        ({"anchor": "signup"}, "instant"),
        ({"anchor": "calendar", "at": 5}, "instant"),
        ({"anchor": "subscription", "at": -1}, "instant"),
        ({"anchor": "signup", "at": LAST_INSTANT + 1}, "instant"),
    ],
)
def test_what_is_no_rule_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        PeriodRule(**wrong)


@pytest.mark.parametrize("interval", ["minute", "hour", "day", "week", "month", "year"])
@pytest.mark.parametrize("count", [1, MAX_COUNT])
@pytest.mark.parametrize(("anchor", "instant"), [("calendar", None), ("signup", 0), ("signup", LAST_INSTANT)])
@pytest.mark.parametrize("timezone", ["UTC", "Pacific/Kiritimati", "Pacific/Niue", "America/New_York"])
@pytest.mark.parametrize("moment", [0, LAST_INSTANT])
def test_the_first_and_the_last_instant_have_periods(
    interval: Interval, count: int, anchor: Anchor, instant: int | None, timezone: str, moment: int
) -> None:
    rule = PeriodRule(interval, count, anchor, instant)
    start, end = period_at(rule, windows.zone(timezone), moment)
    assert start <= moment < end
    assert instant != moment or start == moment
