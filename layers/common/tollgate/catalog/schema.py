"""Reading `catalog.yaml` (the edge: pydantic and YAML; the gate never imports this).

A file is refused whole, with every mistake found in it, each with its path, line and reason.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from pathlib import Path as FilePath
from typing import Any, Final, NamedTuple, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from tollgate.catalog import checks, source
from tollgate.catalog.document import BREAKER_KINDS, Document, MeterEntry, PlanEntry
from tollgate.catalog.errors import CatalogError, Path, Problem, dotted
from tollgate.catalog.model import Catalog
from tollgate.catalog.notices import notices
from tollgate.catalog.rates import Rates, read_rates
from tollgate.catalog.values import catalog
from tollgate.clock import system_clock

__all__ = ["Beside", "CatalogError", "Problem", "json_schema", "load_catalog", "notices", "parse_catalog"]

IGNORED_PREFIX: Final = "x-"
"""Top-level keys with it are a place for YAML anchors."""

Entry = TypeVar("Entry", MeterEntry, PlanEntry)

_DAY_MS: Final = 86_400_000
_SCHEMES: Final = frozenset({"per_unit", "graduated", "volume", "package"})
_REASONS: Final = {
    "extra_forbidden": "unknown field",
    "missing": "is required",
    "string_type": "must be a string: write it in quotes",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "union_tag_not_found": "`scheme` is required: per_unit, graduated, volume or package",
    "union_tag_invalid": "`scheme` must be per_unit, graduated, volume or package",
}
_PATTERN_REASONS: Final = {
    "^[a-z]{3}$": "must be a lower-case currency code of three letters, such as usd",
    "^[a-z0-9_.-]{1,64}$": "an id has 1 to 64 characters of a-z, 0-9, `_`, `.` and `-`",
}


class Beside(NamedTuple):
    """What a catalogue needs besides its text: the UTC day whose rates hold, and the text of a file in its folder
    (raises ValueError with the reason where that cannot be read)."""

    today: date
    read: Callable[[str], str]


def load_catalog(path: str | os.PathLike[str], today: date | None = None) -> Catalog:
    """Read a catalogue file and the rates files that it names. Raises CatalogError with every mistake.

    `today`: the day whose rates hold; without it the one that it is now, in UTC.
    """
    try:
        text = _read(FilePath(path))
    except ValueError as error:
        raise CatalogError([Problem(str(path), "", None, str(error))]) from error
    folder = FilePath(path).parent
    beside = Beside(_now() if today is None else today, lambda name: _read(folder / name))
    return parse_catalog(text, str(path), beside)


def _now() -> date:
    return date.fromordinal(date(1970, 1, 1).toordinal() + system_clock() // _DAY_MS)


def _read(path: FilePath) -> str:
    """The text of a file, without the mark that some programs begin UTF-8 with. Raises ValueError."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8"
        raise ValueError(f"cannot be read: {reason}") from error


def parse_catalog(text: str, file: str = "catalog.yaml", beside: Beside | None = None) -> Catalog:
    """Read a catalogue from its text; `file` names it in messages. Raises CatalogError with every mistake.

    Without `beside` it cannot have rates files.
    """
    parsed = source.read(text)
    problems = [Problem(file, dotted(path), line, reason) for path, line, reason in parsed.mistakes]
    if parsed.data is None and problems:
        raise CatalogError(problems)
    data = parsed.data
    if not isinstance(data, dict):
        raise CatalogError([*problems, Problem(file, "", None, "must be a mapping with `currency`, `plans`, ...")])
    data = {key: value for key, value in data.items() if not str(key).startswith(IGNORED_PREFIX)}
    document: Document | None = None
    mistakes: list[tuple[Path, str]] = []
    try:
        document = Document.model_validate(data)
    except ValidationError as error:
        mistakes += [_mistake(details) for details in error.errors(include_url=False)]
    meters = _meters(data, document)
    mistakes += _check(data, document, meters)
    rates = _rates(meters, mistakes, beside)
    problems += [Problem(file, dotted(path), parsed.line(path), reason) for path, reason in mistakes]
    for name, found in rates.items():
        place = str(FilePath(file).parent / meters[name].rates.file)
        problems += [Problem(place, column, line, reason) for line, column, reason in found.mistakes]
    if problems or document is None:
        raise CatalogError(problems)
    return catalog(document, rates)


