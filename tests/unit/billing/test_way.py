"""The way of a unit through seal and flush, with nothing in the way."""

from __future__ import annotations

from decimal import Decimal

from tests.unit.billing.world import NOON, World


def test_recorded_units_reach_the_sink_once(world: World) -> None:
    world.rules.add("acme")
    world.record("2.5")
    world.record("1.25")
    world.close_window()
    counts = world.seal()
    assert (counts.windows, counts.batches, counts.queued, counts.requeued) == (1, 1, 1, 0)
    assert world.flush_all() == ["flushed"]
    (event,) = world.sink.sent
    assert (event.customer, event.event_name, event.value) == ("cus_1", "credits_used", Decimal("3.75"))
    assert event.timestamp == NOON
    assert world.batch().state == "flushed"
    assert world.rows("marker#") == []
    again = world.seal()
    assert (again.windows, again.batches, again.queued, again.requeued) == (0, 0, 0, 0)
    assert world.alerts() == []
