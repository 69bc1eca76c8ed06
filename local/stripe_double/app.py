"""The ASGI application: Stripe's API on all paths, the controls under `/_double/`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

from local.stripe_double import auth, controls, faults, router
from local.stripe_double.connections import Connections
from local.stripe_double.errors import ApiError, invalid, rate_limited, server_error
from local.stripe_double.expansion import expand
from local.stripe_double.forms import Form, decode, decode_json, pairs
from local.stripe_double.ids import new_id
from local.stripe_double.operations import Call, Operation
from local.stripe_double.request_log import LoggedRequest
from local.stripe_double.settle import settle
from local.stripe_double.state import Double
from local.stripe_double.wire import API_VERSION, Answer

_logger = logging.getLogger("stripe_double")

REPLAYED = "Idempotent-Replayed"
HANG_SECONDS = 300.0
"""How long an injected timeout holds a client that never gives up; longer than the SDK's default of 80 s."""


def create_app(double: Double, connections: Connections | None = None) -> Starlette:
    """The application over this state. Faults that drop a connection need `connections`, which `server` gives."""
    api = StripeApi(double, connections or Connections())
    return Starlette(routes=[*controls.routes(double), Mount("/", app=api)])


@dataclass(frozen=True)
class Asked:
    """A request as it came in. `text` is the form: the body of a POST, else the query string."""

    method: str
    path: str
    text: str
    headers: Mapping[str, str]

    @property
    def idempotency_key(self) -> str | None:
        """Only POST takes keys in v1: GET and DELETE are idempotent by themselves [docs: idempotent requests]."""
        return self.headers.get("idempotency-key") if self.method == "POST" else None

    @property
    def fingerprint(self) -> str:
        """What must be the same for the same key: endpoint and parameters, in any order."""
        return f"{self.method} {self.path} {sorted(self.text.split('&'))}"


