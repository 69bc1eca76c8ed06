from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from local.stripe_double.testing import Account, account
from tests.unit.customers.world import World, world


@pytest.fixture(scope="module")
def served() -> Iterator[Account]:
    with account() as opened:
        yield opened


@pytest.fixture
def at(tables: None, served: Account, monkeypatch: pytest.MonkeyPatch) -> World:
    """A stack with the default catalogue, and an empty Stripe account whose search is always a minute late."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert os.environ["NO_PROXY"]
    with served.double.lock:
        served.double.reset()
        served.double.clock.offset_ms = 0
        served.double.configure(lag_seconds=60)
    return world(served)
