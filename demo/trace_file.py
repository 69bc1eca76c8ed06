"""Traces as files: CSV or JSONL, one line for each item of a call.

| column | meaning |
| --- | --- |
| `request` | lines with the same value are items of one call; without it every line is a call |
| `offset_seconds` | when the call starts, from the trace's start; needed |
| `seconds` | how long it runs (0) |
| `account` | needed |
| `plan` | the account's plan (the catalogue's default plan) |
| `member` | who inside the account (nobody) |
| `call` | `reserve` (default), `once` or `usage` |
| `outcome` | `ok` (default), `failed`, `cached`, `no_commit`, `late` |
| `sends` | how often the last write is sent, 1 (default) to 5 |
| `meter` | needed |
| `operation`, `model`, `dimension.<name>` | dimensions; empty: not sent |
| `reserved`, `used` | quantities; one of them is needed, the other defaults to it |

In JSONL, quantities and times are numbers or strings, and `dimensions` may be an object.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import NoReturn, TypeVar

from demo.trace import CALLS, MAX_ITEMS, OUTCOMES, OUTCOMES_OF, Item, Request

_PREFIX = "dimension."
_NAMED = ("operation", "model")
_COLUMNS = (
    "request",
    "offset_seconds",
    "seconds",
    "account",
    "plan",
    "member",
    "call",
    "outcome",
    "sends",
    "meter",
    *_NAMED,
    "reserved",
    "used",
)
_SHARED = ("offset_seconds", "seconds", "account", "plan", "member", "call", "outcome", "sends")
_NEEDED = ("offset_seconds", "account", "meter")
_ID = re.compile(r"[A-Za-z0-9._:@|+-]{1,40}")
_DECIMAL = re.compile(r"[0-9]{1,15}(\.[0-9]{1,12})?", re.ASCII)
_MAX_SENDS = 5
_MAX_ERRORS = 20

Name = TypeVar("Name", bound=str)


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake of a trace: where it is and what to do."""

    line: int
    field: str
    text: str

    def __str__(self) -> str:
        return f"line {self.line}, {self.field}: {self.text}"


