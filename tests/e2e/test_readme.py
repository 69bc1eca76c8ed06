"""The README's transcript, run as written against the running stack, gives the answers it shows."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from local.testing import StackProcess

pytestmark = pytest.mark.stack

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")


def transcript() -> tuple[str, list[str]]:
    """(the commands as one script, the lines they should print)."""
    block = next(block for block in re.findall(r"```sh\n(.*?)```", README, re.S) if block.startswith("$ "))
    commands, printed = [], []
    for line in block.splitlines():
        if line.startswith("$ "):
            commands.append(line[2:])
        elif line.strip():
            printed.append(line)
    return "\n".join(commands), printed


def test_the_transcript_is_real(stack: StackProcess, tmp_path: Path) -> None:
    script, printed = transcript()
    assert len(printed) == 5
    script = script.replace("127.0.0.1:8787", f"127.0.0.1:{stack.port}").replace("/tmp/", f"{tmp_path}/")
    script = script.replace("127.0.0.1:8788", f"127.0.0.1:{stack.port + 1}")
    # Stripe's lag is on in this suite, and its time may have been moved: wait by moving the stack's clock instead.
    clock = f"curl -s -X POST {stack.base_url}/_local/clock -d '{{\"advance_seconds\": %d}}' > /dev/null"
    seal = f"curl -s -X POST {stack.base_url}/_local/run/seal > /dev/null"
    script = re.sub(r"sleep 20.*", f"{clock % 20}; {seal}; sleep 5; {clock % 100}", script)
    script = script.replace("$(date +%s)", str(_seconds(stack)))
    done = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == printed


def _seconds(stack: StackProcess) -> int:
    import calendar
    import time

    return calendar.timegm(time.strptime(stack.now()[:19], "%Y-%m-%dT%H:%M:%S"))
