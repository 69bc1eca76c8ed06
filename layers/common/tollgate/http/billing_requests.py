"""Request bodies of what is sold at Stripe."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from tollgate.http.account_requests import Text
from tollgate.http.requests import Body, Key, whole

Url = Annotated[str, Field(strict=True, min_length=1, max_length=2000, examples=["https://app.example.com/billing"])]
Seats = Annotated[int, Field(ge=1, le=1_000_000), BeforeValidator(whole)]
SubscriptionId = Annotated[str, Field(strict=True, pattern=r"^sub_[A-Za-z0-9_]{1,60}$")]


class CheckoutIn(Body):
    """What the page sells: a plan, or a pack of credits."""

    plan: Annotated[
        Text | None, Field(description="To subscribe to; with `pack`: whose pack it is (absent: the account's plan).")
    ] = None
    pack: Annotated[Text | None, Field(description="A pack of the plan, bought once.")] = None
    seats: Annotated[Seats | None, Field(description="Absent: as few as the plan bills, at least one.")] = None
    success_url: Url
    cancel_url: Url
    idempotency_key: Key | None = None


class SubscriptionIn(Body):
    plan: Text
    seats: Annotated[Seats | None, Field(description="Absent: as few as the plan bills, at least one.")] = None
    subscription: Annotated[
        SubscriptionId | None,
        Field(description="A flat subscription of the account's customer: the plan's prices for usage are added."),
    ] = None
    idempotency_key: Key | None = None
