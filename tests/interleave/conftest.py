"""Counts what the suite ran, for the end of its output; and makes it fast enough to run so much."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache

import pytest

from tollgate.gate import hold

_TOTALS: Counter[str] = Counter()


@pytest.fixture(scope="session")
def totals() -> Counter[str]:
    """Name -> count, printed when the run ends."""
    return _TOTALS


@pytest.fixture(scope="session", autouse=True)
def _unpack_once() -> Iterator[None]:
    """The same packed holds are read over and over: a pure function of bytes, remembered."""
    original, remembered = hold.unpack, lru_cache(maxsize=100_000)(hold.unpack)
    users = [module for module in list(sys.modules.values()) if getattr(module, "unpack", None) is original]
    for module in users:
        module.__dict__["unpack"] = remembered
    yield
    for module in users:
        module.__dict__["unpack"] = original


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _TOTALS:
        terminalreporter.section("interleavings")
        for name, count in _TOTALS.items():
            terminalreporter.write_line(f"{count:>10,}  {name}")
