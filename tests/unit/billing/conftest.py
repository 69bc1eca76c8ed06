from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.billing.world import World, tables


@pytest.fixture
def world() -> Iterator[World]:
    with tables():
        yield World()
