"""The suite's own machinery: calls past botocore mean what calls through it mean, and a cut is what it says."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError, ReadTimeoutError

from tests.crash.scenarios import PRO, SCENARIOS, reserve
from tests.support.crash_run import Act, Scenario, Suite, do, prepare
from tests.support.crash_wire import (
    ALWAYS_LOST,
    KILLED_AFTER,
    KILLED_BEFORE,
    LOST,
    NEVER_SENT,
    NOT_SENT,
    Cut,
    Killed,
)
from tests.support.crash_world import World
from tollgate import dynamo

pytestmark = pytest.mark.filterwarnings("ignore:No application metrics to publish")
BOTH_WAYS = [scenario for scenario in SCENARIOS if scenario.calls][::4]


@pytest.mark.parametrize("scenario", BOTH_WAYS, ids=lambda scenario: scenario.name)
def test_past_botocore_is_as_through_it(suite: Suite, scenario: Scenario) -> None:
    world, ends = suite.world, []
    for signed in (False, True):
        state = prepare(world, suite.base, scenario)
        world.restore(state)
        world.wire.signed = signed
        try:
            for step in scenario.calls:
                step.do(world) if isinstance(step, Act) else do(world, step)
        finally:
            world.wire.signed = False
        ends.append(_shape(world))
    assert ends[0] == ends[1]


def _shape(world: World) -> list[object]:
    """The world without what is drawn at random: incarnations, nonces, tokens."""
    rows: list[object] = []
    for table in ("gates", "events", "billing", "accounts"):
        for row in world.rows(table):
            plain = {name: attr for name, attr in row.items() if "B" not in attr and name not in ("h", "tok", "z")}
            rows.append((table, len(row.get("h", {}).get("M", {})), sorted(plain.items(), key=repr)))
    sent = [(event["identifier"], event["value"], event["counted"]) for event in world.counted(everything=True)]
    return [sorted(rows, key=repr), sent, world.wire.queue.waiting]


def _put(world: World, kind: str | None) -> tuple[str, bool]:
    """One conditional put under a cut: what the caller sees, and whether the row is there."""
    world.restart()
    world.wire.begin(None if kind is None else Cut(0, kind))
    item: dict[str, Any] = {"pk": dynamo.s("wire"), "sk": dynamo.s(str(kind))}
    try:
        dynamo.client().put_item(TableName="billing", Item=item, ConditionExpression="attribute_not_exists(pk)")
        seen = "applied"
    except Killed:
        seen = "killed"
    except (ConnectTimeoutError, ReadTimeoutError) as error:
        seen = type(error).__name__
    except ClientError as error:
        seen = dynamo.code_of(error)
    finally:
        world.wire.end()
    return seen, any(row["sk"]["S"] == str(kind) for row in world.rows("billing", "wire"))


@pytest.mark.parametrize(
    ("kind", "seen", "there"),
    [
        (None, "applied", True),
        (NOT_SENT, "applied", True),
        (NEVER_SENT, "ConnectTimeoutError", False),
        (LOST, "ConditionalCheckFailedException", True),
        (ALWAYS_LOST, "ReadTimeoutError", True),
        (KILLED_BEFORE, "killed", False),
        (KILLED_AFTER, "killed", True),
    ],
)
def test_what_a_cut_is(suite: Suite, kind: str | None, seen: str, there: bool) -> None:
    suite.world.restore(suite.base)
    assert _put(suite.world, kind) == (seen, there)


def test_a_dead_process_reaches_nothing(suite: Suite) -> None:
    world = suite.world
    world.restore(suite.base)
    world.wire.begin(Cut(0, KILLED_BEFORE))
    for _ in range(3):
        with pytest.raises(Killed):
            dynamo.client().get_item(TableName="gates", Key={"pk": dynamo.s(PRO)})
    assert world.wire.calls == ["dynamodb.get_item"]
    world.wire.end()


def test_a_new_process_begins_with_empty_caches(suite: Suite) -> None:
    world = suite.world
    world.restore(suite.base)
    calls: list[int] = []
    for _ in range(2):
        do(world, reserve(f"r{len(calls)}", PRO, "1"))
        calls.append(len(world.wire.calls))
    world.restart()
    do(world, reserve("again", PRO, "1"))
    assert calls[1] == 1, "a warm process decides with one write"
    assert len(world.wire.calls) > 3, "a new one reads secret, key, rules and plan again"
