"""The notify run on moto's tables, a clock in the test's hands, an HTTP receiver and a mail server on loopback."""

from __future__ import annotations

import json
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller

from tests.unit.billing.world import BILLING, CONFIG, NOON
from tollgate import dynamo
from tollgate.alerts.outbox import Alert
from tollgate.alerts.outbox_store import OutboxTable
from tollgate.notify import mail
from tollgate.notify.channel_store import ChannelTable
from tollgate.notify.channels import BUS, Channel, Settings, Smtp
from tollgate.notify.endpoint import Endpoint
from tollgate.notify.letter import Counts, Letter
from tollgate.notify.letter_store import LetterTable
from tollgate.notify.post import post
from tollgate.notify.run import NotifyDeps, Send, run
from tollgate.notify.sending import Outlets, Sender
from tollgate.notify.signing import new_secret

ALERT = Alert(
    "breaker#acme#1",
    "margin",
    "acme",
    "Acme costs more than it pays",
    "Look at acme.",
    NOON * 1000,
    {"meter": "tokens"},
)


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Receiver:
    """An HTTP server that answers as it is told: a status, `hang`, `close`, `drip`, or a function."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.answers: list[int | str] = []
        """What the next requests get, then 200."""
        self.answer_headers: dict[str, str] = {}
        self.got: list[Request] = []
        self.released = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.got.append(Request(self.path, headers, body))
                answer = receiver.answers.pop(0) if receiver.answers else 200
                if answer == "hang":
                    receiver.released.wait(30)
                    return
                if answer == "close":
                    self.connection.close()
                    return
                if answer == "drip":
                    self._drip()
                    return
                self.send_response(int(answer))
                for name, value in receiver.answer_headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def _drip(self) -> None:
                for byte in b"HTTP/1.1 200 OK\r\nX: " + b"y" * 10_000:
                    if receiver.released.wait(0.05):
                        return
                    try:
                        self.wfile.write(bytes((byte,)))
                    except OSError:
                        return

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook?a=1"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Postbox:
    """A real SMTP server. `answers`: what the next messages get after their last byte, then 250. With a certificate
    `security` is `tls` or `starttls`, and nothing is taken in the open."""

    def __init__(self, certificate: ssl.SSLContext | None = None, security: str = "none") -> None:
        self.got: list[tuple[list[str], bytes]] = []
        self.answers: list[str] = []
        self.refused: dict[str, str] = {}
        with socket.socket() as probe:  # the controller takes no port of the system's choice
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._security = security
        ways: dict[str, dict[str, Any]] = {
            "none": {},
            "tls": {"ssl_context": certificate},
            "starttls": {"tls_context": certificate, "require_starttls": True},
        }
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port, **ways[security])

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:  # noqa: N802
        if address in self.refused:
            return self.refused[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        answer = self.answers.pop(0) if self.answers else "250 OK"
        if answer == "close":
            self.got.append((list(envelope.rcpt_tos), envelope.content))
            server.transport.close()
            return "250 never arrives"
        if answer.startswith("250"):
            self.got.append((list(envelope.rcpt_tos), envelope.content))
        return answer

    def start(self) -> Smtp:
        self._controller.start()
        return Smtp("127.0.0.1", self.port, self._security)

    def stop(self) -> None:
        self._controller.stop()


class Silent:
    """A server of any kind that takes connections and never says anything."""

    def __init__(self) -> None:
        silent = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                silent.talk(self.request)

        self.ended = threading.Event()
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def talk(self, connection: socket.socket) -> None:
        self.ended.wait(30)

    def stop(self) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Dripping(Silent):
    """One that says what it says byte by byte."""

    def __init__(self, said: bytes) -> None:
        self._said = said
        super().__init__()

    def talk(self, connection: socket.socket) -> None:
        for byte in self._said:
            if self.ended.wait(0.05):
                return
            try:
                connection.sendall(bytes((byte,)))
            except OSError:
                return


@dataclass
class Stage:
    """One stack's outbox and channels."""

    now: int = NOON
    settings: Settings = field(default_factory=Settings)
    addresses: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    bus: list[tuple[str, Any]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    around: Callable[[Any], Any] = lambda target: target
    """Wraps the table and the sender: how tests cut a run."""
    on_bus: Callable[[str], None] = lambda kind: None

    def __post_init__(self) -> None:
        self.letters = LetterTable(BILLING)
        self.channels = ChannelTable(CONFIG)
        self.outbox = OutboxTable(BILLING, self.clock)

    def clock(self) -> int:
        return self.now * 1000

    def put(self, name: str = "a", **changes: Any) -> str:
        """An alert in the outbox; its place there."""
        alert = replace(ALERT, **({"id": name} | changes))
        assert self.outbox.put(alert)
        return f"{self.clock():013d}#{alert.id}"

    def have(self, *channels: Channel, **changes: Any) -> None:
        self.settings = replace(
            self.settings, channels={**self.settings.channels, **{one.name: one for one in channels}}, **changes
        )

    def endpoint(self, url: str, name: str = "whe_1", **changes: Any) -> Endpoint:
        made = replace(Endpoint(name, url, ("*",), "", self.clock(), new_secret()), **changes)
        assert self.channels.put_endpoint(made, 0)
        return made

    def run(self, in_time: Callable[[], bool] = lambda: True, send: Send | None = None) -> Counts:
        return run(self.deps(send), in_time)

    def deps(self, send: Send | None = None) -> NotifyDeps:
        def read() -> Settings:
            hooks = {one.id: one.channel(self.now) for one in self.channels.endpoints() if one.disabled is None}
            return replace(self.settings, channels={**self.settings.channels, **hooks})

        return NotifyDeps(
            letters=self.around(self.letters),
            channels=read,
            send=send or self.around(_Sending(self)).send,
            gone=lambda channel: self.channels.disable(channel.name, "it answered 410 Gone", channel.to[0]),
            told=lambda letter: self.told.append(letter.id),
            clock=self.clock,
            jitter=lambda most: 0,
        )

    def sender(self) -> Sender:
        outlets = Outlets(
            ses=_no_ses,
            smtp=mail.send,
            bus=self._event,
            post=lambda url, body, headers: post(url, body, headers, lambda host, port: [host], private=True),
            secrets=lambda: self.secrets,
            address_of=self.addresses.get,
        )
        return Sender(self.settings, outlets, "tollgate-test", self.clock, "https://api.test")

    def letter(self, place: str) -> Letter:
        found = self.letters.get(place)
        assert found is not None
        return found

    def states(self, place: str) -> dict[str, str]:
        return {name: one.state for name, one in (self.letter(place).deliveries or {}).items()}

    def all(self) -> Mapping[str, dict[str, str]]:
        rows = dynamo.query(
            BILLING, KeyConditionExpression="pk = :pk", ExpressionAttributeValues={":pk": dynamo.s("outbox")}
        )
        return {row["sk"]["S"]: self.states(row["sk"]["S"]) for row in rows}

    def _event(self, kind: str, detail: str, at: int) -> None:
        self.on_bus(kind)
        self.bus.append((kind, json.loads(detail)))


@dataclass
class _Sending:
    stage: Stage

    def send(self, channel: Channel, letter: Letter) -> None:
        self.stage.sender()(channel, letter)


def _no_ses(*_: object) -> None:
    raise AssertionError("nothing goes by SES here")


BUS_CHANNEL = Channel(BUS)


@contextmanager
def timed(at_most: int) -> Iterator[None]:
    """Fails where the block takes longer, in seconds."""
    start = time.monotonic()
    yield
    took = time.monotonic() - start
    assert took < at_most, f"{took:.1f} s"
