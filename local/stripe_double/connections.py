"""The sockets under the HTTP server: answers leave in one write, and an injected fault can cut a connection."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any, cast

from starlette.types import Receive, Scope
from uvicorn.protocols.http.h11_impl import H11Protocol


class Connections:
    """Open connections by the client's address, which is how a request's scope names its own."""

    def __init__(self) -> None:
        self._transports: dict[tuple[str, int], asyncio.Transport] = {}

    def opened(self, client: tuple[str, int], transport: asyncio.Transport) -> None:
        self._transports[client] = transport

    def closed(self, client: tuple[str, int]) -> None:
        self._transports.pop(client, None)

    async def drop(self, scope: Scope, receive: Receive, *, after_seconds: float) -> None:
        """Give no answer: wait until the client gives up, and after `after_seconds` reset the connection (RST)."""
        try:
            async with asyncio.timeout(after_seconds):
                await _gone(receive)
        except TimeoutError:
            transport = self._transports[tuple(scope["client"])]
            # A linger of zero makes the kernel send RST in place of FIN.
            linger = struct.pack("ii", 1, 0)
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            transport.abort()
            await _gone(receive)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class _OneWrite:
    """A transport that joins what is written in one turn of the event loop: headers and body go out as one packet.

    Written apart, a client on a delayed-ACK connection can wait 40 ms for the second part.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._waiting: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        self._waiting.append(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._waiting and not self._transport.is_closing():
            self._transport.write(b"".join(self._waiting))
        self._waiting.clear()


def protocol(connections: Connections) -> type[asyncio.Protocol]:
    """uvicorn's HTTP/1.1 protocol over single writes, keeping `connections` up to date."""

    class DoubleProtocol(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(cast(asyncio.Transport, _OneWrite(transport)))
            if self.client is not None:
                connections.opened(self.client, transport)

        def connection_lost(self, exc: Exception | None) -> None:
            if self.client is not None:
                connections.closed(self.client)
            super().connection_lost(exc)

    return DoubleProtocol
