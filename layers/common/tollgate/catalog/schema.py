"""Reading `catalog.yaml` (the edge: pydantic and YAML; the gate never imports this).

A file is refused whole, with every mistake found in it, each with its path, line and reason.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path as FilePath
from typing import Any, Final, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from tollgate.catalog import checks, source
from tollgate.catalog.document import (
    Document,
    LimitEntry,
    MeterEntry,
    PackageEntry,
    PerUnitEntry,
    PlanEntry,
    PriceEntry,
    TierEntry,
    WeightEntry,
)
from tollgate.catalog.errors import CatalogError, Path, Problem, dotted
from tollgate.catalog.model import (
    BillingPeriod,
    Catalog,
    Condition,
    GrantRule,
    Limit,
    Meter,
    Multiplier,
    Plan,
    Price,
    Seats,
    Tier,
    WeightRule,
)
from tollgate.catalog.notices import notices

__all__ = ["CatalogError", "Problem", "json_schema", "load_catalog", "notices", "parse_catalog"]

IGNORED_PREFIX: Final = "x-"
"""Top-level keys with it are a place for YAML anchors."""

Entry = TypeVar("Entry", MeterEntry, PlanEntry)

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


def load_catalog(path: str | os.PathLike[str]) -> Catalog:
    """Read a catalogue file. Raises CatalogError with every mistake."""
    try:
        text = FilePath(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8"
        raise CatalogError([Problem(str(path), "", None, f"cannot be read: {reason}")]) from error
    return parse_catalog(text, str(path))


def parse_catalog(text: str, file: str = "catalog.yaml") -> Catalog:
    """Read a catalogue from its text; `file` names it in messages. Raises CatalogError with every mistake."""
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
    mistakes += _check(data, document)
    problems += [Problem(file, dotted(path), parsed.line(path), reason) for path, reason in mistakes]
    if problems or document is None:
        raise CatalogError(problems)
    return _catalog(document)


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


def _check(data: dict[Any, Any], document: Document | None) -> Iterator[tuple[Path, str]]:
    """The checks across fields, on every part of the file that is well-formed by itself."""
    if document is not None:
        meters: dict[str, Any] = dict(document.meters)
        plans: dict[str, PlanEntry] = dict(document.plans)
        currency: str | None = document.currency
    else:
        meters = {name: _entry(MeterEntry, raw) for name, raw in _mapping(data.get("meters")).items()}
        plans = {
            name: entry
            for name, raw in _mapping(data.get("plans")).items()
            if (entry := _entry(PlanEntry, raw)) is not None
        }
        currency = None
    yield from checks.check_meters({name: meter for name, meter in meters.items() if meter is not None})
    for plan_id, plan in plans.items():
        yield from checks.check_plan(plan_id, plan, meters, currency)
    default, named = data.get("default_plan"), _mapping(data.get("plans"))
    if isinstance(default, str) and default not in named:
        known = ", ".join(str(name) for name in named)
        yield ("default_plan",), f"no plan `{default}` in this file; it has {known or 'none'}"


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


# --- from the file's entries to the domain's values ------------------------------------------------------------------


def _catalog(document: Document) -> Catalog:
    return Catalog(
        currency=document.currency,
        default_plan=document.default_plan,
        auto_create_accounts=document.auto_create_accounts,
        meters={meter_id: _meter(meter_id, entry) for meter_id, entry in document.meters.items()},
        plans={plan_id: _plan(plan_id, entry) for plan_id, entry in document.plans.items()},
    )


def _when(entry: dict[str, tuple[str, ...]]) -> Condition:
    return tuple(sorted(entry.items()))


def _weights(entries: list[WeightEntry]) -> tuple[WeightRule, ...]:
    return tuple(WeightRule(_when(entry.when), entry.weight) for entry in entries)


def _meter(meter_id: str, entry: MeterEntry) -> Meter:
    return Meter(
        id=meter_id,
        name=entry.name or meter_id,
        unit=entry.unit,
        scale=entry.scale,
        stripe_event_name=entry.stripe_event_name,
        weights=_weights(entry.weights),
        multipliers=tuple(Multiplier(_when(rule.when), rule.factor) for rule in entry.multipliers),
    )


def _plan(plan_id: str, entry: PlanEntry) -> Plan:
    return Plan(
        id=plan_id,
        version=0,
        name=entry.name or plan_id,
        base_fee=entry.base_fee or Decimal(0),
        period=BillingPeriod(entry.period.interval, entry.period.anchor),
        prices=tuple(_price(price) for price in entry.prices),
        overage=entry.overage,
        spend_cap=entry.spend_cap,
        grants=tuple(
            GrantRule(grant.meter, grant.units, grant.every, grant.rollover_max, grant.priority)
            for grant in entry.grants
        ),
        limits=tuple(_limit(limit) for limit in entry.limits),
        weights=tuple((meter, _weights(rules)) for meter, rules in sorted(entry.weights.items())),
        features=dict(entry.features),
        unlimited=entry.unlimited,
        public=entry.public,
        description=entry.description,
        order=entry.order,
        seats=None if entry.seats is None else Seats(entry.seats.unit_price, entry.seats.minimum, entry.seats.pooled),
    )


def _price(entry: PriceEntry) -> Price:
    price = Price(
        entry.meter,
        entry.scheme,
        minimum=entry.minimum,
        maximum=entry.maximum,
        markup=entry.markup or Decimal(0),
        included_per_seat=entry.included_per_seat or Decimal(0),
    )
    if isinstance(entry, PerUnitEntry):
        return replace(price, unit_price=entry.unit_price)
    if isinstance(entry, PackageEntry):
        return replace(price, package_size=entry.package_size, package_price=entry.package_price, round=entry.round)
    return replace(price, tiers=tuple(_tier(tier) for tier in entry.tiers))


def _tier(entry: TierEntry) -> Tier:
    return Tier(entry.up_to, entry.unit_price, entry.flat or Decimal(0))


def _limit(entry: LimitEntry) -> Limit:
    meters = [entry.meter] if entry.meter is not None else entry.meters or []
    return Limit(
        id=entry.id,
        meters=tuple(sorted(meters)),
        per=entry.per,
        window=entry.window,
        concurrent=entry.concurrent,
        where=_when(entry.where),
        max=entry.max,
    )
