"""A small threaded HTTP/1.1 server: keep-alive, and every answer leaves in one write.

The standard library's WSGI server closes each connection and writes head and body apart; with Nagle's algorithm that
costs a connection or 40 ms (delayed acknowledgement) a request.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

_LINE_LIMIT = 65536


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came: `target` with its query string, header names in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Response:
    """An answer; Content-Length and Connection are added on the way out."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


Answer = Callable[[Request], Response]


def _encode(response: Response, keep_alive: bool) -> bytes:
    phrase = HTTPStatus(response.status).phrase
    lines = [f"HTTP/1.1 {response.status} {phrase}"]
    lines += [
        f"{n}: {v}"
        for n, v in response.headers
        if n.lower() not in ("content-length", "connection", "transfer-encoding")
    ]
    lines += [f"Content-Length: {len(response.body)}", f"Connection: {'keep-alive' if keep_alive else 'close'}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + response.body


def _serve(connection: socket.socket, answer: Answer) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    reader = connection.makefile("rb", _LINE_LIMIT)
    # A client that hangs up in the middle is its own business: the worker may have been killed.
    with connection, reader, contextlib.suppress(ConnectionError):
        while True:
            first = reader.readline(_LINE_LIMIT).split()
            if len(first) != 3:
                return
            headers: dict[str, str] = {}
            while (line := reader.readline(_LINE_LIMIT)) not in (b"\r\n", b"\n", b""):
                name, _, value = line.partition(b":")
                headers[name.decode("latin-1").strip().lower()] = value.decode("latin-1").strip()
            if "transfer-encoding" in headers:
                connection.sendall(
                    _encode(Response(HTTPStatus.NOT_IMPLEMENTED, [], b"chunked bodies are not read"), False)
                )
                return
            if headers.get("expect", "").lower() == "100-continue":
                connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            length = int(headers.get("content-length", "0"))
            body = reader.read(length) if length else b""
            if len(body) < length:
                return
            request = Request(first[0].decode(), first[1].decode("latin-1"), headers, body)
            keep_alive = headers.get("connection", "").lower() != "close"
            connection.sendall(_encode(answer(request), keep_alive))
            if not keep_alive:
                return


def serve_forever(listener: socket.socket, answer: Answer) -> None:
    """Accept connections for ever, a thread for each. `answer` must give a Response for every request."""
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_serve, args=(connection, answer), daemon=True).start()
