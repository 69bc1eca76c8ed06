"""The HTTP server: in the foreground for `python -m`, or in a thread of the calling process for tests."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import uvicorn

from local.stripe_double.app import create_app
from local.stripe_double.connections import Connections, protocol
from local.stripe_double.courier import carrying
from local.stripe_double.state import Double

HOST = "127.0.0.1"


def bind(port: int) -> socket.socket:
    """A listening socket on loopback; port 0 picks a free one. Raises OSError where the port is taken."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(256)
    except OSError:
        listener.close()
        raise
    return listener


def build(double: Double) -> uvicorn.Server:
    """A server over this state, not yet listening."""
    connections = Connections()
    config = uvicorn.Config(
        create_app(double, connections),
        http=protocol(connections),
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        # A client that reuses a connection just as it is closed sees a reset, which no test asked for.
        timeout_keep_alive=3600,
        # Requests held by an injected timeout must not hold up the end.
        timeout_graceful_shutdown=1,
    )
    return uvicorn.Server(config)


@contextmanager
def running(double: Double, port: int = 0) -> Iterator[str]:
    """The double in a thread of this process; gives its URL. Raises RuntimeError where it does not come up."""
    listener = bind(port)
    server = build(double)
    thread = threading.Thread(target=server.run, args=([listener],), name="stripe-double", daemon=True)
    thread.start()
    courier = ExitStack()
    try:
        deadline = time.monotonic() + 10
        while not server.started:
            if not thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("the Stripe double did not start")
            time.sleep(0.005)
        courier.enter_context(carrying(double))
        yield f"http://{HOST}:{listener.getsockname()[1]}"
    finally:
        courier.close()
        server.should_exit = True
        thread.join(10)
        listener.close()
