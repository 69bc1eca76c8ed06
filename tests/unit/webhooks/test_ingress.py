"""The ingress as Lambda calls it: what is queued, what is refused, and how light it starts."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from tollgate import dynamo
from tollgate.clock import system_clock
from tollgate.webhooks import queue_store
from tollgate.webhooks.ingress import MAX_BYTES
from tollgate.webhooks.signature import sign

ROOT = Path(__file__).resolve().parents[3]
APP = ROOT / "functions/stripe_webhook/app.py"
SECRET = "whsec_local"
BODY = '{"id":"evt_1","type":"invoice.paid","data":{"object":{"note":"\u00e4 \uffff"}}}'.encode()


class Ingress:
    def __init__(self) -> None:
        self.sqs = boto3.client("sqs")
        self.ssm = boto3.client("ssm")
        self.url = self.sqs.create_queue(QueueName="stripe-events")["QueueUrl"]
        self.store(SECRET)
        os.environ["TOLLGATE_WEBHOOK_SECRETS_PARAMETER"] = "/test/webhook-secrets"
        os.environ["TOLLGATE_STRIPE_EVENTS_QUEUE_URL"] = self.url
        spec = importlib.util.spec_from_file_location("stripe_webhook_app", APP)
        assert spec
        assert spec.loader
        self.app: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.app)

    def store(self, value: str) -> None:
        self.ssm.put_parameter(Name="/test/webhook-secrets", Value=value, Type="SecureString", Overwrite=True)

    def deliver(self, raw: bytes, header: str, *, coded: bool = False, method: str = "POST") -> tuple[int, str]:
        """Status and problem code."""
        event = {
            "requestContext": {"http": {"method": method}},
            "headers": {"stripe-signature": header, "content-type": "application/json"},
            "body": base64.b64encode(raw).decode() if coded else raw.decode(),
            "isBase64Encoded": coded,
        }
        answer = self.app.handler(event, None)
        return answer["statusCode"], json.loads(answer["body"])["code"] if answer["body"] else ""

    def queued(self) -> list[str]:
        answer = self.sqs.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10, VisibilityTimeout=0)
        return [message["Body"] for message in answer.get("Messages", [])]


@pytest.fixture
def ingress(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ingress]:
    for name in ("AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "us-east-1")
    monkeypatch.setenv("TOLLGATE_WEBHOOK_SECRETS_PARAMETER", "")
    monkeypatch.setenv("TOLLGATE_STRIPE_EVENTS_QUEUE_URL", "")
    with mock_aws():
        dynamo.session.cache_clear()
        queue_store._client.cache_clear()
        yield Ingress()
    dynamo.session.cache_clear()
    queue_store._client.cache_clear()


def now() -> int:
    return system_clock() // 1000


def test_a_delivery_is_queued_as_it_was_sent(ingress: Ingress) -> None:
    header = sign(BODY, SECRET, now())
    assert ingress.deliver(BODY, header) == (202, "")
    assert ingress.deliver(BODY, header, coded=True) == (202, "")
    first, second = ingress.queued()
    assert first == second
    assert json.loads(first) == json.loads(BODY)
    assert first.replace("\\uffff", "\uffff") == BODY.decode()  # what SQS does not carry is escaped, and nothing else


def test_what_is_refused_leaves_nothing(ingress: Ingress) -> None:
    right = sign(BODY, SECRET, now())
    large = b'"' + b"x" * MAX_BYTES + b'"'
    bytes_ = b'{"id": "\xff"}'
    assert ingress.deliver(BODY, sign(BODY, "whsec_forged", now())) == (400, "bad_signature")
    assert ingress.deliver(BODY, sign(BODY, SECRET, now() - 301)) == (400, "bad_signature")
    assert ingress.deliver(BODY[:-1], right) == (400, "bad_signature")
    assert ingress.deliver(BODY, "") == (400, "bad_signature")
    assert ingress.deliver(b"", right) == (400, "bad_signature")
    assert ingress.deliver(BODY, right, method="GET") == (405, "method_not_allowed")
    assert ingress.deliver(large, sign(large, SECRET, now())) == (413, "body_too_large")
    assert ingress.deliver(bytes_, sign(bytes_, SECRET, now()), coded=True) == (400, "malformed")
    assert ingress.queued() == []


def test_a_body_that_is_no_base64_is_malformed(ingress: Ingress) -> None:
    event = {
        "requestContext": {"http": {"method": "POST"}},
        "headers": {},
        "body": "%%%",
        "isBase64Encoded": True,
    }
    assert ingress.app.handler(event, None)["statusCode"] == 400


def test_without_a_header_or_a_body_nothing_breaks(ingress: Ingress) -> None:
    answer = ingress.app.handler({"requestContext": {"http": {"method": "POST"}}, "headers": {}}, None)
    assert answer["statusCode"] == 400


def test_a_queue_that_does_not_answer_is_no_2xx(ingress: Ingress) -> None:
    ingress.sqs.delete_queue(QueueUrl=ingress.url)
    with pytest.raises(Exception, match="QueueDoesNotExist|does not exist|NonExistentQueue"):
        ingress.deliver(BODY, sign(BODY, SECRET, now()))


def test_the_ingress_imports_neither_stripe_nor_what_makes_a_start_slow() -> None:
    code = f"import sys; sys.path.insert(0, {str(APP.parent)!r}); import app; print(*sys.modules)"
    environment = {
        **os.environ,
        "TOLLGATE_WEBHOOK_SECRETS_PARAMETER": "/x",
        "TOLLGATE_STRIPE_EVENTS_QUEUE_URL": "http://x",
        "PYTHONPATH": str(ROOT / "layers/common"),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment, cwd=ROOT
    )
    loaded = set(done.stdout.split())
    assert "tollgate.webhooks.signature" in loaded
    heavy = ("stripe", "requests", "pydantic", "boto3", "yaml", "tollgate.http.dispatch", "tollgate.catalog.store")
    assert not loaded.intersection(heavy)
