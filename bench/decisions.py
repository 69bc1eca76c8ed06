"""The measurements behind docs/decisions: `python -m bench.decisions`. They compare what was chosen with what was not,
so they have no budgets and no part in `make bench`.

What is measured beside the product, and not installed with it, is left out and said so
(`.venv/bin/python -m pip install pynamodb==6.1.0` for decision 7).
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.cpu import Stub
from bench.report import Listing, Section, show

STARTS = 11
ROUNDS = 2000
WARM_UP = 300

_CLIENT = """
import botocore.session
botocore.session.get_session().create_client("dynamodb", region_name="us-east-1")
from aws_lambda_powertools import Logger
Logger()
"""
_RESOLVER = """
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver
APIGatewayHttpResolver()
"""
_PYDANTIC = """
from pydantic import BaseModel
class Body(BaseModel):
    account: str
    quantity: int
"""
_PYNAMODB = """
from pynamodb.models import Model
"""
_PYNAMODBS_CLIENT = """
from pynamodb.connection import Connection
Connection(region="us-east-1").client
"""
_STRIPE = """
import stripe
stripe.StripeClient("sk_test_bench")
"""
PROGRAMS = {
    "bare interpreter": "",
    "DynamoDB client, Logger": _CLIENT,
    "… and powertools' APIGatewayHttpResolver": _CLIENT + _RESOLVER,
    "… and a pydantic model": _CLIENT + _PYDANTIC,
    "… and both": _CLIENT + _RESOLVER + _PYDANTIC,
    "DynamoDB client, Logger, pynamodb.models": _CLIENT + _PYNAMODB,
    "… and PynamoDB's own client": _CLIENT + _PYNAMODB + _PYNAMODBS_CLIENT,
    "stripe with a client": _STRIPE,
}
_TIMED = """
import time
started = time.perf_counter_ns()
{program}
print((time.perf_counter_ns() - started) // 1000)
"""


def starts() -> Section:
    """What imports cost a fresh process, with and without cached bytecode."""
    programs = {name: program for name, program in PROGRAMS.items() if _installed(program)}
    rows = []
    with tempfile.TemporaryDirectory() as empty:
        sources = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPYCACHEPREFIX": empty}
        took: dict[tuple[str, str], list[int]] = {
            (name, way): [] for name in programs for way in ("bytecode", "sources")
        }
        for turn in range(STARTS + 1):
            for name, program in programs.items():
                for way, environment in (("bytecode", dict(os.environ)), ("sources", sources)):
                    spent = _start(program, environment)
                    if turn:  # the first round writes the bytecode
                        took[name, way].append(spent)
    for name in programs:
        compiled, sources_only = (statistics.median(took[name, way]) / 1000 for way in ("bytecode", "sources"))
        rows.append((name, compiled, sources_only))
    columns = (f"start, median of {STARTS}, milliseconds", "bytecode", "source only")
    left_out = [name for name in PROGRAMS if name not in programs]
    return Section(
        "Starts (decisions 2, 3, 7)",
        [Listing(columns, rows)],
        notes=["Beyond the interpreter's own start.", *(f"Not installed here: {name}." for name in left_out)],
    )


def _installed(program: str) -> bool:
    return "pynamodb" not in program or importlib.util.find_spec("pynamodb") is not None


def _start(program: str, environment: dict[str, str]) -> int:
    """Microseconds from the interpreter's start to the end of the program."""
    ran = subprocess.run(
        [sys.executable, "-c", _TIMED.format(program=program)],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return int(ran.stdout)


def reads() -> Section:
    """A record's read by PynamoDB beside the product's own: the same stubbed answer, in turn, one process."""
    if importlib.util.find_spec("pynamodb") is None:
        return Section("PynamoDB (decision 7)", notes=["Not installed here: pynamodb."])
    found = importlib.util.find_spec("pynamodb")
    assert found is not None
    assert found.origin is not None
    size = sum(file.stat().st_size for file in Path(found.origin).parent.rglob("*.py")) / 1024**2
    medians = _medians(_subjects())
    least = min(medians.values())
    return Section(
        "PynamoDB (decision 7)",
        [
            Listing(
                (f"GetItem of a key's row, median of {ROUNDS}", "CPU microseconds", "times"),
                [(name, spent, spent / least) for name, spent in medians.items()],
            )
        ],
        notes=[f"Size of the package without bytecode: {size:.2f} MB."],
    )


def _key_row() -> Any:
    """The model of an API key's row, as a user of PynamoDB would write it as a class."""
    attributes, models = (importlib.import_module(f"pynamodb.{name}") for name in ("attributes", "models"))
    text = attributes.UnicodeAttribute
    body = {
        "Meta": type("Meta", (), {"table_name": "config", "region": "us-east-1"}),
        "pk": text(hash_key=True),
        "sk": text(range_key=True),
        "name": text(),
        "mode": text(),
        "scopes": attributes.ListAttribute(),
        "created_at": attributes.NumberAttribute(),
    }
    return types.new_class("KeyRow", (models.Model,), exec_body=lambda namespace: namespace.update(body))


def _subjects() -> dict[str, Callable[[], Any]]:
    from tollgate import dynamo

    key_row = _key_row()
    row = {
        "pk": "key#0123456789abcdef",
        "sk": "key",
        "name": "backend",
        "mode": "live",
        "scopes": ["usage", "read"],
        "created_at": 1_795_268_843,
    }
    stub = Stub()
    stub.answers["GetItem"] = json.dumps({"Item": dynamo.item(row)}).encode()
    key = {"pk": dynamo.s(str(row["pk"])), "sk": dynamo.s("key")}
    client, default = dynamo.client(), dynamo.session().create_client("dynamodb")
    stub.attach(client)
    stub.attach(default)
    stub.attach(key_row._get_connection().connection.client)

    def product() -> Any:
        return dynamo.unitem(client.get_item(TableName="config", Key=key, ConsistentRead=True)["Item"])

    def plain() -> Any:
        return dynamo.unitem(default.get_item(TableName="config", Key=key, ConsistentRead=True)["Item"])

    def model() -> Any:
        return key_row.get(str(row["pk"]), "key", consistent_read=True)

    if {product()["name"], plain()["name"], model().name} != {"backend"}:
        raise AssertionError("the stub's answer is not understood")
    return {"tollgate/dynamo.py": product, "the same, a client as it comes": plain, "PynamoDB Model.get": model}


def _medians(subjects: dict[str, Callable[[], Any]]) -> dict[str, float]:
    spent: dict[str, list[int]] = {name: [] for name in subjects}
    for turn in range(WARM_UP + ROUNDS):
        for name, call in subjects.items():
            started = time.process_time_ns()
            call()
            if turn >= WARM_UP:
                spent[name].append(time.process_time_ns() - started)
    return {name: statistics.median(times) / 1000 for name, times in spent.items()}


def main() -> None:
    os.environ.update(AWS_DEFAULT_REGION="us-east-1", AWS_ACCESS_KEY_ID="bench", AWS_SECRET_ACCESS_KEY="bench")
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 130)
    for section in (starts(), reads()):
        show(section, console)


if __name__ == "__main__":
    main()
