"""What is wrong with a catalogue file: every problem at once, each with its place."""

from __future__ import annotations

from dataclasses import dataclass

from tollgate.errors import FieldError, Invalid

Path = tuple[str | int, ...]


def dotted(path: Path) -> str:
    """`("plans", "pro", "limits", 0, "max")` as `plans.pro.limits[0].max`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: `path` inside the file (empty: the file as a whole), `line` from 1 where known."""

    file: str
    path: str
    line: int | None
    reason: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.path}: {self.reason}" if self.path else f"{place}: {self.reason}"


class CatalogError(Invalid):
    """The catalogue cannot be used. `problems` holds every mistake found, file by file, in the order of the lines."""

    code, title = "catalog_invalid", "Invalid catalogue"

    def __init__(self, problems: list[Problem]) -> None:
        files = list(dict.fromkeys(problem.file for problem in problems))
        self.problems = tuple(sorted(problems, key=lambda problem: (files.index(problem.file), problem.line or 0)))
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        lines = "".join(f"\n  {problem}" for problem in self.problems)
        super().__init__(
            f"The catalogue has {count}; nothing was changed.{lines}",
            tuple(FieldError(problem.path, "invalid") for problem in self.problems),
        )
