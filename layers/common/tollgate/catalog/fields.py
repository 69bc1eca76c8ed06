"""The kinds of value that `catalog.yaml` is made of, as annotated types with their JSON Schema.

Decimals that mean money or a weight must be strings, because YAML reads `0.1` as a binary float; whole counts (`max`,
`units`, `up_to`) may be integers.
"""

from __future__ import annotations

import math
import re
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, PlainValidator, StringConstraints, WithJsonSchema

from tollgate.catalog.model import Feature
from tollgate.windows import CALENDAR_KINDS, MAX_FIRST_USE_HOURS, WindowKind

MAX_WHOLE_DIGITS: Final = 18
MAX_PLACES: Final = 12
MAX_DIMENSIONS: Final = 10
MAX_DIMENSION_NAME: Final = 40
MAX_PATTERN: Final = 128
MAX_PATTERNS: Final = 50
MAX_FILE: Final = 200

_DECIMAL_PATTERN: Final = r"^(0|[1-9][0-9]{0,17})(\.[0-9]{1,12})?$"
_DECIMAL: Final = re.compile(_DECIMAL_PATTERN[:-1] + r"\Z", re.ASCII)
_INFINITY: Final = "inf"
_FILE_PATTERN: Final = r"^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$"
_FILE: Final = re.compile(_FILE_PATTERN[:-1] + r"\Z", re.ASCII)
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z", re.ASCII)

DIMENSION: Final = "dimension:"
"""What stands before a dimension's name in `per`."""


def read_decimal(text: str) -> Decimal:
    """A decimal as the catalogue writes it. Raises ValueError with the reason."""
    if not _DECIMAL.match(text):
        raise ValueError(
            f"{text!r} is not a plain decimal: at most {MAX_WHOLE_DIGITS} digits, then at most {MAX_PLACES} places, "
            "no sign, no exponent"
        )
    return Decimal(text)


def _exact(value: Any) -> Decimal:
    """A decimal string and nothing else."""
    if isinstance(value, str):
        return read_decimal(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f'write it as a string, in quotes: "{value}"')
    raise ValueError('write it as a decimal string, such as "0.5"')


