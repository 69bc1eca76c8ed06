"""Stack time."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from local.clock import StackClock
from local.testing import ROOT


def test_time_moves_for_all_who_share_the_file_and_never_back(tmp_path: Path) -> None:
    clock = StackClock.create(tmp_path / "clock")
    other = StackClock(tmp_path / "clock")
    clock.advance(3600)
    clock.advance(0)
    assert other.offset_ns == 3600 * 10**9
    assert other.now() - time.time() == pytest.approx(3600, abs=1)
    assert other.now_ns() - time.time_ns() == pytest.approx(3600 * 10**9, abs=10**9)
    with pytest.raises(ValueError, match="backwards"):
        clock.advance(-1)
    assert other.offset_ns == 3600 * 10**9


def test_a_patched_process_sees_every_move(tmp_path: Path) -> None:
    clock = StackClock.create(tmp_path / "clock")
    program = (
        "import sys, json; from pathlib import Path; from local.clock import StackClock; import time\n"
        f"real = time.time; StackClock(Path({str(tmp_path / 'clock')!r})).patch_process()\n"
        "from time import time as t, time_ns as n\n"
        "for _ in range(2): sys.stdin.readline(); print(json.dumps([t() - real(), n() / 1e9 - real()]), flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for expected in (0, 86_400):
            print(file=process.stdin, flush=True)
            assert json.loads(process.stdout.readline()) == pytest.approx([expected] * 2, abs=1)
            clock.advance(86_400)
