"""What the functions log when things go wrong: enough to find the call again, nothing of keys, secrets or persons. (The
app's account ids stand in lines of batches and gates: without them no operator could act.)"""

from __future__ import annotations

import json
import os
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import boto3
import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError, EndpointConnectionError

from bench.stage import KEY, LambdaContext, Stage, http_event
from tests.unit.operations.conftest import SECRET
from tollgate import secrets
from tollgate.alerts.tasks import Done
from tollgate.billing.seal import Counts as SealCounts
from tollgate.errors import StripeUnavailable
from tollgate.gate.recount import Found
from tollgate.gate.sweep import Swept
from tollgate.notify.letter import Counts as NotifyCounts

pytestmark = pytest.mark.filterwarnings("ignore:No application metrics to publish")

MEMBER = "member-canary-7"
EMAIL = "canary@person.example"
NAME = "Carla Canary"
METADATA = "metadata-canary"
STRIPE_KEY = "sk_test_canary00000000"
SLACK = "https://hooks.slack.test/services/T0/B0/canarytoken"
API_KEY = "tg_test_canarykey"
CANARIES = (MEMBER, EMAIL, NAME, METADATA, STRIPE_KEY, SLACK, API_KEY, KEY, SECRET, "signing secret of the benchmark")

RESERVE = {"account": "acme", "member": MEMBER, "meter": "tokens", "quantity": 1, "commit": True}
USAGE = {
    "events": [
        {
            "id": "u1",
            "account": "acme",
            "member": MEMBER,
            "meter": "tokens",
            "quantity": 1,
            "metadata": {"who": METADATA},
        }
    ]
}
PERSON = {"plan": "free", "email": EMAIL, "name": NAME}
DELIVERY = {
    "requestContext": {"http": {"method": "POST"}, "requestId": "delivery-1"},
    "headers": {"stripe-signature": f"t=1,v1={SECRET}"},
    "body": json.dumps({"data": {"object": {"email": EMAIL, "name": NAME}}}),
}


@dataclass
class Logged:
    stage: Stage

    def lines(self, function: str, event: Any) -> list[dict[str, Any]]:
        """The lines of one run. Of an exception that leaves the handler Lambda prints type and text: of a group
        only its own, no failure in it, and no note."""
        app = self.stage.app(function)
        begun = len(self.stage.logs.lines)
        with redirect_stdout(self.stage.logs):
            app.logger.registered_handler.setStream(self.stage.logs)
            left: list[dict[str, Any]] = []
            try:
                app.handler(event, LambdaContext())
            except Exception as error:  # noqa: BLE001 - what Lambda would print
                left.append({"raised": f"{type(error).__name__}: {error}", "function_request_id": "bench"})
        found = [json.loads(line) for line in self.stage.logs.lines[begun:]]
        return [one for one in found if "_aws" not in one] + left


@pytest.fixture
def logged(running: Stage) -> Logged:
    secrets.read.cache_clear()
    running.account("acme", "free")
    return Logged(running)


def breaking(kind: Exception) -> Any:
    """Every call to AWS fails so."""
    return patch.object(BaseClient, "_make_api_call", side_effect=kind)


OUTAGES = [
    ClientError({"Error": {"Code": "InternalServerError", "Message": "try again"}}, "UpdateItem"),
    EndpointConnectionError(endpoint_url="https://dynamodb.us-east-1.amazonaws.com"),
    RuntimeError("a defect"),
]
CALLS: list[tuple[str, Any]] = [
    ("gate", http_event("POST", "/v1/reservations", RESERVE)),
    ("gate", http_event("POST", "/v1/usage", USAGE)),
    ("manage", http_event("PUT", "/v1/accounts/person", PERSON)),
    ("manage", http_event("POST", "/v1/keys", {"name": NAME, "scopes": ["usage"]})),
    ("billing", http_event("POST", "/v1/accounts/acme/checkout", {"plan": "open", "email": EMAIL})),
]
RUNS: list[tuple[str, Any]] = [
    ("seal", {}),
    ("sweep", {}),
    ("notify", {}),
    ("alert", {"task": "thresholds"}),
    ("reconcile", {}),
    ("flush", {"Records": [{"messageId": "m1", "body": json.dumps({"pk": "batch#acme", "sk": "x", "email": EMAIL})}]}),
    ("stripe_events", {"Records": [{"messageId": "m1", "body": json.dumps({"type": EMAIL, "data": NAME})}]}),
    ("stripe_events", {"Records": [{"messageId": "m1", "body": f"no JSON of {EMAIL}"}]}),
    ("reconcile", {"Records": [{"messageId": "m1", "body": f"no JSON of {EMAIL}"}]}),
    ("stripe_webhook", DELIVERY),
]
CORRELATED = ("request_id", "function_request_id", "message_id")


def clean(lines: list[dict[str, Any]]) -> bool:
    text = json.dumps(lines, ensure_ascii=False)
    return not [one for one in CANARIES if one in text]


