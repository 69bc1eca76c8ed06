"""What a price is made of, as parameters: amounts, tiers, packages, intervals; and which combinations are refused."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from local.stripe_double.errors import ApiError, invalid
from local.stripe_double.expansion import EXPAND
from local.stripe_double.lists import CREATED, PAGING
from local.stripe_double.metadata import METADATA
from local.stripe_double.params import (
    DecimalText,
    Flag,
    Nested,
    NestedList,
    OneOf,
    Param,
    Params,
    SecondsOrRange,
    Text,
    TextList,
    Whole,
    WholeOrWord,
)
from local.stripe_double.rating import Pricing, Tier

MAX_AMOUNT = 99_999_999_999
LONGEST = {"day": 1095, "week": 156, "month": 36, "year": 3}
"""Three years at most [SDK: Recurring.interval_count]."""

_INTERVAL = OneOf(("day", "month", "week", "year"))
_USAGE_TYPE = OneOf(("licensed", "metered"))
TIER = Params(
    {
        "flat_amount": Param(Whole(0, MAX_AMOUNT)),
        # Decimal in its form only: whole minor units [SDK: Tier.flat_amount_decimal].
        "flat_amount_decimal": Param(DecimalText(0)),
        "unit_amount": Param(Whole(0, MAX_AMOUNT)),
        "unit_amount_decimal": Param(DecimalText()),
        "up_to": Param(WholeOrWord(("inf",), 1), required=True),
    }
)
TRANSFORM_QUANTITY = Params(
    {"divide_by": Param(Whole(1), required=True), "round": Param(OneOf(("down", "up")), required=True)}
)
RECURRING = Params(
    {
        "interval": Param(_INTERVAL, required=True),
        "interval_count": Param(Whole(1)),
        "meter": Param(Text()),
        "usage_type": Param(_USAGE_TYPE),
    },
    frozenset({"trial_period_days"}),
)
PRODUCT_DATA = Params(
    {
        "active": Param(Flag()),
        "id": Param(Text(255)),
        "metadata": METADATA,
        "name": Param(Text(), required=True),
        "statement_descriptor": Param(Text(22)),
        "tax_code": Param(Text()),
        "unit_label": Param(Text(12)),
    },
    frozenset({"tax_details"}),
)
_FIELDS: dict[str, Param] = {
    **EXPAND,
    "active": Param(Flag()),
    "lookup_key": Param(Text(200)),
    "metadata": METADATA,
    "nickname": Param(Text()),
    "tax_behavior": Param(OneOf(("exclusive", "inclusive", "unspecified"))),
    "transfer_lookup_key": Param(Flag()),
}
CREATE = Params(
    {
        **_FIELDS,
        "billing_scheme": Param(OneOf(("per_unit", "tiered"))),
        "currency": Param(Text(), required=True),
        "product": Param(Text()),
        "product_data": Param(Nested(PRODUCT_DATA)),
        "recurring": Param(Nested(RECURRING)),
        "tiers": Param(NestedList(TIER, 100)),
        "tiers_mode": Param(OneOf(("graduated", "volume"))),
        "transform_quantity": Param(Nested(TRANSFORM_QUANTITY)),
        "unit_amount": Param(Whole(0, MAX_AMOUNT)),
        "unit_amount_decimal": Param(DecimalText()),
    },
    frozenset({"currency_options", "custom_unit_amount"}),
)
UPDATE = Params(_FIELDS, frozenset({"currency_options"}))
RETRIEVE = Params(EXPAND)
LIST_RECURRING = Params(
    {"interval": Param(_INTERVAL), "meter": Param(Text()), "usage_type": Param(_USAGE_TYPE)},
)
LIST = Params(
    {
        **PAGING,
        **EXPAND,
        "active": Param(Flag()),
        "created": Param(SecondsOrRange(CREATED)),
        "currency": Param(Text()),
        "lookup_keys": Param(TextList(10)),
        "product": Param(Text()),
        "recurring": Param(Nested(LIST_RECURRING)),
        "type": Param(OneOf(("one_time", "recurring"))),
    }
)


def recurring(given: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The checked `recurring` of a new price; empty for a one-time price. Raises ApiError.

    A metered price without a meter is refused since basil, as is a meter on a licensed one [docs: changelog; texts
    assumed].
    """
    if given is None:
        return {}
    count, longest = given.get("interval_count", 1), LONGEST[given["interval"]]
    if count > longest:
        raise invalid(
            f"Invalid interval_count: {count}; at most {longest} for the interval {given['interval']}.",
            "recurring[interval_count]",
        )
    metered = given.get("usage_type") == "metered"
    if metered and "meter" not in given:
        raise ApiError(
            400,
            "Prices with `recurring[usage_type]=metered` must be backed by a meter: `recurring[meter]` is missing.",
            param="recurring[meter]",
            saved=False,
        )
    if not metered and "meter" in given:
        raise invalid("`recurring[meter]` goes with `recurring[usage_type]=metered` only.", "recurring[meter]")
    return given


def pricing(params: Mapping[str, Any]) -> Pricing:
    """The amounts of a new price. Raises ApiError for combinations that make no price [docs: tiered pricing,
    transform quantities; texts assumed].
    """
    if params.get("billing_scheme", "per_unit") == "tiered":
        return _tiered(params)
    for name in ("tiers", "tiers_mode"):
        if name in params:
            raise invalid(f"`{name}` may only be set when `billing_scheme=tiered`.", name)
    unit = _amount(params, "unit_amount", "")
    if unit is None:
        raise invalid(
            "Prices require an `unit_amount` or `unit_amount_decimal` parameter to be set.",
            "unit_amount",
            "parameter_missing",
        )
    package = params.get("transform_quantity", {})
    return Pricing(unit, divide_by=package.get("divide_by"), round_up=package.get("round") == "up")


def _tiered(params: Mapping[str, Any]) -> Pricing:
    for name in ("unit_amount", "unit_amount_decimal", "transform_quantity"):
        if name in params:
            raise invalid(f"`{name}` cannot be set when `billing_scheme=tiered`.", name)
    for name in ("tiers", "tiers_mode"):
        if not params.get(name):
            raise invalid(f"`{name}` must be set when `billing_scheme=tiered`.", name, "parameter_missing")
    tiers = [_tier(given, f"tiers[{number}]") for number, given in enumerate(params["tiers"])]
    bounds = [tier.up_to for tier in tiers]
    if bounds[-1] is not None or None in bounds[:-1]:
        raise invalid("The last tier, and only that one, must have `up_to=inf`.", "tiers")
    finite = [bound for bound in bounds if bound is not None]
    if any(left >= right for left, right in zip(finite, finite[1:], strict=False)):
        raise invalid("Tiers must be given in ascending order of `up_to`.", "tiers")
    return Pricing(tiers=tuple(tiers), mode=params["tiers_mode"])


def _tier(given: Mapping[str, Any], path: str) -> Tier:
    unit, flat = _amount(given, "unit_amount", path), _amount(given, "flat_amount", path)
    if unit is None and flat is None:
        raise invalid("Each tier must have an unit amount or a flat amount.", path, "parameter_missing")
    up_to = given["up_to"]
    return Tier(None if up_to == "inf" else up_to, unit, None if flat is None else int(flat))


def _amount(given: Mapping[str, Any], name: str, path: str) -> Decimal | None:
    decimal = f"{name}_decimal"
    if name in given and decimal in given:
        at = f"{path}[{name}]" if path else name
        raise invalid(f"You may only specify one of these parameters: {name}, {decimal}.", at)
    value = given.get(name, given.get(decimal))
    return None if value is None else Decimal(value)
