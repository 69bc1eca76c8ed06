"""Verdicts: a counted figure past its budget fails the run, a timed one is only told."""

from __future__ import annotations

import io
from decimal import Decimal

import pytest
from rich.console import Console

from bench.report import Check, Listing, Section, as_json, failures, show, shown


def section(*checks: Check) -> Section:
    return Section("Things", [Listing(("thing", "size"), [("one", 3), ("two", Decimal("0.125"))])], checks, ["A note."])


def test_a_counted_figure_past_its_budget_fails() -> None:
    past = Check("requests", 3, 2, "requests")
    assert failures([section(Check("units", 2, 2, "units"), past)]) == [past]


def test_a_timed_figure_never_fails() -> None:
    assert failures([section(Check("ratio", 1.7, 1.5, "times", counted=False))]) == []


def test_an_exact_budget_is_no_maximum() -> None:
    assert failures([section(Check("calls", 9, 10, "calls", exact=True))]) != []
    assert failures([section(Check("calls", 10, 10, "calls", exact=True))]) == []


@pytest.mark.parametrize(
    ("cell", "text"), [("a", "a"), (12, "12"), (Decimal("4.9900"), "4.99"), (0.12345, "0.1235"), (1234.56, "1234.6")]
)
def test_figures_are_shown_short(cell: str | int | Decimal | float, text: str) -> None:
    assert shown(cell) == text


def test_what_is_printed_names_figure_budget_and_verdict() -> None:
    out = io.StringIO()
    checks = (Check("requests", 3, 2, "requests"), Check("ratio", 1.75, 1.5, "times", counted=False))
    show(section(*checks), Console(file=out, width=100))
    text = out.getvalue()
    for part in ("requests", "<= 2", "PAST BUDGET", "1.75", "past budget (timed)", "A note."):
        assert part in text


def test_json_holds_the_same_figures() -> None:
    found = as_json([section(Check("dollars", Decimal("4.50"), Decimal(5), "dollars"))])
    assert found["kept"] is True
    assert found["sections"][0]["checks"][0]["measured"] == "4.5"
    assert found["sections"][0]["listings"][0]["rows"] == [["one", 3], ["two", "0.125"]]
