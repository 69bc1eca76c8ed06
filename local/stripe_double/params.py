"""What a call accepts. Unknown, missing and ill-formed parameters are refused the way Stripe refuses them.

Names and required keys come from the SDK's TypedDicts (`stripe.params...`); a test compares them. Error codes
`parameter_unknown`, `parameter_missing`, `parameter_invalid_empty`, `parameter_invalid_integer` are Stripe's [docs:
error codes].
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol

from local.stripe_double.clock import parse_rfc3339
from local.stripe_double.errors import invalid, not_emulated

_WHOLE = re.compile(r"-?[0-9]{1,18}")
_DECIMAL = re.compile(r"-?[0-9]{1,18}(?:\.([0-9]+))?")


class Reader(Protocol):
    """Turns a decoded value into a checked one, or raises ApiError naming `path`."""

    def read(self, value: object, path: str) -> Any: ...


@dataclass(frozen=True)
class Param:
    """One accepted parameter."""

    reader: Reader
    required: bool = False


@dataclass(frozen=True)
class Params:
    """The parameters of a call or of a nested object. `not_emulated`: names that Stripe knows and the double
    refuses.
    """

    accepted: Mapping[str, Param] = field(default_factory=dict)
    not_emulated: frozenset[str] = frozenset()

    def read(self, value: object, path: str = "") -> dict[str, Any]:
        """Checked values by name; absent parameters are absent. Raises ApiError."""
        if not isinstance(value, dict):
            raise invalid("Invalid object", param=path)
        for name in value:
            at = _at(path, name)
            if name in self.not_emulated:
                raise not_emulated(f"This double does not emulate the parameter {at}", 400, at)
            if name not in self.accepted:
                raise invalid(f"Received unknown parameter: {at}", at, "parameter_unknown")
        read: dict[str, Any] = {}
        for name, param in self.accepted.items():
            at = _at(path, name)
            if name in value:
                read[name] = param.reader.read(value[name], at)
            elif param.required:
                raise invalid(f"Missing required param: {at}.", at, "parameter_missing")
        return read


def _at(path: str, name: str) -> str:
    return f"{path}[{name}]" if path else name


def _text(value: object, path: str) -> str:
    if not isinstance(value, str):
        raise invalid(f"Invalid string: {path} must be a string", param=path)
    return value


@dataclass(frozen=True)
class Text:
    """A string. `unsettable`: an empty one means null [docs: API, updating objects]; else empty is refused."""

    max_length: int = 5000
    unsettable: bool = False

    def read(self, value: object, path: str) -> str | None:
        text = _text(value, path)
        if not text:
            if self.unsettable:
                return None
            raise invalid(
                f"You passed an empty string for '{path}'. It cannot be unset: leave it out or give a value.",
                path,
                "parameter_invalid_empty",
            )
        if len(text) > self.max_length:
            raise invalid(f"Invalid string: {text[:20]}...; must be at most {self.max_length} characters", path)
        return text


@dataclass(frozen=True)
class Whole:
    """An integer in base 10, within bounds; `unsettable` as for Text."""

    minimum: int | None = None
    maximum: int | None = None
    unsettable: bool = False

    def read(self, value: object, path: str) -> int | None:
        text = _text(value, path)
        if not text and self.unsettable:
            return None
        if _WHOLE.fullmatch(text) is None:
            raise invalid(f"Invalid integer: {text}", path, "parameter_invalid_integer")
        number = int(text)
        if self.minimum is not None and number < self.minimum:
            raise invalid(
                f"This value must be greater than or equal to {self.minimum} (it currently is '{number}').",
                path,
                "parameter_invalid_integer",
            )
        if self.maximum is not None and number > self.maximum:
            raise invalid(
                f"This value must be less than or equal to {self.maximum} (it currently is '{number}').",
                path,
                "parameter_invalid_integer",
            )
        return number


@dataclass(frozen=True)
class WholeOrWord:
    """An integer of at least `minimum`, or one of a few words: `up_to=inf`, `trial_end=now`."""

    words: tuple[str, ...]
    minimum: int = 0

    def read(self, value: object, path: str) -> int | str | None:
        return str(value) if value in self.words else Whole(self.minimum).read(value, path)


@dataclass(frozen=True)
class DecimalText:
    """A decimal of at least `minimum` with at most `places` decimal places."""

    places: int = 12
    minimum: int | None = 0

    def read(self, value: object, path: str) -> Decimal:
        text = _text(value, path)
        match = _DECIMAL.fullmatch(text)
        if match is None:
            raise invalid(f"Invalid decimal: {text}", path, "parameter_invalid_decimal")
        if len((match[1] or "").rstrip("0")) > self.places:
            raise invalid(f"Invalid decimal: {text}; must contain at maximum {self.places} decimal places.", path)
        number = Decimal(text)
        if self.minimum is not None and number < self.minimum:
            raise invalid(f"Invalid decimal: {text}; must be at least {self.minimum}.", path)
        return number


@dataclass(frozen=True)
class Flag:
    """`true` or `false`."""

    def read(self, value: object, path: str) -> bool:
        text = _text(value, path)
        if text not in ("true", "false"):
            raise invalid(f"Invalid boolean: {text}", path, "parameter_invalid_boolean")
        return text == "true"


@dataclass(frozen=True)
class OneOf:
    """One of a closed set of words; `unsettable` as for Text."""

    words: tuple[str, ...]
    unsettable: bool = False

    def read(self, value: object, path: str) -> str | None:
        text = _text(value, path)
        if not text and self.unsettable:
            return None
        if text not in self.words:
            raise invalid(f"Invalid {path}: must be one of {', '.join(self.words)}", param=path)
        return text


@dataclass(frozen=True)
class TextMap:
    """String keys to strings. `unsettable`: an empty string in place of the map means "remove all"."""

    unsettable: bool = False
    max_keys: int | None = None
    max_key: int = 5000
    max_value: int = 5000

    def read(self, value: object, path: str) -> dict[str, str] | None:
        if value == "" and self.unsettable:
            return None
        if not isinstance(value, dict):
            raise invalid("Invalid object", param=path)
        if self.max_keys is not None and len(value) > self.max_keys:
            raise invalid(f"{path} may have at most {self.max_keys} keys", param=path)
        for key, item in value.items():
            if len(key) > self.max_key or len(_text(item, _at(path, key))) > self.max_value:
                limits = f"keys have at most {self.max_key} characters, values at most {self.max_value}"
                raise invalid(f"Invalid {path}: {limits}", _at(path, key))
        return dict(value)


@dataclass(frozen=True)
class Nested:
    """An object with parameters of its own; `unsettable` as for Text."""

    params: Params
    unsettable: bool = False

    def read(self, value: object, path: str) -> dict[str, Any] | None:
        if value == "" and self.unsettable:
            return None
        return self.params.read(value, path)


@dataclass(frozen=True)
class TextList:
    """A list of strings, sent as `name[0]=a&name[1]=b`."""

    max_items: int

    def read(self, value: object, path: str) -> list[str]:
        if not isinstance(value, dict) or any(not key.isdecimal() for key in value):
            raise invalid("Invalid array", param=path)
        if len(value) > self.max_items:
            raise invalid(f"Array {path} may have at most {self.max_items} items", param=path)
        return [_text(value[key], _at(path, key)) for key in sorted(value, key=int)]


@dataclass(frozen=True)
class NestedList:
    """A list of objects, sent as `items[0][price]=a&items[1][price]=b`."""

    params: Params
    max_items: int

    def read(self, value: object, path: str) -> list[dict[str, Any]]:
        if not isinstance(value, dict) or any(not key.isdecimal() for key in value):
            raise invalid("Invalid array", param=path)
        if len(value) > self.max_items:
            raise invalid(f"Array {path} may have at most {self.max_items} items", param=path)
        return [self.params.read(value[key], _at(path, key)) for key in sorted(value, key=int)]


@dataclass(frozen=True)
class Moment:
    """An RFC 3339 time, as the v2 API takes it; read as epoch milliseconds."""

    def read(self, value: object, path: str) -> int:
        text = _text(value, path)
        try:
            return parse_rfc3339(text)
        except ValueError as error:
            raise invalid(f"Invalid timestamp: {text}", param=path) from error


@dataclass(frozen=True)
class SecondsOrRange:
    """`created=170` or `created[gte]=170&created[lt]=180`; read as bounds, an exact second as `gte` and `lte`."""

    params: Params

    def read(self, value: object, path: str) -> dict[str, int | None]:
        if isinstance(value, str):
            return dict.fromkeys(("gte", "lte"), Whole().read(value, path))
        return self.params.read(value, path)
