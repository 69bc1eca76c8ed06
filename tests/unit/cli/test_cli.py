"""The command line, as an operator types it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import boto3
import pytest
import yaml

from local.settings import STACK_NAME
from tests.unit.cli.conftest import ROOT, TABLES, Cli
from tollgate import wiring
from tollgate.billing.batch import Batch
from tollgate.billing.batch_store import BatchTable
from tollgate.catalog.schema import json_schema
from tollgate.errors import Unauthorized
from tollgate_cli import target

CATALOG = str(ROOT / "catalog.yaml")
LOCAL = {variable: f"tollgate-local-{table}" for variable, table in target.TABLES.items()}


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    file = tmp_path / "broken.yaml"
    file.write_text(
        (ROOT / "catalog.yaml")
        .read_text()
        .replace("max: 10}", "max: 1.5}")
        .replace("default_plan: free", "default_plan: gold")
    )
    return file


class _Loader(yaml.SafeLoader):
    """Reads CloudFormation's own tags as nothing."""


_Loader.add_multi_constructor("!", lambda loader, tag, node: None)


# -- help --------------------------------------------------------------------------------------------------------------


def test_help_names_every_command(cli: Cli) -> None:
    shown = cli.done("--help").output
    for group in ("catalog", "keys", "plans", "accounts", "batches"):
        assert group in shown
    assert "make run" in shown


@pytest.mark.parametrize(
    "command",
    [
        "catalog check",
        "catalog load",
        "catalog schema",
        "keys create",
        "keys list",
        "keys revoke",
        "plans list",
        "accounts show",
        "shadow compare",
    ],
)
def test_every_command_explains_itself(cli: Cli, command: str) -> None:
    shown = cli.done(*command.split(), "--help").output
    assert "Usage: tollgate " + command in shown
    group, name = command.split()
    listed = cli.done(group, "--help").output
    assert re.search(rf"\b{name}\b +\S+", listed), listed


@pytest.mark.parametrize(
    "arguments", [["nothing"], ["keys", "nothing"], ["keys", "revoke"], ["keys", "create", "--scope", "root"]]
)
def test_a_wrong_command_is_exit_code_2(cli: Cli, arguments: list[str]) -> None:
    assert cli(*arguments).exit_code == 2


