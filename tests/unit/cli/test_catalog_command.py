"""`tollgate catalog` with packs, limits of every kind and a rates file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.unit.cli.conftest import ROOT, Cli

RESELLER = str(ROOT / "examples" / "catalogs" / "llm-reseller.yaml")
CATALOG = """
currency: usd
default_plan: p
meters:
  m:
    unit: token
    stripe_event_name: m
    rates: {file: rates.csv, dimensions: [model]}
    weights: [{weight: "9"}]
  disk: {kind: level, unit: GB}
plans:
  p:
    prices: [{meter: m, scheme: per_unit, unit_price: "0.01"}]
    packs:
      - {id: small, meter: m, units: 500, price: "4.50", expires_days: 30}
      - {id: large, meter: m, units: 5000, price: "40"}
    limits:
      - {id: money, per: member, amount: "20.00"}
      - {id: space, meter: disk, max: 50}
      - {id: address, meter: m, per: "dimension:ip", window: day, max: 7}
"""
RATES = "model,weight,effective_from\nold,1,2020-01-01\nold,2,2999-01-01\nnew*,3,2999-02-01\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "rates.csv").write_text(RATES)
    path = tmp_path / "catalog.yaml"
    path.write_text(CATALOG)
    return path


def cells(text: str, first: str) -> list[str]:
    """The cells of the line of a table that begins with this one (or with these two)."""
    (line,) = [line for line in text.splitlines() if re.match(rf"│ {first} +│", line)]
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_limits_and_packs(cli: Cli, file: Path) -> None:
    shown = cli.done("catalog", "check", str(file)).stdout
    assert cells(shown, r"p +│ money")[2:] == ["member", "any", "period", "-", "20 USD"]
    assert cells(shown, r"p +│ space")[2:] == ["account", "disk", "at once", "-", "50"]
    assert cells(shown, r"p +│ address")[2:] == ["dimension:ip", "m", "day, UTC", "-", "7"]
    assert cells(shown, r"p +│ small")[2:] == ["500 m", "4.5 USD", "30 days"]
    assert cells(shown, r"p +│ large")[2:] == ["5000 m", "40 USD", "-"]


def test_rates_that_change_later(cli: Cli, file: Path) -> None:
    found = cli.done("catalog", "check", str(file))
    assert cells(found.stdout, r"m +│ 2999-01-01")[2:] == ["model=old", "1", "2"]
    assert cells(found.stdout, r"m +│ 2999-02-01")[2:] == ["model=new*", "-", "3"]
    assert "They change nothing by themselves" in found.stderr
    later = cli.done("catalog", "check", "--on", "2999-01-01", str(file)).stdout
    assert "2999-01-01" not in later
    assert cells(later, r"m +│ 2999-02-01")[2:] == ["model=new*", "-", "3"]
    assert "Rates" not in cli.done("catalog", "check", "--on", "2999-02-01", str(file)).stdout


def test_loading_says_on_which_days_to_load_again(cli: Cli, file: Path) -> None:
    found = cli.done("catalog", "load", str(file))
    assert "From 2999-01-01 on 1 rate changes: load the catalogue again then." in found.stderr
    assert "unchanged" in cli.done("catalog", "load", str(file)).stdout
    (file.parent / "rates.csv").write_text(RATES.replace("2999-01-01", "2021-01-01"))
    changed = cli.done("plans", "diff", str(file)).stdout
    assert re.search(r'1 → 2 +│ meters\[m\]\.weights\[model=old\]\.weight +│ "1" +│ "2"', changed), changed
    assert "│ new " in cli.done("catalog", "load", str(file)).stdout


def test_a_mistake_in_the_rates_file(cli: Cli, file: Path) -> None:
    (file.parent / "rates.csv").write_text(RATES.replace(",3,", ",3.x,"))
    found = cli("catalog", "load", str(file))
    assert (found.exit_code, "1 mistake" in found.stderr) == (2, True)
    assert "rates.csv:4" in found.stderr.replace("\n", "")
    assert re.search(r"│ weight +│ '3\.x' is not a plain decimal", found.stderr), found.stderr


def test_a_day_that_is_none(cli: Cli, file: Path) -> None:
    assert cli("catalog", "check", "--on", "tomorrow", str(file)).exit_code == 2


def test_the_sixty_models_of_the_example(cli: Cli) -> None:
    shown = cli.done("catalog", "check", "--on", "2026-11-21", RESELLER).stdout
    assert len(re.findall(r"│ 2027-0[12]-01 +│", shown)) == 12
