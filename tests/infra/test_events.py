"""The sample events are what AWS would send to these very functions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from local.settings import LOCAL_WEBHOOK_SECRET
from tests.infra.test_template import FUNCTIONS, routes, schedules
from tests.infra.translated import ROOT, Stack, name_of
from tollgate.billing.batch import SEALED, Batch
from tollgate.billing.queue_store import deduplication_id, key_of
from tollgate.http import billing_routes, gate_routes, manage_routes
from tollgate.http.account_requests import AccountIn
from tollgate.http.billing_requests import CheckoutIn
from tollgate.http.requests import ReservationIn, parse
from tollgate.http.routing import Request, Response, Router, json_body, request_of
from tollgate.usage.markers import SHARDS
from tollgate.webhooks import dispatch
from tollgate.webhooks.signature import verify


def sample(name: str) -> Any:
    return json.loads((ROOT / "events" / f"{name}.json").read_text())


def test_each_function_has_one_sample(stack: Stack) -> None:
    assert {f"{stack.folder(function).name}.json" for function in FUNCTIONS} == {
        file.name for file in (ROOT / "events").iterdir()
    }


@pytest.mark.parametrize(
    ("name", "function"), [("reconcile", "ReconcileFunction"), ("seal", "SealFunction"), ("sweep", "SweepFunction")]
)
def test_a_scheduled_sample_is_one_of_its_rules_inputs(stack: Stack, name: str, function: str) -> None:
    assert sample(name) in [event for _, event in schedules(stack, function)]


@pytest.mark.parametrize(
    ("name", "function"), [("billing", "BillingFunction"), ("gate", "GateFunction"), ("manage", "ManageFunction")]
)
def test_an_api_sample_takes_a_route_to_its_function(stack: Stack, name: str, function: str) -> None:
    event = sample(name)
    assert routes(stack)[event["routeKey"]] == (function, event["version"])
    http = event["requestContext"]["http"]
    assert event["requestContext"]["routeKey"] == event["routeKey"]
    assert event["rawPath"] == http["path"]
    spelled = http["path"].replace("/acme/", "/{id}/")
    assert event["routeKey"] in ("$default", f"{http['method']} {http['path']}", f"{http['method']} {spelled}")
    assert int(event["headers"]["content-length"]) == len(event["body"].encode())
    assert all(header == header.lower() for header in event["headers"])


@pytest.mark.parametrize(
    ("name", "function", "queue_name"),
    [("flush", "FlushFunction", "FlushQueue"), ("stripe_events", "StripeEventsFunction", "StripeEventsQueue")],
)
def test_a_queues_sample_comes_from_the_functions_queue(
    stack: Stack, name: str, function: str, queue_name: str
) -> None:
    mappings = stack.of_type("AWS::Lambda::EventSourceMapping").values()
    assert {name_of(m["EventSourceArn"]) for m in mappings if name_of(m["FunctionName"]) == function} == {queue_name}
    queue = stack.of_type("AWS::SQS::Queue")[queue_name]
    suffix = queue["QueueName"]["Fn::Sub"].replace("${AWS::StackName}", "")
    for record in sample(name)["Records"]:
        assert record["eventSource"] == "aws:sqs"
        assert record["eventSourceARN"].endswith(suffix)
        assert record["md5OfBody"] == hashlib.md5(record["body"].encode()).hexdigest()


# ---- against the code that reads them


def test_the_gate_sample_is_a_request_that_the_gate_understands() -> None:
    request = request_of(sample("gate"))
    assert gate_handler_of(request) is gate_routes.post_reservation
    body = parse(ReservationIn, json_body(request))
    assert body.account == "acme"


def test_the_manage_sample_is_a_request_that_manage_understands() -> None:
    request = request_of(sample("manage"))
    route, params = Router(manage_routes.ROUTES).find(request.method, request.path)
    assert (route.handle, params) == (manage_routes.put, {"id": "acme"})
    assert parse(AccountIn, json_body(request)).plan == "pro"


def test_the_billing_sample_is_a_request_that_billing_understands() -> None:
    request = request_of(sample("billing"))
    route, params = Router(billing_routes.ROUTES).find(request.method, request.path)
    assert (route.handle, params) == (billing_routes.post_checkout, {"id": "acme"})
    assert parse(CheckoutIn, json_body(request)).plan == "pro"


def gate_handler_of(request: Request) -> Callable[..., Response]:
    route, _ = Router(gate_routes.ROUTES).find(request.method, request.path)
    return route.handle


def test_the_flush_sample_names_a_batch_as_its_row_and_message_do() -> None:
    """The message that seal would send for a window that ended five minutes before the sample was sent."""
    (record,) = sample("flush")["Records"]
    sent_at = int(record["attributes"]["SentTimestamp"]) // 1000
    key = key_of(record["body"])
    meter, period, window, rest = key.sk.split("#")
    assert (rest, key.account) == ("000.0", "acme")
    batch = Batch(
        account=key.account,
        meter=meter,
        period_start=int(period),
        period_end=int(period) + 30 * 86_400,
        window_start=key.window_start,
        window_end=int(window) + 300,
        supplement=0,
        part=0,
        event_name="ai_credits",
        units=Decimal(3),
        timestamp=key.window_start,
        created_at=sent_at,
        state=SEALED,
        state_at=sent_at,
        customer="cus_sample",
        due_at=sent_at + 600,
    )
    assert batch.key == key
    assert batch.window_end == sent_at - 300
    assert batch.period_start <= batch.window_start < batch.period_end
    assert record["attributes"]["MessageGroupId"] == batch.group
    assert record["attributes"]["MessageDeduplicationId"] == deduplication_id(batch)


def test_the_deliverys_sample_is_signed_by_the_local_secret() -> None:
    event = sample("stripe_webhook")
    assert event["requestContext"]["http"]["method"] == "POST"
    raw, header = event["body"].encode(), event["headers"]["stripe-signature"]
    at = int(header.partition(",")[0].removeprefix("t="))
    verify(raw, header, [LOCAL_WEBHOOK_SECRET], at)
    assert dispatch.known(json.loads(raw)["type"])


def test_the_workers_sample_is_a_delivery_that_it_acts_on() -> None:
    (record,) = sample("stripe_events")["Records"]
    assert record["body"] == sample("stripe_webhook")["body"]


def test_the_seal_sample_names_shards_that_there_are() -> None:
    assert set(sample("seal")["shards"]) <= set(range(SHARDS))
