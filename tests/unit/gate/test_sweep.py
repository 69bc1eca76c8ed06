"""The sweep visits every gate in turn, whatever one of them does."""

from __future__ import annotations

import pytest

from tests.support.gate import daily_plan, world
from tollgate.gate import sweep as module
from tollgate.gate.item import Gate
from tollgate.gate.ports import GateDeps
from tollgate.gate.sweep import Look, Swept, sweep

GATES = [Gate(f"acme{number}", 1, {}, {}) for number in range(5)]


class Cursor:
    def __init__(self) -> None:
        self.after: str | None = None

    def read(self) -> str | None:
        return self.after

    def write(self, after: str | None) -> None:
        self.after = after


def page(start: str | None) -> tuple[list[Gate], str | None]:
    """Two gates a page."""
    first = 0 if start is None else 1 + [gate.subject for gate in GATES].index(start)
    found = GATES[first : first + 2]
    return found, found[-1].subject if first + 2 < len(GATES) else None


@pytest.fixture
def visited(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The subjects of visited gates; the visit of acme2 fails."""
    seen: list[str] = []

    def visit(deps: GateDeps, gate: Gate, swept: Swept, *, audit: bool, look: Look | None) -> None:
        seen.append(gate.subject)
        if gate.subject == "acme2":
            raise ZeroDivisionError("a gate that cannot be read")

    monkeypatch.setattr(module, "sweep_gate", visit)
    return seen


def test_a_gate_that_fails_is_told_and_keeps_no_other_from_its_turn(visited: list[str]) -> None:
    cursor = Cursor()
    swept, complete = sweep(world(daily_plan(5)).deps(), page, cursor, lambda: True, audit=True)
    assert visited == [gate.subject for gate in GATES]
    assert (complete, cursor.after) == (True, None)
    assert [(type(failure), failure.__notes__) for failure in swept.failures] == [(ZeroDivisionError, ["acme2"])]


def test_it_goes_on_where_time_ran_out(visited: list[str]) -> None:
    cursor = Cursor()
    left = iter([True, True, True, False])
    _, complete = sweep(world(daily_plan(5)).deps(), page, cursor, lambda: next(left), audit=True)
    assert (complete, visited) == (False, ["acme0", "acme1", "acme2"])
    _, complete = sweep(world(daily_plan(5)).deps(), page, cursor, lambda: True, audit=True)
    assert visited[3:] == ["acme3", "acme4", "acme0", "acme1", "acme2"], "once round"
    assert (complete, cursor.after) == (True, None)


def test_a_gate_that_outlasts_the_function_is_passed_over_by_the_next_run(monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def visit(deps: GateDeps, gate: Gate, swept: Swept, *, audit: bool, look: Look | None) -> None:
        if gate.subject == "acme1":
            raise Killed

    monkeypatch.setattr(module, "sweep_gate", visit)
    cursor = Cursor()
    for _ in range(2):  # each run does all the others before it comes to that gate again
        with pytest.raises(Killed):
            sweep(world(daily_plan(5)).deps(), page, cursor, lambda: True, audit=True)
        assert cursor.after == "acme1"
