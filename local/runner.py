"""Starts the local stack, keeps it running, and leaves no process behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from local.children import Child
from local.clock import StackClock
from local.control import Control
from local.function_url import PREFIX as FUNCTION_URLS
from local.function_url import FunctionUrls
from local.functions import Failure, FunctionPool, FunctionSpec
from local.http_front import HttpApi
from local.logs import FunctionLog, console
from local.payload import Router
from local.provision import client, provision
from local.queues import QueuePoller
from local.schedules import Scheduler
from local.settings import HOST, LOCAL_API_KEY, LOCAL_WEBHOOK_SECRET, REGION, Settings, StartupError, read_settings
from local.stack import RunningStack, post
from local.template import Function, Stack, read_template

ROOT = Path(__file__).resolve().parent.parent
_LIMITS = {"gate": 4}
_DEFAULT_LIMIT = 2
# Functions that a person's first request waits for.
_WARM = ("gate", "manage")
WEBHOOK = "stripe_webhook"
_GRACEFUL_SECONDS = 1


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the runner ends everything in order."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Front:
    """Sends `/` and `/_local` to the runner, function URLs to their functions, everything else to the HTTP API."""

    def __init__(self, control: ASGIApp, urls: ASGIApp, api: ASGIApp) -> None:
        self._control = control
        self._urls = urls
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"the local stack serves HTTP, not {scope['type']}")
        path = scope["path"]
        if path.startswith(FUNCTION_URLS):
            await self._urls(scope, receive, send)
            return
        own = path == "/" or path == "/_local" or path.startswith("/_local/")
        await (self._control if own else self._api)(scope, receive, send)


def _claim(port: int, what: str, configured: int) -> socket.socket:
    # With the protocol named, asyncio turns Nagle's algorithm off; without, each answer would wait 40 ms for an ACK.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(2048)
    except OSError as problem:
        listener.close()
        raise StartupError(
            f"Port {port} ({what}) is taken: {problem.strerror}. Stop what uses it, or set TOLLGATE_PORT to another "
            f"port (now {configured}; the stack needs that port and the next two)."
        ) from None
    return listener


def _remove_abandoned_clocks(settings: Settings) -> None:
    """Files of runners that were killed. That of one that is stopping stays: its processes may still open it."""
    for file in settings.state.glob(f"clock-{settings.port}-*"):
        pid = file.name.rpartition("-")[2]
        if pid.isdecimal() and not _runs(int(pid)):
            file.unlink(missing_ok=True)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # somebody else's
    return True


def _specification(function: Function, settings: Settings, clock_file: Path) -> FunctionSpec:
    group = f"/aws/lambda/{function.physical_name}"
    environment = {
        "PATH": settings.inherited.get("PATH", os.defpath),
        **settings.inherited,
        **settings.aws_environment(),
        # The key shows who calls, as a role would: what each function really does is compared with its rights.
        "AWS_ACCESS_KEY_ID": function.name,
        **function.environment,
        # Only the functions that the template gives the Stripe secret's name learn where Stripe is.
        **(settings.stripe_environment() if "TOLLGATE_STRIPE_SECRET_PARAMETER" in function.environment else {}),
        **_local_values(function, settings),
        "TZ": "UTC",
        "PYTHONUNBUFFERED": "1",
        "LAMBDA_TASK_ROOT": str(function.folder),
        "_HANDLER": function.handler,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_python3.{sys.version_info.minor}",
        "AWS_LAMBDA_FUNCTION_NAME": function.physical_name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mb),
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": group,
        "AWS_LAMBDA_LOG_STREAM_NAME": "local",
        "TOLLGATE_LOCAL_CLOCK": str(clock_file),
        "TOLLGATE_LOCAL_RUNTIME_LOOP": "1" if settings.force_runtime_loop else "",
    }
    return FunctionSpec(
        name=function.name,
        handler=function.handler,
        folder=function.folder,
        timeout_seconds=function.timeout_seconds,
        memory_mb=function.memory_mb,
        environment=environment,
        arn=function.arn,
        layers=function.layers,
        limit=_LIMITS.get(function.name, _DEFAULT_LIMIT),
    )


def _local_values(function: Function, settings: Settings) -> dict[str, str]:
    """Local values of variables that the template gives this function, whatever its parameters allow."""
    values = {
        "TOLLGATE_STAGE": "local",
        "TOLLGATE_MODE": "test",
        "TOLLGATE_SEAL_SECONDS": str(settings.seal_seconds),
        "TOLLGATE_SEAL_GRACE_SECONDS": str(settings.seal_grace_seconds),
        "TOLLGATE_SHADOW": "true" if settings.shadow else "false",
    }
    return {name: value for name, value in values.items() if name in function.environment}


class Runner:
    """One local stack from start to stop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._logs = settings.state / "logs"
        # This process's own: a stack that is just stopping, or finds the port taken, must not end another one's time.
        self._clock_file = settings.state / f"clock-{settings.port}-{os.getpid()}"
        self._children: list[Child] = []
        self._pools: dict[str, FunctionPool] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._server: _Server | None = None
        self._server_task: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._stopping = threading.Event()
        self._failed: str | None = None

    def request_stop(self) -> None:
        """Ask the stack to stop; safe from a signal handler of the loop."""
        self._stop.set()

    async def run(self) -> int:
        """Start, serve until asked to stop, stop. The exit code: 0, or 1 where a double died on its own.

        Raises StartupError.
        """
        start = asyncio.create_task(self._start())
        stop = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait((start, stop), return_when=asyncio.FIRST_COMPLETED)
            if start.done():
                await start
                await stop
        finally:
            for task in (start, stop):
                task.cancel()
            await asyncio.gather(start, stop, return_exceptions=True)
            await self._shut_down()
        if self._failed is not None:
            console(self._failed)
            return 1
        console("stopped")
        return 0

    async def _start(self) -> None:
        settings = self._settings
        listener = _claim(settings.port, "API", settings.port)
        for port, what in ((settings.stripe_port, "Stripe double"), (settings.aws_port, "AWS double")):
            _claim(port, what, settings.port).close()
        self._logs.mkdir(parents=True, exist_ok=True)
        _remove_abandoned_clocks(settings)
        clock = StackClock.create(self._clock_file)
        aws, double = await self._start_doubles()
        console(f"reading {settings.template.name}")
        template = await asyncio.to_thread(read_template, settings)
        await aws.listening(settings.aws_port)
        console(
            f"creating {len(template.tables)} tables and {len(template.queues)} queues at {settings.dynamodb_endpoint}"
        )
        await asyncio.to_thread(provision, settings, template, self._stopping)
        for function in template.functions.values():
            log = FunctionLog(function.name, self._logs / f"{function.name}.log")
            self._pools[function.name] = FunctionPool(_specification(function, settings, self._clock_file), log)
        if double is not None:
            await double.listening(settings.stripe_port)
        console(f"starting functions: {', '.join(sorted(self._pools))}")
        await asyncio.gather(self._seed(template), *(self._warm(name) for name in _WARM if name in self._pools))
        await self._serve(listener, template, clock)
        if double is not None and WEBHOOK in template.functions:
            await self._connect_webhook()
        console(f"tollgate ready {settings.api_url}")

    async def _start_doubles(self) -> tuple[Child, Child | None]:
        settings = self._settings
        environment = {**settings.inherited}
        aws = Child("the AWS double", self._logs / "aws-double.log")
        self._children.append(aws)
        console(f"starting the AWS double on port {settings.aws_port}")
        arguments = ["-m", "local.aws_double", "--port", str(settings.aws_port), "--clock", str(self._clock_file)]
        await aws.start(arguments, settings.root, environment)
        if settings.real_stripe:
            console("using the real Stripe sandbox (STRIPE_SECRET_KEY is set)")
            return aws, None
        double = Child("the Stripe double", self._logs / "stripe-double.log")
        self._children.append(double)
        console(f"starting the Stripe double on port {settings.stripe_port}")
        arguments = ["-m", "local.lifeline", "local.stripe_double", "--port", str(settings.stripe_port)]
        arguments += ["--lag-seconds", str(settings.stripe_lag_seconds)]
        await double.start(arguments, settings.root, environment)
        return aws, double

    async def _connect_webhook(self) -> None:
        """Have the double deliver to the webhook's function: snapshots and thin events, with one secret."""
        settings = self._settings
        for payload in ("snapshot", "thin"):
            body = {
                "url": f"{settings.api_url}{FUNCTION_URLS}{WEBHOOK}",
                "secret": LOCAL_WEBHOOK_SECRET,
                "payload": payload,
            }
            status, answer = await asyncio.to_thread(post, f"{settings.stripe_url}/_double/endpoints", body)
            if status != 200:
                raise StartupError(f"The Stripe double takes no webhook endpoint: {answer}")

    async def _warm(self, name: str) -> None:
        outcome = await self._pools[name].warm()
        if outcome is not None and outcome.failure is Failure.INIT:
            raise StartupError(f"The function {name} cannot start: {outcome.payload.decode('utf-8', 'replace')}")

    async def _seed(self, template: Stack) -> None:
        settings = self._settings
        console(f"loading {settings.catalog.name}")
        environment = {**settings.inherited, **settings.aws_environment(), **settings.stripe_environment()}
        for function in template.functions.values():
            environment |= {**function.environment, **_local_values(function, settings)}
        environment |= {
            "TOLLGATE_CATALOG": str(settings.catalog),
            "TOLLGATE_LOCAL_KEY": LOCAL_API_KEY,
            "TOLLGATE_LOCAL_STRIPE_KEY": settings.stripe_key,
            "AWS_REGION": REGION,
        }
        layers = {str(layer) for function in template.functions.values() for layer in function.layers}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "local.seed",
            cwd=settings.root,
            env={**environment, "PYTHONPATH": os.pathsep.join([str(settings.root), *sorted(layers)])},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            process_group=0,
        )
        try:
            output, errors = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode != 0:
            raise StartupError(errors.decode("utf-8", "replace").strip() or "the catalogue could not be loaded")
        for line in output.decode("utf-8", "replace").splitlines():
            console(f"  {line}")

    async def _serve(self, listener: socket.socket, template: Stack, clock: StackClock) -> None:
        settings = self._settings
        scheduler = Scheduler(template.schedules, self._pools, clock, settings.seal_seconds)
        sqs = client(settings, "sqs")
        running = RunningStack(settings, template, clock, self._pools, scheduler, client(settings, "dynamodb"), sqs)
        urls = FunctionUrls(template.urls, self._pools, clock)
        app = _Front(Control(running).app(), urls, HttpApi(Router(template.routes), self._pools, clock))
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=True,
            lifespan="off",
            ws="none",
            timeout_keep_alive=75,
            timeout_graceful_shutdown=_GRACEFUL_SECONDS,
        )
        self._server = _Server(config)
        self._server_task = self._spawn(self._server.serve([listener]), "the HTTP server")
        while not self._server.started:
            await asyncio.sleep(0.01)
        queues = {queue.name: queue for queue in template.queues}
        for mapping in template.mappings:
            pool = self._pools[mapping.function]
            for _ in range(min(mapping.concurrency, pool.spec.limit)):
                poller = QueuePoller(sqs, queues[mapping.queue], mapping, pool)
                self._tasks.append(self._spawn(poller.run(), f"the poller of {mapping.queue}"))
        self._tasks.append(self._spawn(scheduler.run(), "the scheduler"))
        self._tasks += [self._spawn(self._watch(child), child.name) for child in self._children]

    def _spawn(self, work: Coroutine[Any, Any, None], what: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)

        def ended(done: asyncio.Task[None]) -> None:
            # A part that dies takes the stack down: a stack that only looks alive is worse.
            problem = None if done.cancelled() else done.exception()
            if not done.cancelled() and not self._stop.is_set():
                self._failed = f"{what} ended: {problem or 'without a reason'}"
                self._stop.set()

        task.add_done_callback(ended)
        return task

    async def _watch(self, child: Child) -> None:
        code = await child.ended()
        raise RuntimeError(f"exit code {code}\n{child.last_words()}")

    async def _shut_down(self) -> None:
        self._stop.set()
        self._stopping.set()
        if self._server is not None and self._server_task is not None:
            self._server.should_exit = True
            await asyncio.wait([self._server_task], timeout=2 * _GRACEFUL_SECONDS)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*(pool.close() for pool in self._pools.values()))
        await asyncio.gather(*(child.stop() for child in self._children))
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._clock_file.unlink(missing_ok=True)


async def _main(settings: Settings) -> int:
    runner = Runner(settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, runner.request_stop)
    return await runner.run()


def main() -> int:
    """Run the local stack in the foreground; the exit code (0 stopped, 1 a part died, 2 it could not start)."""
    try:
        return asyncio.run(_main(read_settings(os.environ, ROOT)))
    except StartupError as problem:
        print(f"tollgate cannot start: {problem}", file=sys.stderr, flush=True)
        return 2
