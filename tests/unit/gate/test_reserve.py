"""Reserve, commit, release on one account gate: the everyday paths."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.support.gate import NOON, Client, daily_plan, world
from tollgate.errors import AlreadyCommitted, AlreadyReleased, IdempotencyMismatch
from tollgate.gate.reserve import Denied, Granted


def test_grants_up_to_the_cap_and_names_the_limit_that_refuses() -> None:
    client = Client(world(daily_plan(10)))
    for _ in range(5):
        assert isinstance(client.reserve(2), Granted)
    refused = client.reserve(1)
    assert isinstance(refused, Denied)
    assert refused.code == "limit_reached"
    assert refused.state is not None
    assert refused.state.ruled.limit.id == "daily"
    assert refused.resets_at == (NOON // 86_400_000 + 1) * 86_400
    assert client.taken("daily") == 10


def test_commit_settles_and_release_gives_back() -> None:
    client = Client(world(daily_plan(10)))
    first, second = client.granted(6), client.granted(4)
    done = client.commit(first, 3)
    assert done.event.units == 3
    assert client.counts("daily") == (Decimal(7), Decimal(4))
    client.release(second)
    assert client.counts("daily") == (Decimal(3), Decimal(0))
    client.check()


def test_a_retry_gets_the_same_answer_and_another_body_a_mismatch() -> None:
    client = Client(world(daily_plan(10)))
    first = client.granted(6, key="k1")
    again = client.granted(6, key="k1")
    assert again.holds == first.holds
    assert client.taken("daily") == 6
    with pytest.raises(IdempotencyMismatch):
        client.reserve(5, key="k1")


def test_commit_counts_once_however_often() -> None:
    client = Client(world(daily_plan(10)))
    held = client.granted(6)
    assert not client.commit(held, 5).duplicate
    assert client.commit(held, 5).duplicate
    assert client.taken("daily") == 5
    with pytest.raises(AlreadyCommitted):
        client.release(held)
    client.check()


def test_a_key_counts_once_even_when_its_reserve_is_repeated_after_the_commit() -> None:
    client = Client(world(daily_plan(10)))
    client.commit(client.granted(6, key="k1"), 6)
    again = client.granted(2, key="k1")
    done = client.commit(again, 2)
    assert done.duplicate
    assert done.event.units == 6
    assert client.counts("daily") == (Decimal(6), Decimal(0))
    client.check()


def test_over_reserved_commit_is_recorded_in_full() -> None:
    client = Client(world(daily_plan(10)))
    done = client.commit(client.granted(6), 25)
    assert done.event.over_reserved
    assert client.counts("daily") == (Decimal(25), Decimal(0))
    client.check()


def test_late_commit_after_release_counts_on_the_gate() -> None:
    client = Client(world(daily_plan(10)))
    held = client.granted(6)
    client.release(held)
    done = client.commit(held, 4)
    assert done.event.late
    assert client.counts("daily") == (Decimal(4), Decimal(0))
    assert client.commit(held, 4).duplicate
    client.check()


def test_expired_holds_are_reclaimed_when_they_stand_in_the_way() -> None:
    client = Client(world(daily_plan(10)))
    held = client.granted(10)
    assert isinstance(client.reserve(1), Denied)
    client.world.now_ms += 301_000
    assert isinstance(client.reserve(1), Granted)
    assert client.taken("daily") == 1
    assert client.commit(held, 10).event.late
    client.check()


def test_extend_is_absolute() -> None:
    client = Client(world(daily_plan(10)))
    held = client.granted(4)
    assert client.extend(held, total=6, ttl=600).refused is None
    assert client.extend(held, total=6, ttl=600).refused is None
    assert client.taken("daily") == 6
    assert client.extend(held, total=11).refused is not None
    assert client.taken("daily") == 6
    client.release(held)
    with pytest.raises(AlreadyReleased):
        client.extend(held, total=7)
    client.check()


def test_rollover_carries_open_holds() -> None:
    client = Client(world(daily_plan(10)))
    held = client.granted(4, ttl=86_400)
    client.commit(client.granted(5), 5)
    client.world.now_ms += 86_400_000 // 2 + 1000
    assert isinstance(client.reserve(7), Denied)
    client.granted(6)
    assert client.counts("daily") == (Decimal(10), Decimal(10))
    client.commit(held, 4)
    assert client.counts("daily") == (Decimal(10), Decimal(6))
    client.check()
