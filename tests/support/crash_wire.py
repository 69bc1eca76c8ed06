"""Every call that a function makes to the outside, one by one: recorded, and cut where a test says so.

DynamoDB, SQS and SSM are reached through a proxy in place of the botocore client. A call that is not cut goes straight
to the engine behind it (moto's DynamoDB handler, a small FIFO queue, one dictionary of secrets), past signing and HTTP:
a cut run is made of dozens of such calls. The one call that is cut goes through a real botocore client with the
product's own configuration, so the SDK's own retries meet the fault; the fault sits on `before-send`. Stripe is cut at
the HTTP library under the official SDK. `test_wire.py` holds both ways against each other.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import botocore.session
import requests
import urllib3.exceptions
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectTimeoutError, ReadTimeoutError
from moto.core.botocore_stubber import MockRawResponse
from moto.core.models import botocore_stubber
from moto.dynamodb.responses import DynamoHandler
from werkzeug.exceptions import HTTPException

REGION: Final = "us-east-1"
ACCOUNT_ID: Final = "123456789012"
"""moto's own."""

NOT_SENT: Final = "not_sent"
NEVER_SENT: Final = "never_sent"
LOST: Final = "answer_lost"
ALWAYS_LOST: Final = "answers_lost"
KILLED_BEFORE: Final = "killed_before"
KILLED_AFTER: Final = "killed_after"
RESET: Final = "reset"

AWS_KINDS: Final = (NOT_SENT, NEVER_SENT, LOST, ALWAYS_LOST, KILLED_BEFORE, KILLED_AFTER)
"""Not sent and sent with its answer lost: one attempt, so that the SDK's retry gets through, and all attempts."""
STRIPE_KINDS: Final = (NOT_SENT, RESET, LOST, KILLED_BEFORE, KILLED_AFTER)
"""The SDK never retries here. `reset`: the connection broke and nothing took effect, which the client cannot know."""


class Killed(BaseException):
    """The process ends here. No `except Exception` catches it."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Where (index of the call within a run) and how a run is cut."""

    index: int
    kind: str


