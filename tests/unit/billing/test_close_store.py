"""The tables of the period close, and how seal has due closes looked at."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tests.unit.billing.closing import DECEMBER, NOVEMBER, Tasks
from tests.unit.billing.world import NOON, World
from tollgate import dynamo
from tollgate.billing.batch import SEALED, Batch
from tollgate.billing.close_due import AGAIN_S, CloseDueDeps, ask_for_due
from tollgate.billing.close_row import CLOSED, CLOSING, REVIEW, Close
from tollgate.billing.run import run_seal
from tollgate.usage.markers import SHARDS, shard_of

DAY = 86_400


def close(invoice: str = "in_1", customer: str = "cus_1", due_at: int = NOON) -> Close:
    return Close(
        customer=customer,
        invoice=invoice,
        account="acme",
        subscription="sub_1",
        start=NOVEMBER,
        end=DECEMBER,
        meters=("ai_credits",),
        state=CLOSING,
        created_at=NOON,
        deadline=NOON + 2 * DAY,
        finalizes_at=NOON + 2 * DAY + 3600,
        next_at=due_at,
        due_at=due_at,
    )


def batch(meter: str, timestamp: int, start: int = NOVEMBER, end: int = DECEMBER, **changes: Any) -> Batch:
    made = Batch(
        "acme", meter, start, end, timestamp, timestamp + 300, 0, 0, meter, Decimal(1), timestamp, 0, SEALED, 0
    )
    return replace(made, **changes)


def test_a_close_comes_back_as_it_was_put(world: World) -> None:
    full = replace(close(), reason="lag", review_until=5, outcome="matched", waits=3, subscription=None)
    assert world.closes.put_new(full) is None
    assert world.closes.put_new(close()) == full
    assert world.closes.get(full.key) == full
    (raw,) = world.rows("close#cus_1")
    assert raw["ttl"] == {"N": str(DECEMBER + 100 * DAY)}


def test_a_close_changes_from_what_it_is_only(world: World) -> None:
    world.closes.put_new(close())
    changed = world.closes.replace(close(), replace(close(), state=REVIEW))
    assert changed is not None
    assert (changed.state, changed.version) == (REVIEW, 1)
    assert world.closes.replace(close(), replace(close(), state=CLOSED)) is None
    assert world.closes.get(close().key) == changed


def test_a_put_that_the_sdk_repeats_is_one_put(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    put = dynamo.client().put_item

    def twice(**request: Any) -> Any:
        put(**request)
        return put(**request)

    monkeypatch.setattr(dynamo.client(), "put_item", twice)
    assert world.closes.put_new(close()) is None
    assert world.closes.replace(close(), replace(close(), state=REVIEW)) is not None


def test_a_customers_closes_are_found_by_it(world: World) -> None:
    for one in (close(), close("in_2"), close("in_3", customer="cus_10")):
        world.closes.put_new(one)
    assert {one.invoice for one in world.closes.of_customer("cus_1")} == {"in_1", "in_2"}
    assert list(world.closes.of_customer("cus_2")) == []


def test_due_closes_are_asked_for_once(world: World) -> None:
    due, later, ended = close(), close("in_2", due_at=NOON + 60), close("in_3", due_at=NOON)
    for one in (due, later, ended):
        world.closes.put_new(one)
    world.closes.replace(ended, replace(ended, state=CLOSED, due_at=None))
    tasks = Tasks()
    deps = CloseDueDeps(world.closes, tasks, world.clock)
    assert ask_for_due(deps, range(SHARDS)) == 1
    assert tasks.queued == [due.key]
    assert ask_for_due(deps, range(SHARDS)) == 0
    world.now += AGAIN_S
    assert ask_for_due(deps, [shard_of("cus_1")]) == 2  # its message may be lost; the other one is due by now
    assert ask_for_due(deps, [shard for shard in range(SHARDS) if shard != shard_of("cus_1")]) == 0


def test_closes_do_not_mix_with_batches_that_are_due(world: World) -> None:
    world.closes.put_new(close())
    assert list(world.batches.due(shard_of("cus_1"))) == []


def test_a_run_of_seal_asks_for_closes_and_a_failure_there_stops_nothing(world: World) -> None:
    world.rules.add("acme")
    world.record(5)
    world.closes.put_new(close())
    world.close_window()

    class Broken(Tasks):
        def task(self, name: str, fields: Any) -> None:
            raise OSError("queue")

    broken = run_seal(world.seal_deps(), range(SHARDS), closes=CloseDueDeps(world.closes, Broken(), world.clock))
    assert (broken.windows, broken.closes, len(broken.failures)) == (1, 0, 1)
    world.now += AGAIN_S
    tasks = Tasks()
    counts = run_seal(world.seal_deps(), range(SHARDS), closes=CloseDueDeps(world.closes, tasks, world.clock))
    assert (counts.closes, counts.failures, tasks.queued) == (1, [], [close().key])


def test_meters_of_an_account_are_listed_once(world: World) -> None:
    for meter in ("b", "a", "ab"):
        for timestamp in (DECEMBER - 600, DECEMBER - 300):
            world.batches.put_new(batch(meter, timestamp))
    assert list(world.batches.meters("acme")) == ["a", "ab", "b"]
    assert list(world.batches.meters("other")) == []


def test_batches_are_found_by_when_they_are_booked(world: World) -> None:
    october = NOVEMBER - 31 * DAY
    inside = [batch("a", NOVEMBER), batch("a", DECEMBER - 300)]
    outside = [
        batch("a", NOVEMBER - 300, october, NOVEMBER),
        batch("a", DECEMBER, DECEMBER, DECEMBER + 31 * DAY),
        batch("ab", NOVEMBER),
    ]
    for one in (*inside, *outside):
        world.batches.put_new(one)
    found = list(world.batches.booked("acme", "a", NOVEMBER, DECEMBER))
    assert [one.timestamp for one in found] == [DECEMBER - 300, NOVEMBER]
    # Whole minutes around a period reach into its neighbours.
    found = list(world.batches.booked("acme", "a", NOVEMBER - 300, DECEMBER + 60))
    assert len(found) == 4


def test_a_task_names_the_close(world: World) -> None:
    class Sent:
        bodies: list[str] = []

        def task(self, name: str, fields: Any) -> None:
            self.bodies.append(json.dumps({"task": name, **fields}))

    world.closes.put_new(close())
    ask_for_due(CloseDueDeps(world.closes, Sent(), world.clock), range(SHARDS))
    assert json.loads(Sent.bodies[0]) == {"task": "close", "customer": "cus_1", "invoice": "in_1"}
