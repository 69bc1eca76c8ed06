"""Functions as Lambda runs them: one process for each concurrent invocation, made on demand, killed at its timeout."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
import uuid
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from local.lifeline import PARENT_VARIABLE
from local.logs import FunctionLog
from local.runtime_api import Delivery, RuntimeConnection
from local.settings import HOST

# Lambda gives init 10 s; a laptop that starts twenty processes at once may need longer, and an import is no fault.
INIT_SECONDS = 60


class Failure(Enum):
    """Why an invocation has no answer."""

    ERROR = "error"
    """The handler raised."""
    TIMEOUT = "timeout"
    CRASH = "crash"
    """The process went away: kill -9, os._exit, out of memory."""
    INIT = "init"
    """The module could not be imported."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of an invocation: the handler's JSON, or Lambda's error object and what kind of failure it is."""

    payload: bytes
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class FunctionSpec:
    """All that is needed to run one function."""

    name: str
    handler: str
    folder: Path
    timeout_seconds: int
    memory_mb: int
    environment: Mapping[str, str]
    arn: str
    layers: tuple[Path, ...]
    limit: int
    """Most processes at once; further invocations wait."""


@dataclass(slots=True)
class _Invocation:
    event: bytes
    done: asyncio.Future[Outcome]
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    started: float = 0.0


def _error_payload(kind: str, message: str) -> bytes:
    return json.dumps({"errorType": kind, "errorMessage": message}).encode()


class Worker:
    """One process of a function and its Runtime API."""

    def __init__(self, pool: FunctionPool) -> None:
        self._pool = pool
        self._server: asyncio.Server | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._connection: RuntimeConnection | None = None
        self._invocation: _Invocation | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._init_error: bytes | None = None
        self._killed_for: Failure | None = None
        self.ready = False

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def busy(self) -> bool:
        return self._invocation is not None

    @property
    def idle(self) -> bool:
        return self._connection is not None and self._invocation is None

    async def start(self) -> None:
        """Start the process; returns when it has been started, not when it is ready."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: RuntimeConnection(self), HOST, 0)
        port = self._server.sockets[0].getsockname()[1]
        spec = self._pool.spec
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            str(Path(__file__).with_name("bootstrap.py")),
            spec.handler,
            cwd=spec.folder,
            env={
                **spec.environment,
                "PYTHONPATH": os.pathsep.join(str(path) for path in spec.layers),
                "AWS_LAMBDA_RUNTIME_API": f"{HOST}:{port}",
                PARENT_VARIABLE: str(os.getpid()),
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            process_group=0,  # a Ctrl-C at the terminal is for the runner alone
        )
        self._timer = loop.call_later(INIT_SECONDS, self._kill, Failure.INIT)

    async def run(self) -> None:
        """Follow the process to its end."""
        assert self._process is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        pid = self._process.pid
        await asyncio.gather(
            self._drain(pid, "stdout", self._process.stdout),
            self._drain(pid, "stderr", self._process.stderr),
            self._process.wait(),
        )
        self._end(self._process.returncode)

    async def _drain(self, pid: int, name: str, stream: asyncio.StreamReader) -> None:
        while chunk := await stream.read(65536):
            self._pool.log.feed(pid, name, chunk)
        self._pool.log.feed(pid, name, b"")

    def _end(self, code: int | None) -> None:
        self._cancel_timer()
        self._connection = None
        if self._server is not None:
            self._server.close()
        self._pool.forget(self)
        invocation, self._invocation = self._invocation, None
        if self._pool.closing:
            return
        if invocation is None and self.ready:
            self._pool.log.platform(f"an idle process ended ({_exit_text(code)})")
        if invocation is not None:
            self._pool.finish(invocation, self._crash(invocation.request_id, code))
        elif not self.ready:
            payload = self._init_error or _error_payload(
                "Runtime.ExitError", f"Error: Runtime exited during init ({_exit_text(code)})"
            )
            self._pool.init_failed(Outcome(payload, Failure.INIT))

    def _crash(self, request_id: str, code: int | None) -> Outcome:
        if self._killed_for is Failure.TIMEOUT:
            seconds = f"{self._pool.spec.timeout_seconds:.2f}"
            message = f"RequestId: {request_id} Error: Task timed out after {seconds} seconds"
            self._pool.log.platform(message, loud=True)
            return Outcome(_error_payload("Sandbox.Timedout", message), Failure.TIMEOUT)
        message = f"RequestId: {request_id} Error: Runtime exited with error: {_exit_text(code)}"
        self._pool.log.platform(message, loud=True)
        return Outcome(_error_payload("Runtime.ExitError", message), Failure.CRASH)

    def on_next(self, connection: RuntimeConnection) -> None:
        self._connection = connection
        if not self.ready:
            self.ready = True
            self._cancel_timer()
        self._pool.offer(self)

    def on_answer(self, request_id: str, body: bytes, *, error: bool) -> bool:
        invocation = self._invocation
        if invocation is None or invocation.request_id != request_id:
            return False
        self._invocation = None
        self._cancel_timer()
        self._pool.finish(invocation, Outcome(body, Failure.ERROR if error else None))
        return True

    def on_init_error(self, body: bytes) -> None:
        self._init_error = body

    def assign(self, invocation: _Invocation) -> bool:
        """Hand an invocation to the waiting process. False where it has hung up since."""
        assert self._connection is not None
        spec = self._pool.spec
        delivered = self._connection.deliver(
            Delivery(
                request_id=invocation.request_id,
                event=invocation.event,
                deadline_ms=int((time.time() + spec.timeout_seconds) * 1000),
                function_arn=spec.arn,
                trace_id=f"Root=1-{invocation.request_id[:8]}-{invocation.request_id.replace('-', '')[8:]}",
            )
        )
        self._connection = None
        if not delivered:
            return False
        self._invocation = invocation
        invocation.started = time.monotonic()
        self._timer = asyncio.get_running_loop().call_later(spec.timeout_seconds, self._kill, Failure.TIMEOUT)
        return True

    def _kill(self, reason: Failure) -> None:
        self._killed_for = reason
        self.kill()

    def kill(self) -> None:
        """SIGKILL to the process and whatever it started."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _exit_text(code: int | None) -> str:
    if code is not None and code < 0:
        return f"signal: {signal.Signals(-code).name}"
    return f"exit status {code}"


