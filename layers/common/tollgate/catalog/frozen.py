"""Plan versions as canonical JSON: what is stored, hashed and read back by the gate.

The text holds the plan and the meters as the plan counts them, so a later change of a meter leaves it alone. Equal
contents give equal text: keys are sorted, decimals are plain strings, and fields at their defaults are left out, so
that a release which adds a field does not make a new version of every plan.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, NamedTuple, NoReturn

from tollgate.catalog.model import (
    THRESHOLDS,
    BillingPeriod,
    Condition,
    GrantRule,
    Limit,
    Meter,
    Multiplier,
    Pack,
    Plan,
    Price,
    Seats,
    SharedLimit,
    Tier,
    WeightRule,
    weighed_by,
)
from tollgate.quantities import plain
from tollgate.windows import WindowKind

FORMAT = 3
"""Raised by a release that adds a field which an older release must not ignore. A plan is written in the lowest format
that holds it, so that the contents and the identity of other plans stay the same.

2: `seats` of a plan; `minimum`, `maximum`, `markup`, `included_per_seat` of a price.
3: `currency` other than usd, `packs`, `shared_limits` of a plan; `amount` of a limit; `kind` of a meter.
"""
_OF_FORMAT_2 = ("minimum", "maximum", "markup", "included_per_seat")
_OF_FORMAT_3 = ("currency", "packs", "shared_limits")

_HASH_CHARACTERS = 32
"""128 bits of SHA-256 in hex."""

_Object = dict[str, Any]


class PlanVersion(NamedTuple):
    """A plan and the meters frozen with it, by id; the meters already carry the plan's own weights."""

    plan: Plan
    meters: dict[str, Meter]


def plan_to_json(plan: Plan, meters: Iterable[Meter]) -> str:
    """The canonical JSON of a plan version.

    Pass every meter of the catalogue: a meter frozen but not used by the plan is `not_in_plan`, any other is unknown.
    """
    return _text({**_content(plan, meters), "version": plan.version})


def content_hash(plan: Plan, meters: Iterable[Meter]) -> str:
    """The identity of a plan version: equal for equal contents, whatever the version's number."""
    return hashlib.sha256(_text(_content(plan, meters)).encode()).hexdigest()[:_HASH_CHARACTERS]


def plan_from_json(text: str) -> PlanVersion:
    """Read `plan_to_json` back. Raises ValueError for a format that this release does not know."""
    stored = json.loads(text, parse_float=_refuse_float)
    if stored.get("format") not in range(1, FORMAT + 1):
        raise ValueError(f"plan version of format {stored.get('format')!r}; this release reads 1 to {FORMAT}")
    meters = [_meter_from(entry) for entry in stored["meters"]]
    return PlanVersion(_plan_from(stored["plan"], stored["version"]), {meter.id: meter for meter in meters})


def _text(content: _Object) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _refuse_float(text: str) -> NoReturn:
    raise ValueError(f"a plan version holds decimals as strings, not {text}")


def _content(plan: Plan, meters: Iterable[Meter]) -> _Object:
    weighed = sorted((weighed_by(plan, meter) for meter in meters), key=lambda meter: meter.id)
    written, counted = _plan(plan), [_meter(meter) for meter in weighed]
    return {"format": _format(written, counted), "plan": written, "meters": counted}


def _format(plan: _Object, meters: Iterable[_Object]) -> int:
    """The lowest format that holds these contents."""
    if (
        any(name in plan for name in _OF_FORMAT_3)
        or any("amount" in limit for limit in plan.get("limits", ()))
        or any("kind" in meter for meter in meters)
        or "meter" in plan.get("seats", ())
    ):
        return 3
    if "seats" in plan or any(name in price for price in plan.get("prices", ()) for name in _OF_FORMAT_2):
        return 2
    return 1


def _sparse(**fields: Any) -> _Object:
    """The fields that are set: None and empty ones are left out (False and 0 are not empty)."""
    return {key: value for key, value in fields.items() if value is not None and value not in ("", [], {})}


def _optional(value: Decimal | None) -> str | None:
    return None if value is None else plain(value)


def _decimal(stored: _Object, key: str) -> Decimal | None:
    return Decimal(stored[key]) if key in stored else None


