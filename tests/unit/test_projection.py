"""Projected totals: by hand for each rule of the method, and what must hold for any period and any history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from tollgate.catalog.model import Meter, Plan, Price, Seats, Tier
from tollgate.projection import (
    DAY_S,
    SILENT_S,
    Closed,
    History,
    MeterState,
    Money,
    Projection,
    project,
    projected_units,
)
from tollgate.quantities import quantize
from tollgate.rating.bill import Used, bill

D = Decimal
HOUR = 3600
START = int(datetime(2026, 11, 1, tzinfo=UTC).timestamp())
"""A Sunday."""
END = START + 30 * DAY_S
PERIOD = (START, END)
MIDDLE = START + 15 * DAY_S
SCALE = 6
METERS = {"m": Meter("m", "M", "unit", SCALE)}


def units(used: int | str, now: int, history: History = History(), since: int | None = None) -> Decimal:  # noqa: B008
    return projected_units(PERIOD, now, D(used), SCALE, history, since)


def known(first: int, *each: int) -> History:
    """Units of the UTC days from `first` on."""
    return History(days={first + index * DAY_S: D(many) for index, many in enumerate(each)}, days_since=first)


def rounded(value: Decimal) -> Decimal:
    return quantize(value, SCALE)


# --- units -----------------------------------------------------------------------------------------------------------


def test_without_anything_else_use_goes_on_as_after_six_quiet_hours() -> None:
    assert units(122, MIDDLE) == 122 + rounded(D(122) * 60 / 61)  # 15 days to come, by 15 days and a quarter
    assert units(0, MIDDLE) == 0


def test_a_sixth_of_each_closed_period_counts() -> None:
    month = 30 * DAY_S
    three = tuple(Closed(START - (3 - n) * month, START - (2 - n) * month, D(300)) for n in range(3))
    assert units(100, MIDDLE, History(three)) == 100 + 125  # (100 + 900 / 6) units in 15 + 90 / 6 days, 15 to come
    one = (Closed(START - month, START, D(600)),)
    assert units(0, MIDDLE, History(one)) == 75  # 100 units in 15 + 5 days


def test_only_the_last_three_closed_periods_count_in_whatever_order() -> None:
    month = 30 * DAY_S
    closed = [Closed(START - (n + 1) * month, START - n * month, D(300)) for n in range(3)]
    old = Closed(START - 4 * month, START - 3 * month, D(10**9))
    for some in (closed, [*closed, old], [old, *closed], [old, *reversed(closed)]):
        assert units(100, MIDDLE, History(tuple(some))) == 225


def test_a_partial_closed_period_counts_for_the_time_it_had() -> None:
    short = (Closed(START - 6 * DAY_S, START, D(60)),)
    assert units(0, MIDDLE, History(short)) == rounded(D(10) / 16 * 15)


def test_days_before_the_period_stand_in_for_closed_periods() -> None:
    before = known(START - 12 * DAY_S, *[10] * 12)
    assert units(0, START + HOUR, before) == rounded(D(20) / (2 * DAY_S + HOUR) * (30 * DAY_S - HOUR))
    closed = replace(before, closed=(Closed(START - 30 * DAY_S, START, D(60)),))
    assert units(0, START + HOUR, closed) == rounded(D(10) / (5 * DAY_S + HOUR) * (30 * DAY_S - HOUR))


def test_a_day_that_was_not_all_known_is_no_day() -> None:
    before = known(START - 12 * DAY_S, *[10] * 12)
    late = replace(before, days_since=START - 12 * DAY_S + 1)
    eleven = known(START - 11 * DAY_S, *[10] * 11)
    assert units(0, START + HOUR, late) == units(0, START + HOUR, eleven) < units(0, START + HOUR, before)
    assert units(0, START + HOUR, before, since=START - 12 * DAY_S + 1) == units(0, START + HOUR, eleven)


def test_a_period_that_began_with_the_account_is_as_long_as_the_account() -> None:
    born = MIDDLE - DAY_S
    assert units(10, MIDDLE, since=born) == 10 + 8 * 15  # a day and a quarter
    assert units(10, MIDDLE, since=START - 1) == units(10, MIDDLE)
    assert units(10, MIDDLE, since=MIDDLE) == 10 + 4 * 10 * 15  # no time yet: six hours
    assert units(10, MIDDLE, since=MIDDLE + 5) == 10 + 4 * 10 * 15  # another machine's clock


def test_a_burst_counts_at_most_twice_the_second_busiest_day() -> None:
    now = START + 5 * DAY_S + 12 * HOUR
    own = known(START, 1000, 10, 20, 10, 10)
    burst = 1000 - 2 * 20
    assert units(1055, now, own) == 1055 + rounded(D(1055 - burst) / D("5.75") * D("24.5"))


def test_a_burst_in_unfinished_days_is_one_too() -> None:
    noon = START + 12 * HOUR  # a period from noon to noon, so that its first day is never whole
    now = noon + 3 * DAY_S
    days = known(START + DAY_S, 10, 10, 10)  # until midnight; the last one is not over
    found = projected_units((noon, noon + 30 * DAY_S), now, D(1000), SCALE, days)
    rest = 1000 - 20
    assert found == 1000 + rounded(D(1000 - (rest - 2 * 10)) / D("3.25") * 27)


def test_a_burst_before_the_period_counts_no_more_than_twice_either() -> None:
    before = known(START - 5 * DAY_S, 500, 10, 10, 10, 10)
    earlier = D(20 + 40) / 6
    assert units(0, START + DAY_S, before) == rounded(earlier / (D(5) / 6 + 1) * 29)

    earlier = D(120 + 40) / 6
    assert units(60, START + DAY_S, before) == 60 + rounded((60 + earlier) / (D(5) / 6 + 1) * 29)


def test_a_burst_in_the_first_hours_is_seen_by_the_days_before() -> None:
    before = known(START - 6 * DAY_S, *[10] * 6)
    assert units(1000, START + 6 * HOUR, before) == 1000 + rounded(D(2 * 10 + 10) / D("1.25") * D("29.75"))


def test_rollups_ahead_of_the_units_so_far_count_as_no_use() -> None:
    ahead = replace(known(START, 1000, 10, 10), closed=(Closed(START - 30 * DAY_S, START, D(600)),))
    assert units(0, START + 4 * DAY_S, ahead) == rounded(D(100) / 9 * 26)


def test_busy_days_before_the_period_say_what_is_no_burst() -> None:
    before = known(START - 3 * DAY_S, 900, 900, 900)
    assert units(900, START + DAY_S, before) == 900 + rounded(D(900 + 450) / D("1.5") * 29)


def test_one_whole_day_does_not_tell_what_a_burst_is() -> None:
    now = START + DAY_S + 12 * HOUR
    assert units(1000, now, known(START, 990)) == units(1000, now)


def test_a_day_counts_once_it_has_been_over_for_an_hour() -> None:
    history = known(START, 1000, 10)
    before, after = START + 2 * DAY_S + HOUR - 1, START + 2 * DAY_S + HOUR
    assert units(1010, before, history) == units(1010, before)
    assert units(1010, after, history) < units(1010, after) / 5


def test_days_before_the_first_that_is_known_are_not_quiet_ones() -> None:
    history = History(days={START + 9 * DAY_S: D(5)}, days_since=START + 9 * DAY_S)
    now = START + 10 * DAY_S + HOUR
    assert units(50, now, history) == units(50, now)
    nothing_before = History(days={START + 9 * DAY_S: D(5)}, days_since=START)
    assert units(50, now, nothing_before) < units(50, now)


def test_a_weekday_weighs_as_much_as_its_days_had() -> None:
    """Four weeks of 12 on working days and none at weekends, and a Sunday of nothing: 29 whole days."""
    week = [0, 12, 12, 12, 12, 12, 0]  # from Sunday, as the period begins
    history = known(START - 28 * DAY_S, *week * 4, 0)
    now = START + DAY_S + HOUR  # Monday, one hour
    average = D(240) / 29
    saturday, sunday = (2 * average) / 6, (2 * average) / 7
    working = (4 * 12 + 2 * average) / 6
    every = (5 * working + saturday + sunday) / 7
    weight = {"working": working / every, "saturday": saturday / every, "sunday": sunday / every}
    elapsed = weight["sunday"] * 24 + weight["working"]
    # 30 days from a Sunday: 5 Sundays, 5 Mondays, 4 of each other day.
    left = weight["working"] * (21 * 24 - 1) + weight["saturday"] * 4 * 24 + weight["sunday"] * 4 * 24
    expected = D(240) / 6 / (28 * D(24) / 6 + elapsed) * left
    assert units(0, now, history) == rounded(expected)


def test_a_burst_makes_no_rhythm() -> None:
    closed = (Closed(START - 30 * DAY_S, START, D(600)),)
    quiet = [10] * 20
    large, double = ([*quiet, most, *[10] * 7] for most in (1000, 20))
    found = [
        units(0, START, replace(known(START - 28 * DAY_S, *each), closed=closed)) for each in (large, double, [10] * 28)
    ]
    assert found[0] == found[1] != found[2]


def test_a_rhythm_needs_two_weeks() -> None:
    week = [0, 12, 12, 12, 12, 12, 0]
    friday = START + 6 * DAY_S  # its end: after five busy days, with a weekend to come
    thirteen = known(START - 7 * DAY_S, *week, *week[:-1])
    assert units(60, friday + HOUR, thirteen) == rounded(
        60 + (60 + D(60) / 6) / (D(7) / 6 + 6 + D(1) / 24) * (24 - D(1) / 24)
    )
    fourteen = known(START - 8 * DAY_S, 0, *week, *week[:-1])
    assert units(60, friday + HOUR, fourteen) < units(60, friday + HOUR, thirteen) * D("0.95")


def test_once_the_period_is_over_nothing_is_expected() -> None:
    assert units("1.234567", END, known(START, *[5] * 30)) == D("1.234567")
    assert units("1.2345674", END + 1) == D("1.2345674")  # finer than the scale is now


@pytest.mark.parametrize(("period", "used"), [((START, START), D(1)), ((END, START), D(1)), (PERIOD, D(-1))])
def test_what_cannot_be_is_refused(period: tuple[int, int], used: Decimal) -> None:
    with pytest.raises(ValueError):
        projected_units(period, MIDDLE, used, SCALE)


# --- money -----------------------------------------------------------------------------------------------------------

BOOK = Price("m", "per_unit", unit_price=D("0.5"))
TIERS = Price("m", "graduated", tiers=(Tier(D(1000), D(0), D(0)), Tier(None, D(2), D(0))))
BULK = Price("m", "volume", tiers=(Tier(D(100), D(1), D(0)), Tier(None, D("0.1"), D(0))))


def plan(*prices: Price, **more: Any) -> Plan:
    return Plan("p", 1, "P", prices=prices, **more)


def projected(of: Plan, state: MeterState, now: int = MIDDLE, spent: str | int = 0, **terms: Any) -> Projection:
    found = project(PERIOD, now, {"m": state}, METERS, Money(of, "usd", D(spent), **terms))
    assert found is not None
    return found


def doubling(used: int, **more: Any) -> MeterState:
    """A meter whose units double by the end of the period: as last month, at its half."""
    month = (Closed(START - 30 * DAY_S, START, D(2 * used)),)
    return MeterState(Used(D(used), **more), History(month))


def test_nothing_is_projected_in_the_first_six_hours() -> None:
    state = {"m": doubling(100)}
    money = Money(plan(BOOK, base_fee=D(29)), "usd", D(50))
    for now in (START - 10, START, START + SILENT_S - 1):
        assert project(PERIOD, now, state, METERS, money) is None
    assert project(PERIOD, START + SILENT_S, state, METERS, money) is not None
    assert project((START, START + HOUR), START + 2 * HOUR, state, METERS, money) is None
    assert project((START, START + HOUR), START + SILENT_S, state, METERS, money) is not None


def test_units_are_projected_and_then_rated() -> None:
    found = projected(plan(TIERS, base_fee=D(29)), doubling(900))
    assert found == Projection({"m": D(1800)}, D("1600.00"), D("1629.00"))  # nothing is spent yet


def test_seats_are_in_the_total_and_their_units_stay_free() -> None:
    seats = Seats(D(10), 2, pooled=True)
    each = replace(BOOK, included_per_seat=D(50))
    assert projected(plan(each, seats=seats), doubling(100), seats=3)[1:] == (D("25.00"), D("55.00"))
    own = plan(each, seats=seats._replace(pooled=False))
    state = doubling(100, by_seat=(D(20), D(80)))  # they go on: 40 and 160, of which 50 are free
    assert projected(own, state, seats=3)[1:] == (D("55.00"), D("85.00"))
    some = replace(own, prices=(replace(each, included_per_seat=D("1.4")),))
    state = doubling(2, by_seat=(D(1), D(1)))._replace(most=D(3))  # a unit and a half each
    assert projected(some, state, seats=3).usage == D("0.10")
    unused = doubling(100)._replace(used=Used(D(0), by_seat=(D(0), D(0))))
    assert projected(own, unused, seats=3).usage == D("12.50")  # 25 units, of nobody yet


def test_what_a_seat_has_left_pays_for_that_seat_alone() -> None:
    """Two seats of 50: one has used 20 and will use 40; the other used 80 and will use 160, so 110 are to be paid."""
    state = doubling(100, credit_funded=D(70))._replace(own=((D(20), D(30)), (D(50), D(0))))
    assert projected(plan(BOOK), state).usage == D("55.00")
    assert projected(plan(BOOK), state._replace(own=((D(20), D(5)), (D(50), D(0))))).usage == D("62.50")
    assert projected(plan(BOOK), doubling(100)._replace(used=Used(D(0)), own=((D(0), D(50)),))).usage == D("12.50")


def test_a_money_cap_ends_it_but_not_what_is_spent_already() -> None:
    capped = projected(plan(BOOK, base_fee=D(29)), doubling(100), spent=50, cap=D(60))
    assert capped[1:] == (D(60), D("89.00"))
    lowered = projected(plan(BOOK, base_fee=D(29)), doubling(100), spent=50, cap=D(20))
    assert lowered[1:] == (D(50), D("79.00"))


def test_credits_pay_for_what_is_beyond_the_included_units() -> None:
    assert projected(plan(TIERS), doubling(900)._replace(credits=D(300))).usage == 1000
    assert projected(plan(TIERS), doubling(900)._replace(credits=D(10**6))).usage == 0
    assert projected(plan(TIERS), doubling(1500)._replace(credits=D(500)), spent=1000).usage == 2 * (500 + 1000)
    assert projected(plan(TIERS), doubling(1500)._replace(credits=D(10**6))).usage == 2 * 500
    assert projected(plan(TIERS), doubling(1500, credit_funded=D(200))._replace(credits=D(10**6))).usage == 2 * 300
    assert projected(plan(TIERS), doubling(900, credit_funded=D(200))).usage == 2 * 600
    assert projected(plan(TIERS), doubling(900, waived=D(200))).usage == 2 * 600


def test_no_overage_means_no_charges_beyond_included_units_and_credits() -> None:
    assert projected(plan(TIERS), doubling(900), overage=False).usage == 0
    assert projected(plan(TIERS), doubling(900)._replace(credits=D(100)), overage=False).usage == 0
    assert projected(plan(TIERS), doubling(1500), overage=False).usage == 1000
    assert projected(plan(TIERS), doubling(1500)._replace(credits=D(100)), overage=False).usage == 1000


def test_a_limit_on_units_ends_them() -> None:
    limited = projected(plan(BOOK), doubling(100)._replace(most=D(150)))
    assert limited[:2] == ({"m": D(150)}, D("75.00"))
    assert projected(plan(BOOK), doubling(100)._replace(most=D(50))).units == {"m": D(100)}


def test_a_volume_price_that_falls_does_not_take_back_what_is_spent() -> None:
    assert projected(plan(BULK), doubling(90)).usage == D("18.00")
    assert projected(plan(BULK), doubling(90), spent=90).usage == 90


def test_priced_meters_that_were_not_used_and_used_ones_without_price() -> None:
    other = Price("other", "per_unit", unit_price=D(1), minimum=D(5))
    assert projected(plan(other), doubling(100)) == Projection({"m": D(200)}, D("5.00"), D("5.00"))


# --- whatever the past was -------------------------------------------------------------------------------------------

amounts = st.integers(0, 10**12).map(lambda n: D(n).scaleb(-SCALE))
small = st.integers(0, 3000).map(lambda n: D(n).scaleb(-1))
spans = st.sampled_from([DAY_S, 7 * DAY_S, 28 * DAY_S, 31 * DAY_S, 365 * DAY_S])


@st.composite
def periods(draw: st.DrawFn) -> tuple[int, int]:
    start = START + draw(st.integers(-40 * DAY_S, 40 * DAY_S))
    return start, start + draw(spans)


@st.composite
def closed_periods(draw: st.DrawFn, start: int) -> tuple[Closed, ...]:
    found: list[Closed] = []
    end = start
    for many in draw(st.lists(amounts, max_size=4)):
        begin = end - draw(st.integers(1, 31 * DAY_S))
        found.append(Closed(begin, end, many))
        end = begin
    return tuple(found)


@st.composite
def days(draw: st.DrawFn, start: int) -> tuple[dict[int, Decimal], int | None]:
    """Up to fifty days from before the period into it, many of them quiet."""
    first = (start // DAY_S - draw(st.integers(0, 30))) * DAY_S
    some = draw(st.dictionaries(st.integers(0, 50), amounts, max_size=12))
    return {first + index * DAY_S: many for index, many in some.items()}, draw(
        st.sampled_from([None, first, first + 1])
    )


@st.composite
def histories(draw: st.DrawFn, start: int) -> History:
    units_by_day, since = draw(days(start))
    return History(draw(closed_periods(start)), units_by_day, since)


@st.composite
def cases(draw: st.DrawFn) -> tuple[tuple[int, int], int, History, int | None]:
    """A period, an instant in it, a history, and perhaps when the account began."""
    period = draw(periods())
    now = draw(st.integers(period[0], period[1]))
    since = draw(st.none() | st.integers(period[0] - 10 * DAY_S, now))
    return period, now, draw(histories(period[0])), since


Case = tuple[tuple[int, int], int, History, int | None]


@given(cases(), amounts)
@example(((START, END), START, History(), None), D(1))
def test_never_below_what_is_used_and_in_the_meter_s_places(case: Case, used: Decimal) -> None:
    period, now, history, since = case
    found = projected_units(period, now, used, SCALE, history, since)
    assert isinstance(found, Decimal)
    assert found >= used
    assert found == quantize(found, SCALE)


@given(cases(), amounts)
def test_at_the_end_it_is_what_it_came_to(case: Case, used: Decimal) -> None:
    period, _, history, since = case
    assert projected_units(period, period[1], used, SCALE, history, since) == used


HOLIDAY = (
    (START + 1, END + 1),
    END - DAY_S,
    History((Closed(START - 30 * DAY_S, START, D(300)),), {START: D(1)}, START),
    None,
)
"""One Sunday, a day of this period and the last, had all units that are known by day; a Monday is left. A second unit
must not turn that Sunday from a burst into a rhythm."""


@given(cases(), amounts, amounts)
@example(HOLIDAY, D(0), D(1))
def test_more_use_never_projects_less(case: Case, used: Decimal, more: Decimal) -> None:
    period, now, history, since = case
    low = projected_units(period, now, used, SCALE, history, since)
    assert projected_units(period, now, used + more, SCALE, history, since) >= low + more


@given(cases(), amounts, amounts, st.integers(0, 3))
def test_more_use_in_a_closed_period_never_projects_less(case: Case, used: Decimal, more: Decimal, which: int) -> None:
    period, now, history, since = case
    assume(which < len(history.closed))
    closed = list(history.closed)
    closed[which] = closed[which]._replace(units=closed[which].units + more)
    low = projected_units(period, now, used, SCALE, history, since)
    assert projected_units(period, now, used, SCALE, replace(history, closed=tuple(closed)), since) >= low


@given(periods(), st.data(), amounts)
def test_time_without_use_never_projects_more(period: tuple[int, int], data: st.DataObject, used: Decimal) -> None:
    first, second = sorted(data.draw(st.tuples(*[st.integers(*period)] * 2)))
    history = History(data.draw(closed_periods(period[0])))
    late = projected_units(period, second, used, SCALE, history)
    assert late <= projected_units(period, first, used, SCALE, history)


@given(amounts, st.lists(small, min_size=3, max_size=12), amounts, amounts)
def test_a_larger_burst_is_only_what_it_is(rest: Decimal, each: list[Decimal], burst: Decimal, more: Decimal) -> None:
    """Beyond twice the second busiest day nothing of it is expected again."""
    now = START + (len(each) + 1) * DAY_S + 12 * HOUR
    rest = min(rest, max(each))
    burst += 2 * max(each)

    def after(size: Decimal) -> Decimal:
        history = known(START, 0, *[0] * len(each))
        by_day = {START: size, **{START + (n + 1) * DAY_S: many for n, many in enumerate(each)}}
        return units_of(size + sum(each) + rest, now, replace(history, days=by_day))

    assert after(burst + more) - after(burst) == more


def units_of(used: Decimal, now: int, history: History) -> Decimal:
    return projected_units(PERIOD, now, used, SCALE, history)


@given(cases(), st.integers(1, 52))
def test_steady_use_is_seen_through_any_rhythm(case: Case, weeks: int) -> None:
    """The same on every day, for whole weeks: what is to come is that, for the time left."""
    start = START - START % DAY_S
    now, end = start + 7 * weeks * DAY_S, start + 7 * (weeks + 3) * DAY_S
    history = known(start - 28 * DAY_S, *[24] * (28 + 7 * weeks))
    assert projected_units((start, end), now + HOUR, D(24 * 7 * weeks + 1), SCALE, history) == 24 * 7 * (weeks + 3)


@st.composite
def rated(draw: st.DrawFn, prices: Mapping[str, Price]) -> tuple[Plan, Decimal | None, bool, Decimal]:
    """A plan, a cap, whether overage is allowed, credits."""
    of = plan(prices[draw(st.sampled_from(sorted(prices)))], base_fee=draw(st.sampled_from([D(0), D(29)])))
    return of, draw(st.none() | amounts), draw(st.booleans()), draw(st.just(D(0)) | amounts)


PRICES = {
    "unit": BOOK,
    "tiers": TIERS,
    "bulk": BULK,
    "pack": Price("m", "package", package_size=D(7), package_price=D(3)),
}
GROWING = {name: price for name, price in PRICES.items() if name != "bulk"}


@given(cases(), rated(PRICES), amounts, st.sampled_from([0, 1, SILENT_S - 1, SILENT_S, SILENT_S + 1]))
def test_money_is_none_for_six_hours_and_then_never_below_what_is_spent(
    case: Case, terms: tuple[Plan, Decimal | None, bool, Decimal], used: Decimal, early: int
) -> None:
    period, now, history, since = case
    of, cap, overage, credits = terms
    state = MeterState(Used(used), history, credits)
    spent = bill(of, "usd", {"m": state.used}).usage
    for at in (now, period[0] + early):
        found = project(period, at, {"m": state}, METERS, Money(of, "usd", spent, cap=cap, overage=overage), since)
        assert (found is None) == (at - period[0] < SILENT_S)
        if found is not None:
            assert found.usage >= spent
            assert found.total == of.base_fee + found.usage
            assert cap is None or found.usage <= max(cap, spent)


@given(cases(), rated(PRICES), amounts)
def test_at_the_end_it_is_the_bill(
    case: Case, terms: tuple[Plan, Decimal | None, bool, Decimal], used: Decimal
) -> None:
    period, _, history, since = case
    of, _, overage, credits = terms
    actual = bill(of, "usd", {"m": Used(used)})
    state = {"m": MeterState(Used(used), history, credits)}
    money = Money(of, "usd", actual.usage, cap=actual.usage, overage=overage)
    assert project(period, period[1], state, METERS, money, since) == Projection(
        {"m": used}, actual.usage, actual.total
    )


@given(cases(), rated(GROWING), amounts, amounts)
def test_more_use_never_costs_less(
    case: Case, terms: tuple[Plan, Decimal | None, bool, Decimal], used: Decimal, more: Decimal
) -> None:
    """Not so where a volume price falls into a cheaper tier."""
    period, now, history, since = case
    of, cap, overage, credits = terms
    assume(now - period[0] >= SILENT_S)

    def total(many: Decimal) -> Decimal:
        state = {"m": MeterState(Used(many), history, credits)}
        money = Money(of, "usd", bill(of, "usd", {"m": Used(many)}).usage, cap=cap, overage=overage)
        found = project(period, now, state, METERS, money, since)
        assert found is not None
        return found.total

    assert total(used + more) >= total(used)
