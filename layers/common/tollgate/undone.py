"""How a run ends that left work undone: each failure in the log, and one exception that Lambda counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

MOST_LINES: Final = 10
"""Of one run: where everything fails, the first ones say why."""


class Log(Protocol):
    """Powertools' Logger."""

    def error(self, msg: object, /, *, exc_info: Any) -> None: ...


def undone(log: Log, text: str, failures: Sequence[Exception]) -> ExceptionGroup[Exception]:
    """The exception to raise, its failures logged before. Lambda prints only a group's own line and traceback: whose
    work failed (notes), and how, would stand nowhere."""
    for error in failures[:MOST_LINES]:
        log.error(text, exc_info=error)
    return ExceptionGroup(text, failures)
