"""From the catalogue to the rollup: seal prices what came without a cost, by the book that was published last."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest

from tests.unit.billing.world import BILLING, CONFIG, World, tables
from tollgate.billing.rollup import Rollup
from tollgate.billing.rollup_store import RollupTable
from tollgate.catalog.schema import parse_catalog
from tollgate.catalog.store import CatalogTable
from tollgate.ids import key_hash
from tollgate.margins.book_store import BookTable
from tollgate.usage.outcome import Event, OutcomeKey, UsedItem

CATALOG = """
currency: usd
default_plan: free
meters:
  ai_credits: {costs: [{when: {direction: output}, kind: output}, {kind: input}]}
plans: {free: {}}
"""
OVERRIDE = (
    CATALOG + "provider_prices: {gpt-4.1: [{effective_from: 2026-01-01, source: us, per_million: {input: '1.50'}}]}"
)


@pytest.fixture
def world() -> Iterator[World]:
    with tables():
        found = World()
        found.rules.add("acme")
        yield found


def record(world: World, name: str, quantity: int, dimensions: dict[str, str], cost: str | None = None) -> None:
    """A quantity of which each counts for a thousandth: units are not what the provider bills."""
    key = OutcomeKey("acme", world.now * 1000, key_hash("usage", name))
    item = UsedItem("ai_credits", Decimal(quantity), Decimal(quantity) / 1000, dimensions)
    stated = None if cost is None else Decimal(cost)
    event = Event(key, {"account": b"1" * 16}, world.now * 1000, (item,), provider_cost=stated)
    world.markers.ensure("acme", event.recorded_ms, (event.recorded_ms,))
    assert world.events.put_event(event) is None


def sealed(world: World) -> Rollup:
    book = BookTable(CONFIG, world.clock)
    world.close_window()
    world.seal(cost_of=book.cost_of)
    day = world.now // 86_400 * 86_400
    (found,) = RollupTable(BILLING).of_account("acme", day, day)
    return found


def test_costs_of_a_day_to_the_cent(world: World) -> None:
    CatalogTable(CONFIG).publish(parse_catalog(CATALOG))
    record(world, "a", 1_000_000, {"model": "gpt-4.1"})  # $2.00
    record(world, "b", 250_000, {"model": "gpt-4.1-2025-04-14", "direction": "output"})  # $2.00
    record(world, "c", 1_000_000, {"model": "gpt-4.1"}, cost="1.75")  # the app knows better
    record(world, "d", 30_000, {"model": "who-knows"})
    found = sealed(world)
    assert found.cost == Decimal("5.75")
    assert found.unpriced == 30, "units of a model without a price"
    assert found.models["gpt-4.1"].cost == Decimal("3.75")


def test_an_override_binds_without_a_deploy(world: World) -> None:
    table = CatalogTable(CONFIG)
    table.publish(parse_catalog(CATALOG))
    record(world, "a", 1_000_000, {"model": "gpt-4.1"})
    assert sealed(world).cost == Decimal("2.00")
    versions = table.publish(parse_catalog(OVERRIDE))
    assert versions == {"free": (1, False)}, "a price of a provider makes no new plan version"
    world.now += 120
    record(world, "b", 1_000_000, {"model": "gpt-4.1"})
    assert sealed(world).cost == Decimal("3.50"), "what was sealed keeps its cost"


def test_without_a_book_nothing_is_known(world: World) -> None:
    record(world, "a", 1_000_000, {"model": "gpt-4.1"})
    found = sealed(world)
    assert (found.cost, found.unpriced) == (Decimal(0), Decimal(1000))
