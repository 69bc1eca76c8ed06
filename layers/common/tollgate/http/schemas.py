"""Answers as pydantic models: the OpenAPI document's side of `answers.py`. No function imports them at run time.

Strict: an answer with a field that is not here fails the contract tests.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypeAliasType

_PLAIN = r"^-?[0-9]+(\.[0-9]*[1-9])?$"
_TIME = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z$"

Decimal = TypeAliasType(
    "Decimal", Annotated[str, Field(pattern=_PLAIN, description="A plain decimal string.", examples=["12.5"])]
)
Time = TypeAliasType(
    "Time",
    Annotated[
        str,
        Field(
            pattern=_TIME,
            json_schema_extra={"format": "date-time"},
            description="RFC 3339 in UTC.",
            examples=["2026-11-20T10:00:00Z"],
        ),
    ],
)
Cursor = Annotated[str | None, Field(description="Send it as `cursor` for the next page; null at the end.")]


class Answer(BaseModel):
    """Base of all answers. A field whose default is None is left out where it does not apply, and never null."""

    model_config = ConfigDict(extra="forbid", strict=True)


class ProblemField(Answer):
    """One wrong field: `path` in dotted form, `code` stable."""

    path: Annotated[str, Field(examples=["items.0.quantity"])]
    code: Annotated[str, Field(examples=["not_positive"])]


class Problem(Answer):
    """RFC 9457 problem details. `code` is stable; `retryable`: whether the same request can succeed later."""

    type: Annotated[str, Field(pattern=r"^urn:tollgate:problem:[a-z_]+$")]
    title: str
    status: int
    code: Annotated[str, Field(pattern=r"^[a-z_]+$")]
    detail: str
    errors: list[ProblemField]
    retryable: bool
    request_id: str


class LimitState(Answer):
    """A limit as the next reservation will see it; `max` and `remaining` are null where it is unlimited."""

    id: str
    source: Literal["plan", "customer", "operator", "credits", "breaker"]
    per: Literal["account", "member"]
    member: str | None = None
    meters: list[str]
    where: Annotated[
        dict[str, str | list[str]] | None,
        Field(description="Only usage with these dimensions counts; `*` stands for any characters."),
    ] = None
    window: Annotated[str, Field(examples=["day"])]
    window_start: Time | None
    resets_at: Time | None
    max: Decimal | None
    used: Decimal
    held: Decimal
    remaining: Decimal | None
    over: bool


class Denial(Answer):
    """The one reason of a refusal, and what resolves it."""

    code: Literal[
        "limit_reached",
        "spend_cap",
        "hard_limit",
        "overage_blocked",
        "credits_exhausted",
        "frozen",
        "breaker",
        "not_in_plan",
        "too_many_open",
    ]
    limit: str | None
    source: Literal["plan", "customer", "operator", "credits", "breaker"]
    requested: Decimal
    remaining: Decimal
    resets_at: Time | None
    retry_after_seconds: Annotated[int | None, Field(ge=0)]
    resolve: Literal["wait", "upgrade", "raise_limit", "buy_credits", "contact"]
    message: str


class Item(Answer):
    meter: str
    quantity: Decimal
    units: Decimal


class Reservation(Answer):
    """Units set aside until `expires_at`."""

    id: str
    allowed: Literal[True]
    units: Decimal
    items: list[Item]
    expires_at: Time
    limits: list[LimitState]


class ReservationDenied(Answer):
    """Refused: an answer, not an error. Nothing is held, and there is no `id`."""

    allowed: Literal[False]
    denial: Denial
    limits: list[LimitState]


class Commit(Answer):
    """`duplicate`: recorded before; `late`: the hold had ended; `waived`: counted, but never charged."""

    event_ids: list[str]
    units: Decimal
    waived: Decimal
    duplicate: bool
    late: bool
    over_reserved: bool
    limits: list[LimitState]


class ReservationCommitted(Answer):
    """Reserved and committed in one call."""

    id: str
    allowed: Literal[True]
    units: Decimal
    items: list[Item]
    expires_at: Time
    event_ids: list[str]
    waived: Decimal
    duplicate: bool
    late: bool
    over_reserved: bool
    limits: list[LimitState]


class Release(Answer):
    id: str
    status: Literal["released"]
    limits: list[LimitState]


class Extension(Answer):
    """`allowed` false: the reservation stands as it was, and `denial` says why."""

    id: str
    allowed: bool
    units: Decimal
    items: list[Item]
    expires_at: Time
    limits: list[LimitState]
    denial: Denial | None = None


class ReservationState(Answer):
    """`event_ids` and `used_units` where it is committed."""

    id: str
    status: Literal["open", "committed", "released", "expired"]
    account: str
    member: str | None
    units: Decimal
    items: list[Item]
    expires_at: Time
    event_ids: list[str] | None = None
    used_units: Decimal | None = None


class UsageError(Answer):
    """Why one event was rejected."""

    code: str
    detail: str
    errors: list[ProblemField]
    retryable: bool


class UsageResult(Answer):
    """`id` is null where the event had none that can be repeated. `over_limits`: limits that are now exceeded."""

    id: str | None
    status: Literal["recorded", "duplicate", "rejected"]
    units: Decimal
    waived: Decimal
    over_limits: list[str]
    error: UsageError | None = None


class UsageRecorded(Answer):
    """One result for each event, in the order sent."""

    results: list[UsageResult]


class PlanName(Answer):
    id: str
    version: Annotated[int, Field(ge=1)]
    name: str


class Frozen(Answer):
    reason: str
    since: Time


class Account(Answer):
    """`rev` grows with every change of what binds the account."""

    id: str
    plan: PlanName
    timezone: str
    stripe_customer_id: str | None
    email: str | None
    name: str | None
    overrides: dict[str, Any] | None
    frozen: Frozen | None
    created_at: Time
    rev: Annotated[int, Field(ge=1)]


class AccountList(Answer):
    data: list[Account]
    next_cursor: Cursor


class Period(Answer):
    start: Time
    end: Time | None


class MeterUsage(Answer):
    id: str
    used: Decimal
    included: Decimal | None
    overage: Decimal | None
    credit_funded: Decimal
    waived: Decimal


class Usage(Answer):
    """What the next reservation will see. `spend` is null and `credits` empty while the plan's prices are not rated
    at request time."""

    as_of: Time
    plan: PlanName
    period: Period
    meters: list[MeterUsage]
    limits: list[LimitState]
    spend: None
    credits: Annotated[list[Any], Field(max_length=0)]
    frozen: Frozen | None


class PlanReference(Answer):
    id: str
    version: Annotated[int, Field(ge=0)]


class Event(Answer):
    """One usage event, immutable."""

    id: Annotated[str, Field(pattern=r"^evt_[0-9a-f]{12}\.[A-Za-z0-9_-]{16}\.[0-9]$")]
    account: str
    member: str | None
    meter: str
    quantity: Decimal
    units: Decimal
    credit_funded: Decimal
    waived: Decimal
    dimensions: dict[str, str]
    plan: PlanReference
    recorded_at: Time
    occurred_at: Time | None
    cached: bool
    late: bool
    over_reserved: bool
    provider_cost: Decimal | None
    metadata: dict[str, Any] | None


class EventList(Answer):
    data: list[Event]
    next_cursor: Cursor


class Key(Answer):
    """An API key without its secret."""

    id: Annotated[str, Field(pattern=r"^key_[0-9a-f]{16}$")]
    name: str
    mode: Literal["test", "live"]
    scopes: list[Literal["usage", "read", "admin"]]
    prefix: Annotated[str, Field(description="The first characters of the secret, to recognize it by.")]
    created_at: Time
    revoked_at: Time | None


class NewKey(Key):
    secret: Annotated[str, Field(description="Shown this once, and stored nowhere.")]


class KeyList(Answer):
    data: list[Key]
    next_cursor: Cursor


class KeyRevoked(Answer):
    """Binds everywhere within 60 seconds."""

    id: str
    revoked: Literal[True]


class PlanLimit(Answer):
    id: str
    per: Literal["account", "member"]
    meters: list[str]
    window: str
    max: Decimal


class Plan(Answer):
    id: str
    version: Annotated[int, Field(ge=1)]
    name: str
    description: str
    base_fee: Decimal
    features: dict[str, str | int | bool]
    limits: list[PlanLimit]


class PlanList(Answer):
    """`currency` is null until a catalogue is loaded."""

    currency: str | None
    data: list[Plan]
    next_cursor: Cursor


class Health(Answer):
    status: Literal["ok"]
