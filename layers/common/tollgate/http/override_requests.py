"""The operator's overrides as a request sends them. A price is said, and checked, as in the catalogue."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from tollgate.accounts.controls import check_chargeable
from tollgate.accounts.overrides import canonical
from tollgate.catalog.checks import check_plan
from tollgate.catalog.document import (
    GraduatedEntry,
    MeterEntry,
    PackageEntry,
    PerUnitEntry,
    PlanEntry,
    SeatsEntry,
    TierEntry,
    VolumeEntry,
)
from tollgate.catalog.model import Limit, Meter, Plan
from tollgate.clock import rfc3339
from tollgate.errors import FieldError, Invalid, UnknownLimit, UnknownMeter
from tollgate.http.requests import Amount, Body, Moment
from tollgate.periods import LAST_INSTANT
from tollgate.quantities import plain

MAX_BYTES: Final = 32 * 1024
"""Of all overrides of an account as JSON: they are read with its rules, and stand twice in an audit entry."""
_WRONG_PRICE: Final = "price"
"""Code of a price that the catalogue would not take."""
_SCHEME: Final = re.compile(r"^(overrides\.prices\.\d+)\.(?:per_unit|graduated|volume|package)(?=\.|$)")
_AMOUNT: Final = re.compile(r"^overrides\.(spend_cap|base_fee)\.amount$")
_MOST_ERRORS: Final = 20

Why = Annotated[str, Field(strict=True, min_length=1, max_length=256)]


class Said(BaseModel):
    """What each override may carry."""

    until: Annotated[Moment | None, Field(description="From then on it does not bind. To the second.")] = None
    reason: Why | None = None
    by: Why | None = None


class LimitOverride(Body, Said):
    """What takes the place of a limit's maximum or of its number of open reservations (`max`), or of what a member's
    own usage may come to (`amount`). null: unlimited."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["max"]}, {"required": ["amount"]}]})

    max: Amount | None = None
    amount: Amount | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> LimitOverride:
        if len(self.model_fields_set & {"max", "amount"}) != 1:
            raise PydanticCustomError("missing", "send either `max` or `amount`")
        return self


class CapOverride(Body, Said):
    amount: Amount | None


class FeeOverride(Body, Said):
    amount: Amount


class PerUnitOverride(PerUnitEntry, Said):
    """Every unit at one price."""


class GraduatedOverride(GraduatedEntry, Said):
    """Each unit at the price of the tier that it falls in."""


class VolumeOverride(VolumeEntry, Said):
    """All units at the price of the tier that the period's total falls in."""


class PackageOverride(PackageEntry, Said):
    """Units in packages of a size."""


def _boxed(value: Any) -> Any:
    return value if isinstance(value, dict) else {"amount": value}


def _either(amount: Any, box: type[BaseModel], description: str) -> WithJsonSchema:
    """The schema of a bare amount, or of one with what was said about it."""
    schemas = [TypeAdapter(amount).json_schema(), TypeAdapter(box).json_schema()]
    return WithJsonSchema({"anyOf": schemas, "description": description})


PriceOverride = Annotated[
    PerUnitOverride | GraduatedOverride | VolumeOverride | PackageOverride, Field(discriminator="scheme")
]
SpendCap = Annotated[
    CapOverride | None,
    BeforeValidator(_boxed),
    _either(Amount | None, CapOverride, "What usage of a period must not come to more than; null: the plan's is off."),
]
BaseFee = Annotated[
    FeeOverride | None, BeforeValidator(_boxed), _either(Amount, FeeOverride, "In place of the plan's.")
]


class Overrides(Body):
    """The operator's own terms for one account, all together: what is not sent is the plan's again."""

    limits: Annotated[
        dict[Annotated[str, Field(strict=True, min_length=1, max_length=64)], LimitOverride],
        Field(description="By the limit's id in the account's plan.", max_length=50),
    ] = Field(default_factory=dict)
    prices: Annotated[
        list[PriceOverride],
        Field(description="In place of the plan's prices of the same meters; as in the catalogue.", max_length=20),
    ] = Field(default_factory=list)
    spend_cap: SpendCap = None
    base_fee: BaseFee = None


def overrides_text(sent: Overrides, now: int) -> str | None:
    """As the rules row keeps them; `now` in epoch seconds. Raises Invalid where one ends in the past, or they are too
    long together."""
    stored: dict[str, Any] = {
        "limits": {name: _limit(one, f"overrides.limits.{name}", now) for name, one in sent.limits.items()},
        "prices": [_price(one, f"overrides.prices.{index}", now) for index, one in enumerate(sent.prices)],
    }
    for name in ("spend_cap", "base_fee"):
        boxed = getattr(sent, name)
        if boxed is not None:
            said = _said(boxed, f"overrides.{name}", now)
            amount = None if boxed.amount is None else plain(boxed.amount)
            stored[name] = {"amount": amount, **said} if said else amount
    text = canonical(stored)
    if text is not None and len(text.encode()) > MAX_BYTES:
        raise Invalid(f"`overrides` have at most {MAX_BYTES} bytes as JSON.", (FieldError("overrides", "too_large"),))
    return text


