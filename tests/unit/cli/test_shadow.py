"""`tollgate shadow compare` on tables: times, money, what is refused."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Cli
from tollgate.accounts.store import AccountTable, new_row
from tollgate.billing.batch import FLUSHED, SHADOWED, Batch
from tollgate.billing.batch_store import BatchTable
from tollgate.catalog.store import CatalogTable

OCTOBER, NOVEMBER, DECEMBER = 1_790_812_800, 1_793_491_200, 1_796_083_200
CATALOG = """
currency: usd
default_plan: pro
meters:
  credits: {name: Credits, unit: credit, stripe_event_name: credits}
plans:
  pro:
    name: Pro
    prices: [{meter: credits, scheme: per_unit, unit_price: "0.02"}]
"""


def put(account: str, units: str, at: int, state: str = SHADOWED) -> None:
    period = (OCTOBER, NOVEMBER) if at < NOVEMBER else (NOVEMBER, DECEMBER)
    window = at // 300 * 300
    batch = Batch(
        account, "credits", *period, window, window + 300, 0, 0, "credits", Decimal(units), window, at, state, at
    )
    assert BatchTable("tollgate-local-BillingTable").put_new(batch) is None


@pytest.fixture
def shadowed(cli: Cli, tmp_path: Path) -> Cli:
    """Accounts `acme` and `other`, with usage in October and November 2026."""
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text(CATALOG)
    cli.done("catalog", "load", str(catalog))
    for account in ("acme", "other"):
        row = new_row(account, CatalogTable("tollgate-local-ConfigTable"), "pro", OCTOBER)
        assert AccountTable("tollgate-local-AccountsTable").create(row)
    put("acme", "100", NOVEMBER - 300)
    put("acme", "50", NOVEMBER)
    put("acme", "7", NOVEMBER + 900, FLUSHED)
    put("other", "25", NOVEMBER + 600)
    return cli


def bill(tmp_path: Path, *lines: str, header: str = "account,meter,units,amount") -> tuple[str, str]:
    file = tmp_path / "bill.csv"
    file.write_text("\n".join([header, *lines]))
    return "--csv", str(file)


def test_units_and_money_side_by_side(shadowed: Cli, tmp_path: Path) -> None:
    given = bill(tmp_path, "acme,credits,50,1.00", "other,credits,25,0.75", "gone,credits,4,0.08")
    found = shadowed("shadow", "compare", *given, "--month", "2026-11")
    assert found.exit_code == 1
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in found.stdout.splitlines() if "│" in line]
    assert lines == [
        ["other", "credits", "25", "25", "0", "0", "0.5", "0.75", "-0.25", "-33.33"],
        ["gone", "credits", "0", "4", "-4", "-100", "0", "0.08", "-0.08", "-100"],
        ["all", "credits", "75", "79", "-4", "-5.06", "1.5", "1.83", "-0.33", "-18.03"],
    ]
    assert "2 of 3 differ by more than 0 %" in found.stderr
    assert "not shadowed, and not in the table: 1 flushed" in found.stderr
    assert "billed twice" in found.stderr


@pytest.mark.parametrize(
    ("when", "units"),
    [
        (("--month", "2026-10"), "100"),
        (("--from", "2026-10-01", "--to", "2026-12-01"), "150"),
        (("--from", "2026-11-01T00:00:00Z", "--to", "2026-11-01T00:00:01+00:00"), "50"),
    ],
)
def test_the_time_is_a_month_or_from_and_to(shadowed: Cli, tmp_path: Path, when: tuple[str, ...], units: str) -> None:
    given = bill(tmp_path, f"acme,credits,{units}", "other,credits,25", header="account,meter,units")
    found = shadowed("shadow", "compare", *given, *when)
    assert " all " in found.stdout
    assert " acme " not in found.stdout, "it agrees"
    assert ("billing periods that reach beyond" in found.stderr) is ("00:00:01" in when[-1])


def test_an_exact_bill_agrees(shadowed: Cli, tmp_path: Path) -> None:
    given = bill(tmp_path, "acme,credits,50,1.00", "other,credits,25,0.50")
    found = shadowed.done("shadow", "compare", *given, "--month", "2026-11")
    assert "All 2 agree within 0 %" in found.stderr
    assert "Shadow=false" in found.stderr


def test_a_time_with_nothing_on_either_side_is_no_agreement(shadowed: Cli, tmp_path: Path) -> None:
    found = shadowed("shadow", "compare", *bill(tmp_path), "--month", "2025-12")
    assert found.exit_code == 1
    assert "from 2025-12-01T00:00:00Z to 2026-01-01T00:00:00Z" in found.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "--csv FILE, or --stripe"),
        (("--csv", "x.csv", "--stripe"), "--csv FILE, or --stripe"),
        (("--csv", "x.csv", "--month", "2026-13"), "--month `2026-13` is no month"),
        (("--csv", "x.csv", "--from", "2026-11-01"), "both --from and --to"),
        (("--csv", "x.csv", "--from", "2026-11-01", "--to", "2026-11-31"), "--to `2026-11-31` is no time"),
        (("--csv", "x.csv", "--from", "2026-11-02", "--to", "2026-11-01"), "--from must lie before --to"),
        (("--csv", "x.csv", "--tolerance", "-1"), "--tolerance `-1` is no percentage"),
        (("--csv", "x.csv", "--tolerance", "NaN"), "--tolerance `NaN` is no percentage"),
        (("--csv", "no-such.csv", "--month", "2026-11"), "no-such.csv: No such file or directory"),
    ],
)
def test_what_makes_no_sense_is_exit_code_2(shadowed: Cli, arguments: tuple[str, ...], says: str) -> None:
    found = shadowed("shadow", "compare", *arguments)
    assert found.exit_code == 2
    assert says in " ".join(found.stderr.split())
