"""Prints how often each row of the design's tables was met."""

from __future__ import annotations

import pytest

from tests.model.money_machine import MET, WANTED
from tests.model.rows import EVERY_ROW, ROWS


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if MET:
        terminalreporter.section("cases of money and credits, and how often they were met")
        for case in WANTED:
            terminalreporter.write_line(f"{MET[case]:8}  {case}")
    if not ROWS.counts:
        return
    terminalreporter.section("rows of the design's tables, and how often they were met")
    for row in EVERY_ROW:
        terminalreporter.write_line(f"{ROWS.counts[row]:8}  {row}")
    for row in sorted(set(ROWS.counts) - set(EVERY_ROW)):
        terminalreporter.write_line(f"{ROWS.counts[row]:8}  {row} (not asked for)")
