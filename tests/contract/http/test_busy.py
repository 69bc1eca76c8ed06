"""DynamoDB throttles a call, after all retries: 503 `busy` with Retry-After, and nothing is half done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse

from tests.contract.http.operations import BODIES, ENDPOINT, OPEN, READS, RESERVE
from tests.contract.http.surface import Answer, Surface
from tollgate import dynamo
from tollgate.notify.endpoint import Endpoint

WRITES = ("UpdateItem", "PutItem", "DeleteItem", "TransactWriteItems")
ALL = (*WRITES, "GetItem", "Query", "BatchGetItem")


def throttled(**call: Any) -> tuple[AWSResponse, dict[str, Any]]:
    """What botocore gets instead of sending the call: as after its last retry."""
    error = {"Code": "ProvisionedThroughputExceededException", "Message": "slow down"}
    return AWSResponse("", 400, {}, None), {"Error": error, "ResponseMetadata": {"HTTPStatusCode": 400}}


@contextmanager
def throttling(calls: Sequence[str]) -> Iterator[None]:
    emitters = [client.meta.events for client in (dynamo.client(), dynamo.client(retry=False))]
    names = [f"before-call.dynamodb.{call}" for call in calls]
    for emitter in emitters:
        for name in names:
            emitter.register_first(name, throttled)
    try:
        yield
    finally:
        for emitter in emitters:
            for name in names:
                emitter.unregister(name, throttled)


@pytest.fixture
def opened(surface: Surface) -> str:
    """An open reservation of an account that is frozen."""
    surface.call("POST", "/v1/accounts/bad/unfreeze")
    surface.call("PUT", "/v1/accounts/bad", {"plan": "free", "name": "Old"})
    found = surface.call("POST", "/v1/reservations", RESERVE)
    surface.call("POST", "/v1/accounts/bad/freeze", {"reason": "r"})
    return str(found.body["id"])


def busy(answer: Answer) -> None:
    assert (answer.status, answer.code, answer.body["retryable"]) == (503, "busy", True)
    assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.parametrize("operation", sorted(BODIES.keys() - {"createEstimate"}))
def test_throttled_writes(surface: Surface, opened: str, operation: str) -> None:
    method, path, body = BODIES[operation]
    if operation in ("createReservation", "freezeAccount"):
        surface.call("POST", "/v1/accounts/bad/unfreeze")
    if operation == "extendReservation":
        body = {"ttl_seconds": 86_000}
    if operation == "identifyAccount":
        surface.call("PUT", "/v1/accounts/bad-guest", {"plan": "free"})
    if operation in ("putWebhookEndpoint", "rotateWebhookEndpoint"):
        there = Endpoint(ENDPOINT, "https://93.184.216.34/", ("*",), "", 0, "whsec_AAAA")
        surface.manage_deps.channels.put_endpoint(there, 0)
    headers = {"Idempotency-Key": "throttled"} if operation == "recordUsage" else {}
    before = surface.contents()
    with throttling(WRITES):
        busy(surface.call(method, path.replace(OPEN, opened), body, headers=headers))
    assert surface.contents() == before


def test_throttled_usage(surface: Surface, opened: str) -> None:
    """One account's trouble spoils no other account's events: each event says what became of it."""
    with throttling(WRITES):
        answer = surface.call("POST", "/v1/usage", {"events": [{**RESERVE, "id": "throttled"}]})
    result = answer.body["results"][0]
    assert (answer.status, result["status"], result["error"]["code"]) == (200, "rejected", "busy")
    assert result["error"]["retryable"] is True
    again = surface.call("POST", "/v1/usage", {"events": [{**RESERVE, "id": "throttled"}]})
    assert again.body["results"][0]["status"] == "recorded"


@pytest.mark.parametrize("operation", [*sorted(READS), "listPlans"])
def test_throttled_reads(surface: Surface, opened: str, operation: str) -> None:
    method, path = READS.get(operation, ("GET", "/v1/plans"))
    surface.call("GET", "/v1/keys")  # the key is known from here on
    with throttling(ALL):
        busy(surface.call(method, path.replace(OPEN, opened)))


def test_a_throttled_estimate(surface: Surface, opened: str) -> None:
    with throttling(ALL):
        busy(surface.call(*BODIES["createEstimate"]))


@pytest.mark.parametrize("path", ["/v1/health", "/v1/openapi.json"])
def test_what_needs_no_store(surface: Surface, path: str) -> None:
    with throttling(ALL):
        assert surface.call("GET", path, key=None).status == 200
