"""The demo against a running stack: it passes, also a second time; and a doubled or lost meter event makes it fail."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console
from typer.testing import CliRunner

from demo.__main__ import app
from demo.expect import read_catalog
from demo.generate import generate
from demo.session import Options, Session, check, finish, play
from local.settings import DEFAULT_STRIPE_KEY, LOCAL_API_KEY
from local.testing import ROOT, StackProcess

pytestmark = pytest.mark.stack

CATALOG = ROOT / "catalog.yaml"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackProcess]:
    quick = {"TOLLGATE_SEAL_SECONDS": "2", "TOLLGATE_SEAL_GRACE_SECONDS": "2"}
    with StackProcess(tmp_path_factory.mktemp("stack"), quick) as running:
        yield running


def command(stack: StackProcess, *arguments: str) -> tuple[int, str]:
    fixed = ("--base-url", stack.base_url, "--catalog", str(CATALOG))
    result = CliRunner().invoke(app, [*fixed, *arguments], env={"STRIPE_SECRET_KEY": None, "TOLLGATE_KEY": None})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def test_it_passes_and_passes_again(stack: StackProcess, tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    code, text = command(stack, "--accounts", "14", "--requests", "45", "--write", str(trace))
    assert code == 0, text
    assert "PASS  Stripe's summaries hold exactly the committed units of every paying account" in text
    assert f"curl -s '{stack.base_url}/v1/accounts/demo-" in text
    code, text = command(stack, "--trace", str(trace))
    assert code == 0, text
    assert "PASS" in text


def test_every_outcome_of_an_own_trace_is_played(stack: StackProcess, tmp_path: Path) -> None:
    lines = [
        '{"offset_seconds": 0, "account": "t", "plan": "team", "member": "m", "meter": "llm_tokens", "used": 900,'
        ' "reserved": 1000, "dimension.direction": "output"}',
        '{"offset_seconds": 1, "account": "t", "member": "m", "meter": "llm_tokens", "used": 7, "outcome": "failed"}',
        '{"offset_seconds": 2, "account": "t", "member": "m", "meter": "llm_tokens", "used": 7, "outcome": "cached"}',
        '{"offset_seconds": 3, "account": "t", "member": "m", "meter": "llm_tokens", "used": 7,'
        ' "outcome": "no_commit"}',
        '{"offset_seconds": 4, "account": "t", "member": "m", "meter": "llm_tokens", "used": 0.5, "reserved": 3,'
        ' "outcome": "late", "sends": 2}',
        '{"offset_seconds": 5, "account": "t", "member": "m", "meter": "llm_tokens", "used": 50, "reserved": 10}',
        '{"offset_seconds": 6, "account": "t", "member": "m", "meter": "ai_credits", "used": 2, "operation": "video",'
        ' "call": "once"}',
        '{"offset_seconds": 7, "account": "t", "member": "m", "meter": "llm_tokens", "used": 11, "call": "usage",'
        ' "sends": 3}',
        '{"offset_seconds": 8, "account": "t", "meter": "llm_tokens", "used": 1}',
        '{"offset_seconds": 9, "account": "f", "member": "m", "meter": "llm_tokens", "used": 1}',
    ]
    path = tmp_path / "own.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    code, text = command(stack, "--trace", str(path))
    assert code == 0, text
    found = {
        line.split("│")[1].strip(): line.split("│")[2].strip() for line in text.splitlines() if line.count("│") == 3
    }
    # 900 of output at weight 4, 0.5 late, 50 above the reserve, 11 of usage; two videos at the team plan's 15.
    assert found["units in Stripe, llm_tokens"] == "3661.5"
    assert found["units in Stripe, ai_credits"] == "30"
    assert found["not_in_plan"] == "1"
    assert found["member_required"] == "1"
    assert found["above what was reserved"] == "1"
    assert found["sent again (counted once)"] == "3"
    assert found["released after a failure"] == "1"
    assert found["crashed, never committed"] == "1"


@pytest.fixture(scope="module")
def session(stack: StackProcess) -> Session:
    """A replayed trace whose meter events are all in Stripe."""
    options = Options(
        trace=generate(3, 12, 40),
        reading=read_catalog(CATALOG),
        base_url=stack.base_url,
        key=LOCAL_API_KEY,
        stripe_url=stack.double_url,
        stripe_key=DEFAULT_STRIPE_KEY,
        patience_seconds=60,
    )
    played = play(options, quiet())
    assert check(played, quiet()).differences == []
    return replace(played, options=replace(options, patience_seconds=1))


def quiet() -> Console:
    return Console(file=io.StringIO(), width=160)


def events_of(stack: StackProcess, session: Session) -> list[dict[str, Any]]:
    customers = set(session.customers.values())
    rows = stack.double("GET", "/_double/meter_events")["data"]
    return [row for row in rows if row["customer"] in customers and row["counted"]]


def stripe(stack: StackProcess, path: str, form: dict[str, str]) -> None:
    headers = {"Authorization": f"Bearer {DEFAULT_STRIPE_KEY}"}
    answer = httpx.post(stack.double_url + path, data=form, headers=headers, trust_env=False)
    assert answer.status_code == 200, answer.text


def test_a_doubled_meter_event_fails_the_check(stack: StackProcess, session: Session) -> None:
    event = events_of(stack, session)[0]
    form = {
        "event_name": event["event_name"],
        "identifier": "doubled",
        "timestamp": str(event["timestamp"]),
        "payload[stripe_customer_id]": event["customer"],
        "payload[value]": event["value"],
    }
    stripe(stack, "/v1/billing/meter_events", form)
    checked = check(session, quiet())
    (difference,) = checked.differences
    assert difference.found - difference.expected == Decimal(event["value"])
    assert session.customers[difference.account] == event["customer"]
    console = quiet()
    assert not finish(session, checked, console)
    assert isinstance(console.file, io.StringIO)
    assert "FAIL  1 of" in console.file.getvalue()
    cancel(stack, event["event_name"], "doubled")


def test_a_lost_meter_event_fails_the_check(stack: StackProcess, session: Session) -> None:
    assert check(session, quiet()).differences == []
    event = events_of(stack, session)[0]
    cancel(stack, event["event_name"], event["identifier"])
    (difference,) = check(session, quiet()).differences
    assert difference.expected - difference.found == Decimal(event["value"])
    assert session.customers[difference.account] == event["customer"]


def cancel(stack: StackProcess, event_name: str, identifier: str) -> None:
    form = {"event_name": event_name, "type": "cancel", "cancel[identifier]": identifier}
    stripe(stack, "/v1/billing/meter_event_adjustments", form)
