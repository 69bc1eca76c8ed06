"""The counted part as CI runs it: in a process of its own, because the functions keep their clients."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = (ROOT / "docs/deploy.md").read_text(encoding="utf-8")
ANOMALIES = (ROOT / "docs/anomalies.md").read_text(encoding="utf-8")

PAST = """
import sys
from bench import gate_size, report
from bench.stage import stage
gate_size.BUDGETS = {0: 1, 8: 0}
with stage() as running:
    past = report.failures([gate_size.section(running)])
sys.stderr.write(",".join(check.what for check in past))
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, dict[str, Any], str]:
    """(exit code, JSON, what was printed)."""
    file = tmp_path_factory.mktemp("bench") / "bench.json"
    ran = run("-m", "bench", "--counted", "--json", str(file))
    assert file.exists(), ran.stderr
    return ran.returncode, json.loads(file.read_text()), ran.stdout


def checks(found: dict[str, Any]) -> list[dict[str, Any]]:
    sections = found["sections"]
    assert isinstance(sections, list)
    return [check for section in sections for check in section["checks"]]


def test_every_counted_budget_is_kept(counted: tuple[int, dict[str, Any], str]) -> None:
    code, found, _ = counted
    assert [check["what"] for check in checks(found) if not check["kept"]] == []
    assert code == 0


def test_nothing_in_it_is_timed(counted: tuple[int, dict[str, Any], str]) -> None:
    _, found, _ = counted
    assert all(check["counted"] for check in checks(found))


def test_the_design_s_budgets_are_all_there(counted: tuple[int, dict[str, Any], str]) -> None:
    _, found, printed = counted
    named = " ".join(str(check["what"]) for check in checks(found))
    for budget in (
        "reserve",
        "refusal",
        "member limit",
        "no UUIDv7",
        "rules reads",
        "64 open holds",
        "shared limit",
        "Stripe",
        "million",
    ):
        assert budget in named
        assert budget.split()[0] in printed


def test_the_deploy_page_shows_the_cost_of_an_idle_month(counted: tuple[int, dict[str, Any], str]) -> None:
    _, found, _ = counted
    (section,) = (section for section in found["sections"] if section["title"] == "A month in which nobody calls")
    (listing,) = section["listings"]
    (quoted,) = re.findall(r"## What it costs when nobody calls\n(.*?)\n## ", DEPLOY, re.S)
    rows = re.findall(r"^\| \**(.*?)\** \| ?([\d,]*) \| \**([\d.]+)\** \|$", quoted, re.M)
    shown = {name: (many.replace(",", ""), Decimal(dollars)) for name, many, dollars in rows}

    def dollars(*starts: str) -> Decimal:
        total = sum((Decimal(row[2]) for row in listing["rows"] if row[0].startswith(starts)), Decimal(0))
        return total.quantize(Decimal("0.01"))

    assert shown == {
        "`seal`: runs and their duration": (_many(listing, "seal: runs"), dollars("seal: runs")),
        "`seal`: DynamoDB reads of 16 shards, log lines": ("", dollars("seal: read", "seal: write", "seal: bytes")),
        "`flush`: polls of its empty queue": (_many(listing, "flush"), dollars("flush")),
        "`notify`: everything": (_many(listing, "notify: runs"), dollars("notify")),
        "`sweep`: everything": (_many(listing, "sweep: runs"), dollars("sweep")),
        "`alert`: everything": (_many(listing, "alert: runs"), dollars("alert")),
        "`reconcile`: polls of its empty queue, nights": (_many(listing, "reconcile: polling"), dollars("reconcile")),
        "`stripe_events`: polls of its empty queue": (_many(listing, "stripe_events"), dollars("stripe_events")),
        "alarms": (str(section["facts"]["alarms"]), dollars("alarms")),
        "dashboards": (str(section["facts"]["dashboards"]), dollars("dashboards")),
        "metrics of our own that always have values": (str(section["facts"]["metrics"]), dollars("metrics")),
        "together": ("", dollars("together")),
    }
    assert f"{section['facts']['alarms']} of them" in DEPLOY


def _many(listing: dict[str, Any], start: str) -> str:
    (row,) = (row for row in listing["rows"] if row[0].startswith(start))
    return str(row[1])


def test_the_page_on_anomalies_shows_what_is_measured(counted: tuple[int, dict[str, Any], str]) -> None:
    _, found, _ = counted
    (section,) = (section for section in found["sections"] if section["title"].startswith("Anomalies"))
    (listing,) = section["listings"]
    lines = [listing["columns"], ["---"] + ["---:"] * (len(listing["columns"]) - 1), *listing["rows"]]
    table = "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)
    assert table in ANOMALIES, f"docs/anomalies.md should have:\n{table}"
    assert f"{section['facts']['account_days']:,} days of accounts" in ANOMALIES


def test_a_budget_that_is_past_is_found() -> None:
    ran = run("-c", PAST)
    assert ran.stderr == "a write with 8 open holds"
