"""Shards in DynamoDB mean what the memory side means, and stand among the gates without being taken for one."""

from __future__ import annotations

from decimal import Decimal
from itertools import count
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.gate import CREDITS, Client, limit, plan, world
from tests.support.memory import MemoryShared
from tollgate import dynamo
from tollgate.errors import Busy
from tollgate.gate.item import CounterWrite, GateWrite, Step
from tollgate.gate.shared_store import KEPT_S, SharedTable
from tollgate.gate.store import GateTable, update_request
from tollgate.gate.sweep import sweep

pytestmark = pytest.mark.usefixtures("tables")
QUICK = settings(
    max_examples=60,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
D = Decimal
_FRESH = count()
units = st.sampled_from(["0.000001", "1", "2.5", "7", "123456789012345.123456"]).map(Decimal)
steps = st.lists(st.tuples(st.sampled_from(["add", "force", "take_off"]), st.integers(0, 1), units, units), max_size=12)


@given(steps)
@QUICK
def test_random_steps_end_the_same_on_both_sides(drawn: list[tuple[str, int, Decimal, Decimal]]) -> None:
    fresh = next(_FRESH)
    table, memory = SharedTable("gates"), MemoryShared(world(plan(), CREDITS))
    names = [f"%free#{fresh}#0#{shard}" for shard in range(2)]
    for what, shard, asked, most in drawn:
        name = names[shard]
        if what == "take_off":
            assert table.take_off(name, asked) == memory.take_off(name, asked)
        else:
            cap = None if what == "force" else most + asked
            assert table.add(name, asked, cap, None) == memory.add(name, asked, cap, None)
        assert table.counts(names) == memory.counts(names)


def test_a_shard_goes_away_after_its_window() -> None:
    table = SharedTable("gates")
    table.add("%free#ttl#0#0", D(1), D(5), 1_000)
    table.add("%free#ttl#0#1", D(1), D(5), None)
    items = [
        dynamo.client().get_item(TableName="gates", Key={"pk": dynamo.s(f"%free#ttl#0#{shard}")})["Item"]
        for shard in range(2)
    ]
    assert [item.get("ttl") for item in items] == [{"N": str(1_000 + KEPT_S)}, None]


def test_the_sweep_sees_gates_only() -> None:
    there = world(plan(limit("daily", 5)), CREDITS)
    Client(there, "swept").granted(1)
    table = GateTable("gates")
    gate = there.gates["swept"]
    first = CounterWrite(0, Step.FIRST, D(1), D(1), gate.counts[0].window)
    dynamo.client().update_item(**update_request("gates", GateWrite("swept", None, 1, (first,))))
    SharedTable("gates").add("%free#sweep#0#0", D(1), D(5), None)
    found, start = [], None
    while True:
        page, start = table.scan(start, 1)
        found += page
        if start is None:
            break
    assert [one.subject for one in found] == ["swept"]


def test_a_sweep_of_pages_without_gates_ends_when_time_is_up() -> None:
    there = world(plan(limit("daily", 5)), CREDITS)

    class NoCursor:
        def read(self) -> None:
            return None

        def write(self, after: str | None) -> None:
            raise AssertionError("no gate was seen")

    turns = iter([True, True, False])
    swept, complete = sweep(
        there.deps(), lambda start: ([], "%free#x#0#0"), NoCursor(), lambda: next(turns), audit=True
    )
    assert (swept.gates, complete) == (0, False)


def test_no_answer_to_an_addition_is_busy_and_to_a_giving_back_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    class Silent:
        def update_item(self, **request: Any) -> None:
            raise ReadTimeoutError(endpoint_url="http://nowhere")

    def client(*, retry: bool = True) -> Silent:
        asked.append(retry)
        return Silent()

    monkeypatch.setattr(dynamo, "client", client)
    table = SharedTable("gates")
    with pytest.raises(Busy):
        table.add("%free#x#0#0", D(1), D(5), None)
    assert table.take_off("%free#x#0#0", D(1)) is None
    assert asked == [True, False], "what is given back is sent once: twice would pass the cap"


def test_a_batch_read_goes_on_with_what_was_not_processed(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(
        [
            {
                "Responses": {"gates": [{"pk": {"S": "a"}, "c": {"N": "3"}}]},
                "UnprocessedKeys": {"gates": {"Keys": [{"pk": {"S": "b"}}], "ConsistentRead": True}},
            },
            {"Responses": {"gates": [{"pk": {"S": "b"}, "c": {"N": "4.5"}}]}},
        ]
    )
    requests: list[Any] = []

    class Halting:
        def batch_get_item(self, RequestItems: Any) -> Any:  # noqa: N803 (botocore's name)
            requests.append(RequestItems)
            return next(answers)

    monkeypatch.setattr(dynamo, "client", Halting)
    assert SharedTable("gates").counts(["a", "b", "c"]) == [D(3), D("4.5"), D(0)]
    assert [len(request["gates"]["Keys"]) for request in requests] == [3, 1]
    assert all(request["gates"]["ConsistentRead"] for request in requests)
