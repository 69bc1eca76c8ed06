"""What another billing system billed, as a CSV file: a header line, then `account,meter,units[,amount]`."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Final

from tollgate.billing.shadow import Billed, Pair

COLUMNS: Final = ("account", "meter", "units")
AMOUNT: Final = "amount"
_NUMBER: Final = re.compile(r"^-?\d{1,30}(\.\d{1,12})?$", re.ASCII)
_MOST_MISTAKES: Final = 20


class WrongBill(Exception):
    """The file cannot be read as what it should be; `mistakes` say where and what to do, one sentence each."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


def read_bill(path: Path, meters: Collection[str]) -> dict[Pair, Billed]:
    """The file by account and meter; lines of the same pair add up. `meters`: those there are. Raises WrongBill."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise WrongBill([f"{path}: {error.strerror}: name a file that can be read"]) from error
    except UnicodeDecodeError as error:
        raise WrongBill([f"{path}: byte {error.start} is no UTF-8: save the file as UTF-8"]) from error
    rows = csv.reader(lines, strict=True)
    found: dict[Pair, Billed] = {}
    mistakes: list[str] = []
    try:
        columns = next(rows, [])
        if tuple(columns) not in (COLUMNS, (*COLUMNS, AMOUNT)):
            wanted = f"`{','.join(COLUMNS)}` or `{','.join((*COLUMNS, AMOUNT))}`"
            raise WrongBill([f"{path}:1: the header is `{','.join(columns)}`: make it {wanted}"])
        for row in rows:
            wrong = list(_wrong(row, columns, meters)) if row else []
            mistakes += [f"{path}:{rows.line_num}: {one}" for one in wrong]
            if row and not wrong:
                billed = Billed(Decimal(row[2]), Decimal(row[3]) if len(columns) > len(COLUMNS) else None)
                pair = (row[0], row[1])
                found[pair] = found[pair].plus(billed) if pair in found else billed
    except csv.Error as error:
        mistakes.append(f"{path}:{rows.line_num}: {error}: quote values that hold commas or quotes")
    if mistakes:
        more = len(mistakes) - _MOST_MISTAKES
        raise WrongBill([*mistakes[:_MOST_MISTAKES], *([f"{path}: {more} more like these"] if more > 0 else [])])
    return found


def _wrong(row: Sequence[str], columns: Sequence[str], meters: Collection[str]) -> list[str]:
    if len(row) != len(columns):
        return [f"{len(row)} values: give {len(columns)}, one for each of {', '.join(columns)}"]
    found = []
    if not row[0]:
        found.append("account is empty: name the account by the app's own id")
    if row[1] not in meters:
        found.append(f"meter `{row[1]}` is not in the catalogue: one of {', '.join(sorted(meters))}")
    for name, value in zip(columns[2:], row[2:], strict=True):
        if not _NUMBER.match(value):
            found.append(f"{name} `{value}` is no number: plain digits, a point before decimals, as in 1234.5")
    return found
