"""`GET /v1/plans`: everything that a pricing page shows, public and cacheable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Protocol

from tollgate.catalog.examples import Example, examples
from tollgate.catalog.frozen import PlanVersion
from tollgate.catalog.model import Limit, Meter, Price, SharedLimit
from tollgate.catalog.page import sentence
from tollgate.catalog.store import CatalogTable
from tollgate.http.answers import limit_scope
from tollgate.http.routing import Request, Response, Route
from tollgate.quantities import plain
from tollgate.rating.charge import included
from tollgate.rating.lines import Line
from tollgate.windows import PERIOD

CACHE = "public, max-age=300"


class _Accounts(Protocol):
    @property
    def catalog(self) -> CatalogTable: ...


class PlansDeps(Protocol):
    """The part of the manage function's dependencies that this route needs."""

    @property
    def accounts(self) -> _Accounts: ...


def get_plans(deps: PlansDeps, request: Request) -> Response:
    """The public plans in the catalogue's order; 304 where the caller has them already."""
    catalog = deps.accounts.catalog
    current = catalog.current()
    if current is None:
        body = _encoded({"currency": None, "data": [], "next_cursor": None})
    else:
        versions = [catalog.version(*named) for named in current.versions.items()]
        public = sorted((v for v in versions if v.plan.public), key=lambda v: (v.plan.order, v.plan.id))
        data = [plan_answer(version, current.currency) for version in public]
        body = _encoded({"currency": current.currency, "data": data, "next_cursor": None})
    tag = f'"{hashlib.sha256(body.encode()).hexdigest()[:32]}"'
    headers = {"cache-control": CACHE, "etag": tag}
    if _has(request.headers.get("if-none-match", ""), tag):
        return Response(304, "", headers)
    return Response(200, body, headers)


def _encoded(answer: Mapping[str, Any]) -> str:
    return json.dumps(answer, separators=(",", ":"))


def _has(if_none_match: str, tag: str) -> bool:
    """Whether the caller's copy is this one (RFC 9110, 13.1.2: weak comparison, `*` for any)."""
    given = [entry.strip().removeprefix("W/") for entry in if_none_match.split(",")]
    return tag in given or given == ["*"]


def plan_answer(version: PlanVersion, currency: str) -> dict[str, Any]:
    """One plan with its prices, limits and worked examples."""
    plan, meters = version.plan, version.meters
    named = {price.meter for price in plan.prices} | {grant.meter for grant in plan.grants}
    named |= {pack.meter for pack in plan.packs}
    named |= {meter for limit in plan.limits for meter in limit.meters}
    named |= {meter for limit in plan.shared_limits for meter in limit.meters}
    return {
        "id": plan.id,
        "version": plan.version,
        "name": plan.name,
        "description": plan.description,
        "sentence": sentence(plan, meters, currency),
        "period": {"interval": plan.period.interval, "anchor": plan.period.anchor},
        "base_fee": plain(plan.base_fee),
        "seats": None
        if plan.seats is None
        else {
            "unit_price": plain(plan.seats.unit_price),
            "minimum": plan.seats.minimum,
            "pooled": plan.seats.pooled,
        },
        "meters": [_meter(meters[meter]) for meter in sorted(named)],
        "prices": [_price(price) for price in plan.prices],
        "overage": plan.overage,
        "spend_cap": _optional(plan.spend_cap),
        "grants": [
            {
                "meter": grant.meter,
                "units": plain(grant.units),
                "every": grant.every,
                "rollover_max": _optional(grant.rollover_max),
            }
            for grant in plan.grants
        ],
        "packs": [
            {
                "id": pack.id,
                "name": pack.name,
                "meter": pack.meter,
                "units": plain(pack.units),
                "price": plain(pack.price),
                "expires_days": pack.expires_days,
            }
            for pack in plan.packs
        ],
        "limits": [*map(_limit, plan.limits), *map(_shared, plan.shared_limits)],
        "features": dict(plan.features),
        "examples": [_example(example) for example in examples(plan, meters, currency)],
    }


def _optional(value: Decimal | None) -> str | None:
    return None if value is None else plain(value)


def _meter(meter: Meter) -> dict[str, Any]:
    return {"id": meter.id, "name": meter.name, "unit": meter.unit, "kind": meter.kind}


def _price(price: Price) -> dict[str, Any]:
    answer: dict[str, Any] = {"meter": price.meter, "scheme": price.scheme}
    if price.unit_price is not None:
        answer["unit_price"] = plain(price.unit_price)
    if price.tiers:
        answer["tiers"] = [
            {"up_to": _optional(tier.up_to), "unit_price": plain(tier.unit_price), "flat": plain(tier.flat)}
            for tier in price.tiers
        ]
    if price.package_size is not None and price.package_price is not None:
        answer["package_size"] = plain(price.package_size)
        answer["package_price"] = plain(price.package_price)
        answer["round"] = price.round
    return {
        **answer,
        "markup": plain(price.markup),
        "minimum": _optional(price.minimum),
        "maximum": _optional(price.maximum),
        "included": _optional(included(price)),
        "included_per_seat": plain(price.included_per_seat),
    }


def _limit(limit: Limit) -> dict[str, Any]:
    if limit.amount is not None:
        scope = {"meters": [], "window": PERIOD.text}
        return {"id": limit.id, "per": limit.per, **scope, "max": None, "amount": plain(limit.amount)}
    most = str(limit.concurrent) if limit.max is None else plain(limit.max)
    return {"id": limit.id, "per": limit.per, **limit_scope(limit), "max": most}


def _shared(limit: SharedLimit) -> dict[str, Any]:
    counted = Limit(limit.id, limit.meters, "account", limit.window, None, limit.where, limit.max)
    return {**_limit(counted), "per": limit.per}


def _example(example: Example) -> dict[str, Any]:
    return {
        "name": example.name,
        "text": example.text,
        "seats": example.seats,
        "usage": [
            {"meter": meter, "units": plain(used.units), "credit_funded": plain(used.credit_funded)}
            for meter, used in example.used.items()
        ],
        "lines": [_line(line) for line in example.bill.lines],
        "total": plain(example.bill.total),
        "capped": example.capped,
    }


def _line(line: Line) -> dict[str, Any]:
    return {
        "kind": line.kind,
        "meter": line.meter,
        "quantity": plain(line.quantity),
        "tier": line.tier,
        "packages": _optional(line.packages),
        "unit_price": plain(line.unit_price),
        "flat": plain(line.flat),
        "markup": plain(line.markup),
        "amount": plain(line.amount),
    }


ROUTES = (Route("GET", "/v1/plans", (), get_plans, "listPlans"),)
