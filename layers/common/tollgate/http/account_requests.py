"""Request bodies of account administration."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from tollgate.http.requests import Body, Key

MAX_OVERRIDES_BYTES = 8192


def _overrides(value: dict[str, Any]) -> dict[str, Any]:
    try:
        size = len(json.dumps(value, default=str).encode())
    except (ValueError, RecursionError):
        raise PydanticCustomError("overrides", "overrides are not storable as JSON") from None
    if size > MAX_OVERRIDES_BYTES:
        raise PydanticCustomError("too_large", "overrides have at most 8192 bytes as JSON")
    return value


Text = Annotated[str, Field(strict=True, min_length=1, max_length=256)]
CustomerId = Annotated[str, Field(strict=True, pattern=r"^cus_[A-Za-z0-9_]{1,60}$")]


class AccountIn(Body):
    plan: Text | None = None
    timezone: Text | None = None
    stripe_customer_id: CustomerId | None = None
    email: Text | None = None
    name: Text | None = None
    overrides: Annotated[dict[str, Any], AfterValidator(_overrides)] | None = None
    idempotency_key: Key | None = None


class FreezeIn(Body):
    reason: Text
    idempotency_key: Key | None = None


class UnfreezeIn(Body):
    idempotency_key: Key | None = None


class PlanIn(Body):
    plan: Text
    when: Literal["now"] = "now"
    idempotency_key: Key | None = None


class KeyIn(Body):
    name: Annotated[str, Field(strict=True, min_length=1, max_length=64)] = "key"
    scopes: Annotated[list[Literal["usage", "read", "admin"]], Field(min_length=1, max_length=3)]
    idempotency_key: Key | None = None
