"""Each alarm of the template, broken: the functions do what it watches, past the threshold that the template says; and
the page that says what to do then."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import boto3
import pytest

from bench.stage import LambdaContext, Stage, http_event
from tests.infra.translated import Stack, name_of
from tollgate.alerts.outbox import Alert
from tollgate.gate.ports import AnswerLost
from tollgate.gate.recount import Found
from tollgate.gate.sweep import Swept
from tollgate.http.dispatch import Api
from tollgate.notify.letter import Counts

pytestmark = pytest.mark.filterwarnings("ignore:No application metrics to publish")

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
STACK = Stack()
ALARMS = STACK.of_type("AWS::CloudWatch::Alarm")


@dataclass(frozen=True)
class Emitted:
    """One value of a metric, as CloudWatch reads it out of a log line."""

    namespace: str
    name: str
    dimensions: tuple[str, ...]
    value: Decimal
    labels: tuple[str, ...]


def emitted(lines: list[str]) -> Iterator[Emitted]:
    for line in lines:
        if '"_aws"' not in line:
            continue
        found = json.loads(line)
        for directive in found["_aws"]["CloudWatchMetrics"]:
            for names in directive["Dimensions"]:
                for metric in directive["Metrics"]:
                    for value in found[metric["Name"]]:
                        labels = tuple(found[name] for name in sorted(names))
                        yield Emitted(
                            directive["Namespace"], metric["Name"], tuple(sorted(names)), Decimal(str(value)), labels
                        )


def threshold(name: str) -> Decimal:
    """As deployed with the parameters' defaults."""
    said = ALARMS[name]["Threshold"]
    return Decimal(str(STACK.default(said["Ref"]) if isinstance(said, dict) else said))


@dataclass
class Break:
    """What a break does to the running product."""

    stage: Stage
    name: str
    ran: set[str] = field(default_factory=set)
    """Folders of the functions that were run."""
    _from: int = 0

    def __post_init__(self) -> None:
        self._from = len(self.stage.logs.lines)

    @property
    def alarm(self) -> dict[str, Any]:
        return ALARMS[self.name]

    @property
    def count(self) -> int:
        return int(threshold(self.name))

    @property
    def lines(self) -> list[str]:
        return self.stage.logs.lines[self._from :]

    def run(self, function: str, event: Any) -> Any:
        self.ran.add(function)
        with redirect_stdout(self.stage.logs):  # pytest has put its own there since the stage began
            app = self.stage.app(function)
            app.logger.registered_handler.setStream(self.stage.logs)
            return app.handler(event, LambdaContext())

    def check_service(self) -> None:
        """The alarm looks where one of the functions that were run writes."""
        (dimension,) = self.alarm["Dimensions"]
        services = [STACK.environment(f"{name}Function")["POWERTOOLS_SERVICE_NAME"] for name in self.ran_names]
        assert dimension["Value"] in services

    @property
    def ran_names(self) -> set[str]:
        return {name for name, folder in FUNCTIONS.items() if folder in self.ran}

    def metric(self) -> Decimal:
        """What the alarm's own statistic makes of the lines, the metric taken by its name and dimensions alone."""
        self.check_service()
        wanted = (self.alarm["Namespace"], self.alarm["MetricName"], tuple(d["Name"] for d in self.alarm["Dimensions"]))
        values = [one.value for one in emitted(self.lines) if (one.namespace, one.name, one.dimensions) == wanted]
        assert self.alarm["Statistic"] in ("Sum", "Maximum")
        return sum(values, Decimal(0)) if self.alarm["Statistic"] == "Sum" else max(values, default=Decimal(0))

    def filtered(self, function: str) -> Decimal:
        """How many lines the function's metric filter lets through, for the alarm's metric."""
        (found,) = (
            one
            for one in STACK.of_type("AWS::Logs::MetricFilter").values()
            if name_of(one["LogGroupName"]) == f"{function}LogGroup"
        )
        self.check_service()
        (made,) = found["MetricTransformations"]
        assert (made["MetricNamespace"], made["MetricName"]) == (self.alarm["Namespace"], self.alarm["MetricName"])
        assert [one["Key"] for one in made["Dimensions"]] == [one["Name"] for one in self.alarm["Dimensions"]]
        match = re.fullmatch(r'\{ \$\.(\w+) = "([^"]+)" \}', found["FilterPattern"])
        assert match
        return Decimal(sum(json.loads(line).get(match[1]) == match[2] for line in self.lines if line.startswith("{")))

    def reserve(self, account: str, meter: str = "tokens", quantity: int = 1) -> dict[str, Any]:
        body = {"account": account, "meter": meter, "quantity": quantity, "ttl_seconds": 60}
        answer = self.run("gate", http_event("POST", "/v1/reservations", body))
        found: dict[str, Any] = json.loads(answer["body"])
        return found

    def next_minute(self) -> None:
        self.stage.clock.advance(61_000)


