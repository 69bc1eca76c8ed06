"""`tollgate doctor`: a stack that is well, and each check broken by one thing."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
import typer.main

from local.stripe_double.testing import Account, account
from tests.unit.billing.world import ACCOUNTS, BILLING, CONFIG, EVENTS, tables
from tollgate import dynamo, wiring
from tollgate.alerts.outbox import Alert
from tollgate.alerts.outbox_store import OutboxTable
from tollgate.catalog.schema import parse_catalog
from tollgate.notify.channel_store import ChannelTable
from tollgate.notify.channels import Channel, Settings
from tollgate.stripe_api.reading import Connection
from tollgate.sync import apply as sync_apply
from tollgate_cli import checks, doctor
from tollgate_cli.app import app
from tollgate_cli.checks import CHECKS, Finding, Patient, examine
from tollgate_cli.stripe_target import StripeTarget, stripe_at
from tollgate_cli.target import LOCAL_STACK, Target

PAGE = (Path(__file__).parents[3] / "docs" / "operations.md").read_text(encoding="utf-8")
STACK = "tollgate-dev"
URL = "https://abc.lambda-url.us-east-1.on.aws/"
CATALOG = """
currency: usd
default_plan: pro
meters: {tokens: {name: Tokens, unit: token, scale: 0, stripe_event_name: tokens}}
plans:
  pro:
    name: Pro
    prices: [{meter: tokens, scheme: per_unit, unit_price: "0.01"}]
"""
ENV = {
    "TOLLGATE_GATES_TABLE": "gates",
    "TOLLGATE_EVENTS_TABLE": EVENTS,
    "TOLLGATE_BILLING_TABLE": BILLING,
    "TOLLGATE_ACCOUNTS_TABLE": ACCOUNTS,
    "TOLLGATE_CONFIG_TABLE": CONFIG,
}


@dataclass
class Well:
    """A deployed stack on moto with nothing wrong, and Stripe's double behind it; a test breaks one thing."""

    stripe: Account
    patient: Patient
    answers: dict[str, Any]
    """What the HTTP client gets, by path: (status, JSON, seconds its Date is off)."""

    def aws(self, service: str) -> Any:
        return boto3.client(service, region_name="us-east-1")

    def found(self) -> list[Finding]:
        return [one for one in examine(self.patient) if one.state != "ok"]

    def with_parameters(self, **said: str) -> None:
        listed = [{"ParameterKey": name, "ParameterValue": value} for name, value in said.items()]
        self.patient = replace(self.patient, stack={**self.patient.stack, "Parameters": listed})


@pytest.fixture
def well(monkeypatch: pytest.MonkeyPatch) -> Iterator[Well]:
    with tables(), account() as stripe:
        wiring.catalog_table(ENV).publish(parse_catalog(CATALOG))
        found = Well(stripe, _patient(monkeypatch, stripe), {})
        found.answers |= {"/v1/health": (200, {}, 0), "/v1/billing/meters": (401, {}, 0)}
        object.__setattr__(
            found.patient, "http", httpx.Client(transport=httpx.MockTransport(_answering(found.answers)))
        )
        _secrets(found)
        _rules(found)
        _at_stripe(found)
        assert ChannelTable(CONFIG).put_settings(Settings({"slack": Channel("slack")}), 0)
        yield found


def _patient(monkeypatch: pytest.MonkeyPatch, stripe: Account) -> Patient:
    sqs = boto3.client("sqs", region_name="us-east-1")
    outputs = {"StripeWebhookUrl": URL}
    for name in ("Flush", "Reconcile", "StripeEvents"):
        outputs[f"{name}QueueUrl"] = sqs.create_queue(QueueName=name)["QueueUrl"]
        outputs[f"{name}DeadLetterQueueUrl"] = sqs.create_queue(QueueName=f"{name}-dead")["QueueUrl"]
    target = Target(STACK, ENV, "test", False, "us-east-1", outputs, api="https://api.test")
    at = StripeTarget(Connection(lambda: stripe.client), "test", "the double", None)
    monkeypatch.setattr(checks, "stripe_at", lambda target: at)
    stack = {"CreationTime": datetime.now(UTC) - timedelta(days=90), "Parameters": []}
    return Patient(
        target,
        lambda service: boto3.client(service, region_name="us-east-1"),
        httpx.Client(),
        lambda: time.time_ns() // 1_000_000,
        stack,
    )


