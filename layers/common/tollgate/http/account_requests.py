"""Request bodies of account administration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tollgate.http.requests import Amount, Body, Key

Text = Annotated[str, Field(strict=True, min_length=1, max_length=256)]
CustomerId = Annotated[str, Field(strict=True, pattern=r"^cus_[A-Za-z0-9_]{1,60}$")]


class LimitOverride(Body):
    """What takes the place of a limit's maximum, or of its number of open reservations."""

    max: Annotated[Amount | None, Field(description="null: unlimited.")]


class Overrides(Body):
    """The operator's own terms for one account."""

    limits: Annotated[
        dict[Annotated[str, Field(strict=True, min_length=1, max_length=64)], LimitOverride],
        Field(description="By the limit's id in the account's plan.", max_length=50),
    ]


class AccountIn(Body):
    plan: Text | None = None
    timezone: Text | None = None
    stripe_customer_id: CustomerId | None = None
    email: Text | None = None
    name: Text | None = None
    overrides: Overrides | None = None
    idempotency_key: Key | None = None


class FreezeIn(Body):
    reason: Text
    idempotency_key: Key | None = None


class UnfreezeIn(Body):
    idempotency_key: Key | None = None


class PlanIn(Body):
    plan: Text
    when: Literal["now", "period_end"] = "now"
    idempotency_key: Key | None = None


class KeyIn(Body):
    name: Annotated[str, Field(strict=True, min_length=1, max_length=64)] = "key"
    scopes: Annotated[list[Literal["usage", "read", "admin"]], Field(min_length=1, max_length=3)]
    idempotency_key: Key | None = None
