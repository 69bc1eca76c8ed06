"""The deployed functions in one process, with everything around them in the test's hands.

The real handlers on moto's tables (the template's own key schemas) and on the Stripe double, a clock that stands still
but for the calls made, seeded randomness, and processes that can be killed: a new one executes its module anew and so
starts with empty caches. `snapshot` and `restore` copy the whole world, so that thousands of runs begin alike.
"""

from __future__ import annotations

import copy
import gc
import hashlib
import json
import os
import pickle
import random
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from functools import cache
from io import StringIO
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Final

import pytest
import requests
from botocore.retries.quota import RetryQuota
from moto import mock_aws
from moto.dynamodb.models import dynamodb_backends

from local.stripe_double.meter_events import listing
from local.stripe_double.testing import Account, account
from local.stripe_double.wire import JsonObject
from tests.infra.translated import ROOT, Stack
from tests.support.crash_wire import ACCOUNT_ID, REGION, Cut, Killed, Session, Wire, dynamodb
from tollgate import dynamo, secrets, wiring
from tollgate.billing import queue_store
from tollgate.catalog.schema import load_catalog

NOON: Final = 1_795_262_400
"""2026-11-21 12:00:00 UTC, an edge of all windows that the tests use but for days and months."""
SEAL_S: Final = 300
GRACE_S: Final = 60
MOST_RECEIVED: Final = 5
"""The template's maxReceiveCount."""
CALL_MS: Final = 3
KEY: Final = "tg_test_crash"
TABLES: Final = {
    "TOLLGATE_GATES_TABLE": "GatesTable",
    "TOLLGATE_EVENTS_TABLE": "EventsTable",
    "TOLLGATE_BILLING_TABLE": "BillingTable",
    "TOLLGATE_ACCOUNTS_TABLE": "AccountsTable",
    "TOLLGATE_CONFIG_TABLE": "ConfigTable",
}
ENVIRONMENT: Final = {
    **{variable: variable.split("_")[1].lower() for variable in TABLES},
    "AWS_DEFAULT_REGION": REGION,
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "TOLLGATE_STACK": "crash",
    "TOLLGATE_STAGE": "dev",
    "TOLLGATE_MODE": "test",
    "TOLLGATE_SIGNING_SECRET_PARAMETER": "/signing",
    "TOLLGATE_STRIPE_SECRET_PARAMETER": "/stripe",
    "TOLLGATE_FLUSH_QUEUE_URL": f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT_ID}/flush.fifo",
    "TOLLGATE_STRIPE_EVENTS_QUEUE_URL": f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT_ID}/stripe-events",
    "TOLLGATE_SEAL_SECONDS": str(SEAL_S),
    "TOLLGATE_SEAL_GRACE_SECONDS": str(GRACE_S),
    "TOLLGATE_CLOSE_DEADLINE_SECONDS": "86400",
    "TOLLGATE_CLOSE_REVIEW_SECONDS": "86400",
    "TOLLGATE_CLOSE_REVIEW_PERCENT": "50",
    "POWERTOOLS_SERVICE_NAME": "crash",
    "POWERTOOLS_METRICS_NAMESPACE": "Tollgate",
    "POWERTOOLS_LOG_LEVEL": "CRITICAL",
}
METERS: Final = ("ai_credits", "llm_tokens")
_DOUBLE_PARTS: Final = ("customers", "meters", "meter_events", "error_reports", "saved_answers", "faults", "in_work")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one handler call. `status` is an HTTP status, 200 for any other function that returned; None:
    nobody got an answer (`how`: `killed`, or the exception that the function ended with)."""

    status: int | None
    body: Any = None
    how: str = ""

    @property
    def code(self) -> str | None:
        return self.body.get("code") if isinstance(self.body, Mapping) else None


class Context:
    """What Lambda hands to a handler; there is always time left."""

    function_name = "crash"
    memory_limit_in_mb = 256
    invoked_function_arn = "arn:aws:lambda:us-east-1:1:function:crash"
    aws_request_id = "request"

    def get_remaining_time_in_millis(self) -> int:
        return 300_000


@dataclass
class State:
    """A copy of the world."""

    tables: dict[str, Any]
    double: bytes
    waiting: list[tuple[str, int]]
    seen: dict[str, int]
    dead_letters: list[str]
    ms: int
    invocations: int
    memory: dict[str, Any]


@dataclass
class World:
    """Everything. `memory`: what a client remembers (answers by name)."""

    stripe: Account
    ms: int = NOON * 1000
    invocations: int = 0
    memory: dict[str, Any] = field(default_factory=dict)
    dead_letters: list[str] = field(default_factory=list)
    skew_ms: dict[str, int] = field(default_factory=dict)
    """How far a function's clock is off."""

    def __post_init__(self) -> None:
        self.wire = Wire(self.tick)
        self.wire.queue.now_ms = lambda: self.ms
        self.wire.secrets |= {"/signing": "signing secret", "/stripe": "sk_test_crash"}
        self.processes: dict[str, ModuleType] = {}
        self._skew = 0
        self.random = random.Random(0)

    # -- time ----------------------------------------------------------------------------------------------------------

    @property
    def now(self) -> int:
        return self.ms // 1000

    def tick(self) -> None:
        self.ms += CALL_MS

    def wait(self, seconds: int) -> None:
        self.ms += seconds * 1000

    def time_ns(self) -> int:
        return (self.ms + self._skew) * 1_000_000

    # -- functions -----------------------------------------------------------------------------------------------------

    def invoke(self, function: str, event: dict[str, Any], cut: Cut | None = None, process: str = "") -> Answer:
        """Run a function in its living process, or in a new one. `process` names one of several.

        A killed process is gone. A start that failed leaves none either.
        """
        name = process or function
        self.invocations += 1
        self.random.seed(self.invocations)
        random.seed(self.invocations)
        self._skew = self.skew_ms.get(name, 0)
        self.wire.begin(cut)
        try:
            if name not in self.processes:
                self.processes[name] = self._started(function)
            with redirect_stdout(StringIO()):  # metrics are printed
                found = self.processes[name].handler(copy.deepcopy(event), Context())
        except Killed:
            self.processes.pop(name, None)
            return Answer(None, how="killed")
        except Exception as error:  # noqa: BLE001 - a function that ends with an exception: Lambda tells the caller
            return Answer(None, how=f"{type(error).__name__}: {error}")
        finally:
            self.wire.end()
            self._skew = 0
        if function in ("gate", "manage"):
            return Answer(found["statusCode"], json.loads(found["body"]))
        return Answer(200, found)

    @staticmethod
    def _started(function: str) -> ModuleType:
        secrets.read.cache_clear()
        module = ModuleType(f"crash_{function}")
        exec(_code(function), module.__dict__)
        return module

    def restart(self) -> None:
        """Every process ends; the next calls start new ones."""
        self.processes.clear()

    # -- the whole -----------------------------------------------------------------------------------------------------

    def snapshot(self) -> State:
        double = self.stripe.double
        with double.lock:
            return State(
                {name: copy.deepcopy(table.items, _shared(table.items)) for name, table in tables().items()},
                pickle.dumps({part: getattr(double, part) for part in _DOUBLE_PARTS}),
                list(self.wire.queue.waiting),
                dict(self.wire.queue.seen),
                list(self.dead_letters),
                self.ms,
                self.invocations,
                copy.deepcopy(self.memory),
            )

    def restore(self, state: State) -> None:
        """Back to a copy: all processes are new ones."""
        self.restart()
        self.skew_ms.clear()
        for name, items in state.tables.items():
            tables()[name].items = copy.deepcopy(items, _shared(items))
        double = self.stripe.double
        with double.lock:
            for part, value in pickle.loads(state.double).items():
                setattr(double, part, value)
        self.wire.queue.waiting, self.wire.queue.seen = list(state.waiting), dict(state.seen)
        self.dead_letters = list(state.dead_letters)
        self.ms, self.invocations = state.ms, state.invocations
        self.memory = copy.deepcopy(state.memory)

    def digest(self, *more: object) -> str:
        """Equal for worlds that nobody can tell apart once every process is new."""
        found = hashlib.sha256()
        for name, table in sorted(tables().items()):
            rows = [
                item.to_json()["Attributes"]
                for slot in table.items.values()
                for item in (slot.values() if isinstance(slot, dict) else (slot,))
            ]
            found.update(name.encode() + b"".join(sorted(repr(sorted(row.items())).encode() for row in rows)))
        for row in self.counted(everything=True):
            found.update(repr(sorted(row.items())).encode())
        found.update(repr((self.ms, self.wire.queue.waiting, self.dead_letters, more)).encode())
        return found.hexdigest()

    # -- looking -------------------------------------------------------------------------------------------------------

    def rows(self, table: str, prefix: str = "") -> list[dynamo.Item]:
        """Items of a table whose `pk` begins with `prefix`."""
        found = dynamodb("scan", {"TableName": table})["Items"]
        return [row for row in found if row["pk"]["S"].startswith(prefix)]

    def counted(self, *, everything: bool = False) -> list[JsonObject]:
        """Meter events that the double counts (`everything`: all that it took)."""
        double = self.stripe.double
        with double.lock:
            found = listing(double, {})
        return [row for row in found if everything or row["counted"]]

    def faults(self, *faults: Mapping[str, Any]) -> None:
        """Put these faults in place of all others in the double."""
        with self.stripe.double.lock:
            self.stripe.double.faults.replace(list(faults), self.ms)


