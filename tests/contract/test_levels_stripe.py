"""Levels against the Stripe double through the official SDK: a meter of the formula `last` has, for each billing
period, the level that stood at its end."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from local.seed import create_stripe_meters, stripe_event_names
from local.stripe_double.server import running
from local.stripe_double.state import Double
from local.stripe_double.testing import Account, sdk
from tests.unit.billing.world import GRACE_S, NOON, SEAL_S, World, tables
from tollgate.billing.stripe_sink import StripeSink
from tollgate.catalog.model import Plan, Price
from tollgate.stripe_api.client import client

DAY = 86_400
NOVEMBER, DECEMBER = 1_793_491_200, 1_796_083_200
JANUARY = DECEMBER + 31 * DAY
FEBRUARY = JANUARY + 31 * DAY
CATALOG = """
meters:
  ai_credits: {name: AI credits, stripe_event_name: credits_used}
  storage: {name: Gigabytes stored, kind: level, stripe_event_name: gigabytes}
  kept: {name: Never billed, kind: level}
"""


class Stage:
    def __init__(self, world: World, account: Account) -> None:
        self.world, self.account = world, account
        self.customer = account.customer()
        found = account.client.v1.billing.meters.list({}).data
        self.meters = {meter.event_name: meter for meter in found}
        plan = Plan("stored", 1, "Stored", prices=(Price("storage", "per_unit", unit_price=Decimal("0.1")),))
        world.rules.plans["stored"] = plan
        world.rules.add("acme", plan, customer=self.customer)

    def to(self, now: int) -> None:
        """Seal and flush, as the minutes up to `now` would, where something is left to do."""
        self.world.now = now
        for _ in range(3):
            self.world.seal()
            self.world.flush_all()

    def level(self, start: int, end: int) -> float | None:
        return self.account.total(self.meters["gigabytes"].id, self.customer, start, end)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text(CATALOG)
    with tables():
        world = World()
        double = Double(world.clock, latency_seconds=0)
        with running(double) as url:
            env = {"TOLLGATE_STRIPE_API_BASE": url, "TOLLGATE_LOCAL_STRIPE_KEY": "sk_test_seed"}
            create_stripe_meters(catalog, env)
            create_stripe_meters(catalog, env)  # at every start
            world.sink = StripeSink(lambda: client("sk_test_flush", url))
            yield Stage(world, Account(double, url, sdk(url)))


def test_the_catalogues_meters_are_made_with_their_formulas(stage: Stage, tmp_path: Path) -> None:
    assert {name: meter.default_aggregation.formula for name, meter in stage.meters.items()} == {
        "credits_used": "sum",
        "gigabytes": "last",
    }
    assert stripe_event_names(tmp_path / "catalog.yaml") == {
        "credits_used": ("AI credits", "sum"),
        "gigabytes": ("Gigabytes stored", "last"),
    }


def test_each_period_has_the_level_that_stood_at_its_end(stage: Stage) -> None:
    world = stage.world
    world.set_level(1, "12.5", at=NOON)
    world.set_level(2, 30, at=NOON + 40)
    world.set_level(3, 20, at=NOON + SEAL_S + 5)
    stage.to(NOON + 2 * SEAL_S + GRACE_S)
    assert stage.level(NOVEMBER, DECEMBER) == 20
    stage.to(DECEMBER + SEAL_S + GRACE_S)
    assert stage.level(DECEMBER, JANUARY) == 20, "nobody changed it"
    world.set_level(4, "7.25", at=DECEMBER + 9 * DAY)
    stage.to(DECEMBER + 10 * DAY)
    stage.to(JANUARY + SEAL_S + GRACE_S)
    assert stage.level(NOVEMBER, DECEMBER) == 20
    assert stage.level(DECEMBER, JANUARY) == 7.25
    assert stage.level(JANUARY, FEBRUARY) == 7.25
    world.set_level(5, 0, at=JANUARY + DAY)
    stage.to(JANUARY + 2 * DAY)
    assert stage.level(JANUARY, FEBRUARY) == 0
    assert {batch.state for batch in world.all_batches()} == {"flushed"}


def test_a_change_found_after_its_period_corrects_the_next_one(stage: Stage) -> None:
    world = stage.world
    world.set_level(1, 5)
    stage.to(NOON + SEAL_S + GRACE_S)
    stage.to(DECEMBER + SEAL_S + GRACE_S)
    assert stage.level(DECEMBER, JANUARY) == 5
    world.set_level(2, 8, at=DECEMBER - DAY)
    stage.to(DECEMBER + SEAL_S + GRACE_S + 60)
    assert stage.level(NOVEMBER, DECEMBER) == 8
    assert stage.level(DECEMBER, JANUARY) == 8
