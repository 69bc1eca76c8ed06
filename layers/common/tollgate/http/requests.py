"""Request bodies: pydantic at the edge. Unknown fields are refused; decimals are strings or JSON numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    StrictBool,
    ValidationError,
    WithJsonSchema,
)
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from tollgate.clock import parse_rfc3339
from tollgate.errors import FieldError, Invalid

_ID = re.compile(r"[A-Za-z0-9._:@|+-]{1,64}")
_PLAIN = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,30})?")
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE)
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
MAX_WHOLE_DIGITS = 15
_FIRST_TOO_LARGE = 10**MAX_WHOLE_DIGITS
MAX_PLACES = 12
MAX_METADATA_BYTES = 2048
MAX_TTL_S = 86_400
MIN_TTL_S = 5
DEFAULT_TTL_S = 300


def _too_large() -> PydanticCustomError:
    return PydanticCustomError("too_large", "at most 15 digits before the point")


def _too_precise() -> PydanticCustomError:
    return PydanticCustomError("too_precise", "at most 12 digits after the point")


def _id(value: str) -> str:
    if not _ID.fullmatch(value) or not value.strip("."):
        raise PydanticCustomError("id", "an id is 1 to 64 of A-Z a-z 0-9 . _ : @ | + - and not only dots")
    return value


def _decimal(value: Any) -> Decimal:
    """A quantity or amount: at most 15 digits before the point and 12 after it, so that sums stay exact."""
    if type(value) is int and 0 < value < _FIRST_TOO_LARGE:
        return Decimal(value)
    if isinstance(value, str):
        return _decimal_of_text(value)
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise PydanticCustomError("decimal", "a decimal is a string or a JSON number")
    number = Decimal(value)
    if number == 0:
        return Decimal(0)
    if number.adjusted() >= MAX_WHOLE_DIGITS:
        raise _too_large()
    if number.adjusted() < -MAX_PLACES:  # first of all: 1e-999999999 must never be spelled out
        raise _too_precise()
    sign, digits, exponent = number.as_tuple()
    surplus = -int(exponent) - MAX_PLACES
    if surplus <= 0:
        return number
    if any(digits[-surplus:]):
        raise _too_precise()
    return Decimal((sign, digits[:-surplus], -MAX_PLACES))


def _decimal_of_text(text: str) -> Decimal:
    if not _PLAIN.fullmatch(text):
        raise PydanticCustomError("decimal", "a decimal string is digits with at most one point")
    whole, _, places = text.removeprefix("-").partition(".")
    if len(whole) > MAX_WHOLE_DIGITS:
        raise _too_large()
    if len(places) > MAX_PLACES:
        raise _too_precise()
    number = Decimal(text)
    if number.is_signed() and number == 0:
        raise PydanticCustomError("decimal", "zero has no sign")
    return number


def _positive(value: Decimal) -> Decimal:
    if value <= 0:
        raise PydanticCustomError("not_positive", "must be above zero")
    return value


def _not_negative(value: Decimal) -> Decimal:
    if value < 0:
        raise PydanticCustomError("negative", "must not be negative")
    return value


def _moment(value: Any) -> int:
    found = moment_ms(value) if isinstance(value, str) else None
    if found is None:
        raise PydanticCustomError("time", "a time is RFC 3339 with an offset, as 2026-11-20T10:00:00Z")
    return found


def moment_ms(text: str) -> int | None:
    """An RFC 3339 time as epoch milliseconds, None where it is none (`fromisoformat` alone takes far more forms)."""
    if not _RFC3339.fullmatch(text):
        return None
    try:
        return parse_rfc3339(text.upper())
    except (ValueError, OverflowError):
        return None


def whole(value: Any) -> int:
    """A JSON number without a fraction, for a field that is an integer in the document."""
    if isinstance(value, Decimal) and abs(value.adjusted()) < MAX_WHOLE_DIGITS and value == value.to_integral_value():
        return int(value)  # JSON has one kind of number: 300.0 is a whole one
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise PydanticCustomError("integer", "must be a whole number")


def _seconds(value: Any) -> int:
    seconds = whole(value)
    if not MIN_TTL_S <= seconds <= MAX_TTL_S:
        raise PydanticCustomError("ttl", "must be 5 to 86400 seconds")
    return seconds


def _dimensions(value: dict[str, str]) -> dict[str, str]:
    if len(value) > 10:
        raise PydanticCustomError("too_many", "at most 10 dimensions")
    for name, text in value.items():
        if not 1 <= len(name) <= 40:
            raise PydanticCustomError("dimension_name", "a dimension's name has 1 to 40 characters")
        if len(text) > 64:
            raise PydanticCustomError("dimension_value", "a dimension's value has at most 64 characters")
    return value


def _metadata(value: dict[str, Any]) -> dict[str, Any]:
    try:
        found = {name: _storable(inner) for name, inner in value.items()}
        size = len(json.dumps(found, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode())
    except (ValueError, RecursionError):
        raise PydanticCustomError("metadata", "metadata is not storable as JSON") from None
    if size > MAX_METADATA_BYTES:
        raise PydanticCustomError("too_large", "metadata has at most 2048 bytes as JSON")
    return found


def _storable(value: Any) -> Any:
    """Metadata is kept, never counted: whole numbers stay numbers, others become their text, which loses no digit."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() and value.adjusted() < 18 else str(value)
    if isinstance(value, Mapping):
        return {name: _storable(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_storable(inner) for inner in value]
    return value


def _key(value: str) -> str:
    if not _KEY.fullmatch(value):
        raise PydanticCustomError("idempotency_key", "an idempotency key is 1 to 255 visible ASCII characters")
    return value


# What JSON Schema can say of each type: the OpenAPI document tells clients what the validators enforce.
_ID_SCHEMA = {
    "type": "string",
    "pattern": r"^(?!\.+$)[A-Za-z0-9._:@|+-]{1,64}$",
    "description": "1 to 64 of A-Z a-z 0-9 . _ : @ | + - and not only dots.",
    "examples": ["alice"],
}
_DECIMAL_TEXT = "A decimal string or a JSON number, at most 15 digits before the point and 12 after it."
_QUANTITY_SCHEMA = {
    "anyOf": [
        {"type": "string", "pattern": r"^(?=.*[1-9])[0-9]{1,15}(\.[0-9]{1,12})?$"},
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 10**MAX_WHOLE_DIGITS},
    ],
    "description": _DECIMAL_TEXT + " Above zero.",
    "examples": ["2.5"],
}
_AMOUNT_SCHEMA = {
    "anyOf": [
        {"type": "string", "pattern": r"^[0-9]{1,15}(\.[0-9]{1,12})?$"},
        {"type": "number", "minimum": 0, "exclusiveMaximum": 10**MAX_WHOLE_DIGITS},
    ],
    "description": _DECIMAL_TEXT + " Not negative.",
    "examples": ["0.0021"],
}
_SIGNED_SCHEMA = {
    "anyOf": [
        {"type": "string", "pattern": r"^(?=.*[1-9])-?[0-9]{1,15}(\.[0-9]{1,12})?$"},
        {"type": "number", "exclusiveMinimum": -(10**MAX_WHOLE_DIGITS), "exclusiveMaximum": 10**MAX_WHOLE_DIGITS},
    ],
    "description": _DECIMAL_TEXT + " Not zero.",
    "examples": ["500", "-500"],
}
_MOMENT_SCHEMA = {
    "type": "string",
    "format": "date-time",
    "description": "RFC 3339 with an offset.",
    "examples": ["2026-11-20T10:00:00Z"],
}
_TTL_SCHEMA = {"type": "integer", "minimum": MIN_TTL_S, "maximum": MAX_TTL_S, "description": "Seconds."}
_DIMENSIONS_SCHEMA = {
    "type": "object",
    "maxProperties": 10,
    "propertyNames": {"minLength": 1, "maxLength": 40},
    "additionalProperties": {"type": "string", "maxLength": 64},
    "description": "At most 10 strings; names of 1 to 40, values of at most 64 characters.",
    "examples": [{"model": "small-1"}],
}
_METADATA_SCHEMA = {
    "type": "object",
    "description": "Kept with the event, at most 2048 bytes as JSON; numbers with a fraction are kept as strings.",
}
_KEY_SCHEMA = {
    "type": "string",
    "pattern": r"^[\x21-\x7e]{1,255}$",
    "description": "As the header Idempotency-Key, for clients that cannot set headers.",
}

