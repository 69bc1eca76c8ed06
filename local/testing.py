"""A local stack for tests: started as a person starts it, driven over HTTP, and checked to leave no process behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import httpx

from local.lifeline import PARENT_VARIABLE
from local.settings import HOST, LOCAL_API_KEY

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 90
_STOP_SECONDS = 20

T = TypeVar("T")


def free_ports(first: int = 21000, last: int = 29000) -> int:
    """The first of three free neighbouring ports."""
    # Stacks that start at the same time in several processes look in different places.
    start = first + (os.getpid() * 7) % (last - first - 3)
    bases: list[int] = [*range(start, last - 3, 3), *range(first, start, 3)]
    for base in bases:
        try:
            for port in (base, base + 1, base + 2):
                with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind((HOST, port))
        except OSError:
            continue
        return base
    raise RuntimeError("no three free ports in a row")


def descendants(pid: int) -> set[int]:
    """All processes that a process has started, and theirs."""
    table = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    children: dict[int, list[int]] = {}
    for line in table.splitlines():
        child, parent = map(int, line.split())
        children.setdefault(parent, []).append(child)
    found: set[int] = set()
    look = [pid]
    while look:
        for child in children.get(look.pop(), []):
            if child not in found:
                found.add(child)
                look.append(child)
    return found


def still_running(pids: set[int]) -> set[int]:
    """Which of these processes run; one that has ended and was not yet collected does not."""
    if not pids:
        return set()
    names = ",".join(str(pid) for pid in sorted(pids))
    table = subprocess.run(["ps", "-o", "pid=,stat=", "-p", names], capture_output=True, text=True, check=False).stdout
    rows = [line.split() for line in table.splitlines()]
    return {int(pid) for pid, state in rows if not state.startswith("Z")}


def wait_until(check: Callable[[], T], seconds: float = 30.0) -> T:
    """The first truthy answer of `check`. Raises AssertionError with the last answer after `seconds`."""
    until = time.monotonic() + seconds
    while True:
        answer = check()
        if answer:
            return answer
        if time.monotonic() > until:
            raise AssertionError(f"still {answer!r} after {seconds} s")
        time.sleep(0.05)


class StackProcess:
    """One `python -m local` and ways to talk to it."""

    def __init__(self, state: Path, environment: Mapping[str, str] | None = None, port: int | None = None) -> None:
        """`state`: a folder for logs. `environment` is laid over this process's own."""
        self.port = port or free_ports()
        self.base_url = f"http://{HOST}:{self.port}"
        self.double_url = f"http://{HOST}:{self.port + 1}"
        self.aws_url = f"http://{HOST}:{self.port + 2}"
        self.state = state
        self.lines: list[str] = []
        self._ready = threading.Event()
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("TOLLGATE_", "STRIPE_"))}
        given = {
            "TOLLGATE_PORT": str(self.port),
            "TOLLGATE_LOCAL_DIR": str(state),
            PARENT_VARIABLE: str(os.getpid()),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "local.lifeline", "local"],  # no stack outlives its tests, however those end
            cwd=ROOT,
            env={**clean, **given, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._http = httpx.Client(base_url=self.base_url, timeout=40, trust_env=False)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if line.startswith("tollgate ready "):
                self._ready.set()
        self._ready.set()

    @property
    def output(self) -> str:
        """Everything the stack has printed."""
        return "\n".join(self.lines)

    def wait_ready(self) -> StackProcess:
        """Wait for the ready line. Raises AssertionError with the output where it does not come."""
        self._ready.wait(START_SECONDS)
        ready = f"tollgate ready {self.base_url}"
        if ready not in self.lines:
            self.kill()
            raise AssertionError(f"the stack did not get ready:\n{self.output}")
        return self

    def wait_exit(self) -> int:
        """Wait until the stack ends by itself; its exit code."""
        code = self.process.wait(_STOP_SECONDS)
        self._reader.join(5)
        return code

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the stack as Ctrl-C does. Raises AssertionError for a bad exit code or a process that is left."""
        pids = descendants(self.process.pid)
        self._http.close()
        self.process.send_signal(number)
        try:
            code = self.wait_exit()
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the stack did not stop:\n{self.output}") from None
        left = still_running(pids)
        assert not left, f"processes left behind: {left}\n{self.output}"
        assert code == 0, f"exit code {code}:\n{self.output}"

    def kill(self) -> None:
        """SIGKILL to the runner; its children end with it."""
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> StackProcess:
        return self.wait_ready()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.stop()

    # ---- talking to it -----------------------------------------------------------------------------------------------

    def api(
        self,
        method: str,
        path: str,
        json: Any = None,
        key: str | None = LOCAL_API_KEY,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> httpx.Response:
        """One API call. `key=None` sends no key; `content` sends bytes instead of JSON."""
        sent = {} if key is None else {"Authorization": f"Bearer {key}"}
        sent |= headers or {}
        if content is not None:
            return self._http.request(method, path, content=content, headers=sent)
        return self._http.request(method, path, json=json, headers=sent)

    def start_command(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start the operator's command line, `tollgate <arguments>`, against this stack. Wide lines; both outputs are
        piped."""
        mine = {
            name: text for name, text in os.environ.items() if not name.startswith(("AWS_", "TOLLGATE_", "STRIPE_"))
        }
        other = os.environ.get("AWS_ENDPOINT_URL_DYNAMODB")
        given = {
            "TOLLGATE_PORT": str(self.port),
            "COLUMNS": "300",
            "PYTHONPATH": os.pathsep.join((str(ROOT / "cli"), str(ROOT / "layers/common"))),
            **({"AWS_ENDPOINT_URL_DYNAMODB": other} if other else {}),
        }
        return subprocess.Popen(
            [sys.executable, "-m", "tollgate_cli", *arguments],
            cwd=ROOT,
            env={**mine, **given, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `tollgate <arguments>` against this stack, whatever its exit code."""
        process = self.start_command(*arguments)
        printed, said = process.communicate()
        return subprocess.CompletedProcess(arguments, process.returncode, printed, said)

    def _local(self, method: str, path: str, body: Any = None) -> Any:
        answer = self._http.request(method, path, json=body)
        assert answer.status_code == 200, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def run(self, function: str, event: Mapping[str, Any] | None = None) -> Any:
        """Run a scheduled function now; its result."""
        return self._local("POST", f"/_local/run/{function}", event or {})["result"]

    def advance(self, seconds: int) -> str:
        """Move the whole stack's time; the time it is now."""
        return str(self._local("POST", "/_local/clock", {"advance_seconds": seconds})["now"])

    def now(self) -> str:
        """The stack's time, RFC 3339."""
        return str(self._local("GET", "/_local/clock")["now"])

    def seconds(self) -> int:
        """The stack's time, epoch seconds."""
        return int(datetime.fromisoformat(self.now()).timestamp())

    def outbox(self) -> list[dict[str, Any]]:
        """Messages of the outbox, newest first."""
        return list(self._local("GET", "/_local/outbox")["data"])

    def faults(self, faults: Sequence[Mapping[str, Any]]) -> None:
        """Replace the Stripe double's faults; none clears them."""
        self._local("POST", "/_local/stripe/faults", {"faults": list(faults)})

    def functions(self) -> dict[str, dict[str, Any]]:
        """What runs, by function name: pids, busy_pids, invocations, failures."""
        return {row["name"]: row for row in self._local("GET", "/_local/functions")["data"]}

    def queues(self) -> dict[str, dict[str, Any]]:
        """Messages waiting and in flight, by the queue's name in the template."""
        return {row["name"]: row for row in self._local("GET", "/_local/queues")["data"]}

    def double(self, method: str, path: str, body: Any = None) -> Any:
        """A call to the Stripe double's own controls, `/_double/...`; its JSON."""
        answer = self._http.request(method, self.double_url + path, json=body)
        assert answer.status_code == 200, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def aws_calls(self) -> set[tuple[str, str, str]]:
        """What was called so far: (function or other caller, action, resource)."""
        answer = self._http.get(f"{self.aws_url}/_double/calls")
        assert answer.status_code == 200, answer.text
        return {(caller, action, resource) for caller, action, resource in answer.json()}

    def log(self, function: str) -> str:
        """The log of a function."""
        return (self.state / "logs" / f"{function}.log").read_text(encoding="utf-8", errors="replace")
