"""The crash suite's world, made once, and what was counted in it, printed at the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.scenarios import scene
from tests.support.crash_run import Suite
from tests.support.crash_world import crash_world

CATALOG = Path(__file__).with_name("catalog.yaml")
_SUITES: list[Suite] = []


@pytest.fixture(scope="package")
def suite() -> Iterator[Suite]:
    with crash_world(CATALOG) as world:
        scene(world)
        found = Suite(world, world.snapshot())
        _SUITES.append(found)
        yield found


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for suite in _SUITES:
        terminalreporter.section("crash suite")
        for line in suite.report():
            terminalreporter.write_line(line)
