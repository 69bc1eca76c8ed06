"""Function logs: everything goes to one file a function, trouble is also shown on the console."""

from __future__ import annotations

import json
import sys
from pathlib import Path

_ERROR_MARKS = (b'"level":"ERROR"', b'"level":"CRITICAL"', b'"level": "ERROR"', b'"level": "CRITICAL"')


_MESSAGE = b'"message":"message"'


def console(text: str) -> None:
    """One line (or a few) for the person at the terminal."""
    print(text, flush=True)


def _readable(line: bytes) -> str:
    """A log line for a person: a JSON record's message and traceback, else the text with its line breaks."""
    text = line.decode("utf-8", "replace")
    if text.startswith("{"):
        try:
            record = json.loads(text)
        except ValueError:
            return text
        parts = [f"{record.get('level', '')} {record.get('message', text)}".strip()]
        if record.get("exception"):
            parts.append(str(record["exception"]))
        return "\n".join(parts)
    # The runtime client joins the lines of a traceback with carriage returns and indents them with no-break spaces.
    return text.replace("\r", "\n").replace("\u00a0", " ").rstrip()


def _message(line: bytes) -> str:
    """What notify says of a new message of the outbox."""
    record = json.loads(line)
    whose = f"{record['account']}: " if record["account"] else ""
    return f"  message for {record['audience']} | {record['kind']} | {whose}{record['subject']}"


class FunctionLog:
    """The log of one function, shared by all its workers."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.path = path
        self._file = path.open("wb", buffering=0)
        self._rest: dict[tuple[int, str], bytes] = {}

    def feed(self, pid: int, stream: str, chunk: bytes) -> None:
        """Bytes that a worker's process wrote to `stdout` or `stderr`; an empty chunk ends the stream."""
        key = (pid, stream)
        if not chunk:
            rest = self._rest.pop(key, b"")
            if rest:
                self._line(stream, rest)
            return
        *lines, rest = (self._rest.get(key, b"") + chunk).split(b"\n")
        self._rest[key] = rest
        for line in lines:
            self._line(stream, line)

    def _line(self, stream: str, line: bytes) -> None:
        self._file.write(line + b"\n")
        if stream == "stderr" or line.startswith(b"[ERROR]") or any(mark in line for mark in _ERROR_MARKS):
            for text in _readable(line).splitlines():
                print(f"  {self.name} | {text}", file=sys.stderr, flush=True)
        elif _MESSAGE in line:
            console(_message(line))

    def platform(self, text: str, *, loud: bool = False) -> None:
        """A line of the platform itself (START, REPORT, a killed process)."""
        self._file.write(text.encode() + b"\n")
        if loud:
            print(f"  {self.name} | {text}", file=sys.stderr, flush=True)

    def close(self) -> None:
        self._file.close()
