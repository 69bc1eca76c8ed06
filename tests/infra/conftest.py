from __future__ import annotations

import pytest

from tests.infra.translated import Stack


@pytest.fixture(scope="session")
def stack() -> Stack:
    return Stack()
