from __future__ import annotations

import json
from collections.abc import Iterator

import boto3
import pytest

from local.stripe_double.testing import Account, account
from tests.unit.cli.conftest import TABLES, Cli
from tollgate.stripe_api.reading import Connection
from tollgate_cli import stripe_connect
from tollgate_cli.stripe_target import StripeTarget

URL = "https://abc.lambda-url.us-east-1.on.aws/"


@pytest.fixture
def stripe_account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    """What every stack's key leads to."""
    with account() as opened:
        target = StripeTarget(Connection(lambda: opened.client), "test", "the double", opened.url)
        monkeypatch.setattr(stripe_connect, "stripe_of", lambda stack: target)
        yield opened


@pytest.fixture
def connectable(cli: Cli, server: str, stripe_account: Account) -> Iterator[Cli]:
    """A deployed stack `tollgate-dev` with a webhook's address."""
    template = {
        "Parameters": {"Mode": {"Type": "String"}},
        "Resources": {
            table: {
                "Type": "AWS::DynamoDB::Table",
                "Properties": {
                    "TableName": f"dev-{table}",
                    "BillingMode": "PAY_PER_REQUEST",
                    "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
                    "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
                },
            }
            for table in TABLES
        },
        "Outputs": {f"{table}Name": {"Value": {"Ref": table}} for table in TABLES}
        | {"StripeWebhookUrl": {"Value": URL}},
    }
    formation = boto3.client("cloudformation", endpoint_url=server)
    formation.create_stack(
        StackName="tollgate-dev",
        TemplateBody=json.dumps(template),
        Parameters=[{"ParameterKey": "Mode", "ParameterValue": "test"}],
    )
    yield cli
    formation.delete_stack(StackName="tollgate-dev")


def test_connect_shows_first_and_changes_when_told(connectable: Cli, server: str, stripe_account: Account) -> None:
    shown = connectable.done("stripe", "connect", "--stack", "tollgate-dev")
    assert "Nothing was changed" in shown.output
    assert stripe_account.client.v1.webhook_endpoints.list().data == []
    done = connectable.done("stripe", "connect", "--stack", "tollgate-dev", "--apply")
    assert "Done: 2 changed" in done.output
    (endpoint,) = stripe_account.client.v1.webhook_endpoints.list().data
    assert endpoint.url == URL
    parameter = boto3.client("ssm", endpoint_url=server).get_parameter(
        Name="/tollgate/tollgate-dev/webhook-secrets", WithDecryption=True
    )["Parameter"]
    stored = json.loads(parameter["Value"])
    assert (parameter["Type"], len(stored)) == ("SecureString", 2)
    assert not any(secret in done.output for secret in stored), "secrets are never shown"
    again = connectable.done("stripe", "connect", "--stack", "tollgate-dev", "--apply")
    assert "as they should be" in again.output


def test_connect_needs_a_stack_with_a_webhook(deployed: Cli, stripe_account: Account) -> None:
    refused = deployed("stripe", "connect", "--stack", "tollgate-prod")
    assert refused.exit_code == 1
    assert "no output StripeWebhookUrl" in refused.output


def test_the_local_stack_connects_itself(cli: Cli, stripe_account: Account) -> None:
    assert "by itself" in cli.done("stripe", "connect", "--apply").output
    assert stripe_account.client.v1.webhook_endpoints.list().data == []
