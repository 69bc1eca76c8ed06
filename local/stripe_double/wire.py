"""What goes over the wire: JSON in which a Decimal keeps every digit, and answers with their headers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

JsonObject = dict[str, Any]

API_VERSION = "2026-10-28.endive"


def to_json(value: object) -> str:
    """JSON text; a Decimal becomes a plain JSON number with all its digits, which `json.dumps` cannot write."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(str(key))}: {to_json(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(to_json(item) for item in value) + "]"
    if isinstance(value, Decimal):
        return plain(value)
    return json.dumps(value)


def plain(value: Decimal) -> str:
    """A decimal without exponent and without trailing zeros: `10`, `0.000001`, never `-0`."""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


@dataclass(frozen=True)
class Answer:
    """One HTTP answer. `saved` says whether Stripe would keep it under the call's Idempotency-Key."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    saved: bool = True

    @classmethod
    def of(cls, body: JsonObject, status: int = 200) -> Answer:
        return cls(status, to_json(body).encode())
