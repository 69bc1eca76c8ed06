"""What the terminal shows: answers on standard output, everything said about them on standard error."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NoReturn

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

FAILED = 1
WRONG = 2
"""Exit codes: something did not work; the command or the catalogue is wrong."""


def out() -> Console:
    """Standard output as it is now (tests and pipes replace it)."""
    return Console(highlight=False)


def err() -> Console:
    """Standard error as it is now."""
    return Console(stderr=True, highlight=False)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A table of plain text: no value of it is taken for markup. None shows as a dash."""
    found = Table(title=Text(title), title_justify="left", title_style="bold", header_style="bold")
    for name in columns:
        found.add_column(name, overflow="fold")
    for row in rows:
        found.add_row(*(Text("-" if value is None else str(value)) for value in row))
    return found


def note(text: str) -> None:
    """A sentence on standard error."""
    err().print(Text(text), soft_wrap=True)


def fail(text: str, code: int = FAILED) -> NoReturn:
    """Say what is wrong and what to do, and end with an exit code."""
    shown = Text("Error: ", style="bold red")
    shown.append(text, style="default not bold")
    err().print(shown, soft_wrap=True)
    raise typer.Exit(code)
