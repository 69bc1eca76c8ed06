"""`tollgate margins`: what the last look found, as tables."""

from __future__ import annotations

from pathlib import Path

from tests.unit.cli.conftest import Cli
from tests.unit.margins.test_margin import day
from tests.unit.margins.test_run import World
from tollgate.margins.margin_store import MarginTable
from tollgate_cli.target import LOCAL_STACK, TABLES

CATALOG = str(Path(__file__).parents[3] / "catalog.yaml")


def test_the_tables(cli: Cli) -> None:
    cli.done("catalog", "load", CATALOG)
    world = World()
    world.account("fine", "pro", day("tokens", 10, "1.00"))
    world.account("loser", "pro", day("tokens", 10, "40.00"))
    world.look()
    MarginTable(f"{LOCAL_STACK}-{TABLES['TOLLGATE_BILLING_TABLE']}").put_summary(world.summary())
    shown = cli.done("margins", "--period", "2026-11", "--spend-above", "20")
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.stdout.splitlines() if "│" in line]
    assert ["pro", "2", "58 USD", "58", "41", "0.7069"] in cells
    loser = ["loser", "pro", "29 USD", "29", "40", "1.3793"]
    assert cells.count(loser) == 2, "it loses money, and it is one for the sales people"
    assert "2 accounts: 1 critical, 1 healthy." in shown.stderr


def test_what_is_not_known_or_meant(cli: Cli) -> None:
    cli.done("catalog", "load", CATALOG)
    assert "No margins of 2020-01" in cli("margins", "--period", "2020-01").stderr
    assert cli("margins", "--period", "2020-1").exit_code == 2
    assert cli("margins", "--period", "2020-01", "--spend-above", "nan").exit_code == 2