@dataclass
class Wire:
    """The calls of one run, in order, and at most one cut among them."""

    on_call: Callable[[], None]
    """After each call that took effect: time passes."""
    queue: Fifo = field(default_factory=lambda: Fifo())
    secrets: dict[str, str] = field(default_factory=dict)
    recording: bool = False
    calls: list[str] = field(default_factory=list)
    cut: Cut | None = None
    fired: bool = False
    outage: Callable[[str], str | None] = lambda name: None
    """How each call to Stripe fails, where it does: by its name, a kind that leaves the process alive."""
    signed: bool = False
    """Every call goes the long way, through a real client: slower, and the same (`test_wire.py`)."""
    dead: bool = False
    """The process was killed: nothing that still runs in it (a `finally`) reaches the outside."""
    _fault: Callable[[AWSPreparedRequest, str], AWSResponse | None] | None = None

    def begin(self, cut: Cut | None) -> None:
        """Record from here on; `cut` counts from here."""
        self.calls, self.cut, self.fired, self.dead, self.recording = [], cut, False, False, True

    def end(self) -> None:
        self.recording = self.dead = False

    def through(self, name: str, perform: Callable[[], Any], fault: Callable[[str], Any]) -> Any:
        """One call: `perform` does it, `fault` does it under a cut of a kind that leaves the process alive."""
        if self.dead:
            raise Killed
        if not self.recording:
            return perform()
        index = len(self.calls)
        self.calls.append(name)
        if self.cut is None or self.cut.index != index:
            answer = perform()
            self.on_call()
            return answer
        self.fired = True
        kind = self.cut.kind
        if kind == KILLED_BEFORE:
            self.dead = True
            raise Killed
        if kind == KILLED_AFTER:
            # A refused condition is an answer, too: the process dies before it sees it.
            with suppress(ClientError):
                perform()
            self.on_call()
            self.dead = True
            raise Killed
        answer = fault(kind)
        self.on_call()
        return answer

    # -- AWS -----------------------------------------------------------------------------------------------------------

    def aws(self, service: str, operation: str, params: dict[str, Any], real: Callable[[], Any]) -> Any:
        """A call of a botocore client's method. `real` makes the client that a cut call goes through."""

        def faulty(kind: str) -> Any:
            self._fault = Faulty(kind, self.answer_to)
            try:
                return getattr(real(), operation)(**params)
            finally:
                self._fault = None

        def plainly() -> Any:
            if self.signed:
                return getattr(real(), operation)(**params)
            return self._straight(service, operation, params)

        return self.through(f"{service}.{operation}", plainly, faulty)

    def before_send(self, request: AWSPreparedRequest, event_name: str, **_: Any) -> AWSResponse | None:
        """botocore's event, for each attempt."""
        if self._fault is None:
            return self.answer_to(request, event_name)
        return self._fault(request, event_name)

    def _straight(self, service: str, operation: str, params: dict[str, Any]) -> Any:
        if service == "dynamodb":
            return dynamodb(operation, params)
        return self._own(service, operation, params)

    def _own(self, service: str, operation: str, params: dict[str, Any]) -> dict[str, Any]:
        if (service, operation) == ("sqs", "send_message_batch"):
            return self.queue.send(params["Entries"])
        if (service, operation) == ("ssm", "get_parameter"):
            return {"Parameter": {"Name": params["Name"], "Value": self.secrets[params["Name"]]}}
        raise AssertionError(f"{service}.{operation}: nothing answers this call here; teach it to `Wire`")

    def answer_to(self, request: AWSPreparedRequest, event_name: str) -> AWSResponse | None:
        """What the service answers to a request as botocore sends it; the effect takes place."""
        service = {"DynamoDB": "dynamodb", "AmazonSQS": "sqs", "AmazonSSM": "ssm"}
        target, _, operation = request.headers["X-Amz-Target"].decode().partition(".")
        name = service[target.partition("_")[0]]
        body = json.loads(request.body)
        if name != "dynamodb":
            snake = {"SendMessageBatch": "send_message_batch", "GetParameter": "get_parameter"}[operation]
            return _json(request, self._own(name, snake, body))
        token = body.get("ClientRequestToken")
        if token is not None and token in _TOKENS:
            return _json(request, {})  # a transaction repeated under its token has succeeded [DynamoDB]; moto forgets
        response: AWSResponse | None = botocore_stubber(event_name, request)
        if token is not None and response is not None and response.status_code == 200:
            _TOKENS.add(token)
        return response

    # -- Stripe --------------------------------------------------------------------------------------------------------

    def stripe(self, request: requests.PreparedRequest, send: Callable[[], requests.Response]) -> requests.Response:
        """A request of the Stripe SDK, on its way out."""

        def faulty(kind: str) -> requests.Response:
            if kind == NOT_SENT:
                refused = urllib3.exceptions.NewConnectionError(None, "cut: refused")  # type: ignore[arg-type]
                raise requests.exceptions.ConnectionError(refused, request=request)
            if kind == LOST:
                send()
                raise requests.exceptions.ReadTimeout("cut: answer lost", request=request)
            broken = urllib3.exceptions.ProtocolError("cut: connection reset")
            raise requests.exceptions.ConnectionError(broken, request=request)

        assert request.method is not None

        def send_in_trouble() -> requests.Response:
            kind = self.outage(name)
            return send() if kind is None else faulty(kind)

        path = [part for part in request.path_url.partition("?")[0].split("/")[2:] if not part.startswith("cus_")]
        name = f"stripe.{request.method} {'/'.join(path)}"
        answer: requests.Response = self.through(name, send_in_trouble, faulty)
        return answer


_TOKENS: set[str] = set()


