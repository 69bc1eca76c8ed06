"""From the entries of `catalog.yaml`, checked already, to the domain's values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal

from tollgate.catalog.breaker import breakers
from tollgate.catalog.document import (
    AlertsEntry,
    Document,
    LimitEntry,
    MeterEntry,
    PackageEntry,
    PerUnitEntry,
    PlanEntry,
    PriceEntry,
    SeatsEntry,
    TierEntry,
    WeightEntry,
)
from tollgate.catalog.fields import DIMENSION
from tollgate.catalog.model import (
    THRESHOLDS,
    BillingPeriod,
    Catalog,
    Condition,
    GrantRule,
    Limit,
    Meter,
    Multiplier,
    Pack,
    Plan,
    Price,
    RateChange,
    Seats,
    SharedLimit,
    Tier,
    WeightRule,
)
from tollgate.catalog.price_book import price_book
from tollgate.catalog.rates import Rates
from tollgate.windows import LIFETIME

_OWN = ("account", "member")
"""Whose limits the gates of an account decide; the others are shared by accounts."""


def catalog(document: Document, rates: Mapping[str, Rates]) -> Catalog:
    """The catalogue of a document without mistakes. `rates` of the meters that have a file of them, by meter id."""
    changes = [
        RateChange(meter_id, change.on, change.when, change.before, change.after)
        for meter_id, found in rates.items()
        for change in found.changes
    ]
    levels = frozenset(meter_id for meter_id, meter in document.meters.items() if meter.kind == "level")
    meters = {
        meter_id: _meter(meter_id, entry, rates[meter_id].weights if meter_id in rates else ())
        for meter_id, entry in document.meters.items()
    }
    plans = {
        plan_id: replace(
            _plan(plan_id, entry, document.currency, levels), thresholds=_thresholds(entry.alerts, document.alerts)
        )
        for plan_id, entry in document.plans.items()
    }
    return Catalog(
        currency=document.currency,
        default_plan=document.default_plan,
        auto_create_accounts=document.auto_create_accounts,
        fallback_plan=document.fallback_plan,
        grace_days=document.grace_days,
        stripe_customers=document.stripe_customers,
        meters=meters,
        plans=plans,
        thresholds=_thresholds(document.alerts),
        expected_volume=dict(document.expected_volume),
        rate_changes=tuple(sorted(changes, key=lambda change: change.on)),
        breakers=breakers(document, plans, meters),
        book=price_book(document),
    )


def _when(entry: dict[str, tuple[str, ...]]) -> Condition:
    return tuple(sorted(entry.items()))


def _weights(entries: list[WeightEntry]) -> tuple[WeightRule, ...]:
    return tuple(WeightRule(_when(entry.when), entry.weight) for entry in entries)


def _meter(meter_id: str, entry: MeterEntry, rates: tuple[WeightRule, ...]) -> Meter:
    return Meter(
        id=meter_id,
        name=entry.name or meter_id,
        unit=entry.unit,
        scale=entry.scale,
        stripe_event_name=entry.stripe_event_name,
        weights=rates + _weights(entry.weights),
        multipliers=tuple(Multiplier(_when(rule.when), rule.factor) for rule in entry.multipliers),
        kind=entry.kind,
    )


def _plan(plan_id: str, entry: PlanEntry, currency: str, levels: frozenset[str]) -> Plan:
    return Plan(
        id=plan_id,
        version=0,
        name=entry.name or plan_id,
        base_fee=entry.base_fee or Decimal(0),
        period=BillingPeriod(entry.period.interval, entry.period.anchor),
        prices=tuple(_price(price) for price in entry.prices),
        overage=entry.overage,
        spend_cap=entry.spend_cap,
        grants=tuple(
            GrantRule(grant.meter, grant.units, grant.every, grant.rollover_max, grant.priority)
            for grant in entry.grants
        ),
        packs=tuple(
            Pack(pack.id, pack.name or pack.id, pack.meter, pack.units, pack.price, pack.priority, pack.expires_days)
            for pack in entry.packs
        ),
        limits=tuple(_limit(limit, levels) for limit in entry.limits if limit.per in _OWN),
        shared_limits=tuple(_shared(limit) for limit in entry.limits if limit.per not in _OWN),
        weights=tuple((meter, _weights(rules)) for meter, rules in sorted(entry.weights.items())),
        features=dict(entry.features),
        unlimited=entry.unlimited,
        public=entry.public,
        description=entry.description,
        order=entry.order,
        currency=currency,
        seats=None if entry.seats is None else _seats(entry.seats),
    )


def _thresholds(*said: AlertsEntry | None) -> tuple[int, ...]:
    """The first list that is said, ascending."""
    found = (entry.thresholds for entry in said if entry is not None and entry.thresholds is not None)
    return tuple(sorted(set(next(found, THRESHOLDS))))


def _seats(entry: SeatsEntry) -> Seats:
    return Seats(entry.unit_price, entry.minimum, entry.pooled, entry.meter)


def _price(entry: PriceEntry) -> Price:
    price = Price(
        entry.meter,
        entry.scheme,
        minimum=entry.minimum,
        maximum=entry.maximum,
        markup=entry.markup or Decimal(0),
        included_per_seat=entry.included_per_seat or Decimal(0),
    )
    if isinstance(entry, PerUnitEntry):
        return replace(price, unit_price=entry.unit_price)
    if isinstance(entry, PackageEntry):
        return replace(price, package_size=entry.package_size, package_price=entry.package_price, round=entry.round)
    return replace(price, tiers=tuple(_tier(tier) for tier in entry.tiers))


def _tier(entry: TierEntry) -> Tier:
    return Tier(entry.up_to, entry.unit_price, entry.flat or Decimal(0))


def _limit(entry: LimitEntry, levels: frozenset[str]) -> Limit:
    meters = entry.named
    return Limit(
        id=entry.id,
        meters=tuple(sorted(meters)),
        per="member" if entry.per == "member" else "account",
        # A level never begins anew: in the only window without end a counter that is moved to the level stays there.
        window=LIFETIME if levels.intersection(meters) else entry.window,
        concurrent=entry.concurrent,
        where=_when(entry.where),
        max=entry.max,
        amount=entry.amount,
    )


def _shared(entry: LimitEntry) -> SharedLimit:
    assert entry.window is not None
    assert entry.max is not None
    return SharedLimit(
        id=entry.id,
        meters=tuple(sorted(entry.named)),
        window=entry.window,
        where=_when(entry.where),
        max=entry.max,
        dimension=None if entry.per == "plan" else entry.per.removeprefix(DIMENSION),
    )
