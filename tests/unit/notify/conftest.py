from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.billing.world import tables
from tests.unit.notify.stage import Postbox, Receiver, Stage


@pytest.fixture
def stage() -> Iterator[Stage]:
    with tables():
        yield Stage()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    made.start()
    yield made
    made.stop()


@pytest.fixture
def postbox() -> Iterator[Postbox]:
    made = Postbox()
    yield made
    made.stop()