@cache
def _code(function: str) -> CodeType:
    """Compiled once: thousands of processes start."""
    path = ROOT / "functions" / function / "app.py"
    return compile(path.read_text(), path, "exec")


def _shared(items: Any) -> dict[int, Any]:
    """A memo for deepcopy that leaves published plan versions alone: they are large, and nothing changes them."""
    return {id(slot): slot for key, slot in items.items() if str(key.value).startswith(("plan", "catalog"))}


def tables() -> dict[str, Any]:
    found: dict[str, Any] = dynamodb_backends[ACCOUNT_ID][REGION].tables
    return found


@contextmanager
def crash_world(catalog: Path) -> Iterator[World]:
    """A world with the catalogue published and one key, and nothing else in it."""
    with pytest.MonkeyPatch.context() as patch, mock_aws(), account() as stripe:
        for name, value in {**ENVIRONMENT, "TOLLGATE_STRIPE_API_BASE": stripe.url}.items():
            patch.setenv(name, value)
        patch.delenv("AWS_ENDPOINT_URL_DYNAMODB", raising=False)
        world = World(stripe)
        stripe.double.clock = type(stripe.double.clock)(lambda: world.ms)
        for event_name in METERS:
            stripe.meter(event_name)
        _in_hand(patch, world)
        resources = Stack().resources
        for variable, resource in TABLES.items():
            keys = ("AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes", "BillingMode")
            properties = resources[resource]["Properties"]
            dynamodb(
                "create_table",
                {"TableName": ENVIRONMENT[variable], **{key: properties[key] for key in keys if key in properties}},
            )
        wiring.catalog_table(os.environ).publish(load_catalog(catalog))
        wiring.keys(os.environ).create("crash", "test", ["admin"], KEY)
        try:
            yield world
        finally:
            _forget()


