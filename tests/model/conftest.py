"""Prints how often each row of the design's tables was met."""

from __future__ import annotations

import pytest

from tests.model.rows import EVERY_ROW, ROWS


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not ROWS.counts:
        return
    terminalreporter.section("rows of the design's tables, and how often they were met")
    for row in EVERY_ROW:
        terminalreporter.write_line(f"{ROWS.counts[row]:8}  {row}")
    for row in sorted(set(ROWS.counts) - set(EVERY_ROW)):
        terminalreporter.write_line(f"{ROWS.counts[row]:8}  {row} (not asked for)")
