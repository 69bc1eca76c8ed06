"""The counted part as CI runs it: in a process of its own, because the functions keep their clients."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

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
def counted(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, dict[str, object], str]:
    """(exit code, JSON, what was printed)."""
    file = tmp_path_factory.mktemp("bench") / "bench.json"
    ran = run("-m", "bench", "--counted", "--json", str(file))
    assert file.exists(), ran.stderr
    return ran.returncode, json.loads(file.read_text()), ran.stdout


def checks(found: dict[str, object]) -> list[dict[str, object]]:
    sections = found["sections"]
    assert isinstance(sections, list)
    return [check for section in sections for check in section["checks"]]


def test_every_counted_budget_is_kept(counted: tuple[int, dict[str, object], str]) -> None:
    code, found, _ = counted
    assert [check["what"] for check in checks(found) if not check["kept"]] == []
    assert code == 0


def test_nothing_in_it_is_timed(counted: tuple[int, dict[str, object], str]) -> None:
    _, found, _ = counted
    assert all(check["counted"] for check in checks(found))


def test_the_design_s_budgets_are_all_there(counted: tuple[int, dict[str, object], str]) -> None:
    _, found, printed = counted
    named = " ".join(str(check["what"]) for check in checks(found))
    for budget in (
        "reserve",
        "refusal",
        "member limit",
        "no UUIDv7",
        "rules reads",
        "64 open holds",
        "Stripe",
        "million",
    ):
        assert budget in named
        assert budget.split()[0] in printed


def test_a_budget_that_is_past_is_found() -> None:
    ran = run("-c", PAST)
    assert ran.stderr == "a write with 8 open holds"
