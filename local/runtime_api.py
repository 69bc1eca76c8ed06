"""The Lambda Runtime API of one worker, over HTTP/1.1 keep-alive.

Written on asyncio's transport and not on a web framework for two reasons: every worker needs a listener of its own (the
API has no way to say which process is asking, and a timeout must kill the right one), and every invocation passes here
twice. The only clients are the runtime client and the pure Python loop; both send Content-Length.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

_PREFIX = b"/2018-06-01/runtime"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One invocation as the runtime gets it."""

    request_id: str
    event: bytes
    deadline_ms: int
    """Epoch milliseconds in the machine's time."""
    function_arn: str
    trace_id: str


class RuntimeEvents(Protocol):
    """What a worker hears from its process."""

    def on_next(self, connection: RuntimeConnection) -> None: ...

    def on_answer(self, request_id: str, body: bytes, *, error: bool) -> bool: ...

    def on_init_error(self, body: bytes) -> None: ...


def _response(status: bytes, body: bytes, headers: bytes = b"") -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n%s" % (
        status,
        len(body),
        headers,
        body,
    )


_ACCEPTED = _response(b"202 Accepted", b'{"status":"OK"}')
_NOT_FOUND = _response(b"404 Not Found", b'{"errorMessage":"no such path","errorType":"InvalidPath"}')
_UNKNOWN_REQUEST = _response(
    b"400 Bad Request", b'{"errorMessage":"no such invocation","errorType":"InvalidRequestID"}'
)


class RuntimeConnection(asyncio.Protocol):
    """One connection of a worker's process."""

    def __init__(self, worker: RuntimeEvents) -> None:
        self._worker = worker
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while True:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._buffer[:end])
            length = 0
            for line in head.split(b"\r\n")[1:]:
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            total = end + 4 + length
            if len(self._buffer) < total:
                return
            body = bytes(self._buffer[end + 4 : total])
            del self._buffer[:total]
            method, target, _ = head.split(b"\r\n", 1)[0].split(b" ", 2)
            self._request(method, target, body)

    def _request(self, method: bytes, target: bytes, body: bytes) -> None:
        if not target.startswith(_PREFIX):
            self._write(_NOT_FOUND)
            return
        path = target[len(_PREFIX) :]
        if method == b"GET" and path == b"/invocation/next":
            self._worker.on_next(self)
            return
        parts = path.split(b"/")
        if method == b"POST" and path == b"/init/error":
            self._write(_ACCEPTED)
            self._worker.on_init_error(body)
        elif (
            method == b"POST" and len(parts) == 4 and parts[1] == b"invocation" and parts[3] in (b"response", b"error")
        ):
            known = self._worker.on_answer(parts[2].decode(), body, error=parts[3] == b"error")
            self._write(_ACCEPTED if known else _UNKNOWN_REQUEST)
        else:
            self._write(_NOT_FOUND)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def deliver(self, delivery: Delivery) -> bool:
        """Answer the pending `next` with an invocation, in one write. False where the process has hung up."""
        if self._transport is None or self._transport.is_closing():
            return False
        headers = (
            f"Lambda-Runtime-Aws-Request-Id: {delivery.request_id}\r\n"
            f"Lambda-Runtime-Deadline-Ms: {delivery.deadline_ms}\r\n"
            f"Lambda-Runtime-Invoked-Function-Arn: {delivery.function_arn}\r\n"
            f"Lambda-Runtime-Trace-Id: {delivery.trace_id}\r\n"
        )
        self._transport.write(_response(b"200 OK", delivery.event, headers.encode()))
        return True