# -- what our own metrics watch ----------------------------------------------------------------------------------------


def refusals(on: Break) -> Decimal:
    """A limit of the account's refuses once, a meter that is not in the plan refuses the rest."""
    on.stage.account("many", "free")
    assert on.reserve("many", quantity=11)["denial"]["limit"] == "daily"
    for _ in range(on.count):
        assert on.reserve("many", "images")["denial"]["code"] == "not_in_plan"
    assert on.metric() < on.count, "not a line with each"
    on.next_minute()
    on.reserve("many", "images")
    limits = {one.labels[0]: one.value for one in emitted(on.lines) if one.dimensions == ("limit", "service")}
    assert set(limits) == {"daily", "not_in_plan"}
    return on.metric()


def retries(on: Break) -> Decimal:
    """Gates that never answer: every try after the third waits."""
    on.stage.account("contended", "free")
    gates = on.stage.app("gate").api._deps.gate.gates
    with (
        patch.object(type(gates), "write", side_effect=AnswerLost),
        patch("time.sleep"),
    ):
        while sum(on.stage.app("gate").counted.values()) < on.count:
            body = {"account": "contended", "meter": "tokens", "quantity": 1}
            assert on.run("gate", http_event("POST", "/v1/reservations", body))["statusCode"] == 503
            on.stage.app("gate").told_at = on.stage.clock.ms // 1000  # it has told of the first ones
    on.next_minute()
    on.reserve("contended")
    return on.metric()


