"""The Lambda runtime's loop in plain Python, for machines without a wheel of awslambdaric. Same order, same errors.

One keep-alive connection asks for the next invocation; the handler runs in this thread; its answer or error is posted.
"""

from __future__ import annotations

import http.client
import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable
from decimal import Decimal
from types import TracebackType
from typing import Any

_PREFIX = "/2018-06-01/runtime"
_OWN_FILES = frozenset(
    {__file__, importlib.__file__, "<frozen importlib._bootstrap>", "<frozen importlib._bootstrap_external>"}
)

Handler = Callable[[Any, "Context"], Any]


class Context:
    """What a handler gets as its second argument."""

    def __init__(self, headers: http.client.HTTPMessage, real_time: Callable[[], float]) -> None:
        self.aws_request_id = headers["Lambda-Runtime-Aws-Request-Id"]
        self.invoked_function_arn = headers["Lambda-Runtime-Invoked-Function-Arn"]
        self.function_name = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
        self.function_version = os.environ["AWS_LAMBDA_FUNCTION_VERSION"]
        self.memory_limit_in_mb = os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]
        self.log_group_name = os.environ["AWS_LAMBDA_LOG_GROUP_NAME"]
        self.log_stream_name = os.environ["AWS_LAMBDA_LOG_STREAM_NAME"]
        self.client_context = None
        self.identity = None
        self.tenant_id = None
        self._deadline_ms = int(headers["Lambda-Runtime-Deadline-Ms"])
        self._real_time = real_time

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until this process is killed, never below 0."""
        return max(0, self._deadline_ms - int(self._real_time() * 1000))


class _Api:
    def __init__(self, address: str) -> None:
        self._connection = http.client.HTTPConnection(address)

    def next(self) -> tuple[bytes, http.client.HTTPMessage]:
        self._connection.request("GET", f"{_PREFIX}/invocation/next")
        answer = self._connection.getresponse()
        return answer.read(), answer.headers

    def post(self, path: str, body: bytes, headers: dict[str, str] | None = None) -> None:
        self._connection.request("POST", _PREFIX + path, body, headers or {})
        answer = self._connection.getresponse()
        answer.read()
        if answer.status != http.HTTPStatus.ACCEPTED:
            raise RuntimeError(f"the Runtime API answered {answer.status} to {path}")


def _plain(value: object) -> object:
    if isinstance(value, Decimal) and value.is_finite():
        # The runtime client writes a Decimal's own digits; the standard encoder can do that only for whole numbers.
        return int(value) if value == value.to_integral_value() else float(value)
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _frames(trace: TracebackType | None) -> list[str]:
    frames = traceback.extract_tb(trace)
    while frames and frames[0].filename in _OWN_FILES:
        del frames[0]
    return traceback.format_list(frames)


def _error(kind: str, message: str, stack: list[str], request_id: str = "") -> dict[str, Any]:
    return {"errorMessage": message, "errorType": kind, "requestId": request_id, "stackTrace": stack}


def _load(handler: str) -> tuple[Handler | None, dict[str, Any] | None]:
    module_name, _, function_name = handler.rpartition(".")
    if not module_name:
        return None, _error("Runtime.MalformedHandlerName", f"Bad handler '{handler}': not enough values to unpack", [])
    try:
        module = importlib.import_module(module_name.replace("/", "."))
    except ImportError as problem:
        return None, _error("Runtime.ImportModuleError", f"Unable to import module '{module_name}': {problem}", [])
    except SyntaxError as problem:
        place = f'  File "{problem.filename}" Line {problem.lineno}\n    {problem.text}'
        return None, _error(
            "Runtime.UserCodeSyntaxError", f"Syntax error in module '{module_name}': {problem}", [place]
        )
    except Exception as problem:  # noqa: BLE001 - whatever an import raises is the function's init error
        return None, _error(type(problem).__name__, str(problem), _frames(problem.__traceback__))
    function: Handler | None = getattr(module, function_name, None)
    if function is None:
        return None, _error(
            "Runtime.HandlerNotFound", f"Handler '{function_name}' missing on module '{module_name}'", []
        )
    return function, None


def _print_error(error: dict[str, Any]) -> None:
    lines = [f"[ERROR] {error['errorType']}: {error['errorMessage']}"]
    if error["stackTrace"]:
        lines += ["Traceback (most recent call last):", *"".join(error["stackTrace"]).splitlines()]
    # One line for the log's reader; the runtime client separates with carriage returns too.
    sys.stdout.write("\r".join(lines) + "\n")
    sys.stdout.flush()


def _invoke(function: Handler, event: bytes, context: Context) -> tuple[bytes, dict[str, Any] | None]:
    try:
        request = json.loads(event)
    except ValueError as problem:
        return b"", _error(
            "Runtime.UnmarshalError", f"Unable to unmarshal input: {problem}", [], context.aws_request_id
        )
    try:
        answer = function(request, context)
    except Exception as problem:  # noqa: BLE001 - whatever a handler raises is the invocation's error
        stack = _frames(problem.__traceback__)
        return b"", _error(type(problem).__name__, str(problem), stack, context.aws_request_id)
    if isinstance(answer, bytes):
        return answer, None
    try:
        return json.dumps(answer, ensure_ascii=False, default=_plain).encode(), None
    except (TypeError, ValueError) as problem:
        message = f"Unable to marshal response: {problem}"
        return b"", _error("Runtime.MarshalError", message, [], context.aws_request_id)


def run(handler: str, address: str, real_time: Callable[[], float]) -> None:
    """Serve invocations for ever. An init error is reported and ends the process with exit code 1, as on Lambda."""
    api = _Api(address)
    function, failed = _load(handler)
    if function is None:
        assert failed is not None
        _print_error(failed)
        api.post(
            "/init/error", json.dumps(failed).encode(), {"Lambda-Runtime-Function-Error-Type": failed["errorType"]}
        )
        sys.exit(1)
    while True:
        event, headers = api.next()
        context = Context(headers, real_time)
        os.environ["_X_AMZN_TRACE_ID"] = headers["Lambda-Runtime-Trace-Id"]
        body, error = _invoke(function, event, context)
        sys.stdout.flush()
        if error is None:
            api.post(f"/invocation/{context.aws_request_id}/response", body, {"Content-Type": "application/json"})
        else:
            _print_error(error)
            kind = {"Lambda-Runtime-Function-Error-Type": error["errorType"]}
            api.post(f"/invocation/{context.aws_request_id}/error", json.dumps(error).encode(), kind)
