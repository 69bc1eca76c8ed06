"""Prices: create, retrieve, update, list. An amount never changes: a price is archived and replaced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from local.stripe_double import price_params, products
from local.stripe_double.changes import emit_update
from local.stripe_double.currencies import currency
from local.stripe_double.errors import ApiError, invalid, missing_resource
from local.stripe_double.events import emit
from local.stripe_double.expansion import expandable
from local.stripe_double.ids import new_id
from local.stripe_double.lists import page, within
from local.stripe_double.metadata import merged
from local.stripe_double.operations import Call, Operation
from local.stripe_double.price_params import CREATE, LIST, RETRIEVE, UPDATE
from local.stripe_double.rating import Pricing
from local.stripe_double.wire import JsonObject, plain

if TYPE_CHECKING:
    from local.stripe_double.state import Double


@dataclass
class Price:
    """One price. `interval` None: one time. `meter` None: licensed. Amounts are in minor units."""

    id: str
    created: int
    currency: str
    product: str
    pricing: Pricing
    interval: str | None = None
    interval_count: int = 1
    meter: str | None = None
    active: bool = True
    lookup_key: str | None = None
    nickname: str | None = None
    tax_behavior: str = "unspecified"
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def metered(self) -> bool:
        return self.meter is not None

    def _shared(self) -> JsonObject:
        """The fields that a price and its old form, a plan, have in common."""
        return {
            "id": self.id,
            "active": self.active,
            "billing_scheme": "tiered" if self.pricing.tiers else "per_unit",
            "created": self.created,
            "currency": self.currency,
            "livemode": False,
            "metadata": dict(self.metadata),
            "nickname": self.nickname,
            "product": self.product,
            "tiers_mode": self.pricing.mode,
        }

    def _transform(self) -> JsonObject | None:
        if self.pricing.divide_by is None:
            return None
        return {"divide_by": self.pricing.divide_by, "round": "up" if self.pricing.round_up else "down"}

    def view(self) -> JsonObject:
        """The object, without `tiers` and `currency_options`: they are there when expanded only [docs: tiers]."""
        recurring = {
            "interval": self.interval,
            "interval_count": self.interval_count,
            "meter": self.meter,
            "trial_period_days": None,
            "usage_type": "metered" if self.metered else "licensed",
        }
        return {
            **self._shared(),
            "object": "price",
            "custom_unit_amount": None,
            "lookup_key": self.lookup_key,
            "recurring": None if self.interval is None else recurring,
            "tax_behavior": self.tax_behavior,
            "transform_quantity": self._transform(),
            "type": "one_time" if self.interval is None else "recurring",
            "unit_amount": whole(self.pricing.unit),
            "unit_amount_decimal": text(self.pricing.unit),
        }

    def plan_view(self) -> JsonObject:
        """The plan that a subscription item still shows beside its price [SDK: SubscriptionItem.plan]."""
        return {
            **self._shared(),
            "object": "plan",
            "amount": whole(self.pricing.unit),
            "amount_decimal": text(self.pricing.unit),
            "interval": self.interval,
            "interval_count": self.interval_count,
            "meter": self.meter,
            "transform_usage": self._transform(),
            "trial_period_days": None,
            "usage_type": "metered" if self.metered else "licensed",
        }

    def tiers_view(self) -> list[JsonObject] | None:
        """The tiers; None for a price without."""
        if not self.pricing.tiers:
            return None
        return [
            {
                "flat_amount": tier.flat,
                "flat_amount_decimal": None if tier.flat is None else str(tier.flat),
                "unit_amount": whole(tier.unit),
                "unit_amount_decimal": text(tier.unit),
                "up_to": tier.up_to,
            }
            for tier in self.pricing.tiers
        ]


def whole(amount: Decimal | None) -> int | None:
    """`unit_amount`: only where the amount is a whole number of minor units [SDK: Price.unit_amount]."""
    return None if amount is None or amount != amount.to_integral_value() else int(amount)


def text(amount: Decimal | None) -> str | None:
    """A decimal as the wire has it: a plain string."""
    return None if amount is None else plain(amount)


class Prices:
    """All prices. At most one price has a given lookup key, archived ones too [observed]."""

    def __init__(self) -> None:
        self._by_id: dict[str, Price] = {}

    def add(self, price: Price) -> None:
        self._by_id[price.id] = price

    def get(self, price_id: str, param: str = "id", status: int = 404) -> Price:
        """Raises ApiError naming `param` for an unknown id."""
        price = self._by_id.get(price_id)
        if price is None:
            raise missing_resource("price", price_id, param, status)
        return price

    def with_lookup_key(self, lookup_key: str) -> Price | None:
        return next((price for price in self._by_id.values() if price.lookup_key == lookup_key), None)

    def newest_first(self) -> list[Price]:
        return list(reversed(self._by_id.values()))


def create(double: Double, call: Call) -> JsonObject:
    """POST /v1/prices [SDK: PriceCreateParams].

    - exactly one of `product` and `product_data`; an unknown product: 400 [docs].
    - a metered price needs an active meter, a licensed one takes none [docs: basil 2025-03-31; that an inactive meter
      is refused is assumed].
    - `lookup_key` in use: refused, unless `transfer_lookup_key` takes it from the other price [SDK].
    """
    params = call.params
    code = currency(params["currency"])
    pricing = price_params.pricing(params)
    recurring = price_params.recurring(params.get("recurring"))
    meter = recurring.get("meter")
    if meter is not None:
        _usable_meter(double, meter)
    product = _product(double, params)
    _check_lookup_key(double, params, None)
    price = Price(
        id=new_id("price"),
        created=double.clock.now(),
        currency=code,
        product=product,
        pricing=pricing,
        interval=recurring.get("interval"),
        interval_count=recurring.get("interval_count", 1),
        meter=meter,
    )
    _apply(double, price, params)
    double.prices.add(price)
    emit(double, "price.created", price.view())
    return price.view()


def retrieve(double: Double, call: Call) -> JsonObject:
    """GET /v1/prices/{id} [SDK]."""
    return double.prices.get(call.args["id"]).view()


def update(double: Double, call: Call) -> JsonObject:
    """POST /v1/prices/{id}: what names or archives a price; every amount is immutable and an unknown parameter here
    [SDK: PriceUpdateParams].
    """
    price = double.prices.get(call.args["id"])
    _check_lookup_key(double, call.params, price)
    before = price.view()
    _apply(double, price, call.params)
    emit_update(double, "price.updated", before, price.view())
    return price.view()


def list_all(double: Double, call: Call) -> JsonObject:
    """GET /v1/prices: newest first [SDK: PriceListParams]."""
    params = call.params
    wanted = {name: params[name] for name in ("active", "currency", "product", "type") if name in params}
    recurring = params.get("recurring", {})
    found = [
        view
        for view in (price.view() for price in double.prices.newest_first())
        if all(view[name] == value for name, value in wanted.items())
        and all((view["recurring"] or {}).get(name) == value for name, value in recurring.items())
        and ("lookup_keys" not in params or view["lookup_key"] in params["lookup_keys"])
        and within(view["created"], params.get("created"))
    ]
    return page(found, params, call.path, "price")


def _product(double: Double, params: Mapping[str, Any]) -> str:
    given, data = params.get("product"), params.get("product_data")
    if given is not None and data is not None:
        raise invalid("You may only specify one of these parameters: product, product_data.", "product")
    if data is not None:
        return products.add(double, data).id
    if given is None:
        raise invalid("You must specify either `product` or `product_data` when creating a price.", "product")
    return double.products.get(given, "product", 400).id


def _usable_meter(double: Double, meter_id: str) -> None:
    known = {meter.id: meter for meter in double.meters.newest_first()}
    if meter_id not in known:
        raise missing_resource("billing meter", meter_id, "recurring[meter]", 400)
    if not known[meter_id].active:
        raise invalid(f"The meter {meter_id} is inactive.", "recurring[meter]")


def _check_lookup_key(double: Double, params: Mapping[str, Any], own: Price | None) -> None:
    lookup_key = params.get("lookup_key")
    other = double.prices.with_lookup_key(lookup_key) if lookup_key else None
    if other is not None and other is not own and not params.get("transfer_lookup_key"):
        raise ApiError(400, f"A price (`{other.id}`) already uses that lookup key.", param="lookup_key")


def _apply(double: Double, price: Price, params: Mapping[str, Any]) -> None:
    """Set what may be set at any time; a lookup key that another price has is taken from it."""
    lookup_key = params.get("lookup_key")
    other = double.prices.with_lookup_key(lookup_key) if lookup_key else None
    if other is not None and other is not price:
        before = other.view()
        other.lookup_key = None
        emit_update(double, "price.updated", before, other.view())
    for name in ("active", "lookup_key", "nickname", "tax_behavior"):
        if name in params:
            setattr(price, name, params[name])
    if "metadata" in params:
        price.metadata = merged(price.metadata, params["metadata"])


def _tiers(double: Double, price: JsonObject) -> list[JsonObject] | None:
    return double.prices.get(price["id"]).tiers_view()


def _product_view(double: Double, price: JsonObject) -> JsonObject:
    return double.products.get(price["product"]).view()


expandable("price", "tiers", _tiers)
expandable("price", "product", _product_view)

OPERATIONS = (
    Operation("POST", "/v1/prices", create, CREATE),
    Operation("GET", "/v1/prices", list_all, LIST),
    Operation("GET", "/v1/prices/{id}", retrieve, RETRIEVE),
    Operation("POST", "/v1/prices/{id}", update, UPDATE),
)
