"""The section on anomalies: how alerts are held against what was planted, and the figures that the page shows."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from pathlib import Path
from unittest.mock import patch

import pytest

from bench import anomalies
from bench.anomalies import FALSE, MEASURED, RECALL, TUNED, Score, held_against, score, section, so_far
from bench.anomaly_months import PLANTS, Months, months
from bench.report import failures
from tollgate.alerts.outbox import Alert
from tollgate.anomalies.detect import KINDS

DOC = (Path(__file__).resolve().parents[2] / "docs" / "anomalies.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def small() -> Months:
    return months(1, 30)


def test_what_is_measured_is_not_what_was_tuned() -> None:
    assert not set(TUNED) & set(MEASURED)
    assert set(PLANTS) == set(KINDS)
    for seeds in (TUNED, MEASURED):
        assert f"{seeds[0]} to {seeds[-1]}" in DOC


def test_a_month_is_the_same_each_time_and_another_by_another_seed(small: Months) -> None:
    again = months(1, 30)
    assert again.rollups == small.rollups
    assert again.plants == small.plants
    assert months(2, 30).rollups != small.rollups


def test_rollups_of_a_month_hold_together(small: Months) -> None:
    for accounts in small.rollups.values():
        for rows in accounts.values():
            for row in rows:
                assert sum(row.hours, Decimal(0)) == row.total.units
                assert row.peak <= row.total.units
                assert 0 <= row.cached <= row.total.events
                # What is planted is spread over its hours in whole units, its shares are not.
                assert sum((one.units for one in row.members.values()), Decimal(0)) < row.total.units + 24


def test_an_alert_of_another_kind_finds_nothing_and_is_no_false_alarm(small: Months) -> None:
    plant = small.plants[0]
    other = next(kind for kind in KINDS if kind != plant.kind)

    def alert(account: str, day: int, kind: str) -> Alert:
        return Alert(f"{account}{kind}", "anomaly", account, "", "", day * 1000, {"anomaly": kind})

    quiet = next(one.name for one in small.accounts if one.name not in {plant.account for plant in small.plants})
    last = small.measured()[-1]
    found = held_against(small, [alert(plant.account, plant.day, other), alert(quiet, last, "night")])
    assert found.found.total() == 0
    assert len(found.missed) == len(small.plants)
    assert found.false == Counter({"night": 1})
    found = held_against(small, [alert(plant.account, plant.day, plant.kind)])
    assert (found.found[plant.kind], found.false.total()) == (1, 0)


def test_detectors_that_see_nothing_or_cry_at_everything_fail() -> None:
    def failed(of: Score) -> list[str]:
        with patch.object(anomalies, "score", lambda _: of):
            return [check.what for check in failures([section([1], 10)])]

    good = Score(Counter(dict.fromkeys(PLANTS, 10)), Counter(dict.fromkeys(PLANTS, 9)), Counter(level=1), 1000)
    assert failed(good) == []
    blind = Score(good.planted, Counter(dict.fromkeys(PLANTS, 8)), Counter(), 1000)
    assert failed(blind) == ["planted anomalies missed"]
    nervous = Score(good.planted, good.planted, Counter(level=2), 1000)
    assert failed(nervous) == ["false alarms for 1,000 days of accounts"]
    assert (90, Decimal(1)) == (RECALL, FALSE)


def test_every_detector_finds_what_is_its_own() -> None:
    """On a small month in which something happens to everybody; a detector that is switched off fails here."""
    found = score(months(103, 60, planted=1.0))
    assert min(found.planted[kind] for kind in KINDS) > 1
    assert [kind for kind in KINDS if 2 * found.found[kind] <= found.planted[kind]] == []


def test_a_day_so_far_has_what_its_hours_have(small: Months) -> None:
    day = small.measured()[-1]
    for rows in small.rollups[day].values():
        for row in rows:
            hours = next(at for at, units in enumerate(row.hours, 1) if units)
            part = so_far(row, hours)
            assert part.total.units == sum(part.hours) == row.hours[hours - 1]
            assert 1 <= part.total.events <= row.total.events
            assert so_far(row, 24) == row


def test_the_products_own_run_is_measured(small: Months) -> None:
    with patch("tollgate.anomalies.run.findings", lambda case: iter(())):
        assert score(small).found.total() == 0
    assert score(small).found.total() > 0
