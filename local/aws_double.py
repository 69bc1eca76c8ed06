"""The AWS double: moto for DynamoDB, SQS and SSM in a process of its own, behind one lock.

Without the lock moto oversells: two threads in it can both find a condition true, and its transactions copy and
restore whole tables. Behind it moto is a strictly serial model, which is never evidence for the real service's
concurrency.

Four things are put right on the way:
- a call costs what it touches, not what its tables hold (`dynamodb_tables`);
- a long poll waits outside the lock (moto waits inside and would stop everything else);
- moto's clock is the stack's;
- a FIFO queue remembers deduplication ids for five minutes even after the message was deleted, as SQS does.

Run as `python -m local.aws_double --port N [--clock FILE]`.
"""

from __future__ import annotations

import argparse
import functools
import io
import json
import signal
import socket
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from local.aws_calls import Calls
from local.clock import StackClock
from local.lifeline import die_with_parent
from local.settings import HOST
from local.wire import Request, Response, serve_forever

_RECEIVE = "AmazonSQS.ReceiveMessage"
_WAKES_RECEIVERS = ("AmazonSQS.SendMessage", "AmazonSQS.SendMessageBatch", "AmazonSQS.ChangeMessageVisibility")
# How often a waiting receiver looks for messages that became visible by the passing of time.
_POLL_SECONDS = 0.5
_DEDUPLICATION_MS = 300_000


def _patch_clock(clock: StackClock) -> None:
    import moto.core.utils

    def utcnow() -> datetime:
        moment = datetime.now(UTC) + timedelta(microseconds=clock.offset_ns // 1000)
        return moment.replace(tzinfo=None)

    moto.core.utils.utcnow = utcnow


def _patch_deduplication() -> None:
    from moto.sqs.models import Queue

    original = Queue.add_message

    def add_message(queue: Any, message: Any) -> None:
        key = message.deduplication_id
        # A received message comes here again on its way to the dead letter queue, and that move is never a duplicate.
        if queue.fifo_queue and key and not message.approximate_receive_count:
            seen: dict[tuple[str, str], float] = queue.__dict__.setdefault("deduplication_seen", {})
            per_group = queue.attributes.get("DeduplicationScope") == "messageGroup"
            scoped = (message.group_id if per_group else "", key)
            now = message.sent_timestamp
            for old in [k for k, at in seen.items() if now - at >= _DEDUPLICATION_MS]:
                del seen[old]
            if scoped in seen:
                return
            seen[scoped] = now
        original(queue, message)

    Queue.add_message = add_message  # type: ignore[method-assign, assignment]


class AwsDouble:
    """Answers AWS calls one at a time."""

    def __init__(self, port: int) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

        self._app = DomainDispatcherApplication(create_backend_app)
        self._port = str(port)
        self._lock = threading.Lock()
        self._sent = threading.Condition()
        self._calls = Calls()
        # The answer depends on the name alone, and looking it up is a tenth of a request's time.
        self._app.get_backend_for_host = functools.cache(  # type: ignore[method-assign]
            self._app.get_backend_for_host
        )

    def answer(self, request: Request) -> Response:
        """The answer to one AWS call."""
        if request.target == "/_double/health":
            return Response(200, [("Content-Type", "application/json")], b'{"status":"ok"}')
        if request.target == "/_double/calls":
            return Response(200, [("Content-Type", "application/json")], json.dumps(self._calls.listed()).encode())
        target = request.headers.get("x-amz-target")
        self._calls.note(request)
        if target == _RECEIVE:
            return self._receive(request)
        response = self._locked(request)
        if target in _WAKES_RECEIVERS:
            with self._sent:
                self._sent.notify_all()
        return response

    def _receive(self, request: Request) -> Response:
        parameters = json.loads(request.body)
        until = time.monotonic() + int(parameters.get("WaitTimeSeconds", 0))
        parameters["WaitTimeSeconds"] = 0
        poll = Request(request.method, request.target, request.headers, json.dumps(parameters).encode())
        while True:
            with self._sent:
                # Inside, so that a message sent between the look and the wait still wakes this receiver.
                response = self._locked(poll)
                left = until - time.monotonic()
                if response.status != 200 or b'"Messages"' in response.body or left <= 0:
                    return response
                self._sent.wait(min(left, _POLL_SECONDS))

    def _locked(self, request: Request) -> Response:
        path, _, query = request.target.partition("?")
        environ: dict[str, Any] = {
            "REQUEST_METHOD": request.method,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote(path, "latin-1"),
            "QUERY_STRING": query,
            "RAW_URI": request.target,
            "REQUEST_URI": request.target,
            "SERVER_NAME": HOST,
            "SERVER_PORT": self._port,
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": HOST,
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(request.body),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": False,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            "CONTENT_TYPE": request.headers.get("content-type", ""),
            "CONTENT_LENGTH": str(len(request.body)),
        }
        for name, value in request.headers.items():
            if name not in ("content-type", "content-length"):
                environ["HTTP_" + name.upper().replace("-", "_")] = value
        started: list[tuple[int, list[tuple[str, str]]]] = []

        def start_response(status: str, headers: list[tuple[str, str]], _exc_info: object = None) -> None:
            started.append((int(status.split(" ", 1)[0]), headers))

        with self._lock:
            chunks = self._app(environ, start_response)
            try:
                body = b"".join(chunks)
            finally:
                if hasattr(chunks, "close"):
                    chunks.close()
        status, headers = started[-1]
        return Response(status, headers, body)


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m local.aws_double")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--clock", type=Path)
    arguments = parser.parse_args()
    die_with_parent()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    listener = socket.create_server((HOST, arguments.port), backlog=128)
    if arguments.clock is not None:
        _patch_clock(StackClock(arguments.clock))
    _patch_deduplication()
    from local.dynamodb_tables import lighten  # not before the clock is patched: moto binds it by name

    lighten()
    serve_forever(listener, AwsDouble(arguments.port).answer)


if __name__ == "__main__":
    main()
