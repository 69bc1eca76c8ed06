"""Request bodies of account administration."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, WithJsonSchema
from pydantic_core import PydanticCustomError

from tollgate.breaker.resume import MOST
from tollgate.http.override_requests import Overrides
from tollgate.http.requests import Amount, Body, Id, Key, whole

Text = Annotated[str, Field(strict=True, min_length=1, max_length=256)]
CustomerId = Annotated[str, Field(strict=True, pattern=r"^cus_[A-Za-z0-9_]{1,60}$")]


def _grace(value: Decimal) -> Decimal:
    if not 1 <= value <= MOST:
        raise PydanticCustomError("grace", f"a grace is 1 to {MOST} allowances")
    return value


class AccountIn(Body):
    plan: Text | None = None
    timezone: Text | None = None
    stripe_customer_id: CustomerId | None = None
    email: Text | None = None
    name: Text | None = None
    overrides: Overrides | None = None
    idempotency_key: Key | None = None


class ControlsIn(Body):
    """What the customer controls; money in the plan's currency. Absent fields stay as they are, null clears."""

    soft_limit: Annotated[Amount | None, Field(description="null: the default, from what the account spends.")] = None
    hard_limit: Annotated[Amount | None, Field(description="null: none but the plan's own cap.")] = None
    block_overage: Annotated[
        StrictBool | None,
        Field(description="true: nothing past what is included and prepaid; false opts in where the plan asks."),
    ] = None
    thresholds: Annotated[
        list[Annotated[int, Field(ge=1, le=1000), BeforeValidator(whole)]] | None,
        Field(max_length=10, description="Per cent at which to be told; empty: never; null: as the plan says."),
    ] = None
    idempotency_key: Key | None = None


class FreezeIn(Body):
    reason: Text
    idempotency_key: Key | None = None


class IdentifyIn(Body):
    into: Annotated[Id, Field(description="The known account.")]
    idempotency_key: Key | None = None


Grace = Annotated[
    Amount,
    AfterValidator(_grace),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": rf"^(0{{0,13}}{MOST}(\.0{{1,12}})?|0{{0,14}}[1-9](\.[0-9]{{1,12}})?)$"},
                {"type": "number", "minimum": 1, "maximum": MOST},
            ],
            "description": f"How many more hourly allowances the account gets in this hour: 1 to {MOST}; "
            "1 after the breaker.",
            "examples": ["3"],
        }
    ),
]


class UnfreezeIn(Body):
    grace: Grace | None = None
    idempotency_key: Key | None = None


class PlanIn(Body):
    plan: Annotated[Text | None, Field(description="null cancels: back to the catalogue's default plan.")]
    when: Literal["now", "period_end"] = "now"
    idempotency_key: Key | None = None


class KeyIn(Body):
    name: Annotated[str, Field(strict=True, min_length=1, max_length=64)] = "key"
    scopes: Annotated[list[Literal["usage", "read", "admin"]], Field(min_length=1, max_length=3)]
    idempotency_key: Key | None = None
