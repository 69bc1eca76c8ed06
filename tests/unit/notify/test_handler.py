"""The function as Lambda calls it: SES, the bus and SSM are moto's, which check what they are sent."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import boto3
import pytest

from tests.infra.translated import ROOT
from tests.unit.billing.world import ACCOUNTS, BILLING, CONFIG
from tests.unit.notify.stage import Receiver, Stage
from tollgate import dynamo, secrets
from tollgate.accounts.rules import AccountRow
from tollgate.accounts.store import row_item
from tollgate.notify import aws_channels
from tollgate.notify.channels import BUS, CUSTOMERS, EMAIL, SLACK, Channel, Settings
from tollgate.windows import Calendar

pytestmark = pytest.mark.filterwarnings("ignore:No application metrics to publish")

ENV = {
    "TOLLGATE_BILLING_TABLE": BILLING,
    "TOLLGATE_ACCOUNTS_TABLE": ACCOUNTS,
    "TOLLGATE_CONFIG_TABLE": CONFIG,
    "TOLLGATE_STACK": "tollgate-test",
    "TOLLGATE_NOTIFY_BUS": "default",
    "TOLLGATE_API_URL": "https://api.test",
    "TOLLGATE_NOTIFY_SECRETS_PARAMETER": "/tollgate/test/notify-secrets",
    "TOLLGATE_PRIVATE_WEBHOOKS": "true",
    "POWERTOOLS_SERVICE_NAME": "notify",
    "POWERTOOLS_METRICS_NAMESPACE": "Tollgate",
}
CONTEXT: Any = SimpleNamespace(
    function_name="notify", memory_limit_in_mb=512, invoked_function_arn="arn", aws_request_id="r",
    get_remaining_time_in_millis=lambda: 55_000,
)  # fmt: skip


@pytest.fixture
def app(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    for name, value in ENV.items():
        monkeypatch.setenv(name, value)
    for cached in (aws_channels._client, secrets.read, dynamo.session, dynamo.client):
        cached.cache_clear()
    spec = importlib.util.spec_from_file_location("notify_app", ROOT / "functions/notify/app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["notify_app"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["notify_app"]
    aws_channels._client.cache_clear()


def account(name: str, **fields: Any) -> None:
    row = AccountRow(name, 1, "pro", 1, 0, Calendar.of("UTC"), (), (), **fields)
    dynamo.client().put_item(TableName=ACCOUNTS, Item=row_item(row))


def stored(value: str) -> None:
    name = ENV["TOLLGATE_NOTIFY_SECRETS_PARAMETER"]
    boto3.client("ssm").put_parameter(Name=name, Type="SecureString", Value=value)


def test_nothing_to_do(app: ModuleType) -> None:
    assert app.handler({}, CONTEXT) == {"sent": 0, "retried": 0, "held": 0, "failed": 0, "digests": 0}


def test_every_channel(
    stage: Stage,
    app: ModuleType,
    receiver: Receiver,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = Settings(
        {name: Channel(name, ("ops@acme.test",) if name == EMAIL else ()) for name in (EMAIL, SLACK, BUS, CUSTOMERS)},
        sender="Acme <billing@acme.test>",
        product="Acme",
    )
    assert stage.channels.put_settings(settings, 0)
    stage.endpoint(receiver.url)
    boto3.client("sesv2").create_email_identity(EmailIdentity="acme.test")
    stored(json.dumps({"slack_url": receiver.url}))
    account("acme", email="customer@x.test")
    account("acme-guest", merged_into="acme")
    place, merged = stage.put("a", audience="both"), stage.put("b", audience="customer", account="acme-guest")
    assert app.handler({}, CONTEXT) == {"sent": 8, "retried": 0, "held": 0, "failed": 0, "digests": 0}
    assert set(stage.states(place).values()) == {"sent"}
    assert set(stage.states(place)) == {"email", "slack", "bus", "customers", "whe_1"}
    assert set(stage.states(merged)) == {"bus", "customers", "whe_1"}
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    [sent] = [line["MessagesSent"] for line in lines if "MessagesSent" in line]
    assert sent == [8.0]
    told = [vars(record) for record in caplog.records if record.getMessage() == "message"]
    assert [(one["kind"], one["account"], one["audience"]) for one in told] == [
        ("margin", "acme", "both"),
        ("margin", "acme-guest", "customer"),
    ]
    assert "Look at acme" not in f"{told}{lines}", "the text is nobody's but the receiver's"


def test_ses_that_refuses_stops_nothing_else(stage: Stage, app: ModuleType) -> None:
    settings = Settings(
        {EMAIL: Channel(EMAIL, ("ops@acme.test",)), BUS: Channel(BUS)}, sender="billing@not-verified.test"
    )
    stage.channels.put_settings(settings, 0)
    place = stage.put()
    assert app.handler({}, CONTEXT)["retried"] == 1
    assert stage.states(place) == {"email": "waiting", "bus": "sent"}
    assert (stage.letter(place).deliveries or {})["email"].reason == "SES answered MessageRejected"


def test_a_secret_that_is_not_there_or_unreadable(stage: Stage, app: ModuleType) -> None:
    stage.channels.put_settings(Settings({SLACK: Channel(SLACK)}), 0)
    place = stage.put()
    app.handler({}, CONTEXT)
    assert "slack_url is not set" in (stage.letter(place).deliveries or {})["slack"].reason
    stored("no json")
    place = stage.put("b")
    app.handler({}, CONTEXT)
    assert "no JSON" in (stage.letter(place).deliveries or {})["slack"].reason


def test_what_is_given_up_is_counted_for_the_alarm(
    stage: Stage, app: ModuleType, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    receiver.answers = [410]
    stage.endpoint(receiver.url)
    stage.put()
    assert app.handler({}, CONTEXT)["failed"] == 1
    assert [
        json.loads(line)["MessagesFailed"] for line in capsys.readouterr().out.splitlines() if "MessagesFailed" in line
    ] == [[1.0]]
    assert stage.channels.endpoint("whe_1").disabled == "it answered 410 Gone"


def test_a_run_with_no_time_left_begins_nothing(stage: Stage, app: ModuleType) -> None:
    stage.channels.put_settings(Settings({BUS: Channel(BUS)}), 0)
    place = stage.put()
    late: Any = SimpleNamespace(**{**vars(CONTEXT), "get_remaining_time_in_millis": lambda: 15_000})
    assert app.handler({}, late)["sent"] == 0
    assert stage.letter(place).deliveries is None
