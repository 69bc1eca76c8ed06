"""Each detector on days made by hand: what it says, and what it keeps silent about."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollgate.anomalies.case import DAYS, Case, Finding, PlanTypical, median, spread
from tollgate.anomalies.detect import KINDS, findings
from tollgate.billing.rollup import DAY_S, Rollup, Share
from tollgate.billing.sealed import LevelMark, MeterTotal

TODAY = 1_795_219_200
"""2026-11-21."""
OFFICE = (9, 10, 11, 12, 13, 14, 15, 16)


def day(
    units: int = 1000,
    back: int = 0,
    *,
    events: int = 100,
    peak: int | None = None,
    cached: int = 0,
    models: Mapping[str, int] | None = None,
    members: Mapping[str, int] | None = None,
    hours: Mapping[int, int] | None = None,
) -> Rollup:
    by_hour = hours or {hour: units // len(OFFICE) for hour in OFFICE}
    return Rollup(
        "acme",
        "tokens",
        TODAY - back * DAY_S,
        MeterTotal(events, Decimal(units)),
        tuple(Decimal(by_hour.get(hour, 0)) for hour in range(24)),
        Decimal(units // 10 if peak is None else peak),
        cached,
        models=shares(models or {"m": units}, events),
        members=shares(members or {"ann": units // 2, "bob": units - units // 2}, events),
    )


def shares(units: Mapping[str, int], events: int) -> dict[str, Share]:
    return {name: Share(events // len(units), Decimal(one)) for name, one in units.items()}


def past(days: int = 20, **changes: Any) -> tuple[Rollup, ...]:
    """Days that differ a little, as days do."""
    return tuple(day(900 + 10 * back, back, **changes) for back in range(days, 0, -1))


def seen(case: Case) -> dict[str, Finding]:
    return {finding.kind: finding for finding in findings(case)}


def case(today: Rollup, before: tuple[Rollup, ...] | None = None, **more: Any) -> Case:
    return Case(today, past() if before is None else before, more.pop("over", True), **more)


PLAN = PlanTypical("pro", Decimal(300), Decimal(1000))


def test_an_ordinary_day_is_no_news() -> None:
    assert seen(case(day(1400), plan=PLAN)) == {}


def test_ten_times_its_typical_day() -> None:
    found = seen(case(day(12_000), over=False))
    assert set(found) == {"level"}
    assert found["level"].text == (
        "acme used 12,000 units of tokens on 2026-11-21 so far: 11.9 times its typical day (1,005) and 11 times the "
        "busiest that it is known for."
    )
    assert found["level"].evidence["days_known"] == "20"
    assert Decimal("1.19") < found["level"].score < Decimal("1.2")
    assert seen(case(day(10_000), over=False)) == {}


def test_an_account_of_bursts_is_told_of_only_beyond_its_bursts() -> None:
    bursts = tuple(day(12_000 if back % 5 == 0 else 1000, back) for back in range(20, 0, -1))
    assert "level" not in seen(case(day(15_000), bursts))
    assert "level" in seen(case(day(70_000), bursts))


def test_one_outlier_before_hides_no_other() -> None:
    before = (day(50_000, 21), *past())
    assert "level" in seen(case(day(20_000), before))


def test_a_handful_of_calls_is_not_worth_a_look() -> None:
    assert seen(case(day(12_000, events=29))) == {}
    # A few large ones are, where the plan has seen nothing like them.
    assert "level" in seen(case(day(12_000, events=29), plan=PLAN))


def test_a_young_account_is_said_to_be_one() -> None:
    assert seen(case(day(12_000), past(2))) == {}
    assert seen(case(day(12_000), past(3)))["level"].text.endswith(
        " Little is known of this account: 3 days with use before."
    )


def test_a_first_busy_day_is_said_to_be_one() -> None:
    found = seen(case(day(7000), (), plan=PLAN))
    assert set(found) == {"plan"}
    assert found["plan"].text == (
        "acme used 7,000 units of tokens on 2026-11-21: 7 times the average of plan pro (1,000 a day). It is this "
        "account's first busy day: it used nothing in the 28 days before."
    )
    assert seen(case(day(5000), (), plan=PLAN)) == {}
    assert seen(case(day(7000), ())) == {}  # nothing at all to compare with


def test_a_quiet_accounts_first_busy_day_is_said_to_be_one() -> None:
    quiet = past(events=29)
    said = " It is this account's first busy day: none in the 28 days before had 30 calls."
    assert seen(case(day(12_000), quiet))["level"].text.endswith(f"the busiest that it is known for.{said}")
    assert seen(case(day(2000, models={"m": 1000, "grand": 1000}), quiet))["new_model"].text.endswith(said)
    young = seen(case(day(12_000), past(3, events=29)))["level"].text
    assert young.endswith(f"{said} Little is known of this account: 3 days with use before.")
    one_busy = (day(1000, 21, events=30), *quiet)
    assert "first busy day" not in seen(case(day(12_000), one_busy))["level"].text


def test_three_times_the_average_of_its_plan() -> None:
    small = tuple(day(500, back) for back in range(20, 0, -1))
    assert seen(case(day(3500), small, plan=PLAN))["plan"].text.startswith(
        "acme used 3,500 units of tokens on 2026-11-21: 3.5 times the average of plan pro (1,000 a day). Its own "
        "typical day: 500."
    )
    large = tuple(day(1500, back) for back in range(20, 0, -1))
    assert seen(case(day(6000), large, plan=PLAN)) == {}, "a large account is judged by itself"
    assert seen(case(day(3500), small, plan=PLAN._replace(days=Decimal(5)))) == {}, "an average of nobody"


def test_far_above_itself_and_its_plan_is_one_trouble() -> None:
    assert set(seen(case(day(30_000), plan=PLAN))) == {"level"}


def test_half_a_day_in_ten_minutes() -> None:
    found = seen(case(day(2000, peak=1200)))
    assert found["burst"].text == (
        "acme used 2,000 units of tokens on 2026-11-21, 60 % of it (1,200) within ten minutes; usually it is 10 %."
    )
    assert seen(case(day(2000, peak=1200), over=False)) == {}, "a day so far may be ten minutes old"
    nightly = tuple(day(1000, back, peak=600) for back in range(20, 0, -1))
    assert seen(case(day(2000, peak=1300), nightly)) == {}, "a job that runs every night"
    weekly = tuple(day(1000, back, peak=600 if back % 7 == 0 else 100) for back in range(20, 0, -1))
    assert seen(case(day(1100, peak=660), weekly)) == {}, "a job that runs every week"


def test_a_model_that_it_never_used() -> None:
    found = seen(case(day(2000, models={"m": 1000, "grand": 1000})))
    assert set(found) == {"new_model"}
    assert found["new_model"].evidence["model"] == "grand"
    assert "50 % of it (1,000) by model grand, which it did not have in the 28 days before" in found["new_model"].text
    assert seen(case(day(2000, models={"m": 1800, "grand": 200}))) == {}
    known = (*past(19), day(1000, 1, models={"m": 990, "grand": 10}))
    assert seen(case(day(2000, models={"m": 1000, "grand": 1000}), known)) == {}
    hidden = past(models={"m": 800, "": 200})
    assert seen(case(day(2000, models={"m": 1000, "grand": 1000}), hidden)) == {}, "it may be among the unnamed"


def test_a_member_on_top_is_news_and_one_instead_of_another_is_not() -> None:
    on_top = {"ann": 500, "bob": 500, "eve": 1500}
    assert seen(case(day(2500, members=on_top)))["new_member"].evidence["member"] == "eve"
    assert seen(case(day(1000, members={"ann": 300, "eve": 700}))) == {}


def test_a_team_of_one_that_becomes_two_is_no_news() -> None:
    alone = past(members={"ann": 1000})
    assert seen(case(day(2000, members={"ann": 1000, "bob": 1000}), alone)) == {}


def test_use_in_the_night_of_its_own_clock() -> None:
    hours = dict.fromkeys(OFFICE, 125) | {2: 400, 3: 500}
    found = seen(case(day(1900, hours=hours), over=False, timezone="Europe/Berlin"))
    assert set(found) == {"night"}
    assert found["night"].text == (
        "acme used 1,900 units of tokens on 2026-11-21 so far, 900 of it between 03:00 and 05:00 "
        "(Europe/Berlin), hours that it has not used in the 28 days before."
    )
    assert found["night"].evidence["hours_utc"] == "2,3"
    beside = dict.fromkeys(OFFICE, 125) | {8: 500, 17: 400}
    assert seen(case(day(1900, hours=beside))) == {}, "an hour earlier or later is no night"
    assert seen(case(day(1900, hours=hours), past(9))) == {}, "habits of the clock take ten days"


def test_a_night_that_reaches_over_midnight_is_named_by_its_own_hours() -> None:
    hours = dict.fromkeys(OFFICE, 125) | {0: 300, 23: 300}
    found = seen(case(day(1600, hours=hours)))
    assert "between 00:00 and 01:00, 23:00 and 00:00 (UTC)" in found["night"].text


def test_a_cache_that_stops_answering() -> None:
    before = past(cached=50)
    found = seen(case(day(1900, cached=5), before))
    assert found["cache"].text == (
        "Of 100 calls of acme on 2026-11-21 (tokens) the app's cache answered 5 %; usually it answers 50 %."
    )
    assert seen(case(day(1900, cached=40), before)) == {}
    assert seen(case(day(1900, cached=0), past(cached=10))) == {}, "there was little to collapse"
    assert seen(case(day(1900, cached=1, events=12), before)) == {}


def test_levels_are_no_use() -> None:
    today = day(50_000)
    total = MeterTotal(100, Decimal(50_000), level=LevelMark(1, Decimal(5), TODAY, True))
    level = Rollup("acme", "tokens", TODAY, total, today.hours, today.peak)
    assert seen(case(level)) == {}


@given(
    st.lists(st.integers(0, 10**6), max_size=DAYS),
    st.integers(0, 10**7),
    st.integers(0, 1000),
    st.booleans(),
)
def test_no_account_breaks_a_detector(before: list[int], units: int, events: int, over: bool) -> None:
    days = tuple(day(one, back + 1, events=one % 50) for back, one in enumerate(before))
    for found in findings(Case(day(units, events=events), days, over, PLAN, "Asia/Tokyo")):
        assert found.kind in KINDS
        assert found.score >= 1
        assert len(days) >= 7 or "first busy day" in found.text or "Little is known" in found.text
        assert ("first busy day" in found.text) is (not any(one.total.events >= 30 for one in days))


def test_medians() -> None:
    assert median([Decimal(3), Decimal(1), Decimal(2)]) == 2
    assert median([Decimal(1), Decimal(2)]) == Decimal("1.5")
    assert spread([Decimal(1), Decimal(2), Decimal(3), Decimal(100)]) == Decimal("1.4826")
    with pytest.raises(ValueError, match="nothing"):
        median([])
