"""The sample events are what AWS would send to these very functions."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from tests.infra.test_template import FUNCTIONS, routes, schedules
from tests.infra.translated import ROOT, Stack, name_of


def sample(name: str) -> Any:
    return json.loads((ROOT / "events" / f"{name}.json").read_text())


def test_each_function_has_one_sample(stack: Stack) -> None:
    assert {f"{stack.folder(function).name}.json" for function in FUNCTIONS} == {
        file.name for file in (ROOT / "events").iterdir()
    }


@pytest.mark.parametrize(("name", "function"), [("seal", "SealFunction"), ("sweep", "SweepFunction")])
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
    assert isinstance(json.loads(event["body"]), dict)


def test_the_flush_sample_comes_from_the_flush_queue(stack: Stack) -> None:
    (mapping,) = stack.of_type("AWS::Lambda::EventSourceMapping").values()
    queue = stack.of_type("AWS::SQS::Queue")[name_of(mapping["EventSourceArn"])]
    suffix = queue["QueueName"]["Fn::Sub"].replace("${AWS::StackName}", "")
    for record in sample("flush")["Records"]:
        assert record["eventSource"] == "aws:sqs"
        assert record["eventSourceARN"].endswith(suffix)
        assert record["attributes"]["MessageGroupId"]
        assert record["attributes"]["MessageDeduplicationId"]
        assert record["md5OfBody"] == hashlib.md5(record["body"].encode()).hexdigest()
        assert isinstance(json.loads(record["body"]), dict)