Id = Annotated[str, Field(strict=True), AfterValidator(_id), WithJsonSchema(_ID_SCHEMA)]
MeterId = Annotated[str, Field(strict=True, min_length=1, max_length=64, examples=["ai_credits"])]
Quantity = Annotated[Decimal, PlainValidator(_decimal), AfterValidator(_positive), WithJsonSchema(_QUANTITY_SCHEMA)]
Amount = Annotated[Decimal, PlainValidator(_decimal), AfterValidator(_not_negative), WithJsonSchema(_AMOUNT_SCHEMA)]
Signed = Annotated[Decimal, PlainValidator(_decimal), WithJsonSchema(_SIGNED_SCHEMA)]
Moment = Annotated[int, PlainValidator(_moment), WithJsonSchema(_MOMENT_SCHEMA)]
Ttl = Annotated[int, PlainValidator(_seconds), WithJsonSchema(_TTL_SCHEMA)]
Dimensions = Annotated[
    dict[str, Annotated[str, Field(strict=True)]], AfterValidator(_dimensions), WithJsonSchema(_DIMENSIONS_SCHEMA)
]
Metadata = Annotated[dict[str, Any], AfterValidator(_metadata), WithJsonSchema(_METADATA_SCHEMA)]
Key = Annotated[str, Field(strict=True), AfterValidator(_key), WithJsonSchema(_KEY_SCHEMA)]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


