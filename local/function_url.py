"""Function URLs, at `/_local/url/<function>`: a request becomes an invocation as Lambda itself makes it.

Unlike API Gateway, Lambda leaves the path as it was sent, takes up to 6 MB, and answers 502 where the function failed.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Final

from starlette.types import Receive, Scope, Send

from local.clock import StackClock
from local.functions import Failure, FunctionPool
from local.http_front import read_body
from local.logs import console
from local.payload import BadAnswer, HttpAnswer, HttpRequest, build_event, read_answer
from local.template import Route

PREFIX: Final = "/_local/url/"
MAX_BODY_BYTES: Final = 6 * 1024 * 1024
_TEXT = [(b"content-type", b"application/json")]
_TOO_LARGE = HttpAnswer(413, _TEXT, b'{"Message":"Request must be smaller than 6291456 bytes"}')
_NO_FUNCTION = HttpAnswer(404, _TEXT, b'{"Message":null}')
_FAILED = HttpAnswer(502, [(b"content-type", b"text/plain")], b"Internal Server Error")


class FunctionUrls:
    """Answers requests to the functions that have a URL."""

    def __init__(self, functions: frozenset[str], pools: Mapping[str, FunctionPool], clock: StackClock) -> None:
        self._functions, self._pools, self._clock = functions, pools, clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(scope, receive, MAX_BODY_BYTES)
        answer = _TOO_LARGE if body is None else await self._answer(scope, body)
        headers = [*answer.headers, (b"content-length", str(len(answer.body)).encode())]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else answer.body})

    async def _answer(self, scope: Scope, body: bytes) -> HttpAnswer:
        path: bytes = scope["raw_path"].partition(b"?")[0].removeprefix(PREFIX.encode())
        function, _, rest = path.decode("latin-1").partition("/")
        if function not in self._functions:
            return _NO_FUNCTION
        client = scope.get("client")
        request = HttpRequest(
            method=scope["method"],
            raw_path=b"/" + rest.encode("latin-1"),
            query=scope["query_string"],
            headers=scope["headers"],
            body=body,
            client=client[0] if client else "127.0.0.1",
        )
        everything = Route("ANY", "$default", function)
        event = build_event(request, everything, {}, str(uuid.uuid4()), self._clock.now(), decoded=False)
        outcome = await self._pools[function].invoke(event)
        if outcome.failure is not None:
            text = outcome.payload.decode("utf-8", "replace")
            console(f"  {function} failed at its URL ({outcome.failure.value}): 502 {text}")
            return HttpAnswer(504, _FAILED.headers, b"") if outcome.failure is Failure.TIMEOUT else _FAILED
        try:
            return read_answer(outcome.payload)
        except BadAnswer as problem:
            console(f"  {function} answered at its URL in no form that Lambda takes: {problem}")
            return _FAILED
