"""`tollgate accounts audit`: who changed what of an account, and when."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

from tests.unit.cli.conftest import Cli
from tollgate import wiring
from tollgate.accounts.controls import ControlsPatch, set_controls
from tollgate.accounts.service import AccountPatch, change_plan, put_account
from tollgate_cli.target import LOCAL_STACK, TABLES

CATALOG = str(Path(__file__).parents[3] / "catalog.yaml")
LOCAL = {variable: f"{LOCAL_STACK}-{table}" for variable, table in TABLES.items()}


def test_changes_are_shown_newest_first(cli: Cli) -> None:
    cli.done("catalog", "load", CATALOG)
    unknown = cli("accounts", "audit", "alice")
    assert (unknown.exit_code, "PUT /v1/accounts/alice" in unknown.stderr) == (1, True)
    deps = wiring.account_deps(LOCAL)
    put_account(deps, "alice", AccountPatch(plan="pro", by="key_a"))
    set_controls(deps, "alice", ControlsPatch(hard_limit=Decimal(20)), "key_b")
    change_plan(deps, "alice", None, at_period_end=True)
    found = cli.done("accounts", "audit", "alice").stdout
    lines = [re.split(r"\s*│\s*", line.strip("│ ")) for line in found.splitlines() if re.match(r"│ \d", line)]
    assert [line[0] for line in lines] == ["3", "2", "1"]
    assert [line[2:5] for line in lines[1:]] == [["key_b", "controls", "-"], ["key_a", "plan", "-"]]
    assert lines[0][2:4] == ["-", "next_plan"]
    assert '"hard_limit": "20"' in found
    shown = cli.done("accounts", "show", "alice").stdout
    assert re.search(r"next plan +│ free, version 1, from ", shown), shown
    assert re.search(r"controls +│ .*\"hard_limit\": \"20\"", shown), shown


def test_a_page_says_that_there_is_more(cli: Cli) -> None:
    cli.done("catalog", "load", CATALOG)
    wiring.rules_table(LOCAL).get("made-by-a-call", lambda rules: None)
    assert "Nothing was changed yet" in cli.done("accounts", "audit", "made-by-a-call").stderr
    deps = wiring.account_deps(LOCAL)
    for limit in (1, 2):
        set_controls(deps, "made-by-a-call", ControlsPatch(hard_limit=Decimal(limit)))
    assert "older changes" in cli.done("accounts", "audit", "made-by-a-call", "--limit", "1").stderr
    assert "older changes" not in cli.done("accounts", "audit", "made-by-a-call").stderr
