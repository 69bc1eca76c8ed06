"""A stack with plans whose money is soon used up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from local.testing import StackProcess
from tests.support.stack import running


@pytest.fixture(scope="module")
def money_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackProcess]:
    catalog = Path(__file__).with_name("catalog.yaml")
    yield from running(tmp_path_factory.mktemp("money-stack"), {"TOLLGATE_CATALOG": str(catalog)})
