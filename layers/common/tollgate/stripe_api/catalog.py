"""Stripe's catalogue: meters, products, prices (stripe-python 16).

`tiers` of a price are there only when asked for (`expand`). Amounts of Stripe's that are null mean 0 in a tier.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final

import stripe

from tollgate.errors import StripeRefused
from tollgate.quantities import ZERO, plain
from tollgate.stripe_api.reading import Connection
from tollgate.sync.objects import (
    FoundMeter,
    FoundPrice,
    FoundProduct,
    Meter,
    Price,
    Product,
    Terms,
    Tier,
)

_OURS: Final = "tollgate_"
_KEYS_A_LIST: Final = 10
"""Lookup keys that one list call takes [SDK: PriceListParams]."""
_PAGE: Final = 100


class StripeCatalog:
    """The port of `sync.apply` on Stripe. `run` names this run: a creation has one Idempotency-Key in it, so that a
    repetition after a lost answer makes nothing twice; another run looks first, and gets a key of its own because a v1
    key replays a 500 for a day."""

    def __init__(self, connection: Connection, run: str) -> None:
        self._stripe = connection
        self._run = run

    def meters(self) -> list[FoundMeter]:
        def listed(client: stripe.StripeClient) -> list[FoundMeter]:
            found = client.v1.billing.meters.list({"limit": _PAGE})
            return [_meter(meter) for meter in found.auto_paging_iter()]

        return self._stripe.patiently(listed)

    def product(self, product: str) -> FoundProduct | None:
        try:
            found = self._stripe.patiently(lambda client: client.v1.products.retrieve(product))
        except StripeRefused as refused:
            if refused.missing:
                return None
            raise
        if getattr(found, "deleted", False):
            return None
        return FoundProduct(found.active, found.livemode, Product(found.id, found.name, _metadata(found)))

    def prices_of(self, product: str) -> list[FoundPrice]:
        return self._prices({"product": product})

    def prices_with(self, lookup_keys: Iterable[str]) -> list[FoundPrice]:
        keys = list(lookup_keys)
        tens = [keys[start : start + _KEYS_A_LIST] for start in range(0, len(keys), _KEYS_A_LIST)]
        return [price for ten in tens for price in self._prices({"lookup_keys": ten})]

    def _prices(self, which: Any) -> list[FoundPrice]:
        def listed(client: stripe.StripeClient) -> list[FoundPrice]:
            params: Any = {**which, "limit": _PAGE, "expand": ["data.tiers"]}
            found = client.v1.prices.list(params)
            return [_price(price) for price in found.auto_paging_iter()]

        return self._stripe.patiently(listed)

    def create_meter(self, meter: Meter) -> str:
        params: Any = {
            "display_name": meter.name,
            "event_name": meter.event_name,
            "default_aggregation": {"formula": meter.formula},
            "customer_mapping": {"type": "by_id", "event_payload_key": meter.customer_key},
            "value_settings": {"event_payload_key": meter.value_key},
        }
        options = self._once("meter", meter.event_name)
        return self._stripe.patiently(lambda client: client.v1.billing.meters.create(params, options)).id

    def update_meter(self, meter: str, wanted: Meter, reactivate: bool) -> None:
        if reactivate:
            self._stripe.patiently(lambda client: client.v1.billing.meters.reactivate(meter))
        # A crash here leaves the old name on an active meter: the next diff updates it.
        self._stripe.patiently(lambda client: client.v1.billing.meters.update(meter, {"display_name": wanted.name}))

    def create_product(self, product: Product) -> None:
        params: Any = {"id": product.id, "name": product.name, "metadata": dict(product.metadata)}
        options = self._once("product", product.id)
        self._stripe.patiently(lambda client: client.v1.products.create(params, options))

    def update_product(self, product: Product) -> None:
        params: Any = {"name": product.name, "metadata": dict(product.metadata), "active": True}
        self._stripe.patiently(lambda client: client.v1.products.update(product.id, params))

    def create_price(self, price: Price, meter: str | None, takes_key: bool) -> str:
        params: Any = {
            **_terms_params(price.terms, meter),
            "lookup_key": price.lookup_key,
            "transfer_lookup_key": takes_key,
            "nickname": price.nickname,
            "metadata": dict(price.metadata),
        }
        options = self._once("price", price.lookup_key or "")
        return self._stripe.patiently(lambda client: client.v1.prices.create(params, options)).id

    def update_price(self, found: str, wanted: Price) -> None:
        params: Any = {
            "nickname": wanted.nickname,
            "metadata": dict(wanted.metadata),
            "lookup_key": wanted.lookup_key,
            "active": True,
        }
        self._stripe.patiently(lambda client: client.v1.prices.update(found, params))

    def archive_price(self, found: str) -> None:
        self._stripe.patiently(lambda client: client.v1.prices.update(found, {"active": False}))

    def _once(self, what: str, name: str) -> Any:
        digest = hashlib.sha256("\n".join((self._run, what, name)).encode()).hexdigest()
        return {"idempotency_key": f"tollgate-sync-{digest[:40]}"}


def _terms_params(terms: Terms, meter: str | None) -> Any:
    """Decimals go as plain strings: the SDK would write a small one with an exponent."""
    params: dict[str, Any] = {"product": terms.product, "currency": terms.currency}
    if terms.interval is not None:
        recurring: dict[str, Any] = {"interval": terms.interval, "interval_count": terms.interval_count}
        recurring["usage_type"] = "licensed" if meter is None else "metered"
        params["recurring"] = recurring if meter is None else {**recurring, "meter": meter}
    if terms.tiers:
        params |= {"billing_scheme": "tiered", "tiers_mode": terms.tiers_mode}
        params["tiers"] = [
            {
                "up_to": "inf" if tier.up_to is None else int(tier.up_to),
                "unit_amount_decimal": plain(tier.unit_amount),
                "flat_amount": int(tier.flat_amount),
            }
            for tier in terms.tiers
        ]
        return params
    assert terms.unit_amount is not None
    params |= {"billing_scheme": "per_unit", "unit_amount_decimal": plain(terms.unit_amount)}
    if terms.divide_by is not None:
        params["transform_quantity"] = {"divide_by": terms.divide_by, "round": terms.round}
    return params


def _meter(found: stripe.billing.Meter) -> FoundMeter:
    mapping, settings = found.customer_mapping, found.value_settings
    return FoundMeter(
        id=found.id,
        active=found.status == "active",
        livemode=found.livemode,
        created=found.created,
        meter=Meter(
            event_name=found.event_name,
            name=found.display_name,
            formula=str(found.default_aggregation.formula),
            customer_key=mapping.event_payload_key if mapping is not None else None,
            value_key=settings.event_payload_key if settings is not None else None,
            window=found.event_time_window,
        ),
    )


def _price(found: stripe.Price) -> FoundPrice:
    product = found.product if isinstance(found.product, str) else found.product.id
    recurring, transform = found.recurring, found.transform_quantity
    terms = Terms(
        product=product,
        currency=found.currency,
        interval=None if recurring is None else str(recurring.interval),
        interval_count=1 if recurring is None else recurring.interval_count,
        unit_amount=_decimal(found.unit_amount_decimal),
        tiers_mode=found.tiers_mode,
        tiers=tuple(_tier(tier) for tier in (getattr(found, "tiers", None) or ())),
        divide_by=None if transform is None else transform.divide_by,
        round=None if transform is None else str(transform.round),
    )
    return FoundPrice(
        id=found.id,
        active=found.active,
        livemode=found.livemode,
        created=found.created,
        meter=None if recurring is None else recurring.meter,
        price=Price(found.lookup_key, found.nickname or "", _metadata(found), terms),
    )


def _tier(found: Any) -> Tier:
    return Tier(
        up_to=_decimal(found.up_to),
        unit_amount=_decimal(found.unit_amount_decimal) or ZERO,
        flat_amount=_decimal(found.flat_amount_decimal) or ZERO,
    )


def _decimal(value: Any) -> Decimal | None:
    return None if value is None else Decimal(str(value))


def _metadata(found: Any) -> dict[str, str]:
    return {key: value for key, value in found.metadata.to_dict().items() if key.startswith(_OURS)}