# --- meters ----------------------------------------------------------------------------------------------------------


def _when(when: Condition) -> dict[str, list[str]]:
    return {dimension: list(patterns) for dimension, patterns in when}


def _when_from(stored: dict[str, list[str]]) -> Condition:
    return tuple((dimension, tuple(patterns)) for dimension, patterns in sorted(stored.items()))


def _meter(meter: Meter) -> _Object:
    return _sparse(
        id=meter.id,
        name=meter.name,
        unit=meter.unit,
        scale=meter.scale,
        stripe_event_name=meter.stripe_event_name,
        weights=[{"when": _when(rule.when), "weight": plain(rule.weight)} for rule in meter.weights],
        multipliers=[{"when": _when(rule.when), "factor": plain(rule.factor)} for rule in meter.multipliers],
        kind=None if meter.kind == "sum" else meter.kind,
    )


def _meter_from(stored: _Object) -> Meter:
    return Meter(
        id=stored["id"],
        name=stored.get("name", ""),
        unit=stored.get("unit", ""),
        scale=stored["scale"],
        stripe_event_name=stored.get("stripe_event_name"),
        weights=tuple(
            WeightRule(_when_from(rule["when"]), Decimal(rule["weight"])) for rule in stored.get("weights", ())
        ),
        multipliers=tuple(
            Multiplier(_when_from(rule["when"]), Decimal(rule["factor"])) for rule in stored.get("multipliers", ())
        ),
        kind=stored.get("kind", "sum"),
    )


# --- plans -----------------------------------------------------------------------------------------------------------


def _plan(plan: Plan) -> _Object:
    return _sparse(
        id=plan.id,
        name=plan.name,
        base_fee=plain(plan.base_fee) if plan.base_fee else None,
        interval=plan.period.interval,
        anchor=plan.period.anchor,
        prices=[_price(price) for price in plan.prices],
        overage=plan.overage,
        spend_cap=_optional(plan.spend_cap),
        grants=[_grant(grant) for grant in plan.grants],
        limits=[_limit(limit) for limit in plan.limits],
        features=dict(plan.features),
        unlimited=plan.unlimited or None,
        hidden=None if plan.public else True,
        description=plan.description,
        order=plan.order or None,
        seats=None if plan.seats is None else _seats(plan.seats),
        currency=None if plan.currency == "usd" else plan.currency,
        packs=[_pack(pack) for pack in plan.packs],
        shared_limits=[_shared(limit) for limit in plan.shared_limits],
        # In an object, as an empty list says something: nobody is told. Older releases may ignore it.
        alerts=None if plan.thresholds == THRESHOLDS else {"thresholds": list(plan.thresholds)},
    )


def _plan_from(stored: _Object, version: int) -> Plan:
    return Plan(
        id=stored["id"],
        version=version,
        name=stored.get("name", ""),
        base_fee=_decimal(stored, "base_fee") or Decimal(0),
        period=BillingPeriod(stored["interval"], stored["anchor"]),
        prices=tuple(_price_from(price) for price in stored.get("prices", ())),
        overage=stored["overage"],
        spend_cap=_decimal(stored, "spend_cap"),
        grants=tuple(_grant_from(grant) for grant in stored.get("grants", ())),
        limits=tuple(_limit_from(limit) for limit in stored.get("limits", ())),
        features=stored.get("features", {}),
        unlimited=stored.get("unlimited", False),
        public=not stored.get("hidden", False),
        description=stored.get("description", ""),
        order=stored.get("order", 0),
        seats=_seats_from(stored["seats"]) if "seats" in stored else None,
        currency=stored.get("currency", "usd"),
        packs=tuple(_pack_from(pack) for pack in stored.get("packs", ())),
        shared_limits=tuple(_shared_from(limit) for limit in stored.get("shared_limits", ())),
        thresholds=tuple(stored["alerts"]["thresholds"]) if "alerts" in stored else THRESHOLDS,
    )


def _seats(seats: Seats) -> _Object:
    counted = {} if seats.meter is None else {"meter": seats.meter}
    return {"unit_price": plain(seats.unit_price), "minimum": seats.minimum, "pooled": seats.pooled, **counted}


