"""Sealing where billing periods are anchored: each row goes to the period of its second, its batch too."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from tests.unit.billing.world import GRACE_S, METERS, NOON, SEAL_S, World
from tollgate.accounts.rules import AccountRow, with_plan
from tollgate.accounts.service import anchored, begun
from tollgate.billing.batch import Batch
from tollgate.catalog.model import BillingPeriod, Plan, Price
from tollgate.periods import PeriodRule
from tollgate.usage.marker_store import MarkerTable
from tollgate.windows import Calendar

ODD = NOON + 137
"""A second inside a seal window and inside a minute."""


def signup(instant: int) -> Calendar:
    return Calendar.of("UTC", PeriodRule("month", 1, "signup", instant))


def begin(world: World, calendar: Calendar) -> None:
    """An account whose plan has had the periods of `calendar` from the beginning."""
    world.rules.add("acme")
    world.rules.change("acme", calendar=calendar)


def changed(world: World, row: AccountRow) -> None:
    world.rules.rows["acme"] = row


def on(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def by_period(world: World) -> list[Batch]:
    return sorted(world.all_batches(), key=lambda batch: batch.period_start)


def test_a_period_that_begins_at_an_odd_second_divides_the_window_to_the_second(world: World) -> None:
    begin(world, signup(ODD))
    world.record(1, at=ODD - 1)
    world.record(10, at=ODD)
    world.record(100, at=NOON + SEAL_S - 1)
    world.now = NOON + SEAL_S + GRACE_S
    assert world.seal().windows == 2
    before, after = by_period(world)
    assert (before.units, after.units) == (Decimal(1), Decimal(110))
    assert (before.period_start, before.period_end) == (on("2026-10-21T12:02:17"), ODD)
    assert (after.period_start, after.period_end) == (ODD, on("2026-12-21T12:02:17"))
    assert (before.timestamp, after.timestamp) == (NOON, ODD)
    world.flush_all()
    assert sorted(event.timestamp for event in world.sink.sent) == [NOON, ODD]


@pytest.mark.parametrize("second", [0, 1, 4, 5, 57, 59])
def test_windows_shorter_than_a_minute_send_their_units_inside_the_period(world: World, second: int) -> None:
    start = NOON + second
    world.markers = MarkerTable("billing", 5)
    begin(world, signup(start))
    for moment in range(start - 6, start + 7):
        world.record(1, at=moment)
    world.now = NOON + 120
    world.seal(seal_seconds=5, grace_seconds=6)
    batches = by_period(world)
    assert sum(batch.units for batch in batches) == 13
    assert sum(batch.units for batch in batches if batch.period_start == start) == 7
    for batch in batches:
        assert batch.period_start <= batch.timestamp < batch.period_end
        assert batch.timestamp % 60 == 0 or batch.timestamp == batch.period_start


def test_an_annual_period_takes_the_windows_of_all_its_months(world: World) -> None:
    begin(world, Calendar.of("UTC", PeriodRule("year", 1, "signup", ODD - 300)))
    world.record(1, at=NOON)
    world.close_window()
    world.seal()
    world.now = on("2026-12-01T00:00:10")
    world.record(2, at=world.now)
    world.close_window()
    world.seal()
    periods = {(batch.period_start, batch.period_end) for batch in world.all_batches()}
    assert periods == {(ODD - 300, on("2027-11-21T11:57:17"))}


def test_usage_sealed_after_another_plan_began_stays_in_the_period_of_its_second(world: World) -> None:
    end = on("2026-12-01T00:00:00")
    world.rules.add("acme")
    world.now = end - 100
    world.record(1, at=end - 100)
    annual = Plan(
        "annual",
        1,
        "Annual",
        period=BillingPeriod("year", "signup"),
        prices=(Price("ai_credits", "per_unit", unit_price=Decimal(1)),),
    )
    world.rules.plans["annual"] = annual
    created = on("2026-05-10T08:30:07")
    row = replace(world.rules.rows["acme"], created_at=created)
    changed(world, with_plan(row, annual, METERS, end - 50))
    world.record(10, at=end - 20)
    world.record(100, at=end)
    world.now = end + SEAL_S + GRACE_S
    world.seal()
    november, stub = by_period(world)
    assert (november.units, november.period_end) == (Decimal(11), end)
    assert (stub.units, stub.period_start, stub.period_end) == (Decimal(100), end, on("2027-05-10T08:30:07"))


def test_a_told_anchor_divides_windows_from_the_period_after_it_was_told(world: World) -> None:
    begins = NOON + 7_200 + 11  # of the account's next period, by its creation
    begin(world, Calendar.of("UTC", PeriodRule("month", 1, "subscription", begins)))
    changed(world, anchored(world.rules.rows["acme"], begins + 41, NOON))
    for moment in (begins - 1, begins, begins + 40, begins + 41):
        world.record(1, at=moment)
    world.now = begins + 41 + SEAL_S + GRACE_S
    world.seal()
    found = [(batch.period_start, batch.period_end, batch.units) for batch in by_period(world)]
    after = on("2026-12-21T14:00:52")
    assert found == [
        (on("2026-10-21T14:00:11"), begins, Decimal(1)),
        (begins, begins + 41, Decimal(2)),
        (begins + 41, after, Decimal(1)),
    ]


# --- periods that begin with a subscription, and are told of later ---------------------------------------------------


def tell(world: World, started: int) -> None:
    """Stripe tells now that a subscription began: its periods from then on."""
    row = anchored(world.rules.rows["acme"], started, world.now)
    changed(world, begun(row, started, started, world.now))


def test_usage_from_the_second_of_a_subscription_on_is_booked_inside_its_first_period(world: World) -> None:
    world.rules.add("acme")
    world.record(1, at=ODD - 1)
    world.record(10, at=ODD)
    world.now = ODD + 40
    tell(world, ODD)
    world.record(100, at=ODD + 41)
    world.now = NOON + SEAL_S + GRACE_S
    world.seal()
    before, after = by_period(world)
    assert (before.units, before.timestamp, before.period_end) == (Decimal(1), NOON, ODD)
    # The window's first minute lies before the subscription: on no invoice.
    assert (after.units, after.timestamp, after.period_start) == (Decimal(110), ODD, ODD)


@pytest.mark.parametrize(("second", "late"), [(0, 0), (25, 3), (58, 4), (25, 45)])
def test_the_minute_of_a_subscription_loses_nothing_and_bills_nothing_twice(
    world: World, second: int, late: int
) -> None:
    started = NOON + 60 + second
    world.markers = MarkerTable("billing", 5)
    world.rules.add("acme")
    for moment in range(started - 8, started + 64):
        world.now = moment
        if moment == started + late:
            tell(world, started)
        world.record(1)
        if moment % 15 == 0:
            world.seal(seal_seconds=5, grace_seconds=6)
    world.now += 60
    world.seal(seal_seconds=5, grace_seconds=6)
    batches = world.all_batches()
    assert sum(batch.units for batch in batches) == 8 + 64
    assert all(batch.period_start <= batch.timestamp < batch.period_end for batch in batches)
    # Windows that were over when this was told are those of the period before: they may have been sealed.
    known = max(started, (started + late) // 5 * 5)
    assert sum(batch.units for batch in batches if batch.period_start == started) == started + 64 - known
    lost = 64 - sum(batch.units for batch in batches if batch.timestamp >= started)
    assert 0 <= lost <= known - started


def test_a_window_that_is_sealed_stays_as_it_was_known_then(world: World) -> None:
    world.rules.add("acme")
    world.record(1, at=ODD - 1)
    world.record(10, at=ODD + 1)
    world.now = NOON + SEAL_S + GRACE_S
    world.seal()
    tell(world, ODD)
    world.markers = MarkerTable("billing", SEAL_S)  # another process's
    world.record(100, at=ODD + 2)
    world.record(1000)
    world.close_window()
    world.seal()
    found = sorted((batch.period_start, batch.window_start, batch.units) for batch in world.all_batches())
    assert found == [
        (on("2026-11-01T00:00:00"), NOON, Decimal(11)),
        (on("2026-11-01T00:00:00"), NOON, Decimal(100)),
        (ODD, NOON + SEAL_S, Decimal(1000)),
    ]
