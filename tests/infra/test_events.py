"""The sample events are what AWS would send to these very functions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from tests.infra.test_template import FUNCTIONS, routes, schedules
from tests.infra.translated import ROOT, Stack, name_of
from tollgate.billing.batch import SEALED, Batch
from tollgate.billing.queue_store import deduplication_id, key_of
from tollgate.http import gate_routes, manage_routes
from tollgate.http.account_requests import AccountIn
from tollgate.http.requests import ReservationIn, parse
from tollgate.http.routing import Request, Response, Router, json_body, request_of
from tollgate.usage.markers import SHARDS


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


@pytest.mark.parametrize(("name", "function"), [("gate", "GateFunction"), ("manage", "ManageFunction")])
def test_an_api_sample_takes_a_route_to_its_function(stack: Stack, name: str, function: str) -> None:
    event = sample(name)
    assert routes(stack)[event["routeKey"]] == (function, event["version"])
    http = event["requestContext"]["http"]
    assert event["requestContext"]["routeKey"] == event["routeKey"]
    assert event["rawPath"] == http["path"]
    assert event["routeKey"] in ("$default", f"{http['method']} {http['path']}")
    assert int(event["headers"]["content-length"]) == len(event["body"].encode())
    assert all(header == header.lower() for header in event["headers"])


def test_the_flush_sample_comes_from_the_flush_queue(stack: Stack) -> None:
    (mapping,) = (
        one
        for one in stack.of_type("AWS::Lambda::EventSourceMapping").values()
        if name_of(one["FunctionName"]) == "FlushFunction"
    )
    queue = stack.of_type("AWS::SQS::Queue")[name_of(mapping["EventSourceArn"])]
    suffix = queue["QueueName"]["Fn::Sub"].replace("${AWS::StackName}", "")
    for record in sample("flush")["Records"]:
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


def test_the_seal_sample_names_shards_that_there_are() -> None:
    assert set(sample("seal")["shards"]) <= set(range(SHARDS))