def _answering(answers: dict[str, Any]) -> Callable[[httpx.Request], httpx.Response]:
    def answer(request: httpx.Request) -> httpx.Response:
        status, body, off = answers[request.url.path]
        date = datetime.now(UTC) + timedelta(seconds=off)
        return httpx.Response(status, json=body, headers={"date": date.strftime("%a, %d %b %Y %H:%M:%S GMT")})

    return answer


def _secrets(well: Well) -> None:
    for name, value in (("signing-secret", "s" * 40), ("stripe-secret-key", "sk_test_1")):
        well.aws("ssm").put_parameter(Name=f"/tollgate/{STACK}/{name}", Type="SecureString", Value=value)


def _rules(well: Well) -> None:
    """A stack with one schedule, started a minute ago."""
    template = {
        "Resources": {
            "SealMinute": {
                "Type": "AWS::Events::Rule",
                "Properties": {"Name": "seal-minute", "ScheduleExpression": "rate(1 minute)", "State": "ENABLED"},
            }
        }
    }
    well.aws("cloudformation").create_stack(StackName=STACK, TemplateBody=json.dumps(template))
    _started(well, datetime.now(UTC) - timedelta(minutes=1))


def _started(well: Well, at: datetime) -> None:
    data = {"MetricName": "Invocations", "Dimensions": [{"Name": "RuleName", "Value": "seal-minute"}], "Value": 1.0}
    well.aws("cloudwatch").put_metric_data(Namespace="AWS/Events", MetricData=[{**data, "Timestamp": at}])


def _at_stripe(well: Well) -> None:
    """What `stripe sync --apply` and `stripe connect --apply` make."""
    from tollgate.stripe_api.catalog import StripeCatalog
    from tollgate.stripe_api.client import STRIPE_VERSION
    from tollgate.stripe_api.endpoints import StripeDestinations
    from tollgate.sync.desired import desired
    from tollgate.sync.diff import diff
    from tollgate.webhooks import connect
    from tollgate.webhooks.dispatch import TYPES
    from tollgate_cli.stripe_connect import ParameterSecrets, secrets_parameter
    from tollgate_cli.stripe_sync import published

    connection = Connection(lambda: well.stripe.client)
    versions = published(wiring.catalog_table(ENV), False)
    assert versions is not None
    wishes, port = desired(versions, STACK), StripeCatalog(connection, "test")
    sync_apply.apply(port, diff(wishes, sync_apply.look(port, wishes), live=False))
    store, destinations = ParameterSecrets(well.aws("ssm"), secrets_parameter(STACK)), StripeDestinations(connection)
    steps = connect.plan(connect.wanted(URL, TYPES, STRIPE_VERSION), destinations.all(), STACK, store.read())
    connect.apply(destinations, store, steps, STACK, lambda step: None)


def test_a_stack_that_is_well_has_a_row_for_each_check(well: Well) -> None:
    assert [(one.check, one.state) for one in examine(well.patient)] == [(name, "ok") for name in CHECKS]


# -- each check, broken ------------------------------------------------------------------------------------------------


def no_catalogue(well: Well) -> None:
    boto3.client("dynamodb", region_name="us-east-1").delete_table(TableName=CONFIG)


def flush_off(well: Well) -> None:
    well.with_parameters(FlushEnabled="false")


def short_grace(well: Well) -> None:
    well.with_parameters(SealGraceSeconds="24")


def key_of_other_mode(well: Well) -> None:
    well.aws("ssm").put_parameter(
        Name=f"/tollgate/{STACK}/stripe-secret-key", Type="SecureString", Value="sk_live_1", Overwrite=True
    )


def plain_secret(well: Well) -> None:
    name = f"/tollgate/{STACK}/signing-secret"
    well.aws("ssm").delete_parameter(Name=name)
    well.aws("ssm").put_parameter(Name=name, Type="String", Value="readable")


def webhook_secret_gone(well: Well) -> None:
    well.aws("ssm").delete_parameter(Name=f"/tollgate/{STACK}/webhook-secrets")