def _forget() -> None:
    """What the product's modules keep for a process: clients and secrets."""
    for cached in (dynamo.client, queue_store._client, secrets.read):
        cached.cache_clear()


def _in_hand(patch: pytest.MonkeyPatch, world: World) -> None:
    session = Session(world.wire)
    patch.setattr(dynamo, "session", lambda: session)
    _forget()
    real_time, real_time_ns, real_sleep, real_urandom = time.time, time.time_ns, time.sleep, os.urandom

    def ours() -> bool:
        return threading.current_thread() is threading.main_thread()

    patch.setattr(time, "time_ns", lambda: world.time_ns() if ours() else real_time_ns())
    patch.setattr(time, "time", lambda: world.time_ns() / 1e9 if ours() else real_time())
    patch.setattr(time, "sleep", lambda seconds: None if ours() else real_sleep(seconds))
    patch.setattr(os, "urandom", lambda size: world.random.randbytes(size) if ours() else real_urandom(size))
    # A process that is ready freezes what it loaded. Here thousands do, and what the one before left would stay.
    patch.setattr(gc, "freeze", lambda: None)
    # One process after another uses the same client: over thousands of cuts its retry quota would run dry.
    patch.setattr(RetryQuota, "acquire", lambda quota, amount: True)
    send = requests.Session.send

    def sent(session: requests.Session, request: requests.PreparedRequest, **how: Any) -> requests.Response:
        if not ours() or not world.wire.recording:
            return send(session, request, **how)
        return world.wire.stripe(request, lambda: send(session, request, **how))

    patch.setattr(requests.Session, "send", sent)
