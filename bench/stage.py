"""The product in this process: its real functions, called with whole events, on moto, under a clock that we move.

Nothing is faked above the wire: `functions/<name>/app.py` runs as deployed. Tables and queue are the template's. Time
stands still until it is advanced, so a count never depends on when the benchmark runs.
"""

from __future__ import annotations

import importlib
import io
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import boto3
from moto import mock_aws

from bench import ROOT
from bench.ledger import Ledger, Tally

START_MS = 1_795_268_843_000
"""2026-11-21T13:47:23Z: inside every window, at no edge of any."""
KEY = "tg_test_bench"
SEAL_SECONDS = 300
GRACE_SECONDS = 60

_TABLES = {
    "TOLLGATE_GATES_TABLE": "gates",
    "TOLLGATE_EVENTS_TABLE": "events",
    "TOLLGATE_BILLING_TABLE": "billing",
    "TOLLGATE_ACCOUNTS_TABLE": "accounts",
    "TOLLGATE_CONFIG_TABLE": "config",
}
_SECRETS = {
    "/tollgate/bench/signing-secret": "signing secret of the benchmark",
    "/tollgate/bench/stripe": "sk_test_bench",
}
ENVIRONMENT = {
    **_TABLES,
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "bench",
    "AWS_SECRET_ACCESS_KEY": "bench",
    "TOLLGATE_STACK": "bench",
    "TOLLGATE_STAGE": "local",
    "TOLLGATE_MODE": "test",
    "TOLLGATE_SIGNING_SECRET_PARAMETER": "/tollgate/bench/signing-secret",
    "TOLLGATE_STRIPE_READS_MONTHLY": "8000",
    "TOLLGATE_NOTIFY_BUS": "default",
    "TOLLGATE_API_URL": "https://bench.invalid",
    "TOLLGATE_NOTIFY_SECRETS_PARAMETER": "/tollgate/bench/notify-secrets",
    "TOLLGATE_STRIPE_SECRET_PARAMETER": "/tollgate/bench/stripe",
    "TOLLGATE_SEAL_SECONDS": str(SEAL_SECONDS),
    "TOLLGATE_SEAL_GRACE_SECONDS": str(GRACE_SECONDS),
    "POWERTOOLS_SERVICE_NAME": "bench",
    "POWERTOOLS_METRICS_NAMESPACE": "Tollgate",
    "POWERTOOLS_LOG_LEVEL": "INFO",
}


class BenchClock:
    """Epoch nanoseconds that move only when told to."""

    def __init__(self, ms: int) -> None:
        self.ms = ms

    def __call__(self) -> int:
        return self.ms * 1_000_000

    def advance(self, ms: int) -> None:
        self.ms += ms


@dataclass(frozen=True, slots=True)
class LambdaContext:
    """What handlers ask of Lambda's context."""

    function_name: str = "bench"
    memory_limit_in_mb: int = 512
    invoked_function_arn: str = "arn:aws:lambda:us-east-1:123456789012:function:bench"
    aws_request_id: str = "bench"

    def get_remaining_time_in_millis(self) -> int:
        return 60_000


class Logs(io.TextIOBase):
    """What the functions print: their logs and metrics, as CloudWatch would take them in."""

    def __init__(self) -> None:
        self.text: list[str] = []

    def write(self, text: str) -> int:
        self.text.append(text)
        return len(text)

    @property
    def lines(self) -> list[str]:
        return "".join(self.text).splitlines()


class UnexpectedAnswer(Exception):
    """The product answered otherwise than this scenario needs: nothing that is counted then would mean anything."""


@dataclass
class Stage:
    """The product, running. One per process: the functions' modules keep their clients."""

    clock: BenchClock
    ledger: Ledger
    look: Any
    """A DynamoDB client that is not counted."""
    logs: Logs
    queue_url: str

    def app(self, name: str) -> Any:
        """The module of a function."""
        return importlib.import_module(f"{name}.app")

    def call(
        self, function: str, method: str, path: str, body: Any = None, *, key: str | None = None, expect: int = 200
    ) -> dict[str, Any]:
        """One HTTP call. Raises UnexpectedAnswer where the status is not the expected one."""
        answer = self.app(function).handler(http_event(method, path, body, key), LambdaContext())
        if answer["statusCode"] != expect:
            raise UnexpectedAnswer(f"{method} {path}: {answer['statusCode']} {answer['body'][:500]}")
        found: dict[str, Any] = json.loads(answer["body"])
        return found

    def counted(
        self, function: str, method: str, path: str, body: Any = None, *, key: str | None = None, expect: int = 200
    ) -> tuple[dict[str, Any], Tally]:
        """One HTTP call and what it asked of AWS."""
        with self.ledger.counting() as tally:
            answer = self.call(function, method, path, body, key=key, expect=expect)
        return answer, tally

    def account(self, name: str, plan: str, customer: str | None = None) -> None:
        """A new account on a plan of the benchmark's catalogue, its rules in the gate function's cache."""
        body = {"plan": plan, **({"stripe_customer_id": customer} if customer else {})}
        self.call("manage", "PUT", f"/v1/accounts/{name}", body)

    def gate_item(self, subject: str) -> dict[str, Any]:
        """A gate's item as it stands, in DynamoDB's JSON."""
        found: dict[str, Any] = self.look.get_item(TableName="gates", Key={"pk": {"S": subject}})["Item"]
        return found


