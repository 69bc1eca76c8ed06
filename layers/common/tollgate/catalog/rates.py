"""Rates files: the weights of many models and kinds of usage as CSV, each row with the day from which it holds.

    model,effective_from,input,cached_input,output
    aster-pro,2026-01-01,3,0.3,15
    aster-pro,2027-01-01,2.5,0.25,12.5

Pure: text and day are handed in. On a day, of the rows with equal dimensions the newest that has begun holds, with all
its cells: an empty rate there is no rate, not the one of an older row. Days are those of UTC.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Final, NamedTuple

from tollgate.catalog.fields import check_pattern, read_day, read_decimal
from tollgate.catalog.model import Condition, WeightRule

SINCE: Final = "effective_from"
IGNORED_PREFIX: Final = "x-"
"""Columns with it are for people."""
MAX_ROWS: Final = 20_000
MAX_RULES: Final = 2_000
"""Weights of one meter that hold at once: a plan version with them stays far below DynamoDB's 400 KB an item."""


class RateMistake(NamedTuple):
    """`line` from 1; `column` as the header names it, empty where a whole line is meant."""

    line: int
    column: str
    reason: str


class Row(NamedTuple):
    """One line: `cells` of the dimension columns, empty for any value; `weights` by weight column where given."""

    line: int
    since: date
    cells: tuple[str, ...]
    weights: dict[str, Decimal]


class Change(NamedTuple):
    """A rate that is another one from the day `on`; None: none of its own."""

    on: date
    when: Condition
    before: Decimal | None
    after: Decimal | None


class Rates(NamedTuple):
    """`weights` that hold on the day asked for, in the order in which they are tried; `changes` that come later, by
    day. With `mistakes` there is neither."""

    weights: tuple[WeightRule, ...] = ()
    changes: tuple[Change, ...] = ()
    mistakes: tuple[RateMistake, ...] = ()


Columns = Mapping[str, Mapping[str, tuple[str, ...]]]
"""Weight column -> what it is for besides the row's dimensions."""


def read_rates(text: str, dimensions: Sequence[str], columns: Columns, today: date) -> Rates:
    """The rates of a file's text on a day, or every mistake in it.

    Order of trial: dimension columns from left to right, exact values before patterns, longer patterns before shorter
    ones (of one length by the alphabet), empty cells last; inside a row the column for the most dimensions first. So
    the lines may stand in any order.
    """
    rows, mistakes = _rows(text, dimensions, columns)
    seen: dict[tuple[tuple[str, ...], date], int] = {}
    for row in rows:
        first = seen.setdefault((row.cells, row.since), row.line)
        if first != row.line:
            mistakes.append(RateMistake(row.line, SINCE, f"line {first} has the same dimensions from the same day"))
    if not mistakes and sum(len(columns) for _ in {row.cells for row in rows}) > MAX_RULES:
        mistakes.append(RateMistake(1, "", f"more than {MAX_RULES} weights for one meter"))
    if mistakes:
        return Rates(mistakes=tuple(mistakes))
    history: dict[tuple[str, ...], list[Row]] = {}
    for row in sorted(rows, key=lambda row: row.since):
        history.setdefault(row.cells, []).append(row)
    order = sorted(columns, key=lambda column: -len(columns[column]))
    weights: list[WeightRule] = []
    changes: list[Change] = []
    for cells in sorted(history, key=lambda cells: [_rank(cell) for cell in cells]):
        begun = [row for row in history[cells] if row.since <= today]
        later = [row for row in history[cells] if row.since > today]
        for column in order:
            when = _when(dimensions, cells, columns[column])
            weight = begun[-1].weights.get(column) if begun else None
            if weight is not None:
                weights.append(WeightRule(when, weight))
            for row in later:
                after = row.weights.get(column)
                if after != weight:
                    changes.append(Change(row.since, when, weight, after))
                weight = after
    return Rates(tuple(weights), tuple(sorted(changes, key=lambda change: change.on)))


def _rank(cell: str) -> tuple[int, int, str]:
    if not cell:
        return (2, 0, "")
    # The text comes last so that the order of the lines decides nothing.
    return (1, -len(cell), cell) if "*" in cell else (0, 0, "")


def _when(dimensions: Sequence[str], cells: Sequence[str], column: Mapping[str, tuple[str, ...]]) -> Condition:
    named = {dimension: (cell,) for dimension, cell in zip(dimensions, cells, strict=True) if cell}
    return tuple(sorted({**named, **column}.items()))


def _rows(text: str, dimensions: Sequence[str], columns: Columns) -> tuple[list[Row], list[RateMistake]]:
    """The lines that can be read, and the mistakes in the others."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[Row] = []
    mistakes: list[RateMistake] = []
    header: list[str] | None = None
    line = 1
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if not any(stripped):
                pass  # an empty line
            elif header is None:
                header = stripped
                mistakes += _header(line, header, dimensions, columns)
                if mistakes:
                    break
            elif len(rows) == MAX_ROWS:
                mistakes.append(RateMistake(line, "", f"more than {MAX_ROWS} lines"))
                break
            elif len(stripped) != len(header):
                mistakes.append(RateMistake(line, "", f"has {len(stripped)} cells; the header has {len(header)}"))
            else:
                row = _row(line, dict(zip(header, stripped, strict=True)), dimensions, columns, mistakes)
                if row is not None:
                    rows.append(row)
            line = reader.line_num + 1
    except csv.Error as error:
        mistakes.append(RateMistake(line, "", f"not readable as CSV: {error}"))
    if header is None and not mistakes:
        mistakes.append(RateMistake(1, "", "is empty: the first line names the columns"))
    elif not rows and not mistakes:
        mistakes.append(RateMistake(1, "", "has no rates"))
    return rows, mistakes


def _header(line: int, header: Sequence[str], dimensions: Sequence[str], columns: Columns) -> Iterator[RateMistake]:
    known = (*dimensions, SINCE, *columns)
    for name in known:
        if name not in header:
            yield RateMistake(line, name, f"no such column; the file has {', '.join(header)}")
    for place, name in enumerate(header):
        if name in header[:place]:
            yield RateMistake(line, name, "given twice")
        elif name not in known and not name.startswith(IGNORED_PREFIX):
            wanted = f"name it in `dimensions` or `columns`, or begin it with {IGNORED_PREFIX}"
            yield RateMistake(line, name, f"neither a dimension nor a rate: {wanted}")


def _row(
    line: int, cells: Mapping[str, str], dimensions: Sequence[str], columns: Columns, mistakes: list[RateMistake]
) -> Row | None:
    """The row of a line, or None with its mistakes added."""
    before = len(mistakes)
    for dimension in dimensions:
        if cells[dimension]:
            try:
                check_pattern(cells[dimension])
            except ValueError as error:
                mistakes.append(RateMistake(line, dimension, str(error)))
    since: date | None = None
    try:
        since = read_day(cells[SINCE])
    except ValueError as error:
        mistakes.append(RateMistake(line, SINCE, str(error)))
    weights: dict[str, Decimal] = {}
    for column in columns:
        if cells[column]:
            try:
                weights[column] = read_decimal(cells[column])
            except ValueError as error:
                mistakes.append(RateMistake(line, column, str(error)))
    if len(mistakes) == before and not weights:
        mistakes.append(RateMistake(line, "", "has no rate"))
    if since is None or len(mistakes) > before:
        return None
    return Row(line, since, tuple(cells[dimension] for dimension in dimensions), weights)