def _said(one: Said, path: str, now: int) -> dict[str, Any]:
    found: dict[str, Any] = {name: text for name in ("reason", "by") if (text := getattr(one, name)) is not None}
    if one.until is not None:
        until = -(-one.until // 1000)
        if not now < until <= LAST_INSTANT:
            raise Invalid(f"`{path}.until` lies in the future.", (FieldError(f"{path}.until", "range"),))
        found["until"] = rfc3339(until)
    return found


def _limit(one: LimitOverride, path: str, now: int) -> dict[str, Any]:
    (name,) = one.model_fields_set & {"max", "amount"}
    most = getattr(one, name)
    return {name: None if most is None else plain(most), **_said(one, path, now)}


def _price(one: PriceOverride, path: str, now: int) -> dict[str, Any]:
    fields = {name: value for name, value in one if name not in ("tiers", *Said.model_fields) and value is not None}
    found = {name: value if isinstance(value, str) else plain(value) for name, value in fields.items()}
    tiers = [_tier(tier) for tier in getattr(one, "tiers", ())]
    return {**found, **({"tiers": tiers} if tiers else {}), **_said(one, path, now)}


def _tier(tier: TierEntry) -> dict[str, str]:
    found = {"up_to": "inf" if tier.up_to is None else plain(tier.up_to), "unit_price": plain(tier.unit_price)}
    return found if tier.flat is None else {**found, "flat": plain(tier.flat)}


# -- what they mean for a plan -----------------------------------------------------------------------------------------


def check_overrides(sent: Overrides, raw: Any, plan: Plan, meters: Mapping[str, Meter]) -> None:
    """Raises UnknownLimit, UnknownMeter or Invalid, with the path, where overrides do not fit the account's plan.
    `raw`: the body that they were sent in."""
    limits = {limit.id: limit for limit in plan.limits}
    for name, one in sent.limits.items():
        if name not in limits:
            raise UnknownLimit(name, plan.id)
        _check_limit(one, limits[name], plan)
    priced = {price.meter for price in plan.prices}
    for index, price in enumerate(sent.prices):
        path = f"overrides.prices.{index}.meter"
        if price.meter not in meters:
            raise UnknownMeter(price.meter, path)
        if price.meter not in priced:
            detail = f"The plan `{plan.id}` has no price of `{price.meter}`; override one that it has."
            raise Invalid(detail, (FieldError(path, "not_priced"),))
    for name in ("spend_cap", "base_fee"):
        boxed = getattr(sent, name)
        if boxed is not None and boxed.amount is not None:
            check_chargeable(boxed.amount, plan.currency, _sent_as(f"overrides.{name}.amount", raw))
    mistakes = list(_price_mistakes(sent, plan, meters))[:_MOST_ERRORS]
    if mistakes:
        path, reason = mistakes[0]
        raise Invalid(f"`{path}`: {reason}.", tuple(FieldError(path, _WRONG_PRICE) for path, _ in mistakes))


def _check_limit(one: LimitOverride, limit: Limit, plan: Plan) -> None:
    path = f"overrides.limits.{limit.id}"
    if limit.amount is None and "amount" in one.model_fields_set:
        raise Invalid(f"Limit `{limit.id}` is not of money: send `max`.", (FieldError(f"{path}.amount", "limit_kind"),))
    if limit.amount is not None and "max" in one.model_fields_set:
        raise Invalid(f"Limit `{limit.id}` is of money: send `amount`.", (FieldError(f"{path}.max", "limit_kind"),))
    if one.amount is not None:
        check_chargeable(one.amount, plan.currency, f"{path}.amount")


def _price_mistakes(sent: Overrides, plan: Plan, meters: Mapping[str, Meter]) -> Iterator[tuple[str, str]]:
    """What the catalogue would say of these prices in this plan."""
    seats = None if plan.seats is None else SeatsEntry(unit_price=plain(plan.seats.unit_price))  # type: ignore[arg-type]
    entries = {
        name: MeterEntry(kind=meter.kind, scale=meter.scale, stripe_event_name=meter.stripe_event_name)
        for name, meter in meters.items()
    }
    for path, reason in check_plan(plan.id, PlanEntry(prices=list(sent.prices), seats=seats), entries, plan.currency):
        yield ".".join(str(part) for part in ("overrides", *path[2:])), reason


# -- paths -------------------------------------------------------------------------------------------------------------


def readable(error: Invalid, raw: Any) -> Invalid:
    """The error of a wrong body with paths as they were sent: pydantic names the chosen scheme, too, and an amount that
    was sent bare as if it had been boxed."""
    fields = tuple(
        FieldError(_sent_as(field.path, raw), _WRONG_PRICE if field.code == "value_error" else field.code)
        for field in error.errors
    )
    detail = error.detail.replace("Value error, ", "")
    if fields:
        detail = detail.replace(f"`{error.errors[0].path}`", f"`{fields[0].path}`", 1)
    return Invalid(detail, fields)


def _sent_as(path: str, raw: Any) -> str:
    boxed = _AMOUNT.match(path)
    if boxed and isinstance(raw, dict) and isinstance(raw.get("overrides"), dict):
        return path if isinstance(raw["overrides"].get(boxed[1]), dict) else f"overrides.{boxed[1]}"
    return _SCHEME.sub(r"\1", path)