LATER = ConfigDict(defer_build=True)
"""For bodies that many a container never sees: pydantic builds their validator at their first use."""


class ItemIn(Body):
    meter: MeterId
    quantity: Quantity
    dimensions: Dimensions = Field(default_factory=dict)


class OneItem(NamedTuple):
    """An item that was sent without a list; its fields are parsed already."""

    meter: str
    quantity: Decimal
    dimensions: dict[str, str]


Measured = ItemIn | OneItem


class UsedItemIn(Body):
    meter: MeterId
    quantity: Amount
    dimensions: Dimensions | None = None


def _given(**kinds: str) -> JsonDict:
    """JSON Schema: these fields are given, and not null."""
    types: JsonDict = {name: {"type": [*kind.split()]} for name, kind in kinds.items()}
    return {"required": [*kinds], "properties": types}


_NOT_BOTH_TOTALS: JsonDict = {"not": _given(quantity="string number", items="array")}


class ReservationIn(Body):
    """`items`, or one `meter` and `quantity`: all or nothing. `commit`: reserve and commit in one call."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {
                    "required": ["meter", "quantity"],
                    "properties": {
                        "meter": {"type": "string"},
                        "quantity": {"type": ["string", "number"]},
                        "items": {"type": "null"},
                    },
                },
                {
                    "required": ["items"],
                    "properties": {
                        "items": {"type": "array"},
                        "meter": {"type": "null"},
                        "quantity": {"type": "null"},
                        "dimensions": {"type": "null"},
                    },
                },
            ]
        }
    )

    account: Id
    member: Id | None = None
    meter: MeterId | None = None
    quantity: Quantity | None = None
    dimensions: Dimensions | None = None
    items: Annotated[list[ItemIn], Field(min_length=1, max_length=8)] | None = None
    ttl_seconds: Ttl = DEFAULT_TTL_S
    commit: StrictBool = False
    idempotency_key: Key | None = None

    def wanted(self) -> Sequence[Measured]:
        """The items, whichever form was sent. Raises Invalid where neither or both were."""
        if self.items is not None:
            for name in ("meter", "quantity", "dimensions"):
                if getattr(self, name) is not None:
                    raise Invalid("Send either `items` or one meter and quantity.", (FieldError(name, "conflict"),))
            return self.items
        missing = [FieldError(n, "missing") for n in ("meter", "quantity") if getattr(self, n) is None]
        if missing or self.meter is None or self.quantity is None:
            raise Invalid("Send `meter` and `quantity`, or `items`.", tuple(missing))
        return [OneItem(self.meter, self.quantity, self.dimensions or {})]


class CommitIn(Body):
    """What was used: nothing given means the reserved amounts. `cached`: the app's own cache answered; 0 units."""

    model_config = ConfigDict(json_schema_extra=_NOT_BOTH_TOTALS)

    quantity: Amount | None = None
    items: Annotated[list[UsedItemIn], Field(min_length=1, max_length=8)] | None = None
    dimensions: Dimensions | None = None
    cached: StrictBool = False
    provider_cost: Amount | None = None
    metadata: Metadata | None = None
    idempotency_key: Key | None = None