def _amount(value: Any) -> Decimal:
    """An integer or a decimal string."""
    if isinstance(value, str):
        return read_decimal(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value < 10**MAX_WHOLE_DIGITS:
            raise ValueError(f"must be from 0 to below 10^{MAX_WHOLE_DIGITS}")
        return Decimal(value)
    if isinstance(value, float):
        raise ValueError(f'write it as a string, in quotes: "{value}"')
    raise ValueError("must be a whole number or a decimal string")


def _positive(value: Any) -> Decimal:
    amount = _amount(value)
    if amount == 0:
        raise ValueError("must be above 0")
    return amount


def _positive_exact(value: Any) -> Decimal:
    found = _exact(value)
    if found == 0:
        raise ValueError("must be above 0")
    return found


def read_day(text: Any) -> date:
    """Raises ValueError for anything but a day of the calendar, such as 2026-11-21."""
    wrong = f"{text!r} is no day such as 2026-11-21"
    if not isinstance(text, str) or not _DAY.match(text):
        raise ValueError(wrong)
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise ValueError(wrong) from error


def _at_least_one(value: Any) -> Decimal:
    found = _exact(value)
    if found < 1:
        raise ValueError('must be at least "1"')
    return found


def _tier_end(value: Any) -> Decimal | None:
    if value == _INFINITY:
        return None
    if isinstance(value, float) and value == math.inf:
        raise ValueError("write `inf`, without a dot")
    return _positive(value)


def _patterns(value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    if not 1 <= len(values) <= MAX_PATTERNS:
        raise ValueError(f"give one value, or a list of 1 to {MAX_PATTERNS}")
    for entry in values:
        if not isinstance(entry, str):
            shown = "off or no" if entry is False else "on or yes" if entry is True else repr(entry)
            raise ValueError(f"dimension values are strings: write it in quotes (YAML read {shown})")
        check_pattern(entry)
    return tuple(sorted(set(values)))


def check_pattern(text: str) -> None:
    """Raises ValueError where a dimension value or pattern has no allowed length."""
    if not 1 <= len(text) <= MAX_PATTERN:
        raise ValueError(f"a dimension value has 1 to {MAX_PATTERN} characters")


def _per(value: Any) -> str:
    if value in ("account", "member", "plan"):
        return str(value)
    if not isinstance(value, str):
        raise ValueError("must be a string: write it in quotes")
    if value.startswith(DIMENSION) and 1 <= len(value) - len(DIMENSION) <= MAX_DIMENSION_NAME:
        return value
    raise ValueError(
        f"must be account, member, plan or {DIMENSION}<name>, the name with at most {MAX_DIMENSION_NAME} characters"
    )


def _file(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MAX_FILE or not _FILE.match(value) or ".." in value.split("/"):
        raise ValueError(
            "must name a file beside the catalogue, such as rates.csv or prices/rates.csv: letters, digits, `.`, `_`, "
            "`-`, and no way out of the folder"
        )
    return value


def _window(value: Any) -> WindowKind:
    if isinstance(value, dict):
        if set(value) != {"hours", "starts"} or value["starts"] != "first_use":
            raise ValueError("a window in hours is written {hours: N, starts: first_use}")
        hours = value["hours"]
        if not isinstance(hours, int) or isinstance(hours, bool):
            raise ValueError("`hours` is a whole number")
        return WindowKind.first_use(hours)
    for kind in CALENDAR_KINDS:
        if value == kind.name:
            return kind
    names = ", ".join(kind.name for kind in CALENDAR_KINDS)
    raise ValueError(f"must be one of {names}, or {{hours: N, starts: first_use}}")


def _switch(value: Any) -> Any:
    """YAML 1.1 reads a bare `on` as true and `off` as false."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


def _feature(value: Any) -> Feature:
    if isinstance(value, str | int):
        return value
    if isinstance(value, float):
        raise ValueError(f'write it as a string, in quotes: "{value}"')
    raise ValueError("a feature is true, false, a whole number or a string")


_STRING_SCHEMA: Final = {"type": "string", "pattern": _DECIMAL_PATTERN}
_AMOUNT_SCHEMA: Final = {
    "anyOf": [{"type": "integer", "minimum": 0, "exclusiveMaximum": 10**MAX_WHOLE_DIGITS}, _STRING_SCHEMA]
}
_POSITIVE_SCHEMA: Final = {
    "anyOf": [{"type": "integer", "minimum": 1, "exclusiveMaximum": 10**MAX_WHOLE_DIGITS}, _STRING_SCHEMA]
}
_PATTERN_SCHEMA: Final = {"type": "string", "minLength": 1, "maxLength": MAX_PATTERN}

Exact = Annotated[Decimal, PlainValidator(_exact), WithJsonSchema(_STRING_SCHEMA)]
"""Money, a weight or a factor: a decimal string."""
Amount = Annotated[Decimal, PlainValidator(_amount), WithJsonSchema(_AMOUNT_SCHEMA)]
"""A count: an integer or a decimal string."""
PositiveExact = Annotated[Decimal, PlainValidator(_positive_exact), WithJsonSchema(_STRING_SCHEMA)]
Day = Annotated[date, PlainValidator(read_day), WithJsonSchema({"type": "string", "format": "date"})]
PositiveAmount = Annotated[Decimal, PlainValidator(_positive), WithJsonSchema(_POSITIVE_SCHEMA)]
TierEnd = Annotated[
    Decimal | None,
    PlainValidator(_tier_end),
    WithJsonSchema({"anyOf": [*_POSITIVE_SCHEMA["anyOf"], {"const": _INFINITY}]}),
]
Id = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_.-]{1,64}$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Patterns = Annotated[
    tuple[str, ...],
    PlainValidator(_patterns),
    WithJsonSchema(
        {
            "anyOf": [
                _PATTERN_SCHEMA,
                {"type": "array", "items": _PATTERN_SCHEMA, "minItems": 1, "maxItems": MAX_PATTERNS},
            ]
        }
    ),
]
DimensionName = Annotated[str, StringConstraints(min_length=1, max_length=MAX_DIMENSION_NAME)]
When = Annotated[
    dict[DimensionName, Patterns],
    Field(max_length=MAX_DIMENSIONS),
]
"""Dimensions and what they must be; a string with `*` is a pattern, a list means any of its values."""
LimitPer = Annotated[
    str,
    PlainValidator(_per),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": ["account", "member", "plan"]},
                {"type": "string", "pattern": f"^{DIMENSION}.{{1,{MAX_DIMENSION_NAME}}}$"},
            ]
        }
    ),
]
"""Whose units a limit counts; those of `plan` and `dimension:<name>` are shared by accounts."""
FileName = Annotated[
    str, PlainValidator(_file), WithJsonSchema({"type": "string", "pattern": _FILE_PATTERN, "maxLength": MAX_FILE})
]
Window = Annotated[
    WindowKind,
    PlainValidator(_window),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": [kind.name for kind in CALENDAR_KINDS]},
                {
                    "type": "object",
                    "properties": {
                        "hours": {"type": "integer", "minimum": 1, "maximum": MAX_FIRST_USE_HOURS},
                        "starts": {"const": "first_use"},
                    },
                    "required": ["hours", "starts"],
                    "additionalProperties": False,
                },
            ]
        }
    ),
]
OverageSwitch = Annotated[
    Literal["on", "off", "opt_in"],
    BeforeValidator(_switch),
    WithJsonSchema({"enum": ["on", "off", "opt_in", True, False]}),
]
OffSwitch = Annotated[Literal["off"], BeforeValidator(_switch), WithJsonSchema({"enum": ["off", False]})]
Multiple = Annotated[Decimal, PlainValidator(_at_least_one), WithJsonSchema(_STRING_SCHEMA)]
"""A decimal string from "1" on."""
FeatureValue = Annotated[
    str | int | bool,
    PlainValidator(_feature),
    WithJsonSchema({"type": ["string", "integer", "boolean"]}),
]
