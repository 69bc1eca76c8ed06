"""CPU of a reservation beside the bare SDK call that it makes: same request, same stubbed answer, turn by turn.

Runs in a process of its own (`python -m bench.cpu`), so that nothing listens to the SDK; prints its figures as JSON.
"""

from __future__ import annotations

import gc
import itertools
import json
import statistics
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import boto3

from bench.dollars import CALL_MS, CPU_MS
from bench.report import Check, Listing, Section

RATIO = 1.5
ROUNDS = 2000
WARM_UP = 300
OPEN_HOLDS = 8


def section() -> Section:
    """Measure in a fresh process and hold the figures against their budgets."""
    ran = subprocess.run([sys.executable, "-m", "bench.cpu"], check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(ran.stdout)
    bare, tuned = found["update_item"], found["update_item, the product's client"]
    rows = [(name, spent, spent / bare, spent / tuned) for name, spent in found.items()]
    return Section(
        "CPU of the gate function",
        [Listing((f"median of {ROUNDS}", "microseconds", "beside update_item", "beside the product's client"), rows)],
        [
            Check(
                "reserve handler beside the bare update_item", found["reserve"] / bare, RATIO, "times", counted=False
            ),
            Check(
                "reserve at 512 MB, assumed in its price",
                _at_512_mb(found["reserve"]),
                _assumed(1),
                "ms",
                counted=False,
            ),
            Check(
                "commit at 512 MB, assumed in its price", _at_512_mb(found["commit"]), _assumed(2), "ms", counted=False
            ),
        ],
        [
            f"One process, one request, one answer (a gate with five limits and {OPEN_HOLDS} open holds), calls in "
            "turn; CPU time of the process, key and rules cached as in steady state.",
            "The bare call is a client as the SDK makes it. The product's client checks no parameters again and has a "
            "short user agent: what it saves there, the handler's own work takes.",
        ],
        found,
    )


def _at_512_mb(microseconds: float) -> float:
    """Milliseconds at the share of a CPU that a function with 512 MB has; 1,769 MB buy a whole one."""
    return microseconds / 1000 * 1769 / 512


def _assumed(requests: int) -> int:
    """CPU milliseconds that `bench.dollars` takes for a call."""
    return CALL_MS + requests * CPU_MS


class _Raw:
    """What botocore reads an HTTP answer from."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self._body


class Stub:
    """Answers DynamoDB calls of a session's clients without a network: `answers` by operation."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {}

    def attach(self, client: Any) -> None:
        from moto.core.models import botocore_stubber

        # botocore asks every listener, even after one has answered: moto would do its work each time.
        client.meta.events.unregister("before-send", botocore_stubber)
        client.meta.events.register("before-send.dynamodb", self._answer)

    def _answer(self, request: Any, event_name: str, **_: Any) -> Any:
        from botocore.awsrequest import AWSResponse

        body = self.answers.get(event_name.rpartition(".")[2])
        if body is None:
            return None
        headers = {
            "content-type": "application/x-amz-json-1.0",
            "content-length": str(len(body)),
            "x-amz-crc32": str(zlib.crc32(body)),
            "x-amzn-requestid": "JKJAXMPLVHCESHA0123456789ABCDEF0123456789ABCDEF01234",
        }
        return AWSResponse(request.url, 200, headers, _Raw(body))


def measure() -> dict[str, float]:
    """Median CPU microseconds of each subject."""
    from bench.calls import RESERVATIONS, Scenarios, asked
    from bench.stage import LambdaContext, http_event, stage

    with stage() as running:
        run = Scenarios(running)
        running.account("ws_acme", "five")
        run.quiet(RESERVATIONS, asked("ws_acme", 12_345, commit=True), key=run.key())
        for index in range(OPEN_HOLDS - 1):
            run.quiet(RESERVATIONS, asked("ws_acme", 10 + index), key=run.key())
        captured = _Captured()
        from tollgate import dynamo

        once, again = dynamo.client(retry=False), dynamo.client()
        with captured.on(once), captured.on(again):
            held = run.quiet(RESERVATIONS, asked("ws_acme"), key=run.key())
            running.call("gate", "POST", f"{RESERVATIONS}/{held['id']}/commit", {})
        stub = Stub()
        stub.answers = dict(captured.bodies)
        default = boto3.session.Session().client("dynamodb")
        for client in (once, again, default):
            stub.attach(client)
        # A clock that stands still and costs as little as the real one.
        time.time_ns = itertools.repeat(running.clock()).__next__
        handler, context = running.app("gate").handler, LambdaContext()
        request = captured.requests["UpdateItem"]
        reserve = [http_event("POST", RESERVATIONS, asked("ws_acme"), run.key()) for _ in range(WARM_UP + ROUNDS)]
        commit = http_event("POST", f"{RESERVATIONS}/{held['id']}/commit", {})
        events = iter(reserve)
        subjects: dict[str, Callable[[], Any]] = {
            "update_item": lambda: default.update_item(**request),
            "update_item, the product's client": lambda: once.update_item(**request),
            "reserve": lambda: handler(next(events), context),
            "commit": lambda: handler(commit, context),
        }
        for name in ("reserve", "commit"):
            answer = json.loads(handler({"reserve": reserve[0], "commit": commit}[name], context)["body"])
            if "id" not in answer and "event_ids" not in answer:
                raise AssertionError(f"{name} failed: {answer}")
        return _medians(subjects)


def _medians(subjects: dict[str, Callable[[], Any]]) -> dict[str, float]:
    spent: dict[str, list[int]] = {name: [] for name in subjects}
    gc.collect()
    gc.freeze()
    names = list(subjects)
    for turn in range(WARM_UP + ROUNDS):
        names.append(names.pop(0))  # none always comes after the same one, whose traces in the CPU's caches it finds
        for name in names:
            call = subjects[name]
            started = time.process_time_ns()
            call()
            took = time.process_time_ns() - started
            if turn >= WARM_UP:
                spent[name].append(took)
    return {name: statistics.median(times) / 1000 for name, times in spent.items()}


class _Captured:
    """The last request and answer body of each operation."""

    def __init__(self) -> None:
        self.requests: dict[str, Any] = {}
        self.bodies: dict[str, bytes] = {}

    def on(self, client: Any) -> Any:
        from contextlib import ExitStack

        stack = ExitStack()
        events = client.meta.events
        for name, listener in (("before-parameter-build", self._request), ("response-received", self._response)):
            events.register(f"{name}.dynamodb", listener)
            stack.callback(events.unregister, f"{name}.dynamodb", listener)
        return stack

    def _request(self, params: Any, model: Any, **_: Any) -> None:
        # The first update is the reservation's; the commit's settle comes later.
        self.requests.setdefault(model.name, deepcopy(params))

    def _response(self, response_dict: Any, event_name: str, **_: Any) -> None:
        if response_dict is not None:
            self.bodies.setdefault(event_name.rpartition(".")[2], response_dict["body"])


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure()))