def _rates(meters: Mapping[str, Any], mistakes: list[tuple[Path, str]], beside: Beside | None) -> dict[str, Rates]:
    """The rates of the meters whose entries have no mistake in this part; adds the mistake of a file not read."""
    wrong = {path[1] for path, _ in mistakes if path[:1] == ("meters",) and path[2:3] == ("rates",)}
    found: dict[str, Rates] = {}
    for name, meter in meters.items():
        if not isinstance(meter, MeterEntry) or meter.rates is None or name in wrong:
            continue
        try:
            if beside is None:
                raise ValueError("cannot be read: this text stands in no folder")
            text = beside.read(meter.rates.file)
        except ValueError as error:
            mistakes.append((("meters", name, "rates", "file"), str(error)))
            continue
        found[name] = read_rates(text, meter.rates.dimensions, meter.rates.columns, beside.today)
    return found


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the file, for editors. What fields mean together, `load_catalog` checks."""
    schema = Document.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "Tollgate catalogue",
        "patternProperties": {f"^{IGNORED_PREFIX}": {}},
    }


# --- mistakes --------------------------------------------------------------------------------------------------------


def _meters(data: dict[Any, Any], document: Document | None) -> dict[str, Any]:
    """The meters that the file names; None in the place of one with mistakes of its own."""
    if document is not None:
        return dict(document.meters)
    return {name: _entry(MeterEntry, raw) for name, raw in _mapping(data.get("meters")).items()}


def _check(data: dict[Any, Any], document: Document | None, meters: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """The checks across fields, on every part of the file that is well-formed by itself."""
    plans: dict[str, PlanEntry]
    currency: str | None
    if document is not None:
        plans, currency = dict(document.plans), document.currency
    else:
        plans = {
            name: entry
            for name, raw in _mapping(data.get("plans")).items()
            if (entry := _entry(PlanEntry, raw)) is not None
        }
        currency = None
    yield from checks.check_meters({name: meter for name, meter in meters.items() if meter is not None})
    if document is not None and document.breaker != "off":
        yield from checks.check_breaker(("breaker",), document.breaker, meters)
    if document is not None:
        yield from checks.check_prices(("provider_prices",), document.provider_prices)
    for plan_id, plan in plans.items():
        yield from checks.check_plan(plan_id, plan, meters, currency)
    for meter in _mapping(data.get("expected_volume")):
        if meter not in meters:
            yield ("expected_volume", meter), f"no meter `{meter}` in this file"
    named = _mapping(data.get("plans"))
    for field in ("default_plan", "fallback_plan"):
        wanted = data.get(field)
        if isinstance(wanted, str) and wanted not in named:
            known = ", ".join(str(name) for name in named)
            yield (field,), f"no plan `{wanted}` in this file; it has {known or 'none'}"


def _mapping(value: Any) -> dict[str, Any]:
    return {str(key): entry for key, entry in value.items()} if isinstance(value, dict) else {}


def _entry(kind: type[Entry], raw: Any) -> Entry | None:
    """The entry, or None where it has mistakes of its own: those are reported already."""
    try:
        return kind.model_validate(raw)
    except ValidationError:
        return None


def _mistake(details: ErrorDetails) -> tuple[Path, str]:
    path: list[str | int] = []
    for part in details["loc"]:
        if part == "[key]":
            path[-1] = str(details["input"])  # pydantic names a key `true` or `3` by a number, as if it were an index
        elif path and path[-1] == "breaker" and part in BREAKER_KINDS:
            continue  # nor is what it was taken for
        elif not (part in _SCHEMES and len(path) >= 2 and path[-2] == "prices"):  # the chosen scheme is no path part
            path.append(part)
    return tuple(path), _reason(details)


def _reason(details: ErrorDetails) -> str:
    context = details.get("ctx", {})
    if details["type"] == "value_error":
        return str(context["error"])
    if details["type"] == "string_pattern_mismatch":
        return _PATTERN_REASONS.get(context["pattern"], details["msg"])
    if details["type"] == "string_type" and details["loc"][-1] == "[key]":
        return f"a name must be a string: write it in quotes (YAML read {details['input']!r})"
    return _REASONS.get(details["type"]) or details["msg"][:1].lower() + details["msg"][1:]
