"""What a part of the benchmark hands back: tables to read, and figures held against their budgets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from rich.console import Console
from rich.table import Table

Number = int | Decimal | float


@dataclass(frozen=True, slots=True)
class Check:
    """One figure and its budget. `counted` figures are the same on every machine, and past the budget the run fails;
    the others depend on the machine: they are printed with a verdict."""

    what: str
    measured: Number
    budget: Number
    unit: str
    counted: bool = True
    exact: bool = False
    """The budget is what it must be, not the most it may be."""

    @property
    def kept(self) -> bool:
        return self.measured == self.budget if self.exact else self.measured <= self.budget


@dataclass(frozen=True, slots=True)
class Listing:
    """A table: column names (the first is text, the rest numbers) and rows."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str | Number]]
    title: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    listings: Sequence[Listing] = ()
    checks: Sequence[Check] = ()
    notes: Sequence[str] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    """Figures for `--json` that no table shows as numbers."""


def failures(sections: Sequence[Section]) -> list[Check]:
    """The counted figures past their budgets."""
    return [check for section in sections for check in section.checks if check.counted and not check.kept]


def show(section: Section, console: Console) -> None:
    console.rule(section.title, align="left")
    for listing in section.listings:
        table = Table(title=listing.title or None, title_justify="left")
        for index, column in enumerate(listing.columns):
            table.add_column(column, justify="left" if index == 0 else "right")
        for row in listing.rows:
            table.add_row(*(shown(cell) for cell in row))
        console.print(table)
    if section.checks:
        table = Table("budget", title_justify="left")
        for column in ("measured", "budget", "", "verdict"):
            table.add_column(column, justify="right")
        for check in section.checks:
            limit = f"{'=' if check.exact else '<='} {shown(check.budget)}"
            table.add_row(check.what, shown(check.measured), limit, check.unit, _verdict(check))
        console.print(table)
    for note in section.notes:
        console.print(f"  {note}", style="dim", highlight=False, markup=False)


def _verdict(check: Check) -> str:
    if check.kept:
        return "[green]kept[/green]"
    return "[bold red]PAST BUDGET[/bold red]" if check.counted else "[yellow]past budget (timed)[/yellow]"


def shown(cell: str | Number) -> str:
    """A cell as text: whole numbers whole, others with up to four places."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, int):
        return str(cell)
    places = 4 if -1 < cell < 1 else 3 if -100 < cell < 100 else 1
    text = f"{cell:.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def as_json(sections: Sequence[Section]) -> dict[str, Any]:
    """Everything that was printed, decimals as strings."""
    return {
        "kept": not failures(sections),
        "sections": [
            {
                "title": section.title,
                "checks": [
                    {
                        "what": check.what,
                        "measured": _plain(check.measured),
                        "budget": _plain(check.budget),
                        "unit": check.unit,
                        "counted": check.counted,
                        "exact": check.exact,
                        "kept": check.kept,
                    }
                    for check in section.checks
                ],
                "listings": [
                    {
                        "title": listing.title,
                        "columns": list(listing.columns),
                        "rows": [[_plain(cell) for cell in row] for row in listing.rows],
                    }
                    for listing in section.listings
                ],
                "notes": list(section.notes),
                "facts": {name: _plain(value) for name, value in section.facts.items()},
            }
            for section in sections
        ],
    }


def _plain(value: Any) -> Any:
    return format(value.normalize(), "f") if isinstance(value, Decimal) else value
