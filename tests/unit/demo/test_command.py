"""`python -m demo` as a person meets it: help, and what it says where it cannot run."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from demo.__main__ import app

ROOT = Path(__file__).resolve().parents[3]
CATALOG = str(ROOT / "catalog.yaml")


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("STRIPE_SECRET_KEY", "TOLLGATE_KEY", "TOLLGATE_PORT", "TOLLGATE_CATALOG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, [*arguments, "--catalog", CATALOG])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, " ".join(result.output.split())


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_help_names_every_option_and_column() -> None:
    code, text = run("--help")
    assert code == 0
    for name in (
        "trace",
        "accounts",
        "requests",
        "seed",
        "base-url",
        "key",
        "stripe-url",
        "catalog",
        "speed",
        "patience",
    ):
        assert f"--{name} " in text
    for column in ("offset_seconds", "account", "meter", "reserved, used", "outcome", "sends", "dimension.<name>"):
        assert column in text


def test_without_a_stack_it_says_how_to_start_one(closed_port: int) -> None:
    code, text = run("--base-url", f"http://127.0.0.1:{closed_port}", "--requests", "3")
    assert code == 2
    assert f"No stack answers at http://127.0.0.1:{closed_port}; start it with `make run` in another terminal" in text
    assert Path(".local/demo-trace.csv").read_text().startswith("request,offset_seconds,")


def test_a_port_of_the_environment_is_taken(closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLGATE_PORT", str(closed_port))
    code, text = run("--requests", "3")
    assert code == 2
    assert f"http://127.0.0.1:{closed_port};" in text


class _Other(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def other_server() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Other)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_another_server_is_no_tollgate(other_server: str) -> None:
    code, text = run("--base-url", other_server, "--requests", "3")
    assert code == 1
    assert f"{other_server} is no Tollgate: GET /v1/health answers 404." in text


def test_a_wrong_trace_is_told_before_anything_is_sent(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("offset_seconds,account,meter,used\n0,acme,ai_credits,-4\n")
    code, text = run("--trace", str(path))
    assert code == 2
    assert "mine.csv: line 2, used: '-4' is no plain decimal" in text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--stripe-key", "sk_live_x"), "it is no test key"),
        (("--speed", "0"), "'0' is no number above 0"),
        (("--speed", "fast"), "'fast' is no number above 0"),
        (("--base-url", "https://api.example.com"), "name Stripe's API for a stack that is not local"),
        (("--accounts", "0"), "Invalid value for '--accounts'"),
    ],
)
def test_wrong_options_are_refused(arguments: tuple[str, ...], text: str) -> None:
    code, said = run("--requests", "3", *arguments)
    assert code == 2
    assert text in said