class Faulty:
    """A fault on the attempts of one call: the first one, or all of them."""

    def __init__(self, kind: str, answer: Callable[[AWSPreparedRequest, str], AWSResponse | None]) -> None:
        self._kind, self._answer, self._attempts = kind, answer, 0

    def __call__(self, request: AWSPreparedRequest, event_name: str) -> AWSResponse | None:
        self._attempts += 1
        if self._attempts > 1 and self._kind in (NOT_SENT, LOST):
            return self._answer(request, event_name)
        if self._kind in (NOT_SENT, NEVER_SENT):
            raise ConnectTimeoutError(endpoint_url=request.url)
        self._answer(request, event_name)
        raise ReadTimeoutError(endpoint_url=request.url)


def _json(request: AWSPreparedRequest, body: dict[str, Any]) -> AWSResponse:
    headers = {"Content-Type": "application/x-amz-json-1.0"}
    return AWSResponse(request.url, 200, headers, MockRawResponse(json.dumps(body)))


class Fifo:
    """The flush queue: what was sent and not yet deleted. Deduplication as SQS does it within five minutes."""

    def __init__(self) -> None:
        self.waiting: list[tuple[str, int]] = []
        """(body, times received)"""
        self.seen: dict[str, int] = {}
        self.now_ms: Callable[[], int] = lambda: 0

    def send(self, entries: list[dict[str, Any]]) -> dict[str, Any]:
        now = self.now_ms()
        for entry in entries:
            name = entry["MessageDeduplicationId"]
            if now - self.seen.get(name, -300_000) >= 300_000:
                self.seen[name] = now
                self.waiting.append((entry["MessageBody"], 0))
        return {"Successful": [{"Id": entry["Id"]} for entry in entries], "Failed": []}


class Session:
    """In place of botocore's session: makes proxies, and behind each a real client when its first call is cut."""

    def __init__(self, wire: Wire) -> None:
        self._wire, self._real = wire, botocore.session.get_session()
        self._clients: dict[str, Any] = {}

    def create_client(self, service: str, config: Config | None = None, **more: Any) -> Proxy:
        return Proxy(self._wire, service, lambda: self._client(service, config, more))

    def _client(self, service: str, config: Config | None, more: dict[str, Any]) -> Any:
        """One for each configuration: to make one takes longer than a whole run."""
        name = f"{service} {sorted(vars(config).items()) if config else ''} {sorted(more.items())}"
        if name not in self._clients:
            client = self._real.create_client(service, config=config, **more)
            client.meta.events.register_first("before-send", self._wire.before_send)
            self._clients[name] = client
        return self._clients[name]


class Proxy:
    """A client whose every method call goes through the wire."""

    def __init__(self, wire: Wire, service: str, real: Callable[[], Any]) -> None:
        self._wire, self._service, self._make = wire, service, real

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        def call(**params: Any) -> Any:
            return self._wire.aws(self._service, operation, params, self._make)

        return call


# -- moto's DynamoDB without the wire ----------------------------------------------------------------------------------


def dynamodb(operation: str, params: dict[str, Any]) -> dict[str, Any]:
    """One operation on moto's backend. Raises ClientError as the client would."""
    handler = DynamoHandler()
    handler.body = handler.params = params
    handler.region, handler.current_account = REGION, ACCOUNT_ID
    handler.headers, handler.response_headers = {}, {}
    try:
        result: dict[str, Any] = getattr(handler, operation)().result
    except HTTPException as error:
        body = json.loads(error.description or "{}", object_hook=_with_bytes)
        code = body.pop("__type", "Unknown").rpartition("#")[2]
        message = body.pop("message", "") or body.pop("Message", "")
        raise ClientError(
            {**body, "Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": 400}},
            operation,
        ) from None
    return result


def _with_bytes(found: dict[str, Any]) -> dict[str, Any]:
    if len(found) == 1 and isinstance(found.get("B"), str):
        return {"B": base64.b64decode(found["B"])}
    return found
