"""What the gate function's start costs beside the least that any such function must import.

Each start is a fresh interpreter with cached bytecode, in turn with the bare one. The secret that the function reads at
its start comes from a small HTTP server here, through the real SDK call.
"""

from __future__ import annotations

import http.server
import json
import os
import re
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from bench import ROOT
from bench.report import Check, Listing, Section
from bench.stage import ENVIRONMENT

RATIO = 1.6
STARTS = 15
HEAVIEST = 10

BARE = "botocore client + powertools Logger"
GATE = "gate function, ready to serve"
_PROGRAMS = {
    BARE: """
import botocore.session
botocore.session.get_session().create_client("dynamodb")
from aws_lambda_powertools import Logger
Logger()
""",
    GATE: """
import gate.app
""",
}
_TIMED = """
import time
started = time.process_time_ns()
{program}
import sys
print((time.process_time_ns() - started) // 1000, "stripe" in sys.modules)
"""
_IMPORT_TIME = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \| +(\S+)")


def section() -> Section:
    with _environment() as environment:
        took, stripe = _starts(environment)
        heaviest = _heaviest(environment)
    medians = {name: statistics.median(times) / 1000 for name, times in took.items()}
    rows = [(name, median, median / medians[BARE]) for name, median in medians.items()]
    return Section(
        "Start of the gate function",
        [
            Listing((f"CPU of a start, median of {STARTS}", "milliseconds", "beside the bare one"), rows),
            Listing((f"the {HEAVIEST} heaviest own modules", "own milliseconds", "with what they import"), heaviest),
        ],
        [
            Check(
                "import of the gate function, its clients made",
                medians[GATE] / medians[BARE],
                RATIO,
                "times",
                counted=False,
            ),
            Check("`stripe` imported by the gate function", int(stripe), 0, "modules"),
        ],
        ["Above the bare interpreter. The gate's start includes reading its secret from Parameter Store."],
        {**medians},
    )


def stripe_check() -> Check:
    """The counted part alone: the gate function never imports `stripe`."""
    with _environment() as environment:
        _, stripe = _start(_PROGRAMS[GATE], environment)
    return Check("`stripe` imported by the gate function", int(stripe), 0, "modules")


def _starts(environment: Mapping[str, str]) -> tuple[dict[str, list[int]], bool]:
    took: dict[str, list[int]] = {name: [] for name in _PROGRAMS}
    stripe = False
    for turn in range(STARTS + 1):
        for name, program in _PROGRAMS.items():
            spent, found = _start(program, environment)
            stripe = stripe or found
            if turn:  # the first round writes the bytecode
                took[name].append(spent)
    return took, stripe


def _start(program: str, environment: Mapping[str, str]) -> tuple[int, bool]:
    """(CPU microseconds of a start, whether `stripe` was imported)."""
    ran = _python(["-c", _TIMED.format(program=program)], environment)
    spent, found = ran.stdout.split()
    return int(spent), found == "True"


def _heaviest(environment: Mapping[str, str]) -> list[tuple[str, float, float]]:
    """Own modules by their own import time, what they import not counted in; the fastest of five runs."""
    runs: dict[str, list[tuple[int, int]]] = {}
    for _ in range(5):
        listed = _python(["-X", "importtime", "-c", _PROGRAMS[GATE]], environment).stderr
        for own, whole, name in _IMPORT_TIME.findall(listed):
            if name.split(".")[0] in ("tollgate", "gate"):
                runs.setdefault(name, []).append((int(own), int(whole)))
    fastest = {
        name: (min(own for own, _ in times) / 1000, min(whole for _, whole in times) / 1000)
        for name, times in runs.items()
    }
    heaviest = sorted(fastest.items(), key=lambda entry: entry[1][0], reverse=True)[:HEAVIEST]
    return [(f"{name} (its clients, its secret)" if name == "gate.app" else name, *took) for name, took in heaviest]


def _python(arguments: list[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], env=dict(environment), check=True, capture_output=True, text=True, timeout=60
    )


class _Parameters(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        found = {
            "Parameter": {"Name": asked["Name"], "Value": "signing secret of the benchmark", "Type": "SecureString"}
        }
        body = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("content-type", "application/x-amz-json-1.1")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Quiet."""


@contextmanager
def _environment() -> Iterator[dict[str, str]]:
    """The function's environment, with a Parameter Store on a free loopback port."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Parameters)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        yield {
            **inherited,
            **ENVIRONMENT,
            "AWS_ENDPOINT_URL_SSM": f"http://127.0.0.1:{server.server_port}",
            "PYTHONPATH": os.pathsep.join(str(ROOT / folder) for folder in ("layers/common", "functions")),
        }
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