def http_event(method: str, path: str, body: Any = None, key: str | None = None) -> dict[str, Any]:
    """An HTTP API event (payload 2.0) with everything that API Gateway sends along."""
    headers = {
        "accept": "application/json",
        "accept-encoding": "gzip, deflate",
        "authorization": f"Bearer {KEY}",
        "content-type": "application/json",
        "host": "abcdefghij.execute-api.us-east-1.amazonaws.com",
        "user-agent": "tollgate-bench",
        "x-amzn-trace-id": "Root=1-65f3a1b2-0123456789abcdef01234567",
        "x-forwarded-for": "192.0.2.1",
        "x-forwarded-port": "443",
        "x-forwarded-proto": "https",
    }
    if key is not None:
        headers["idempotency-key"] = key
    return {
        "version": "2.0",
        "routeKey": f"{method} {path}",
        "rawPath": path,
        "rawQueryString": "",
        "headers": headers,
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "abcdefghij",
            "domainName": "abcdefghij.execute-api.us-east-1.amazonaws.com",
            "domainPrefix": "abcdefghij",
            "http": {
                "method": method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.1",
                "userAgent": "tollgate-bench",
            },
            "requestId": "JKJaXmPLvHcESHA=",
            "routeKey": f"{method} {path}",
            "stage": "$default",
            "time": "21/Nov/2026:13:47:23 +0000",
            "timeEpoch": START_MS,
        },
        **({} if body is None else {"body": json.dumps(body)}),
        "isBase64Encoded": False,
    }


@contextmanager
def stage() -> Iterator[Stage]:
    """Set the product up. Once per process."""
    clock = BenchClock(START_MS)
    with ExitStack() as stack:
        stack.enter_context(mock_aws())
        stack.enter_context(patch.dict(os.environ, ENVIRONMENT))
        stack.enter_context(patch("time.time_ns", clock))
        look = boto3.session.Session().client("dynamodb")
        _make_tables(look)
        sqs = boto3.session.Session().client("sqs")
        queue = {"FifoQueue": "true", "VisibilityTimeout": "360"}
        url = sqs.create_queue(QueueName="flush.fifo", Attributes=queue)["QueueUrl"]
        tasks = sqs.create_queue(QueueName="stripe-events")["QueueUrl"]
        parts = sqs.create_queue(QueueName="reconcile.fifo", Attributes=queue)["QueueUrl"]
        queues = {
            "TOLLGATE_FLUSH_QUEUE_URL": url,
            "TOLLGATE_STRIPE_EVENTS_QUEUE_URL": tasks,
            "TOLLGATE_RECONCILE_QUEUE_URL": parts,
        }
        stack.enter_context(patch.dict(os.environ, queues))
        ssm = boto3.session.Session().client("ssm")
        for name, value in _SECRETS.items():
            ssm.put_parameter(Name=name, Value=value, Type="SecureString")
        logs = Logs()
        stack.enter_context(redirect_stdout(logs))
        yield Stage(clock, _ledger(look), look, logs, url)


def _ledger(look: Any) -> Ledger:
    from tollgate import dynamo, wiring
    from tollgate.catalog.schema import load_catalog

    ledger = Ledger(dynamo.session(), look)
    wiring.catalog_table(os.environ).publish(load_catalog(ROOT / "bench" / "catalog.yaml"))
    wiring.keys(os.environ).create("bench", "test", ["admin"], KEY)
    return ledger


def _make_tables(client: Any) -> None:
    from samtranslator.yaml_helper import yaml_parse

    resources = yaml_parse((ROOT / "template.yaml").read_text())["Resources"]
    names = ("AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes", "BillingMode")
    for name in _TABLES.values():
        properties = resources[f"{name.title()}Table"]["Properties"]
        client.create_table(TableName=name, **{key: properties[key] for key in names if key in properties})