def other_version(well: Well) -> None:
    endpoints = well.stripe.client.v1.webhook_endpoints
    (found,) = endpoints.list().data
    made = {"url": found.url, "enabled_events": found.enabled_events, "metadata": found.metadata.to_dict()}
    endpoints.delete(found.id)
    endpoints.create(made)  # type: ignore[arg-type]  # of the account's own version


def endpoint_off(well: Well) -> None:
    (found,) = well.stripe.client.v1.webhook_endpoints.list().data
    well.stripe.client.v1.webhook_endpoints.update(found.id, {"disabled": True})


def meter_off(well: Well) -> None:
    (found,) = well.stripe.client.v1.billing.meters.list().data
    well.stripe.client.v1.billing.meters.deactivate(found.id)


def nothing_is_sold(well: Well) -> None:
    v1 = well.stripe.client.v1
    for price in v1.prices.list().data:
        v1.prices.update(price.id, {"active": False})
    for product in v1.products.list().data:
        v1.products.update(product.id, {"active": False})


def clock_of_the_api(well: Well) -> None:
    well.answers["/v1/health"] = (200, {}, 30)


def clock_of_stripe(well: Well) -> None:
    well.answers["/v1/billing/meters"] = (401, {}, -30)


def rule_off(well: Well) -> None:
    well.aws("events").disable_rule(Name="seal-minute")


def not_started(well: Well) -> None:
    clock = well.patient.clock
    well.patient = replace(well.patient, clock=lambda: clock() + 3 * 3_600_000)
    for path, (status, body, _) in well.answers.items():
        well.answers[path] = (status, body, 3 * 3_600)


def dead_letter(well: Well) -> None:
    url = well.patient.target.outputs["FlushDeadLetterQueueUrl"]
    well.aws("sqs").send_message(QueueUrl=url, MessageBody="{}")


def late_message(well: Well) -> None:
    now_ms = time.time_ns() // 1_000_000 - 3_600_000
    OutboxTable(BILLING, lambda: now_ms).put(Alert("a", "test", "", "s", "t", now_ms))


BREAKS: list[tuple[Callable[[Well], None], str, str]] = [
    (no_catalogue, "settings", "Could not be looked at"),
    (flush_off, "settings", "FlushEnabled is false"),
    (short_grace, "settings", "SealGraceSeconds is 24"),
    (key_of_other_mode, "secrets", "takes only test mode keys"),
    (plain_secret, "secrets", "must be a SecureString"),
    (webhook_secret_gone, "secrets", "No webhook secret"),
    (other_version, "webhooks", "its version"),
    (endpoint_off, "webhooks", "`update`"),
    (meter_off, "meters", "was deactivated"),
    (nothing_is_sold, "meters", "Pro.* and . more"),
    (clock_of_the_api, "clock", "the API says .* 3[01] s away"),
    (clock_of_stripe, "clock", "Stripe says .* 3[01] s away"),
    (rule_off, "schedules", "SealMinute is switched off"),
    (not_started, "schedules", r"SealMinute \(rate\(1 minute\)\) started nothing"),
    (dead_letter, "dead-letters", "1 messages to flush were given up on"),
    (late_message, "outbox", "1 messages wait to be delivered"),
]


@pytest.mark.parametrize(("broken", "check", "says"), BREAKS, ids=[one[0].__name__ for one in BREAKS])
def test_a_check_finds_what_is_broken(well: Well, broken: Callable[[Well], None], check: str, says: str) -> None:
    broken(well)
    found = [one for one in well.found() if one.check == check]
    assert any(one.state == "problem" and re.search(says, one.says) and one.fix for one in found), well.found()


def test_every_check_is_broken_here() -> None:
    assert {check for _, check, _ in BREAKS} == set(CHECKS)


def test_what_is_only_said_is_no_problem(well: Well) -> None:
    well.with_parameters(AlarmEmail="", Shadow="true")
    assert [(one.check, one.state) for one in well.found()] == [("settings", "note"), ("settings", "note")]


def test_much_that_one_command_mends_is_one_finding(well: Well) -> None:
    nothing_is_sold(well)
    assert [one.check for one in well.found()] == ["meters"]


def test_a_new_stack_s_schedules_have_not_had_their_turn(well: Well) -> None:
    not_started(well)
    created = datetime.now(UTC) + timedelta(hours=3)
    well.patient = replace(well.patient, stack={**well.patient.stack, "CreationTime": created})
    assert well.found() == []


