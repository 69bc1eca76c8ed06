"""Meters, products and prices as Stripe has them: the same records for what is wanted and for what is found.

Amounts are Decimals in the integers' unit of Stripe's API (cents for usd, whole yen for jpy), with at most 12 decimal
places where they are for one unit (`unit_amount_decimal`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from decimal import Decimal
from typing import Final, Literal, NamedTuple

from tollgate.quantities import ZERO

Formula = Literal["sum", "count", "last"]
CUSTOMER_KEY: Final = "stripe_customer_id"
VALUE_KEY: Final = "value"
"""The fields of a meter event's payload that the sink fills."""

STACK: Final = "tollgate_stack"
PLAN: Final = "tollgate_plan"
VERSION: Final = "tollgate_plan_version"
PART: Final = "tollgate_part"
BASE: Final = "base"
SEATS: Final = "seats"


def meter_part(meter: str) -> str:
    return f"meter:{meter}"


def pack_part(pack: str) -> str:
    return f"pack:{pack}"


def lookup_key(stack: str, plan: str, version: int, part: str) -> str:
    """By which the price of a plan version's part is found, and unique in the Stripe account."""
    return f"tollgate:{stack}:{plan}:{version}:{part}"


def product_id(stack: str, plan: str, part: str) -> str:
    """The id of a part's product, chosen by us so that a second one cannot be made; the same for all versions."""
    name = "\n".join((stack, plan, part)).encode()
    return f"tollgate_{hashlib.sha256(name).hexdigest()[:32]}"


class Meter(NamedTuple):
    """A billing meter. `window` other than None keeps only the last event of each hour or day."""

    event_name: str
    name: str
    formula: str
    customer_key: str | None = CUSTOMER_KEY
    value_key: str | None = VALUE_KEY
    window: str | None = None


class Product(NamedTuple):
    """What stands on an invoice line. `metadata`: the tollgate_ keys only."""

    id: str
    name: str
    metadata: Mapping[str, str]


class Tier(NamedTuple):
    """`up_to` is inclusive; None: without end."""

    up_to: Decimal | None
    unit_amount: Decimal
    flat_amount: Decimal = ZERO


class Terms(NamedTuple):
    """What Stripe never changes about a price. One of `unit_amount` and `tiers` is set.

    `interval` None: paid once. `event_name` None: licensed (or paid once). `divide_by`, `round`: `transform_quantity`.
    """

    product: str
    currency: str
    interval: str | None = None
    interval_count: int = 1
    event_name: str | None = None
    unit_amount: Decimal | None = None
    tiers_mode: str | None = None
    tiers: tuple[Tier, ...] = ()
    divide_by: int | None = None
    round: str | None = None


class Price(NamedTuple):
    """A price. `metadata`: the tollgate_ keys only."""

    lookup_key: str | None
    nickname: str
    metadata: Mapping[str, str]
    terms: Terms


class FoundMeter(NamedTuple):
    id: str
    active: bool
    livemode: bool
    created: int
    meter: Meter


class FoundProduct(NamedTuple):
    active: bool
    livemode: bool
    product: Product


class FoundPrice(NamedTuple):
    """`meter`: the id of its meter; `price.terms.event_name` is unknown and None."""

    id: str
    active: bool
    livemode: bool
    created: int
    meter: str | None
    price: Price


class Found(NamedTuple):
    """Everything at Stripe that the wanted objects may meet: all meters, and products and prices by id."""

    meters: tuple[FoundMeter, ...] = ()
    products: Mapping[str, FoundProduct] = {}
    prices: tuple[FoundPrice, ...] = ()