class ReleaseIn(Body):
    model_config = LATER

    idempotency_key: Key | None = None


class ExtendIn(Body):
    """An absolute expiry, absolute totals, or both: repeating is harmless."""

    model_config = LATER | ConfigDict(
        json_schema_extra={
            "allOf": [
                _NOT_BOTH_TOTALS,
                {"not": _given(expires_at="string", ttl_seconds="integer")},
                {
                    "anyOf": [
                        _given(expires_at="string"),
                        _given(ttl_seconds="integer"),
                        _given(quantity="string number"),
                        _given(items="array"),
                    ]
                },
            ]
        }
    )

    expires_at: Moment | None = None
    ttl_seconds: Ttl | None = None
    quantity: Quantity | None = None
    items: Annotated[list[ItemIn], Field(min_length=1, max_length=8)] | None = None
    idempotency_key: Key | None = None


class EventIn(Body):
    model_config = LATER

    id: Id
    account: Id
    member: Id | None = None
    meter: MeterId
    quantity: Quantity
    occurred_at: Moment | None = None
    dimensions: Dimensions = Field(default_factory=dict)
    cached: StrictBool = False
    provider_cost: Amount | None = None
    metadata: Metadata | None = None


class UsageIn(Body):
    """The events are parsed one by one (`EventIn`): a wrong one is answered as rejected and spoils no other."""

    model_config = LATER

    events: Annotated[list[Any], Field(min_length=1, max_length=100)]
    idempotency_key: Key | None = None


Model = TypeVar("Model", bound=BaseModel)


def parse(model: type[Model], body: Any) -> Model:
    """`body` as `model`. Raises Invalid with every wrong field."""
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise invalid(error) from None


def invalid(error: ValidationError) -> Invalid:
    fields = tuple(
        FieldError(".".join(str(part) for part in found["loc"]) or "body", str(found["type"]))
        for found in error.errors(include_url=False, include_input=False, include_context=False)[:20]
    )
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return Invalid(f"`{fields[0].path}`: {first['msg']}.", fields)


def account_id(text: str, path: str = "account") -> str:
    """A path or query parameter that is an account or member id. Raises Invalid."""
    if not _ID.fullmatch(text) or not text.strip("."):
        raise Invalid("An id is 1 to 64 of A-Z a-z 0-9 . _ : @ | + - and not only dots.", (FieldError(path, "id"),))
    return text


def idempotency_key(headers: Mapping[str, str], alias: str | None) -> str | None:
    """The request's key from its header or body. Raises Invalid where both are there and differ, or it is malformed."""
    header = headers.get("idempotency-key")
    if header is None:
        return alias
    if not _KEY.fullmatch(header):
        raise Invalid(
            "An idempotency key is 1 to 255 visible ASCII characters.",
            (FieldError("Idempotency-Key", "idempotency_key"),),
        )
    if alias is not None and alias != header:
        raise Invalid(
            "The header Idempotency-Key and the body's `idempotency_key` differ; send one.",
            (FieldError("idempotency_key", "conflict"),),
        )
    return header