class StripeApi:
    """Answers Stripe's calls; an injected fault may take the place of the answer."""

    def __init__(self, double: Double, connections: Connections) -> None:
        self._double = double
        self._connections = connections

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        body = await request.body()
        text = body.decode("utf-8", "surrogateescape") if request.method == "POST" else request.url.query
        asked = Asked(request.method, scope["path"], text, request.headers)
        fault = self._fault(asked)
        answer = await self._answer(asked, fault)
        with self._double.lock:
            self._double.requests.add(
                LoggedRequest(
                    asked.method,
                    asked.path,
                    answer.status if answer else 0,
                    asked.idempotency_key,
                    fault.kind if fault else None,
                    self._double.clock.now(),
                )
            )
        if answer is not None:
            await _response(asked, answer)(scope, receive, send)
        else:
            hang = 0.0 if fault and fault.kind == "connection_reset" else HANG_SECONDS
            await self._connections.drop(scope, receive, after_seconds=hang)

    def _fault(self, asked: Asked) -> faults.Fault | None:
        try:
            params = dict(pairs(asked.text))
        except ApiError:
            params = {}  # an unreadable form has no parameters to match; it is refused further on
        with self._double.lock:
            return self._double.faults.take(asked.method, asked.path, params, self._double.clock.now_ms())

    async def _answer(self, asked: Asked, fault: faults.Fault | None) -> Answer | None:
        """The answer, or None where the client gets none. `_before`: nothing took effect; `_after`: it did."""
        kind = fault.kind if fault else None
        if fault is None:
            return await self._perform(asked)
        if kind in ("timeout_before", "connection_reset"):
            return None
        if kind == "429":
            return rate_limited(fault.reason).answer()
        if kind in ("500_before", "status"):
            return self._instead(asked, fault.status or 500)
        answer = await self._perform(asked)
        if kind == "timeout_after":
            return None
        return self._lost(asked, answer)

    def _instead(self, asked: Asked, status: int) -> Answer:
        """An injected error. A 5xx is kept under the Idempotency-Key and replayed, as Stripe does; a 4xx is not."""
        error = server_error()
        error.status, error.saved = status, status >= 500
        if status < 500:
            error.kind, error.message = "invalid_request_error", f"Injected answer with status {status}."
        answer = error.answer()
        if answer.saved and asked.idempotency_key:
            with self._double.lock:
                now_ms = self._double.clock.now_ms()
                self._double.saved_answers.keep_first(asked.idempotency_key, asked.fingerprint, answer, now_ms)
        return answer

    def _lost(self, asked: Asked, answer: Answer) -> Answer:
        """500 in place of an answer whose effect took place; a replay gets the 500 too, unless an earlier call's answer
        was kept already."""
        error = server_error().answer()
        if answer.saved and asked.idempotency_key and REPLAYED not in answer.headers:
            with self._double.lock:
                self._double.saved_answers.replace(asked.idempotency_key, error)
        return error

    async def _perform(self, asked: Asked) -> Answer:
        try:
            auth.check(asked.headers)
            operation, args = router.find(asked.method, asked.path)
            params = operation.params.read(_form(asked))
            call = Call(args, params, asked.path, asked.idempotency_key)
            return await self._once(asked, operation, call)
        except ApiError as error:
            return error.answer()

    async def _once(self, asked: Asked, operation: Operation, call: Call) -> Answer:
        """Carry out a call at most once per Idempotency-Key."""
        key = asked.idempotency_key
        if key is None:
            return await self._alone(operation, call)
        saved_answers = self._double.saved_answers
        with self._double.lock:
            replay = saved_answers.begin(key, asked.fingerprint, self._double.clock.now_ms())
        if replay is not None:
            return replace(replay, headers={**replay.headers, REPLAYED: "true"})
        answer = await self._alone(operation, call)
        with self._double.lock:
            saved_answers.finish(key, answer)
        return answer

    async def _alone(self, operation: Operation, call: Call) -> Answer:
        """Carry out a call, refusing it while another one works on the same thing."""
        if operation.exclusive is None:
            return self._run(operation, call)
        in_work = self._double.in_work
        with self._double.lock:
            thing = operation.exclusive(self._double, call)
            if thing in in_work:
                return rate_limited("endpoint-concurrency").answer()
            if thing is not None:
                in_work.add(thing)
        try:
            # Without real time spent here, no two calls of one event loop would ever overlap.
            await asyncio.sleep(self._double.latency_seconds)
            return self._run(operation, call)
        finally:
            with self._double.lock:
                in_work.discard(thing)

    def _run(self, operation: Operation, call: Call) -> Answer:
        try:
            with self._double.lock:
                settle(self._double)
                answer = operation.handler(self._double, call)
                return Answer.of(expand(self._double, answer, call.params.get("expand", ())))
        except ApiError as error:
            return error.answer()
        except Exception:
            # Whatever a mistake of the double's own is, a client must see Stripe's 500, and its maker the traceback.
            _logger.exception("%s %s failed", operation.method, call.path)
            return server_error().answer()


def _form(asked: Asked) -> Form:
    """The v1 API takes forms, the v2 API JSON; queries are forms in both [docs: API v2]."""
    json_sent = asked.method == "POST" and "json" in asked.headers.get("content-type", "")
    if asked.method == "POST" and asked.path.startswith("/v2/"):
        if not json_sent and asked.text:
            raise invalid("Invalid request (check that your POST body is application/json).")
        return decode_json(asked.text)
    if json_sent:
        raise invalid("Invalid request (check that your POST body is application/x-www-form-urlencoded).")
    return decode(asked.text)


def _response(asked: Asked, answer: Answer) -> Response:
    """[SDK: `Request-Id` is read from answers]; the version and the key are echoed [observed]."""
    headers: dict[str, Any] = {"Request-Id": new_id("req"), "Stripe-Version": API_VERSION, **answer.headers}
    if asked.idempotency_key:
        headers["Idempotency-Key"] = asked.idempotency_key
    return Response(answer.body, answer.status, headers, media_type="application/json")