def test_a_stripe_that_is_down_keeps_no_other_check_from_being_made(
    well: Well, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tollgate.errors import StripeUnavailable

    def down(target: Target) -> StripeTarget:
        raise StripeUnavailable(None, "no answer")

    monkeypatch.setattr(checks, "stripe_at", down)
    dead_letter(well)
    assert {one.check for one in well.found()} == {"webhooks", "meters", "clock", "dead-letters"}


def test_a_key_of_the_other_mode_in_the_environment_keeps_no_other_check_from_being_made(
    well: Well, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "stripe_at", stripe_at)
    monkeypatch.setenv("STRIPE_SECRET_KEY", "sk_live_1")
    dead_letter(well)
    found = well.found()
    assert {one.check for one in found} == {"webhooks", "meters", "clock", "dead-letters"}
    assert all("STRIPE_SECRET_KEY" in one.says for one in found if one.check != "dead-letters"), found


def test_no_finding_shows_a_secret(well: Well) -> None:
    key_of_other_mode(well)
    plain_secret(well)
    text = str(examine(well.patient))
    assert "sk_live" not in text
    assert "readable" not in text
    assert "whsec_" not in text.replace("whsec_…", "")


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command_shows_rows_or_json_and_its_exit_code(
    well: Well, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from contextlib import contextmanager

    @contextmanager
    def reached(*said: object) -> Iterator[Target]:
        yield well.patient.target

    monkeypatch.setattr(doctor, "connected", reached)
    monkeypatch.setattr(doctor, "patient_of", lambda target, http: well.patient)
    doctor.doctor()
    assert "ok" in capsys.readouterr().out
    dead_letter(well)
    with pytest.raises(typer.Exit) as ended:
        doctor.doctor(as_json=True)
    assert ended.value.exit_code == 1
    said = json.loads(capsys.readouterr().out)
    assert said["stack"] == STACK
    (problem,) = (one for one in said["findings"] if one["state"] == "problem")
    assert (problem["check"], problem["fix"]) == ("dead-letters", f"tollgate dlq show --queue flush --stack {STACK}")


def test_every_check_has_its_section() -> None:
    part = PAGE.partition("## `tollgate doctor`")[2]
    sections = dict(re.findall(r"^### `([\w-]+)`\n\n(.*?)(?=^#|\Z)", part, re.M | re.S))
    assert list(sections) == list(CHECKS)
    for text in sections.values():
        assert re.findall(r"^- (Looks at|A finding means|Mend): .{20,}$", text, re.M) == [
            "Looks at",
            "A finding means",
            "Mend",
        ]


def test_what_mends_is_a_command_that_there_is(well: Well) -> None:
    root: Any = typer.main.get_command(app)
    named = set()
    for broken, _, _ in BREAKS:
        if broken in (no_catalogue, plain_secret):
            continue
        broken(well)
    plain_secret(well)
    for one in examine(well.patient):
        named |= set(re.findall(r"tollgate ([a-z]+) ([a-z]+)", one.fix))
    assert len(named) > 3
    for group, command in named:
        assert command in root.commands[group].commands


# -- the local stack's own ---------------------------------------------------------------------------------------------


def local(well: Well, functions: list[dict[str, Any]]) -> list[Finding]:
    well.answers["/_local/functions"] = (200, {"data": functions}, 0)
    target = replace(well.patient.target, local=True, name=LOCAL_STACK, api="http://127.0.0.1:8787")
    return list(checks.schedules(replace(well.patient, target=target)))


def test_the_local_stack_s_schedules(well: Well) -> None:
    seal = {"name": "seal", "invocations": 3, "failures": 0, "log": "seal.log"}
    notify = {**seal, "name": "notify"}
    assert local(well, [seal, notify]) == []
    (found,) = local(well, [seal, {**notify, "invocations": 0}])
    assert (found.state, found.fix) == ("problem", "curl -X POST http://127.0.0.1:8787/_local/run/notify")
    (found,) = local(well, [{**seal, "failures": 2}, notify])
    assert "seal failed 2 times" in found.says


def teardown_module() -> None:
    dynamo.session.cache_clear()
    dynamo.client.cache_clear()
