"""Functions in both runtimes: answers, errors, timeouts, crashes, init errors, processes on demand."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from local.clock import StackClock
from local.functions import Failure, FunctionPool, FunctionSpec, Outcome
from local.logs import FunctionLog

SOURCE = """
import os, sys, time
from decimal import Decimal

started = os.getpid()

def handler(event, context):
    if "sleep" in event: time.sleep(event["sleep"])
    if "raise" in event: raise ValueError(event["raise"])
    if "exit" in event: os._exit(event["exit"])
    if "kill" in event: os.kill(os.getpid(), 9)
    if "system_exit" in event: sys.exit(3)
    if "decimal" in event: return {"units": Decimal("12")}
    if "set" in event: return {1, 2}
    if "bytes" in event: return b"raw"
    if "print" in event: print(event["print"], file=getattr(sys, event.get("to", "stdout")))
    return {"pid": os.getpid(), "id": context.aws_request_id, "left": context.get_remaining_time_in_millis(),
            "name": context.function_name, "arn": context.invoked_function_arn, "time": time.time(),
            "path": sys.path[:2], "layer": __import__("layer_module").NAME, "cwd": os.getcwd()}
"""

Work = Callable[[FunctionPool], Awaitable[None]]


@pytest.fixture(params=["0", "1"], ids=["awslambdaric", "loop"])
def runtime_loop(request: pytest.FixtureRequest) -> str:
    """Which of the two runtimes; "1" is the pure Python loop."""
    if request.param == "0":
        pytest.importorskip("awslambdaric")
    return str(request.param)


@pytest.fixture
def use(tmp_path: Path, runtime_loop: str) -> Callable[..., None]:
    """Run some work with a pool of one small function."""

    def run(
        work: Work, *, source: str = SOURCE, timeout: int = 5, limit: int = 2, handler: str = "app.handler"
    ) -> None:
        folder, layer = tmp_path / "toy", tmp_path / "layer"
        folder.mkdir()
        layer.mkdir()
        (folder / "app.py").write_text(source)
        (layer / "layer_module.py").write_text("NAME = 'layer'\n")
        StackClock.create(tmp_path / "clock").advance(7200)
        spec = FunctionSpec(
            name="toy",
            handler=handler,
            folder=folder,
            timeout_seconds=timeout,
            memory_mb=128,
            environment={
                "PATH": os.environ["PATH"],
                "LAMBDA_TASK_ROOT": str(folder),
                "AWS_LAMBDA_FUNCTION_NAME": "stack-toy",
                "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
                "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
                "AWS_LAMBDA_LOG_GROUP_NAME": "group",
                "AWS_LAMBDA_LOG_STREAM_NAME": "stream",
                "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13",
                "TOLLGATE_LOCAL_CLOCK": str(tmp_path / "clock"),
                "TOLLGATE_LOCAL_RUNTIME_LOOP": runtime_loop,
            },
            arn="arn:toy",
            layers=(layer,),
            limit=limit,
        )

        async def body() -> None:
            pool = FunctionPool(spec, FunctionLog("toy", tmp_path / "toy.log"))
            try:
                await work(pool)
            finally:
                pids = pool.pids
                await pool.close()
            for pid in pids:
                with pytest.raises(ProcessLookupError):
                    os.kill(pid, 0)

        asyncio.run(body())

    return run


async def call(pool: FunctionPool, **event: Any) -> Outcome:
    return await pool.invoke(json.dumps(event).encode())


def payload(outcome: Outcome) -> Any:
    return json.loads(outcome.payload)


def test_an_answer_and_its_context(use: Callable[..., None], tmp_path: Path) -> None:
    async def work(pool: FunctionPool) -> None:
        outcome = await call(pool)
        assert outcome.failure is None
        answer = payload(outcome)
        assert answer["pid"] in pool.pids
        assert (answer["name"], answer["arn"], answer["layer"]) == ("stack-toy", "arn:toy", "layer")
        assert answer["path"] == [str(tmp_path / "toy"), str(tmp_path / "layer")]
        assert answer["cwd"] == str(tmp_path / "toy")
        # The function's time is the stack's; its deadline is real.
        assert answer["time"] - time.time() == pytest.approx(7200, abs=5)
        assert 4000 < answer["left"] <= 5000
        assert payload(await call(pool))["pid"] == answer["pid"], "a warm process is used again"

    use(work)


def test_the_error_of_a_handler(use: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def work(pool: FunctionPool) -> None:
        outcome = await call(pool, **{"raise": "no luck"})
        assert outcome.failure is Failure.ERROR
        error = payload(outcome)
        assert set(error) == {"errorMessage", "errorType", "requestId", "stackTrace"}
        assert (error["errorType"], error["errorMessage"]) == ("ValueError", "no luck")
        assert [line for line in error["stackTrace"] if "app.py" in line and "in handler" in line]
        assert not [line for line in error["stackTrace"] if "runtime_loop" in line or "awslambdaric" in line]
        assert (await call(pool)).failure is None, "the process lives on"

    use(work)
    assert "toy | [ERROR] ValueError: no luck" in capsys.readouterr().err
    assert "ValueError: no luck" in (tmp_path / "toy.log").read_text()


@pytest.mark.parametrize(
    ("event", "kind"),
    [({"set": 1}, "Runtime.MarshalError"), ({"raise": ""}, "ValueError")],
)
def test_kinds_of_errors(use: Callable[..., None], event: Mapping[str, Any], kind: str) -> None:
    async def work(pool: FunctionPool) -> None:
        outcome = await call(pool, **event)
        assert (outcome.failure, payload(outcome)["errorType"]) == (Failure.ERROR, kind)

    use(work)


def test_answers_that_are_not_plain_json(use: Callable[..., None]) -> None:
    async def work(pool: FunctionPool) -> None:
        assert payload(await call(pool, decimal=1)) == {"units": 12}
        assert (await call(pool, bytes=1)).payload == b"raw"

    use(work)


def test_a_timeout_kills_the_process(use: Callable[..., None]) -> None:
    async def work(pool: FunctionPool) -> None:
        before = payload(await call(pool))["pid"]
        started = time.monotonic()
        outcome = await call(pool, sleep=30)
        assert outcome.failure is Failure.TIMEOUT
        assert 0.9 < time.monotonic() - started < 20
        error = payload(outcome)
        assert error["errorType"] == "Sandbox.Timedout"
        assert error["errorMessage"].endswith("Task timed out after 1.00 seconds")
        with pytest.raises(ProcessLookupError):
            os.kill(before, 0)
        assert payload(await call(pool))["pid"] != before

    use(work, timeout=1)


@pytest.mark.parametrize(
    ("event", "text"),
    [({"exit": 7}, "exit status 7"), ({"kill": 1}, "signal: SIGKILL"), ({"system_exit": 1}, "exit status 3")],
)
def test_a_crash_is_an_error_and_the_process_is_replaced(
    use: Callable[..., None], event: Mapping[str, Any], text: str
) -> None:
    async def work(pool: FunctionPool) -> None:
        before = payload(await call(pool))["pid"]
        outcome = await call(pool, **event)
        assert outcome.failure is Failure.CRASH
        assert payload(outcome)["errorType"] == "Runtime.ExitError"
        assert text in payload(outcome)["errorMessage"]
        assert payload(await call(pool))["pid"] != before

    use(work)


def test_a_process_killed_while_idle_costs_nobody_an_error(use: Callable[..., None]) -> None:
    async def work(pool: FunctionPool) -> None:
        before = payload(await call(pool))["pid"]
        os.kill(before, signal.SIGKILL)
        while before in pool.pids:
            await asyncio.sleep(0.01)
        outcome = await call(pool)
        assert outcome.failure is None
        assert payload(outcome)["pid"] != before

    use(work)


def test_processes_on_demand_up_to_the_limit(use: Callable[..., None]) -> None:
    async def work(pool: FunctionPool) -> None:
        outcomes = await asyncio.gather(*(call(pool, sleep=0.3) for _ in range(6)))
        pids = [payload(outcome)["pid"] for outcome in outcomes]
        assert len(set(pids)) == len(pool.pids) == 3, "never more than the limit, and all of them used"
        assert len({payload(outcome)["id"] for outcome in outcomes}) == 6

    use(work, limit=3)


def test_a_caller_that_gives_up_while_waiting_takes_no_process(use: Callable[..., None]) -> None:
    async def work(pool: FunctionPool) -> None:
        slow = asyncio.create_task(call(pool, sleep=0.5))
        await asyncio.sleep(0.3)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(call(pool, **{"exit": 1}), 0.05)
        assert (await slow).failure is None
        assert (await call(pool)).failure is None, "the abandoned call would have ended the process"

    use(work, limit=1)


@pytest.mark.parametrize(
    ("source", "handler", "kind"),
    [
        ("import nothing_of_that_name", "app.handler", "Runtime.ImportModuleError"),
        ("def handler(:", "app.handler", "Runtime.UserCodeSyntaxError"),
        ("x = 1", "app.handler", "Runtime.HandlerNotFound"),
        ("raise KeyError('config')", "app.handler", "KeyError"),
        ("x = 1", "apphandler", "Runtime.MalformedHandlerName"),
        ("import os; os._exit(4)", "app.handler", "Runtime.ExitError"),
    ],
)
def test_init_errors(use: Callable[..., None], source: str, handler: str, kind: str) -> None:
    async def work(pool: FunctionPool) -> None:
        warm = await pool.warm()
        assert warm is not None
        assert (warm.failure, payload(warm)["errorType"]) == (Failure.INIT, kind)
        # Every further call tries again and gets its own error.
        outcomes = await asyncio.gather(call(pool), call(pool), call(pool))
        assert [payload(outcome)["errorType"] for outcome in outcomes] == [kind] * 3

    use(work, source=source, handler=handler)


def test_what_a_function_prints_is_in_its_log_and_stderr_is_shown(
    use: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def work(pool: FunctionPool) -> None:
        await call(pool, print="quiet words")
        await call(pool, print="loud words", to="stderr")
        await call(pool, print='{"level":"ERROR","message":"bad day","exception":"Traceback: x"}')

    use(work)
    log = (tmp_path / "toy.log").read_text()
    assert "quiet words" in log
    assert "loud words" in log
    assert "REPORT RequestId" in log
    shown = capsys.readouterr().err
    assert "quiet words" not in shown
    assert "toy | loud words" in shown
    assert "toy | ERROR bad day\n  toy | Traceback: x" in shown
