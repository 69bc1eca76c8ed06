"""The HTTP API in front of the functions: an ASGI application that turns requests into invocations."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping

from starlette.types import Receive, Scope, Send

from local.clock import StackClock
from local.functions import Failure, FunctionPool
from local.logs import console
from local.payload import INTERNAL_ERROR, BadAnswer, HttpAnswer, HttpRequest, Router, build_event, read_answer

MAX_BODY_BYTES = 10 * 1024 * 1024
# API Gateway gives an HTTP API's integration 30 seconds.
INTEGRATION_SECONDS = 30
_JSON = [(b"content-type", b"application/json")]
_TOO_LARGE = HttpAnswer(413, _JSON, b'{"message":"Request Entity Too Large"}')
_NOT_FOUND = HttpAnswer(404, _JSON, b'{"message":"Not Found"}')
_UNAVAILABLE = HttpAnswer(503, _JSON, b'{"message":"Service Unavailable"}')


class HttpApi:
    """Answers what the template's routes take."""

    def __init__(self, router: Router, pools: Mapping[str, FunctionPool], clock: StackClock) -> None:
        self._router = router
        self._pools = pools
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = str(uuid.uuid4())
        body = await read_body(scope, receive)
        answer = _TOO_LARGE if body is None else await self._answer(scope, body, request_id)
        headers = [
            *answer.headers,
            (b"content-length", str(len(answer.body)).encode()),
            (b"apigw-requestid", request_id.encode()),
        ]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else answer.body})

    async def _answer(self, scope: Scope, body: bytes, request_id: str) -> HttpAnswer:
        client = scope.get("client")
        request = HttpRequest(
            method=scope["method"],
            raw_path=scope["raw_path"].partition(b"?")[0],
            query=scope["query_string"],
            headers=scope["headers"],
            body=body,
            client=client[0] if client else "127.0.0.1",
        )
        found = self._router.find(request.method, request.raw_path)
        if found is None:
            return _NOT_FOUND
        route, parameters = found
        event = build_event(request, route, parameters, request_id, self._clock.now())
        try:
            outcome = await asyncio.wait_for(self._pools[route.function].invoke(event), INTEGRATION_SECONDS)
        except TimeoutError:
            console(f"  {route.function} gave no answer to {route.key} in {INTEGRATION_SECONDS} s: 503")
            return _UNAVAILABLE
        if outcome.failure is not None:
            status = 504 if outcome.failure is Failure.TIMEOUT else 500
            text = outcome.payload.decode("utf-8", "replace")
            console(f"  {route.function} failed on {route.key} ({outcome.failure.value}): {status} {text}")
            return HttpAnswer(status, _JSON, INTERNAL_ERROR)
        try:
            return read_answer(outcome.payload)
        except BadAnswer as problem:
            console(f"  {route.function} answered {route.key} in no form that API Gateway takes: {problem}")
            return HttpAnswer(500, _JSON, INTERNAL_ERROR)


async def read_body(scope: Scope, receive: Receive, most: int = MAX_BODY_BYTES) -> bytes | None:
    """The request's body, or None where it is larger than `most`."""
    for name, value in scope["headers"]:
        if name == b"content-length" and int(value) > most:
            return None
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > most:
            return None
        if chunk:
            chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)
