"""Repairing a parked batch: its units are sent once more, and once only."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.unit.billing.test_flush import WRONG, counted, try_now
from tests.unit.billing.world import Crash, World
from tollgate.billing.batch import Batch, NotRepairable
from tollgate.billing.repair import repair


@pytest.fixture
def parked(world: World) -> Batch:
    world.one_sealed()
    world.sink.script = [WRONG]
    assert try_now(world) == "rejected"
    return world.batch()


def test_a_repaired_batch_is_sent_by_the_next_seal(world: World, parked: Batch) -> None:
    successor = repair(world.batches, parked, world.now, "cus_2")
    world.seal()
    assert world.flush_all()[-1] == "flushed"
    assert counted(world) == Decimal(5)
    assert world.sink.sent[-1].customer == "cus_2"
    old = world.batches.get(parked.key)
    assert old is not None
    assert (old.state, old.repaired_by) == ("rejected", successor.key.sk)


def test_two_repairs_at_once_make_one_successor(world: World, parked: Batch) -> None:
    first = repair(world.batches, parked, world.now)
    second = repair(world.batches, parked, world.now + 9, "cus_2")
    assert second == first
    assert len(world.all_batches()) == 2


def test_a_crash_between_the_writes_is_made_good_by_repeating(world: World, parked: Batch) -> None:
    class Dies:
        def __getattr__(self, name: str) -> object:
            if name == "replace":
                raise Crash
            return getattr(world.batches, name)

    with pytest.raises(Crash):
        repair(Dies(), parked, world.now)  # type: ignore[arg-type]
    repair(world.batches, parked, world.now)
    world.run_until(world.now + 120)
    assert counted(world) == Decimal(5)
    repaired = world.batches.get(parked.key)
    assert repaired is not None
    with pytest.raises(NotRepairable):
        repair(world.batches, repaired, world.now)
    assert len(world.all_batches()) == 2


def test_a_successor_that_is_refused_too_can_be_repaired(world: World, parked: Batch) -> None:
    repair(world.batches, parked, world.now)
    world.sink.script = [WRONG]
    world.run_until(world.now + 60)
    again = next(batch for batch in world.all_batches() if batch.revision == 1)
    assert again.state == "rejected"
    assert repair(world.batches, again, world.now).revision == 2
    world.run_until(world.now + 60)
    assert counted(world) == Decimal(5)