@pytest.mark.parametrize("outage", OUTAGES, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize(("function", "event"), CALLS, ids=lambda one: one if isinstance(one, str) else "")
def test_a_call_that_fails_leaves_a_line_without_secrets_or_persons(
    logged: Logged, function: str, event: Any, outage: Exception
) -> None:
    app = logged.stage.app(function)
    with patch.object(type(app.api), "_respond", side_effect=outage):
        lines = logged.lines(function, event)
    assert [line["level"] for line in lines] == ["ERROR"]
    assert lines[0]["request_id"] == "JKJaXmPLvHcESHA="
    assert clean(lines)
    with breaking(outage):
        deep = logged.lines(function, event)
    assert deep, "a failure that nobody hears of"
    assert all(line["request_id"] for line in deep)
    assert clean(deep), deep


@pytest.mark.parametrize("outage", OUTAGES, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize(("function", "event"), RUNS, ids=lambda one: one if isinstance(one, str) else "")
def test_a_run_that_fails_leaves_lines_without_secrets_or_persons(
    logged: Logged, function: str, event: Any, outage: Exception
) -> None:
    well = logged.lines(function, event)  # makes the clients, so that the outage is met where the work is done
    assert clean(well), well
    with breaking(outage):
        lines = logged.lines(function, event)
    assert lines, "a failure that nobody hears of"
    assert all(any(line.get(name) for name in CORRELATED) for line in lines), lines
    assert clean(lines), lines


def test_stripe_s_refusal_of_the_key_names_no_key() -> None:
    from tollgate.stripe_api.client import client
    from tollgate.stripe_api.reading import called

    said = json.dumps({"error": {"message": "Invalid API Key provided: sk_test_********0000"}})
    stripe = client(STRIPE_KEY, "http://127.0.0.1:9")
    with (
        patch("stripe._http_client.RequestsClient.request", return_value=(said, 401, {})),
        pytest.raises(StripeUnavailable) as refused,
    ):
        called(lambda: stripe.v1.customers.list({"limit": 1}))
    assert STRIPE_KEY not in repr(refused.value)
    assert STRIPE_KEY not in repr(refused.value.__cause__)


def test_a_key_of_the_other_mode_is_not_shown(logged: Logged) -> None:
    ssm = boto3.session.Session().client("ssm")
    name = "/tollgate/bench/other-key"
    ssm.put_parameter(Name=name, Value="sk_live_canary00000000", Type="SecureString", Overwrite=True)
    app = logged.stage.app("flush")
    app.deps.cache_clear()
    with patch.dict(os.environ, {"TOLLGATE_STRIPE_SECRET_PARAMETER": name}):
        lines = logged.lines("flush", {"Records": [{"messageId": "m1", "body": "{}"}]})
    app.deps.cache_clear()
    assert "sk_live_canary" not in json.dumps(lines)


def test_a_channel_that_fails_does_not_log_its_address(logged: Logged) -> None:
    from tollgate.alerts.outbox import Alert
    from tollgate.alerts.outbox_store import OutboxTable
    from tollgate.notify.channel_store import ChannelTable
    from tollgate.notify.channels import Channel, Settings

    now_ms = logged.stage.clock.ms
    settings = Settings({"slack": Channel("slack"), "email": Channel("email", (EMAIL,))}, sender=f"{NAME} <{EMAIL}>")
    assert ChannelTable("config").put_settings(settings, 0)
    ssm = boto3.session.Session().client("ssm")
    ssm.put_parameter(
        Name="/tollgate/bench/notify-secrets", Value=json.dumps({"slack_url": SLACK}), Type="SecureString"
    )
    OutboxTable("billing", lambda: now_ms).put(Alert("canary", "test", "", "A test", "Of channels.", now_ms))
    lines = logged.lines("notify", {})
    assert lines
    assert clean(lines), lines


def test_every_function_is_looked_at(running: Stage) -> None:
    from tests.infra.translated import ROOT

    assert {function for function, _ in CALLS + RUNS} == {one.parent.name for one in ROOT.glob("functions/*/app.py")}


def test_a_line_with_a_person_in_it_is_found() -> None:
    assert not clean([{"message": f"mail to {EMAIL}"}])


def test_the_sweep_s_own_line_can_be_found_by_its_run(logged: Logged) -> None:
    found = Swept(repaired=[Found("acme", {})])
    with patch.object(logged.stage.app("sweep"), "sweep", lambda *said, **more: (found, True)):
        (line,) = logged.lines("sweep", {})
    assert (line["level"], line["function_request_id"]) == ("ERROR", "bench")


def _fails() -> RuntimeError:
    error = RuntimeError("a defect")
    error.add_note("account acme")
    return error


FAILING: list[tuple[str, str, Any]] = [
    ("seal", "run_seal", lambda *said: SealCounts(failures=[_fails()])),
    ("sweep", "sweep", lambda *said, **more: (Swept(failures=[_fails()]), True)),
    ("alert", "known", lambda: {"thresholds": lambda in_time: Done({}, [_fails()])}),
    ("notify", "run", lambda *said: NotifyCounts(failures=[_fails()])),
]


@pytest.mark.parametrize(("function", "name", "failing"), FAILING, ids=[one[0] for one in FAILING])
def test_a_run_that_leaves_work_undone_says_whose_and_why(
    logged: Logged, function: str, name: str, failing: Any
) -> None:
    with patch.object(logged.stage.app(function), name, failing):
        lines = logged.lines(function, {})
    (said,) = [line for line in lines if line.get("level") == "ERROR"]
    assert said["exception"].endswith("RuntimeError: a defect\naccount acme")
    assert lines[-1]["raised"].startswith("ExceptionGroup: "), "Lambda counts it"
