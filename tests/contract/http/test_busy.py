"""DynamoDB throttles the writes of a call: 503 `busy` with Retry-After, and nothing is half done."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse

from tests.contract.http.operations import BODIES, OPEN, RESERVE
from tests.contract.http.surface import Surface
from tollgate import dynamo

WRITES = ("UpdateItem", "PutItem", "DeleteItem", "TransactWriteItems")


class _Raw:
    """A body as botocore reads it."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self, *args: Any, **more: Any) -> Iterator[bytes]:
        yield self._content


def throttled(request: Any, **more: Any) -> AWSResponse:
    body = {"__type": "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException", "message": "slow down"}
    headers = {"content-type": "application/x-amz-json-1.0"}
    return AWSResponse(request.url, 400, headers, _Raw(json.dumps(body).encode()))


@pytest.fixture
def throttle(surface: Surface) -> Iterator[None]:
    events = [client.meta.events for client in (dynamo.client(), dynamo.client(retry=False))]
    for event in events:
        for write in WRITES:
            event.register_first(f"before-send.dynamodb.{write}", throttled)
    yield
    for event in events:
        for write in WRITES:
            event.unregister(f"before-send.dynamodb.{write}", throttled)


@pytest.fixture
def opened(surface: Surface) -> str:
    surface.call("PUT", "/v1/accounts/bad", {"plan": "free"})
    return str(surface.call("POST", "/v1/reservations", RESERVE).body["id"])


@pytest.mark.parametrize("operation", sorted(BODIES))
def test_throttled_writes(surface: Surface, opened: str, throttle: None, operation: str) -> None:
    method, path, body = BODIES[operation]
    before = surface.contents()
    if operation == "unfreezeAccount":
        pytest.skip("nothing is frozen: nothing is written")
    answer = surface.call(method, path.replace(OPEN, opened), body)
    assert (answer.status, answer.code, answer.body["retryable"]) == (503, "busy", True)
    assert int(answer.headers["retry-after"]) >= 1
    assert surface.contents() == before
