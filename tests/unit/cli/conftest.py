from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer
from typer.testing import CliRunner, Result

from tollgate import dynamo
from tollgate_cli.app import app

ROOT = Path(__file__).parents[3]
TABLES = ("GatesTable", "EventsTable", "BillingTable", "AccountsTable", "ConfigTable")


class Cli:
    """Runs commands against a moto server that holds the local stack's tables and a deployed stack."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __call__(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"}, prog_name="tollgate")

    def done(self, *arguments: str) -> Result:
        found = self(*arguments)
        assert found.exit_code == 0, found.output
        return found


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    moto = ThreadedMotoServer("127.0.0.1", 8980, verbose=False)
    moto.start()
    yield "http://127.0.0.1:8980"
    moto.stop()


@pytest.fixture
def cli(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cli]:
    """A command line with no stack of its own: port 8978's AWS double is the moto server."""
    before = dict(os.environ)
    for name in list(os.environ):
        if name.startswith(("AWS_", "TOLLGATE_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TOLLGATE_PORT", "8978")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    dynamodb = boto3.client("dynamodb", endpoint_url=server)
    for name in dynamodb.list_tables()["TableNames"]:
        dynamodb.delete_table(TableName=name)
    for table in TABLES:
        dynamodb.create_table(TableName=f"tollgate-local-{table}", **_keys(table))
    yield Cli(server)
    os.environ.clear()
    os.environ.update(before)
    dynamo.session.cache_clear()
    dynamo.client.cache_clear()


@pytest.fixture
def deployed(cli: Cli, server: str) -> Iterator[Cli]:
    """As `cli`, with a stack `tollgate-prod` in live mode."""
    template = {
        "Parameters": {"Mode": {"Type": "String"}},
        "Resources": {
            table: {"Type": "AWS::DynamoDB::Table", "Properties": {"TableName": f"prod-{table}-1X", **_keys(table)}}
            for table in TABLES
        },
        "Outputs": {f"{table}Name": {"Value": {"Ref": table}} for table in TABLES},
    }
    formation = boto3.client("cloudformation", endpoint_url=server)
    formation.create_stack(
        StackName="tollgate-prod",
        TemplateBody=json.dumps(template),
        Parameters=[{"ParameterKey": "Mode", "ParameterValue": "live"}],
    )
    yield cli
    formation = boto3.client("cloudformation", endpoint_url=server, region_name="us-east-1")
    formation.delete_stack(StackName="tollgate-prod")


def _keys(table: str) -> dict[str, object]:
    names = ["pk"] if table == "GatesTable" else ["pk", "sk"]
    kinds = ("HASH", "RANGE")
    return {
        "BillingMode": "PAY_PER_REQUEST",
        "KeySchema": [{"AttributeName": n, "KeyType": kind} for n, kind in zip(names, kinds, strict=False)],
        "AttributeDefinitions": [{"AttributeName": n, "AttributeType": "S"} for n in names],
    }