class TraceError(Exception):
    """A trace that cannot be replayed; the text names the file, and for each mistake line, field and fix."""

    def __init__(self, path: Path, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        shown = [f"{path}: {problem}" for problem in problems[:_MAX_ERRORS]]
        if len(problems) > _MAX_ERRORS:
            shown.append(f"{path}: and {len(problems) - _MAX_ERRORS} more")
        super().__init__("\n".join(shown))


class _Wrong(Exception):
    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field
        self.text = text


# -- writing ---------------------------------------------------------------------------------------------------------


def to_csv(trace: Iterable[Request]) -> str:
    """The trace as CSV; `load` reads it back to an equal one."""
    listed = list(trace)
    extra = sorted({name for request in listed for item in request.items for name in item.dimensions} - set(_NAMED))
    columns = [*_COLUMNS[:-2], *(_PREFIX + name for name in extra), *_COLUMNS[-2:]]
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for request in listed:
        for item in request.items:
            writer.writerow(_row(request, item))
    return out.getvalue()


def _row(request: Request, item: Item) -> dict[str, str]:
    row = {
        "request": request.id,
        "offset_seconds": format(request.at, "f"),
        "seconds": format(request.seconds, "f"),
        "account": request.account,
        "plan": request.plan or "",
        "member": request.member or "",
        "call": request.call,
        "outcome": request.outcome,
        "sends": str(request.sends),
        "meter": item.meter,
        "reserved": format(item.reserved, "f"),
        "used": format(item.used, "f"),
    }
    for name, value in item.dimensions.items():
        row[name if name in _NAMED else _PREFIX + name] = value
    return row


# -- reading ---------------------------------------------------------------------------------------------------------


def load(path: Path) -> list[Request]:
    """The calls of a CSV or JSONL file (by its ending), in the order of their times.

    Raises TraceError with every mistake found, the first twenty in its text.
    """
    problems: list[Problem] = []
    calls: dict[str, Request] = {}
    plans: dict[str, str] = {}
    for line, row in _rows(path, problems):
        try:
            _add(calls, plans, line, row)
        except _Wrong as wrong:
            problems.append(Problem(line, wrong.field, wrong.text))
    if problems:
        raise TraceError(path, problems)
    if not calls:
        raise TraceError(path, [Problem(1, "file", "holds no calls; write at least one line after the header")])
    return sorted(calls.values(), key=lambda request: request.at)


def _rows(path: Path, problems: list[Problem]) -> Iterator[tuple[int, Mapping[str, str]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise TraceError(path, [Problem(1, "file", f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError as error:
        raise TraceError(path, [Problem(1, "file", f"is not UTF-8 ({error.reason}); save it as UTF-8")]) from None
    if path.suffix.lower() == ".csv":
        return _csv_rows(path, text, problems)
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        return _jsonl_rows(text, problems)
    raise TraceError(path, [Problem(1, "file", "ends in neither .csv nor .jsonl; rename it to what it is")])


def _csv_rows(path: Path, text: str, problems: list[Problem]) -> Iterator[tuple[int, Mapping[str, str]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    names = list(reader.fieldnames or ())
    wrong = [Problem(1, name or "header", _unknown(name)) for name in names if not _known(name)]
    wrong += [
        Problem(1, name, f"this column is needed; the header has: {', '.join(names) or 'nothing'}")
        for name in _NEEDED
        if name not in names
    ]
    wrong += [Problem(1, name, "this column is there twice; keep one") for name in set(names) if names.count(name) > 1]
    if wrong:
        raise TraceError(path, wrong)
    while True:
        begin = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problems.append(Problem(begin, "line", f"is no CSV ({error}); check its quotes"))
            return
        if None in row or None in row.values():
            problems.append(
                Problem(reader.line_num, "line", f"has not the header's {len(names)} fields; quote fields with commas")
            )
            continue
        yield reader.line_num, {name: value.strip() for name, value in row.items() if value.strip()}


def _jsonl_rows(text: str, problems: list[Problem]) -> Iterator[tuple[int, Mapping[str, str]]]:
    for line, part in enumerate(text.split("\n"), 1):
        if not part.strip():
            continue
        try:
            yield line, _json_row(part)
        except _Wrong as wrong:
            problems.append(Problem(line, wrong.field, wrong.text))


def _json_row(text: str) -> dict[str, str]:
    try:
        row = json.loads(text, parse_float=Decimal, parse_int=Decimal, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _Wrong("line", f"is no JSON ({error}); write one object a line") from None
    if not isinstance(row, dict):
        raise _Wrong("line", "is no JSON object; write one object a line")
    found: dict[str, str] = {}
    dimensions = row.pop("dimensions", None) or {}
    if not isinstance(dimensions, dict):
        raise _Wrong("dimensions", "is no object; write names and strings")
    for name, value in (*row.items(), *((_PREFIX + name, value) for name, value in dimensions.items())):
        if not _known(name):
            raise _Wrong(name, _unknown(name))
        if isinstance(value, Decimal):
            value = format(value, "f")
        if value is not None and not isinstance(value, str):
            raise _Wrong(name, "is neither a string nor a number; write one of them")
        if value is not None and value.strip():
            found[name] = value.strip()
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _known(name: str) -> bool:
    return name in _COLUMNS or (name.startswith(_PREFIX) and len(name) > len(_PREFIX))


def _unknown(name: str) -> str:
    return f"no such field; there are {', '.join(_COLUMNS)} and dimension.<name>"


def _add(calls: dict[str, Request], plans: dict[str, str], line: int, row: Mapping[str, str]) -> None:
    request = _request(line, row)
    if request.plan is not None and plans.setdefault(request.account, request.plan) != request.plan:
        raise _Wrong("plan", f"account {request.account} is on {plans[request.account]} above; an account has one plan")
    there = calls.get(request.id)
    if there is None:
        calls[request.id] = request
        return
    for name in _SHARED:
        attribute = "at" if name == "offset_seconds" else name
        if getattr(there, attribute) != getattr(request, attribute):
            raise _Wrong(name, f"differs from the other lines of request {request.id}; they are one call")
    items = there.items + request.items
    if len(items) > MAX_ITEMS[request.call]:
        raise _Wrong("request", f"{request.id} has over {MAX_ITEMS[request.call]} items; split it into several calls")
    calls[request.id] = Request(
        there.id,
        there.at,
        there.seconds,
        there.account,
        there.plan,
        there.member,
        there.call,
        there.outcome,
        there.sends,
        items,
    )


def _request(line: int, row: Mapping[str, str]) -> Request:
    for name in _NEEDED:
        if name not in row:
            raise _Wrong(name, "is empty; it is needed on every line")
    call = _one_of(row, "call", CALLS)
    outcome = _one_of(row, "outcome", OUTCOMES)
    if outcome not in OUTCOMES_OF[call]:
        raise _Wrong("outcome", f"{outcome} does not fit call {call}; it can be {', '.join(OUTCOMES_OF[call])}")
    sends = row.get("sends", "1")
    if sends not in map(str, range(1, _MAX_SENDS + 1)):
        raise _Wrong("sends", f"{sends!r} is no whole number from 1 to {_MAX_SENDS}")
    # A name that no `request` column can hold, so that it meets none.
    name = _identifier(row, "request") if "request" in row else f"line {line}"
    return Request(
        id=name,
        at=_decimal(row, "offset_seconds", "0"),
        seconds=_decimal(row, "seconds", "0"),
        account=_identifier(row, "account"),
        plan=row.get("plan"),
        member=_identifier(row, "member") if "member" in row else None,
        call=call,
        outcome=outcome,
        sends=int(sends),
        items=(_item(row, call, outcome),),
    )


def _item(row: Mapping[str, str], call: str, outcome: str) -> Item:
    if "reserved" not in row and "used" not in row:
        raise _Wrong("used", "is empty, and so is reserved; one of them is needed")
    used = _decimal(row, "used", row.get("reserved", ""))
    reserved = _decimal(row, "reserved", row.get("used", ""))
    if call == "reserve" and reserved == 0:
        raise _Wrong("reserved", "is 0; a reservation is above 0")
    if call != "reserve" and used == 0:
        raise _Wrong("used", f"is 0; what is recorded by {call} is above 0")
    dimensions = {name: row[name] for name in _NAMED if name in row}
    for name, value in row.items():
        if name.startswith(_PREFIX):
            dimensions[name.removeprefix(_PREFIX)] = value
    return Item(row["meter"], reserved, used, dimensions)


def _identifier(row: Mapping[str, str], name: str) -> str:
    if not _ID.fullmatch(row[name]) or not row[name].strip("."):
        raise _Wrong(name, f"{row[name]!r} is no id; use 1 to 40 of A-Z a-z 0-9 . _ : @ | + - and not only dots")
    return row[name]


def _decimal(row: Mapping[str, str], name: str, default: str) -> Decimal:
    text = row.get(name, default)
    if not _DECIMAL.fullmatch(text):
        raise _Wrong(name, f"{text!r} is no plain decimal; write digits with at most one point, such as 12 or 0.5")
    return Decimal(text)


def _one_of(row: Mapping[str, str], name: str, names: tuple[Name, ...]) -> Name:
    text = row.get(name, names[0])
    for known in names:
        if text == known:
            return known
    raise _Wrong(name, f"{text!r} is not one of {', '.join(names)}")
