"""The doubles as child processes: started in a group of their own, watched, ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from local.lifeline import PARENT_VARIABLE
from local.settings import HOST, StartupError

_START_SECONDS = 60
_STOP_SECONDS = 3


class Child:
    """One child process, its output in a log file."""

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self.stopping = False

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def start(self, arguments: Sequence[str], root: Path, environment: Mapping[str, str]) -> None:
        """Start `python ARGUMENTS` in the checkout."""
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *arguments,
                cwd=root,
                env={**environment, "PYTHONPATH": str(root), PARENT_VARIABLE: str(os.getpid())},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )

    async def listening(self, port: int) -> None:
        """Wait until the child accepts connections. Raises StartupError where it ends or takes too long."""
        assert self._process is not None
        for _ in range(_START_SECONDS * 50):
            if self._process.returncode is not None:
                raise StartupError(f"{self.name} ended at its start:\n{self.last_words()}")
            try:
                _, writer = await asyncio.open_connection(HOST, port)
            except OSError:
                await asyncio.sleep(0.02)
                continue
            writer.close()
            return
        raise StartupError(f"{self.name} does not listen on port {port}:\n{self.last_words()}")

    async def ended(self) -> int:
        """Wait for the end of the process; its exit code."""
        assert self._process is not None
        return await self._process.wait()

    def last_words(self) -> str:
        """The end of what the child has written."""
        return self._log.read_text(encoding="utf-8", errors="replace").strip()[-4000:]

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL to its group where that is not enough."""
        self.stopping = True
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), _STOP_SECONDS)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()
