from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.billing.world import fresh_world, tables
from tests.unit.reconcile.stage import Stage, staged


@pytest.fixture(scope="module")
def made() -> Iterator[None]:
    with tables():
        yield


@pytest.fixture
def stage(made: None) -> Iterator[Stage]:
    with staged(fresh_world()) as found:
        yield found
