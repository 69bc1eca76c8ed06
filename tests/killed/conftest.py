"""Says which functions were killed. Apart from the crash suite, whose world replaces time and randomness in process."""

from __future__ import annotations

import pytest

KILLED: list[str] = []
"""Functions that were killed with -9 in the running stack."""


@pytest.fixture
def killed() -> list[str]:
    return KILLED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if KILLED:
        terminalreporter.write_line(f"killed with -9 in the running stack: {', '.join(sorted(KILLED))}")
