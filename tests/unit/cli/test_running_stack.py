"""The command line against the stack that `make run` starts."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from local.testing import StackProcess
from tests.unit.cli.conftest import ROOT

pytestmark = pytest.mark.stack


def tollgate(stack: StackProcess, *arguments: str) -> str:
    """Standard output of a command; it must succeed."""
    env = {name: text for name, text in os.environ.items() if not name.startswith(("AWS_", "TOLLGATE_"))}
    found = subprocess.run(
        [sys.executable, "-m", "tollgate_cli", *arguments],
        cwd=ROOT,
        env={
            **env,
            "TOLLGATE_PORT": str(stack.port),
            "COLUMNS": "200",
            "PYTHONPATH": os.pathsep.join((str(ROOT / "cli"), str(ROOT / "layers/common"))),
            **({"AWS_ENDPOINT_URL_DYNAMODB": other} if (other := os.environ.get("AWS_ENDPOINT_URL_DYNAMODB")) else {}),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_keys_plans_and_accounts(stack: StackProcess) -> None:
    secret = tollgate(stack, "keys", "create", "--name", "from the command line", "--scope", "usage").strip()
    call = {"account": "cli", "member": "u-1", "meter": "ai_credits", "quantity": 2, "commit": True}
    assert stack.api("POST", "/v1/reservations", call, key=secret).status_code == 201
    assert stack.api("GET", "/v1/keys", key=secret).status_code == 403
    assert "from the command line" in tollgate(stack, "keys", "list")
    assert "free (default)" in tollgate(stack, "plans", "list")
    shown = tollgate(stack, "accounts", "show", "cli", "--member", "u-1")
    assert "Free (free, version 1)" in shown
    daily = next(line for line in shown.splitlines() if " daily " in line)
    assert [cell.strip() for cell in daily.split("│")][4:7] == ["2", "0", "10"]
    assert tollgate(stack, "catalog", "load", "catalog.yaml").count("unchanged") == 3
