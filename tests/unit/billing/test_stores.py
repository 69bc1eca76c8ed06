"""What the stores promise about a row that several write, and about answers that get lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from decimal import Decimal
from typing import Any

import pytest

from tests.unit.billing.test_batch import BATCH
from tests.unit.billing.world import NOON, World
from tollgate import dynamo
from tollgate.billing.batch_store import batch_item, batch_of
from tollgate.settings import BadSetting, FlushSettings, SealSettings, StripeSettings

FULL = replace(
    BATCH,
    units=Decimal("123456789012345.5"),
    revision=2,
    identifier="tg_x",
    attempts=3,
    sent_at=1,
    retry_at=2,
    doubt_since=3,
    lease_until=4,
    due_at=5,
    untold=True,
    reason="r",
    detail="d",
    repaired_by="x",
    version=6,
)


@contextmanager
def sent_twice(monkeypatch: pytest.MonkeyPatch, operation: str) -> Iterator[None]:
    """The SDK repeats a call whose answer was lost: what the caller gets is the second answer."""
    client = dynamo.client()

    class Repeating:
        def __getattr__(self, name: str) -> Any:
            method = getattr(client, name)
            if name != operation:
                return method

            def twice(**request: Any) -> Any:
                method(**request)
                return method(**request)

            return twice

    with monkeypatch.context() as patch:
        patch.setattr(dynamo, "client", lambda **kwargs: Repeating())
        yield


@pytest.mark.parametrize("batch", [BATCH, FULL])
def test_a_batch_survives_its_row(batch: Any) -> None:
    assert batch_of(batch_item(batch)) == batch


def test_the_full_batch_fills_each_field() -> None:
    values = [getattr(FULL, field.name) for field in fields(FULL)]
    assert not any(value is None or value is False for value in values)


def test_a_row_is_due_in_the_index_only_while_there_is_something_to_do(world: World) -> None:
    waiting = replace(BATCH, due_at=NOON + 10)
    world.batches.put_new(waiting)
    shard = int(str(waiting.due_shard))
    assert [entry.key for entry in world.batches.due(shard)] == [waiting.key]
    assert list(world.batches.due(shard, until=NOON + 9)) == []
    assert list(world.batches.due((shard + 1) % 16)) == []
    lost = world.force(waiting, state="no_customer")
    assert list(world.batches.due(shard)) == []
    assert [entry.due_at for entry in world.batches.due(shard, waits_for_customer=True)] == [NOON + 10]
    world.force(lost, state="flushed", due_at=None)
    assert list(world.batches.due(shard)) + list(world.batches.due(shard, waits_for_customer=True)) == []


def test_the_first_put_stands(world: World) -> None:
    assert world.batches.put_new(BATCH) is None
    assert world.batches.put_new(replace(BATCH, units=Decimal(9))) == BATCH
    assert world.batches.get(BATCH.key) == BATCH


def test_of_two_changes_of_one_row_one_stands(world: World) -> None:
    world.batches.put_new(BATCH)
    one = world.batches.replace(BATCH, replace(BATCH, state="sending"))
    assert one is not None
    assert world.batches.replace(BATCH, replace(BATCH, state="expired")) is None
    assert world.batches.get(BATCH.key) == one


def test_a_write_that_the_sdk_repeats_is_still_the_own_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with sent_twice(monkeypatch, "put_item"):
        assert world.batches.put_new(BATCH) is None
        assert world.batches.replace(BATCH, replace(BATCH, state="sending")) is not None


def test_a_freeze_that_the_sdk_repeats_freezes_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.rules.add("acme")
    world.record(3)
    world.close_window()
    with sent_twice(monkeypatch, "put_item"):
        world.seal()
    assert [item.total.rows for item in world.sealed()] == [1]
    world.flush_all()
    assert sum(event.value for event in world.sink.counted.values()) == 3


def test_an_accounts_batches_are_found_by_state(world: World) -> None:
    world.batches.put_new(BATCH)
    world.batches.put_new(replace(BATCH, meter="llm_tokens", state="rejected"))
    world.batches.put_new(replace(BATCH, account="other"))
    assert len(list(world.batches.of_account("acme"))) == 2
    assert [batch.meter for batch in world.batches.of_account("acme", "rejected")] == ["llm_tokens"]


def test_settings_are_read_and_checked() -> None:
    seal = {
        "TOLLGATE_BILLING_TABLE": "b",
        "TOLLGATE_FLUSH_QUEUE_URL": "q",
        "TOLLGATE_STRIPE_EVENTS_QUEUE_URL": "e",
        "TOLLGATE_SEAL_SECONDS": "300",
        "TOLLGATE_SEAL_GRACE_SECONDS": "60",
    }
    assert SealSettings.from_env(seal).seal_seconds == 300
    bad = {"TOLLGATE_SEAL_SECONDS": "0", "TOLLGATE_SEAL_GRACE_SECONDS": "1.5", "TOLLGATE_BILLING_TABLE": ""}
    for name, value in bad.items():
        with pytest.raises(BadSetting, match=name):
            SealSettings.from_env({**seal, name: value})
    flush = {
        "TOLLGATE_BILLING_TABLE": "b",
        "TOLLGATE_STACK": "s",
        "TOLLGATE_STRIPE_SECRET_PARAMETER": "/p",
        "TOLLGATE_MODE": "live",
    }
    assert FlushSettings.from_env(flush).stripe == StripeSettings("/p", "live", None)
    assert FlushSettings.from_env({**flush, "TOLLGATE_STRIPE_API_BASE": "http://x"}).stripe.api_base == "http://x"
    for wrong in ("", "prod"):
        with pytest.raises(BadSetting, match="TOLLGATE_MODE"):
            FlushSettings.from_env({**flush, "TOLLGATE_MODE": wrong})
    assert [FlushSettings.from_env({**flush, "TOLLGATE_SHADOW": on}).shadow for on in ("true", "false")] == [
        True,
        False,
    ]
    assert FlushSettings.from_env({**flush, "TOLLGATE_RESTORED_AT": ""}).restored_at is None
    assert FlushSettings.from_env({**flush, "TOLLGATE_RESTORED_AT": "2026-11-21T12:00:00Z"}).restored_at == 1795262400
    with pytest.raises(BadSetting, match="TOLLGATE_RESTORED_AT"):
        FlushSettings.from_env({**flush, "TOLLGATE_RESTORED_AT": "yesterday"})
    with pytest.raises(BadSetting, match="TOLLGATE_SHADOW"):
        FlushSettings.from_env({**flush, "TOLLGATE_SHADOW": "True"})
    with pytest.raises(BadSetting, match="TOLLGATE_STACK"):
        FlushSettings.from_env({**flush, "TOLLGATE_STACK": ""})
