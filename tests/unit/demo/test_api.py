"""The stack's API and controls as the demo calls them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from demo.api import NoStack, Stack, StackLost

Answers = dict[str, tuple[int, Any]]


def stack(answers: Answers | Callable[[httpx.Request], httpx.Response]) -> Stack:
    def handle(sent: httpx.Request) -> httpx.Response:
        if callable(answers):
            return answers(sent)
        status, body = answers.get(sent.url.path, (404, {"code": "not_found", "detail": "nothing there"}))
        return httpx.Response(status, json=body)

    return Stack("http://stack", "key", httpx.MockTransport(handle))


WELL: Answers = {"/v1/health": (200, {"status": "ok"}), "/v1/accounts": (200, {"data": []})}


def test_a_stack_that_answers_is_taken() -> None:
    stack(WELL).check()


def test_no_stack_says_how_to_start_one() -> None:
    def refuse(sent: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with pytest.raises(NoStack, match="start it with `make run` in another terminal"):
        stack(refuse).check()


def test_a_wrong_key_is_told() -> None:
    refused = {"code": "unauthorized", "detail": "Send a valid key."}
    with pytest.raises(StackLost, match=r"The key is refused \(Send a valid key\.\)"):
        stack({**WELL, "/v1/accounts": (401, refused)}).check()


def test_an_answer_without_json_is_told() -> None:
    with pytest.raises(StackLost, match="GET /x answered 200 and no JSON"):
        stack(lambda sent: httpx.Response(200, text="<html>")).call("GET", "/x")


@pytest.mark.parametrize(
    ("status", "body", "busy"),
    [
        (200, {"result": {"windows": 0, "batches": 0, "queued": 0, "requeued": 0}}, False),
        (200, {"result": {"windows": 0, "batches": 0, "queued": 0, "requeued": 2}}, True),
        (502, {"code": "function_error", "detail": "seal left work undone"}, True),
        (404, {"code": "not_found"}, True),
    ],
)
def test_seal_tells_whether_it_had_work(status: int, body: dict[str, Any], busy: bool) -> None:
    assert stack({"/_local/run/seal": (status, body)}).seal_now() is busy


def test_a_deployed_stack_has_no_clock_to_move() -> None:
    assert stack({}).clock_offset_seconds() is None
    assert stack({"/_local/clock": (200, {"now": "x", "offset_seconds": 3600})}).clock_offset_seconds() == 3600


def test_messages_are_counted_by_queue() -> None:
    rows = [{"name": "FlushQueue", "waiting": 2, "in_flight": 3}, {"name": "Dead", "waiting": 0, "in_flight": 0}]
    assert stack({"/_local/queues": (200, {"data": rows})}).queued() == {"FlushQueue": 5, "Dead": 0}