def expired_holds(on: Break) -> None:
    """As many reservations as the threshold, ten a gate, of a client that forgets them all."""
    for number in range(on.count // 10):
        on.stage.account(f"forgetful{number}", "free")
        for _ in range(10):
            assert on.reserve(f"forgetful{number}")["allowed"]
    on.stage.clock.advance(10 * 60_000)


def reclaimed_by_calls(on: Break) -> Decimal:
    expired_holds(on)
    for number in range(on.count // 10):
        assert on.reserve(f"forgetful{number}")["allowed"]
    on.next_minute()
    on.reserve("forgetful0")
    return on.metric()


def reclaimed_by_sweep(on: Break) -> Decimal:
    expired_holds(on)
    on.run("sweep", {"audit": False})
    return on.metric()


def repaired(on: Break) -> Decimal:
    found = Swept(repaired=[Found("acme", {})])
    with patch.object(on.stage.app("sweep"), "sweep", lambda *said, **more: (found, True)):
        on.run("sweep", {})
    return on.metric()


def tripped(on: Break) -> Decimal:
    on.stage.account("hammered", "open")
    while on.reserve("hammered", quantity=100)["allowed"]:
        pass
    return on.metric()


def used(on: Break, account: str) -> None:
    on.stage.account(account, "open", f"cus_{account}")
    body = {"events": [{"id": f"use-{account}", "account": account, "meter": "tokens", "quantity": 1}]}
    on.stage.call("gate", "POST", "/v1/usage", body)


def unflushed(on: Break) -> Decimal:
    used(on, "waiting")
    on.stage.clock.advance(400_000)
    on.run("seal", {})
    on.stage.clock.advance(on.count * 1000)
    on.run("seal", {})
    return on.metric()


def unsealed(on: Break) -> Decimal:
    used(on, "unsealed")
    on.stage.clock.advance((on.count + 400) * 1000)
    with patch("tollgate.billing.seal.seal_account", side_effect=RuntimeError), pytest.raises(ExceptionGroup):
        on.run("seal", {})
    return on.metric()


PARKED = Alert("parked", "parked", "acme", "A batch is parked", "Look.", 0)


def parked_by_seal(on: Break) -> Decimal:
    app = on.stage.app("seal")
    made = app.run_seal

    def parks(deps: Any, *said: Any) -> Any:
        deps.outbox.put(PARKED)
        return made(deps, *said)

    with patch.object(app, "run_seal", parks):
        on.run("seal", {})
    return on.metric()


def parked_by_flush(on: Break) -> Decimal:
    def parks(deps: Any, *said: Any) -> str:
        deps.outbox.put(PARKED)
        return "rejected"

    with patch.object(on.stage.app("flush"), "flush", parks):
        on.run("flush", {"Records": [{"messageId": "1", "body": json.dumps({"pk": "batch#acme", "sk": "x"})}]})
    return on.metric()


def parked_by_stripe_events(on: Break) -> Decimal:
    app = on.stage.app("stripe_events")

    def parks(deps: Any, body: str) -> Any:
        deps.meters.outbox.put(PARKED)
        raise RuntimeError

    with patch.object(app, "receive", parks):
        on.run("stripe_events", {"Records": [{"messageId": "1", "body": "{}"}]})
    return on.metric()


def stripe_events_failing(on: Break) -> Decimal:
    for _ in range(on.count):
        answer = on.run("stripe_events", {"Records": [{"messageId": "1", "body": "poison"}]})
        assert answer == {"batchItemFailures": [{"itemIdentifier": "1"}]}
    return on.metric()


def deliveries_refused(on: Break) -> Decimal:
    delivery = {"requestContext": {"http": {"method": "POST"}}, "headers": {"stripe-signature": "t=1,v1=00"}}
    for _ in range(on.count):
        assert on.run("stripe_webhook", {**delivery, "body": "{}"})["statusCode"] == 400
    return on.filtered("StripeWebhook")


def messages_failed(on: Break) -> Decimal:
    with patch.object(on.stage.app("notify"), "run", lambda *said: Counts(failed=1)):
        on.run("notify", {})
    return on.metric()


def reconciled(on: Break, failures: list[Exception], divergent: int) -> Decimal:
    from tollgate.reconcile.run import Worked

    app = on.stage.app("reconcile")
    with (
        patch.object(app, "work", lambda *said: Worked([], failures, divergent)),
        patch.object(app, "Part"),
        patch.object(LambdaContext, "get_remaining_time_in_millis", lambda self: 600_000),
    ):
        on.run("reconcile", {"Records": [{"messageId": "1", "body": "{}"}]})
    return on.metric()


def divergent(on: Break) -> Decimal:
    return reconciled(on, [], 1)


def not_compared(on: Break) -> Decimal:
    return reconciled(on, [RuntimeError("a defect")], 0)


def defect(function: str) -> Callable[[Break], Decimal]:
    def found(on: Break) -> Decimal:
        assert on.run(function, {})["statusCode"] == 500, "no event that API Gateway makes"
        return on.filtered(function.title())

    return found


# -- what AWS measures -------------------------------------------------------------------------------------------------


def slow(on: Break) -> Decimal:
    """Lambda's Duration is the time in the handler, which is the time that the tables take."""
    on.stage.account("slow", "free")
    gates = on.stage.app("gate").api._deps.gate.gates
    written = type(gates).write

    def late(self: Any, *said: Any, **more: Any) -> Any:
        time.sleep(on.count / 1000)
        return written(self, *said, **more)

    with patch.object(type(gates), "write", late):
        begun = time.perf_counter_ns()
        on.reserve("slow")
    return Decimal(time.perf_counter_ns() - begun) / 1_000_000


def server_errors(on: Break) -> Decimal:
    with patch.object(Api, "_respond", side_effect=RuntimeError):
        answers = [on.run("gate", http_event("GET", "/v1/reservations/x", None)) for _ in range(on.count)]
    return Decimal(sum(answer["statusCode"] >= 500 for answer in answers))


def failing(function: str) -> Callable[[Break], Decimal]:
    """A run of a function whose settings are not there ends in an exception, at its start or in its handler: Lambda
    counts it as an error. None may be swallowed."""

    def found(on: Break) -> Decimal:
        errors = 0
        bare = {name: value for name, value in os.environ.items() if not name.startswith("TOLLGATE_")}
        with patch.dict(os.environ, bare, clear=True):
            for _ in range(on.count):
                try:
                    module = fresh(function)
                    module.handler({"Records": [{"messageId": "1", "body": "{}"}]} if function == "flush" else {}, None)
                except Exception:  # noqa: BLE001 - whatever it is, Lambda counts it
                    errors += 1
        return Decimal(errors)

    return found


def fresh(function: str) -> ModuleType:
    """A function's module as a new container loads it."""
    spec = importlib.util.spec_from_file_location(f"{function}_anew", ROOT / "functions" / function / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with patch.dict(sys.modules, {f"{function}_anew": module}):
        spec.loader.exec_module(module)
    return module


def dead_letter(queue: str) -> Callable[[Break], Decimal]:
    """A message that is received as often as the template allows goes to the queue that the alarm watches."""

    def found(on: Break) -> Decimal:
        sqs = boto3.session.Session().client("sqs")
        properties = STACK.of_type("AWS::SQS::Queue")[queue]
        assert name_of(on.alarm["Dimensions"][0]["Value"]) == name_of(
            properties["RedrivePolicy"]["deadLetterTargetArn"]
        )
        dead = sqs.create_queue(QueueName=f"{queue}-dead")["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        most = properties["RedrivePolicy"]["maxReceiveCount"]
        policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": most})
        url = sqs.create_queue(QueueName=f"{queue}-here", Attributes={"RedrivePolicy": policy})["QueueUrl"]
        sqs.send_message(QueueUrl=url, MessageBody="poison")
        for _ in range(most + 1):
            sqs.receive_message(QueueUrl=url, VisibilityTimeout=0)
        name = "ApproximateNumberOfMessages"
        return Decimal(sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=[name])["Attributes"][name])

    return found


def waiting(queue: str) -> Callable[[Break], Decimal]:
    """A message that nobody takes gets as old as the queue keeps it."""

    def found(on: Break) -> Decimal:
        assert name_of(on.alarm["Dimensions"][0]["Value"]) == queue
        return Decimal(STACK.of_type("AWS::SQS::Queue")[queue]["MessageRetentionPeriod"])

    return found


FUNCTIONS = {
    "Alert": "alert",
    "Billing": "billing",
    "Flush": "flush",
    "Gate": "gate",
    "Manage": "manage",
    "Notify": "notify",
    "Reconcile": "reconcile",
    "Seal": "seal",
    "StripeEvents": "stripe_events",
    "StripeWebhook": "stripe_webhook",
    "Sweep": "sweep",
}
BREAKS: dict[str, Callable[[Break], Decimal]] = {
    "ApiServerErrorsAlarm": server_errors,
    "BatchAgeAlarm": unflushed,
    "BillingDefectsAlarm": defect("billing"),
    "BreakerTripsAlarm": tripped,
    "DivergenceAlarm": divergent,
    "FlushDeadLetterAlarm": dead_letter("FlushQueue"),
    "FlushParkedBatchesAlarm": parked_by_flush,
    "FlushQueueAgeAlarm": waiting("FlushQueue"),
    "GateDefectsAlarm": defect("gate"),
    "GateLatencyAlarm": slow,
    "GateReclaimedHoldsAlarm": reclaimed_by_calls,
    "GateRetriesAlarm": retries,
    "ManageDefectsAlarm": defect("manage"),
    "MessagesFailedAlarm": messages_failed,
    "ReconcileFailuresAlarm": not_compared,
    "ReconcileDeadLetterAlarm": dead_letter("ReconcileQueue"),
    "ReconcileQueueAgeAlarm": waiting("ReconcileQueue"),
    "RefusalsAlarm": refusals,
    "RefusedDeliveriesAlarm": deliveries_refused,
    "RepairedGatesAlarm": repaired,
    "SealParkedBatchesAlarm": parked_by_seal,
    "StripeEventsDeadLetterAlarm": dead_letter("StripeEventsQueue"),
    "StripeEventsFailuresAlarm": stripe_events_failing,
    "StripeEventsParkedBatchesAlarm": parked_by_stripe_events,
    "StripeEventsQueueAgeAlarm": waiting("StripeEventsQueue"),
    "SweepReclaimedHoldsAlarm": reclaimed_by_sweep,
    "UnsealedWindowsAlarm": unsealed,
    **{f"{name}ErrorsAlarm": failing(folder) for name, folder in FUNCTIONS.items()},
}


def test_every_alarm_is_broken_here() -> None:
    assert set(BREAKS) == set(ALARMS)


@pytest.mark.parametrize("name", sorted(BREAKS))
def test_an_alarm_rises_with_what_it_watches(name: str, running: Stage) -> None:
    assert BREAKS[name](Break(running, name)) >= threshold(name)


def test_the_gate_writes_no_metric_of_a_request_that_is_granted(running: Stage) -> None:
    on = Break(running, "RefusalsAlarm")
    running.account("quiet", "free")
    running.app("gate").counted.clear()
    assert on.reserve("quiet")["allowed"]
    assert on.lines == []


def test_many_limits_make_no_more_metrics_than_bounded(running: Stage) -> None:
    gate, on = running.app("gate"), Break(running, "RefusalsAlarm")
    on.next_minute()
    for number in range(80):
        gate.count("Refusals", f"limit{number}", 1)
    with redirect_stdout(running.logs):
        gate._tell()
    by_limit = {one.labels[0]: one.value for one in emitted(on.lines) if "limit" in one.dimensions}
    assert len(by_limit) == gate.MOST_LIMITS + 1
    assert sum(by_limit.values()) == 80


# -- the page ----------------------------------------------------------------------------------------------------------

SECTIONS = dict(re.findall(r"^### `(\w+)`\n\n(.*?)(?=^#|\Z)", PAGE, re.M | re.S))


def test_every_alarm_has_its_section() -> None:
    assert {name for name in SECTIONS if name.endswith("Alarm")} == set(ALARMS)


@pytest.mark.parametrize("name", sorted(ALARMS))
def test_a_section_says_what_it_means_what_to_look_at_and_what_to_run(name: str) -> None:
    said = dict(re.findall(r"^- (Means|Look|Run): (.+)$", SECTIONS[name], re.M))
    assert set(said) == {"Means", "Look", "Run"}
    assert all(len(text) > 20 for text in said.values())


def test_the_commands_of_the_page_are_commands() -> None:
    import typer.main

    from tollgate_cli.app import app

    root: Any = typer.main.get_command(app)
    named = set(re.findall(r"`tollgate ([a-z-]+)(?: ([a-z-]+))?", PAGE))
    assert len(named) > 8
    for group, command in named:
        found = root.commands[group]
        assert not command or command in getattr(found, "commands", {command: None}), f"{group} {command}"


# -- the dashboard -----------------------------------------------------------------------------------------------------


def test_the_dashboard_shows_what_every_alarm_watches() -> None:
    (dashboard,) = STACK.of_type("AWS::CloudWatch::Dashboard").values()
    body = json.loads(dashboard["DashboardBody"]["Fn::Sub"])
    shown = {
        tuple(part for part in metric if isinstance(part, str))
        for widget in body["widgets"]
        for metric in widget["properties"]["metrics"]
    }
    for name, alarm in ALARMS.items():
        (dimension,) = alarm["Dimensions"]
        value = dimension["Value"]
        text = value["Fn::Sub"] if "Fn::Sub" in value else "${" + name_of(value) + "}"
        if alarm["Namespace"] == "AWS/SQS":
            text = text.replace("}", ".QueueName}")
        assert (alarm["Namespace"], alarm["MetricName"], dimension["Name"], text) in shown, name
    assert {(w["x"], w["y"]) for w in body["widgets"]} == {(x, y) for x in (0, 8, 16) for y in (0, 6, 12, 18)}