def test_it_runs_as_a_module() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "tollgate_cli", "catalog", "schema"],
        cwd=ROOT / "cli",
        env={"PYTHONPATH": f"{ROOT / 'layers/common'}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(shown.stdout) == json_schema()


def test_it_knows_the_template() -> None:
    """The tables and outputs that commands look for are those that the template makes."""
    template = yaml.load((ROOT / "template.yaml").read_text(), _Loader)
    assert set(target.TABLES.values()) <= set(template["Resources"])
    assert {f"{table}Name" for table in target.TABLES.values()} <= set(template["Outputs"])
    assert template["Parameters"]["Mode"]["AllowedValues"] == ["test", "live"]
    assert target.LOCAL_STACK == STACK_NAME
    assert set(TABLES) == set(target.TABLES.values())


# -- catalog -----------------------------------------------------------------------------------------------------------


def test_a_good_catalogue(cli: Cli) -> None:
    found = cli.done("catalog", "check", CATALOG)
    for text in ("free (default)", "daily", "burst", "5 h from first use", "model=premium", "3 open"):
        assert text in found.stdout
    assert "not billed" not in found.stderr


def test_a_broken_catalogue_changes_nothing(cli: Cli, broken: Path) -> None:
    for command in ("check", "load"):
        found = cli("catalog", command, str(broken))
        assert found.exit_code == 2
        assert "2 mistakes" in found.stderr
        assert "plans.free.limits[0].max" in found.stderr
        assert "no plan `gold` in this file" in found.stderr
        assert re.search(r"broken\.yaml:\d+", found.stderr)
        assert "Traceback" not in found.output
    assert "has no catalogue yet" in cli("plans", "list").stderr


def test_a_catalogue_that_is_not_there(cli: Cli) -> None:
    found = cli("catalog", "check", "nowhere.yaml")
    assert (found.exit_code, "cannot be read" in found.stderr) == (2, True)


def test_loading_twice_makes_no_new_version(cli: Cli, tmp_path: Path) -> None:
    first = cli.done("catalog", "load", CATALOG)
    assert len(re.findall(r"\bnew\b", first.stdout)) == 3
    again = cli.done("catalog", "load", CATALOG)
    assert len(re.findall(r"\bunchanged\b", again.stdout)) == 3
    changed = tmp_path / "catalog.yaml"
    changed.write_text((ROOT / "catalog.yaml").read_text().replace("max: 10}", "max: 20}"))
    found = cli.done("catalog", "load", str(changed))
    assert re.search(r"free +│ Free +│ 2 +│ new", found.stdout), found.stdout
    listed = cli.done("plans", "list").stdout
    assert re.search(r"free \(default\) +│ 2 ", listed), listed


def test_plans_before_any_catalogue(cli: Cli) -> None:
    found = cli("plans", "list")
    assert (found.exit_code, "tollgate catalog load" in found.stderr) == (1, True)


def test_the_schema(cli: Cli) -> None:
    assert json.loads(cli.done("catalog", "schema").stdout) == json_schema()


# -- keys --------------------------------------------------------------------------------------------------------------


def test_the_first_admin_key(cli: Cli) -> None:
    made = cli.done("keys", "create")
    secret = made.stdout.strip()
    assert re.fullmatch(r"tg_test_[A-Za-z0-9_-]{43}", secret), "the secret stands alone on standard output"
    key = wiring.keys(LOCAL).authenticate(secret)
    assert (key.scopes, key.name, key.mode) == (("admin",), "admin", "test")
    listed = cli.done("keys", "list")
    assert key.id in listed.stdout
    assert secret not in listed.output


def test_a_key_with_scopes_is_revoked(cli: Cli) -> None:
    secret = cli.done("keys", "create", "--name", "[bold]app", "--scope", "usage", "--scope", "read").stdout.strip()
    key = wiring.keys(LOCAL).authenticate(secret)
    assert key.scopes == ("usage", "read")
    assert "[bold]app" in cli.done("keys", "list").stdout
    for _ in range(2):
        cli.done("keys", "revoke", key.id)
    assert "revoked 20" in cli.done("keys", "list").stdout
    with pytest.raises(Unauthorized):
        wiring.keys(LOCAL).authenticate(secret)


def test_revoking_what_is_no_key(cli: Cli) -> None:
    unknown = cli("keys", "revoke", "key_0123456789abcdef")
    assert (unknown.exit_code, "tollgate keys list" in unknown.stderr) == (1, True)
    assert cli("keys", "revoke", "tg_test_secret").exit_code == 2


def test_a_live_key_for_a_test_stack(cli: Cli) -> None:
    found = cli("keys", "create", "--mode", "live")
    assert (found.exit_code, found.stdout) == (2, "")
    assert "There is no key yet" in cli.done("keys", "list").stderr


# -- accounts ----------------------------------------------------------------------------------------------------------


def test_an_account(cli: Cli) -> None:
    cli.done("catalog", "load", CATALOG)
    unknown = cli("accounts", "show", "alice")
    assert (unknown.exit_code, "PUT /v1/accounts/alice" in unknown.stderr) == (1, True)
    wiring.rules_table(LOCAL).get("alice", lambda rules: None)
    found = cli.done("accounts", "show", "alice", "--member", "u-1")
    assert "Free (free, version 1)" in found.stdout
    assert re.search(r"daily +│ account +│ day +│ 0 +│ 0 +│ 10 ", found.stdout), found.stdout
    assert re.search(r"jobs +│ member u-1 ", found.stdout), found.stdout


def test_what_a_catalogue_would_change(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "next.yaml"
    file.write_text(Path(CATALOG).read_text().replace("window: day, max: 10}", "window: day, max: 12}"))
    assert "│ new " in cli.done("plans", "diff", str(file)).stdout
    cli.done("catalog", "load", CATALOG)
    shown = cli.done("plans", "diff", str(file))
    assert re.search(r"free +│ 1 → 2 +│ limits\[daily\]\.max +│ \"10\" +│ \"12\"", shown.stdout), shown.stdout
    assert "changes no plan" in cli.done("plans", "diff", CATALOG).stderr


# -- batches -----------------------------------------------------------------------------------------------------------


def parked(state: str) -> Batch:
    made = Batch(
        account="acme",
        meter="ai_credits",
        period_start=1_793_491_200,
        period_end=1_796_083_200,
        window_start=1_795_262_400,
        window_end=1_795_262_700,
        supplement=0,
        part=0,
        event_name="ai_credits",
        units=Decimal("12.5"),
        timestamp=1_795_262_400,
        created_at=1_795_262_800,
        state=state,
        state_at=1_795_262_900,
        customer="cus_1",
        reason="no_such_meter",
        detail="No active meter",
    )
    assert BatchTable(LOCAL["TOLLGATE_BILLING_TABLE"]).put_new(made) is None
    return made


def test_parked_batches_are_listed_and_repaired_once(cli: Cli) -> None:
    batch = parked("rejected")
    listed = cli.done("batches", "list", "acme")
    assert "no_such_meter" in listed.stdout
    assert "tollgate batches repair acme BATCH" in listed.stderr
    first = cli.done("batches", "repair", "acme", batch.key.sk).stdout.strip()
    again = cli("batches", "repair", "acme", batch.key.sk)
    assert (again.exit_code, "Nothing to repair" in again.stderr) == (1, True)
    rows = {found.key.sk: found for found in BatchTable(LOCAL["TOLLGATE_BILLING_TABLE"]).of_account("acme")}
    assert {name: (row.state, row.units) for name, row in rows.items()} == {
        batch.key.sk: ("rejected", Decimal("12.5")),
        first: ("sealed", Decimal("12.5")),
    }
    unknown = cli("batches", "repair", "acme", "nothing#1#2")
    assert (unknown.exit_code, "has no batch" in unknown.stderr) == (1, True)


def test_repairing_what_stripe_may_have_asks_first(cli: Cli) -> None:
    batch = parked("unconfirmed")
    asked = cli("batches", "repair", "acme", batch.key.sk)
    assert asked.exit_code == 1
    assert len(list(BatchTable(LOCAL["TOLLGATE_BILLING_TABLE"]).of_account("acme"))) == 1
    cli.done("batches", "repair", "acme", batch.key.sk, "--yes")


# -- targets -----------------------------------------------------------------------------------------------------------


def test_a_deployed_stack(deployed: Cli) -> None:
    deployed.done("catalog", "load", CATALOG, "--stack", "tollgate-prod")
    secret = deployed.done("keys", "create", "--stack", "tollgate-prod").stdout.strip()
    assert secret.startswith("tg_live_")
    rows = boto3.client("dynamodb", endpoint_url=deployed.url).scan(TableName="prod-ConfigTable-1X")["Items"]
    assert {"catalog", "keys", "plan#free"} <= {row["pk"]["S"] for row in rows}
    assert "Plans of tollgate-prod" in deployed.done("plans", "list", "--stack", "tollgate-prod").stdout
    assert deployed("plans", "list").exit_code == 1, "the local stack has no catalogue"


def test_a_stack_that_is_not_there(cli: Cli) -> None:
    found = cli("keys", "list", "--stack", "tollgate-nowhere")
    assert (found.exit_code, "tollgate-nowhere does not exist" in found.stderr) == (1, True)


def test_a_stack_of_something_else(cli: Cli, server: str) -> None:
    formation = boto3.client("cloudformation", endpoint_url=server)
    formation.create_stack(
        StackName="other", TemplateBody=json.dumps({"Resources": {"Q": {"Type": "AWS::SQS::Queue"}}})
    )
    found = cli("keys", "list", "--stack", "other")
    assert (found.exit_code, "it is no Tollgate stack" in found.stderr) == (1, True)


def test_nothing_answers(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLGATE_PORT", "8990")
    found = cli("keys", "list")
    assert (found.exit_code, "make run" in found.stderr) == (1, True)
    assert "Traceback" not in found.output
    monkeypatch.setenv("TOLLGATE_PORT", "many")
    assert cli("keys", "list").exit_code == 2


def test_tables_are_missing(cli: Cli, server: str) -> None:
    boto3.client("dynamodb", endpoint_url=server).delete_table(TableName="tollgate-local-ConfigTable")
    found = cli("keys", "list")
    assert (found.exit_code, "A table is missing" in found.stderr) == (1, True)


def test_own_credentials_never_reach_the_doubles(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from tollgate import dynamo

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAREAL")
    cli.done("keys", "list")
    assert dynamo.session().get_credentials().access_key == "local"