def _seats_from(stored: _Object) -> Seats:
    return Seats(Decimal(stored["unit_price"]), stored["minimum"], stored["pooled"], stored.get("meter"))


def _price(price: Price) -> _Object:
    return _sparse(
        meter=price.meter,
        scheme=price.scheme,
        unit_price=_optional(price.unit_price),
        tiers=[
            _sparse(up_to=_optional(tier.up_to), unit_price=plain(tier.unit_price), flat=plain(tier.flat))
            for tier in price.tiers
        ],
        package_size=_optional(price.package_size),
        package_price=_optional(price.package_price),
        round=price.round if price.scheme == "package" else None,
        minimum=_optional(price.minimum),
        maximum=_optional(price.maximum),
        markup=_optional(price.markup or None),
        included_per_seat=_optional(price.included_per_seat or None),
    )


def _price_from(stored: _Object) -> Price:
    return Price(
        meter=stored["meter"],
        scheme=stored["scheme"],
        unit_price=_decimal(stored, "unit_price"),
        tiers=tuple(
            Tier(_decimal(tier, "up_to"), Decimal(tier["unit_price"]), Decimal(tier["flat"]))
            for tier in stored.get("tiers", ())
        ),
        package_size=_decimal(stored, "package_size"),
        package_price=_decimal(stored, "package_price"),
        round=stored.get("round", "up"),
        minimum=_decimal(stored, "minimum"),
        maximum=_decimal(stored, "maximum"),
        markup=_decimal(stored, "markup") or Decimal(0),
        included_per_seat=_decimal(stored, "included_per_seat") or Decimal(0),
    )


def _grant(grant: GrantRule) -> _Object:
    return _sparse(
        meter=grant.meter,
        units=plain(grant.units),
        every=grant.every,
        rollover_max=_optional(grant.rollover_max),
        priority=grant.priority,
    )


def _grant_from(stored: _Object) -> GrantRule:
    return GrantRule(
        meter=stored["meter"],
        units=Decimal(stored["units"]),
        every=stored["every"],
        rollover_max=_decimal(stored, "rollover_max"),
        priority=stored["priority"],
    )


def _pack(pack: Pack) -> _Object:
    return _sparse(
        id=pack.id,
        name=pack.name,
        meter=pack.meter,
        units=plain(pack.units),
        price=plain(pack.price),
        priority=pack.priority,
        expires_days=pack.expires_days,
    )


def _pack_from(stored: _Object) -> Pack:
    return Pack(
        id=stored["id"],
        name=stored["name"],
        meter=stored["meter"],
        units=Decimal(stored["units"]),
        price=Decimal(stored["price"]),
        priority=stored["priority"],
        expires_days=stored.get("expires_days"),
    )


def _limit(limit: Limit) -> _Object:
    return _sparse(
        id=limit.id,
        meters=list(limit.meters),
        per=limit.per,
        window=None if limit.window is None else limit.window.text,
        concurrent=limit.concurrent,
        where=_when(limit.where),
        max=_optional(limit.max),
        amount=_optional(limit.amount),
    )


def _limit_from(stored: _Object) -> Limit:
    return Limit(
        id=stored["id"],
        meters=tuple(stored.get("meters", ())),
        per=stored["per"],
        window=WindowKind.parse(stored["window"]) if "window" in stored else None,
        concurrent=stored.get("concurrent"),
        where=_when_from(stored.get("where", {})),
        max=_decimal(stored, "max"),
        amount=_decimal(stored, "amount"),
    )


def _shared(limit: SharedLimit) -> _Object:
    return _sparse(
        id=limit.id,
        meters=list(limit.meters),
        dimension=limit.dimension,
        window=limit.window.text,
        where=_when(limit.where),
        max=plain(limit.max),
    )


def _shared_from(stored: _Object) -> SharedLimit:
    return SharedLimit(
        id=stored["id"],
        meters=tuple(stored["meters"]),
        window=WindowKind.parse(stored["window"]),
        where=_when_from(stored.get("where", {})),
        max=Decimal(stored["max"]),
        dimension=stored.get("dimension"),
    )