class FunctionPool:
    """All processes of one function."""

    def __init__(self, spec: FunctionSpec, log: FunctionLog) -> None:
        self.spec = spec
        self.log = log
        self.closing = False
        self.invocations = 0
        self.failures = 0
        self._workers: set[Worker] = set()
        self._idle: list[Worker] = []
        self._waiting: deque[_Invocation] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._warm: asyncio.Future[Outcome | None] | None = None

    @property
    def pids(self) -> list[int]:
        return sorted(worker.pid for worker in self._workers if worker.pid is not None)

    @property
    def busy_pids(self) -> list[int]:
        return sorted(worker.pid for worker in self._workers if worker.pid is not None and worker.busy)

    async def warm(self) -> Outcome | None:
        """Start one process and wait until it can serve. Gives the init error where it cannot."""
        self._warm = asyncio.get_running_loop().create_future()
        self._spawn()
        return await self._warm

    async def invoke(self, event: bytes) -> Outcome:
        """Run the function once with this event (JSON bytes)."""
        invocation = _Invocation(event, asyncio.get_running_loop().create_future())
        self.invocations += 1
        while self._idle:
            # The last one used first: its caches are warm, and a quiet stack uses one process.
            if self._idle.pop().assign(invocation):
                return await invocation.done
        self._waiting.append(invocation)
        self._grow()
        try:
            return await invocation.done
        finally:
            if not invocation.done.done() or invocation.done.cancelled():
                with contextlib.suppress(ValueError):
                    self._waiting.remove(invocation)

    def _grow(self) -> None:
        starting = sum(1 for worker in self._workers if not worker.ready)
        if len(self._waiting) > starting and len(self._workers) < self.spec.limit:
            self._spawn()

    def _spawn(self) -> None:
        worker = Worker(self)
        self._workers.add(worker)
        task = asyncio.get_running_loop().create_task(self._live(worker))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _live(self, worker: Worker) -> None:
        await worker.start()
        if self.closing:
            worker.kill()
        await worker.run()

    def offer(self, worker: Worker) -> None:
        """A worker is ready for its next invocation."""
        if self._warm is not None and not self._warm.done():
            self._warm.set_result(None)
        while self._waiting:
            invocation = self._waiting.popleft()
            if invocation.done.done():
                continue
            if not worker.assign(invocation):
                self._waiting.appendleft(invocation)
            return
        self._idle.append(worker)

    def finish(self, invocation: _Invocation, outcome: Outcome) -> None:
        """An invocation has ended."""
        milliseconds = (time.monotonic() - invocation.started) * 1000
        self.log.platform(f"REPORT RequestId: {invocation.request_id}\tDuration: {milliseconds:.2f} ms")
        if outcome.failure is not None:
            self.failures += 1
        if not invocation.done.done():
            invocation.done.set_result(outcome)

    def init_failed(self, outcome: Outcome) -> None:
        """A process ended before it was ready: one caller gets the error, the next invocation tries again."""
        self.failures += 1
        if self._warm is not None and not self._warm.done():
            self._warm.set_result(outcome)
        while self._waiting:
            invocation = self._waiting.popleft()
            if not invocation.done.done():
                invocation.done.set_result(outcome)
                break
        if self._waiting:
            self._grow()

    def forget(self, worker: Worker) -> None:
        """A process has ended; another takes its place when there is work for it."""
        self._workers.discard(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        if not self.closing and worker.ready and self._waiting:
            self._grow()

    async def close(self) -> None:
        """Kill all processes and wait until they are gone."""
        self.closing = True
        for worker in list(self._workers):
            worker.kill()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=10)
        self.log.close()
