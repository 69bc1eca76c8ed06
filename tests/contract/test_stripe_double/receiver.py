"""An endpoint of the test's own: keeps what it is sent, answers what it is told to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Receiver:
    """`statuses`: answers to come, then 200. `got`: `(body, Stripe-Signature)` in order of arrival."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    got: list[tuple[str, str]] = field(default_factory=list)

    def wait(self, count: int, seconds: float = 30) -> list[tuple[str, str]]:
        """What came, once there is this much of it. Fails after a while."""
        until(lambda: len(self.got) >= count, seconds)
        return self.got


def until(true: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for something that happens in another thread."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver that is being served on loopback."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            receiver.got.append((body, self.headers["Stripe-Signature"]))
            self.send_response(receiver.statuses.pop(0) if receiver.statuses else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """A test's output is for its failures."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}/hook"
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
