"""The operator's own terms for one account: what takes the place of its plan's limits, prices, cap and fee.

The rules row keeps them as canonical JSON in the words of the catalogue, which is also what answers show:

    {"limits": {id: {"max": "5" | null} | {"amount": "20" | null}}, "prices": [{"meter": .., "scheme": .., ..}],
     "spend_cap": "100" | null | {"amount": "100" | null}, "base_fee": "19" | {"amount": "19"}}

Each part may say `until` (RFC 3339: from then on it does not bind), `reason` and `by`. An override takes the place of
something that the plan has and adds nothing to it: where the plan (after a move) has no such limit or price it waits
without effect, so that a negotiated price never makes a free plan cost money.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple

from tollgate.catalog.model import Limit, Plan, Price, Tier
from tollgate.clock import parse_rfc3339
from tollgate.quantities import ZERO

OPERATOR = "operator"
_INFINITY = "inf"


class Overrides(NamedTuple):
    """What an overrides text says. Money in the plan's currency; None lifts what the plan says."""

    maxima: Mapping[str, Decimal | None]
    """By limit id: the maximum, or the number of open reservations."""
    amounts: Mapping[str, Decimal | None]
    """By limit id: what a member's own usage may come to."""
    prices: Mapping[str, Price]
    """By meter."""
    caps: Mapping[str, Decimal | None]
    """The cap on spend under its source, as `terms.lowest_cap` takes it; empty: the plan's own."""
    base_fee: Decimal | None
    """None: the plan's own."""
    ends: int | None
    """Epoch second at which the first of them stops binding."""


_NOTHING = Overrides({}, {}, {}, {}, None, None)


def read(text: str | None) -> Overrides:
    """The values of an overrides text; None: no overrides."""
    return _NOTHING if text is None else _read(text)


@lru_cache(maxsize=1024)
def _read(text: str) -> Overrides:
    stored = json.loads(text)
    limits, prices = stored.get("limits", {}), stored.get("prices", [])
    amounts = [stored[name] for name in ("spend_cap", "base_fee") if name in stored]
    ends = [_until(said) for said in (*limits.values(), *prices, *amounts) if _until(said) is not None]
    return Overrides(
        maxima={name: _optional(said["max"]) for name, said in limits.items() if "max" in said},
        amounts={name: _optional(said["amount"]) for name, said in limits.items() if "amount" in said},
        prices={said["meter"]: _price(said) for said in prices},
        caps={OPERATOR: _optional(_bare(stored["spend_cap"]))} if "spend_cap" in stored else {},
        base_fee=_optional(_bare(stored["base_fee"])) if "base_fee" in stored else None,
        ends=min((end for end in ends if end is not None), default=None),
    )


def canonical(stored: Mapping[str, Any]) -> str | None:
    """The text of overrides, equal for equal ones; None where nothing is overridden."""
    kept = {name: value for name, value in stored.items() if value not in ({}, [])}
    return json.dumps(kept, sort_keys=True, separators=(",", ":"), ensure_ascii=False) if kept else None


def without(text: str | None, now: int) -> str | None:
    """The text without what has stopped binding at epoch second `now`."""
    if text is None:
        return None
    stored = json.loads(text)
    kept = {name: stored[name] for name in ("spend_cap", "base_fee") if name in stored and _binds(stored[name], now)}
    kept["limits"] = {name: said for name, said in stored.get("limits", {}).items() if _binds(said, now)}
    kept["prices"] = [said for said in stored.get("prices", []) if _binds(said, now)]
    return canonical(kept)


def without_money(text: str | None) -> str | None:
    """The text without all that is an amount of money, for a plan in another currency."""
    if text is None:
        return None
    limits = json.loads(text).get("limits", {})
    return canonical({"limits": {name: said for name, said in limits.items() if "max" in said}})


def applied(overrides: Overrides, plan: Plan) -> Plan:
    """The plan as it is for this account: with its own prices, fee and money limits. Other maxima of limits and the
    cap on spend stay apart, because answers say who set them."""
    if not overrides.prices and not overrides.amounts and overrides.base_fee is None:
        return plan
    return replace(
        plan,
        prices=tuple(overrides.prices.get(price.meter, price) for price in plan.prices),
        limits=tuple(_limits(overrides.amounts, plan.limits)),
        base_fee=plan.base_fee if overrides.base_fee is None else overrides.base_fee,
    )


def _limits(amounts: Mapping[str, Decimal | None], limits: Iterable[Limit]) -> Iterable[Limit]:
    for limit in limits:
        if limit.amount is None or limit.id not in amounts:
            yield limit
        elif amounts[limit.id] is not None:
            yield replace(limit, amount=amounts[limit.id])


def _until(said: Any) -> int | None:
    """When a part stops binding, in epoch seconds."""
    if not isinstance(said, dict) or "until" not in said:
        return None
    return parse_rfc3339(said["until"]) // 1000


def _binds(said: Any, now: int) -> bool:
    until = _until(said)
    return until is None or now < until


def _bare(said: Any) -> Any:
    return said["amount"] if isinstance(said, dict) else said


def _optional(stored: str | None) -> Decimal | None:
    return None if stored is None else Decimal(stored)


def _price(said: Mapping[str, Any]) -> Price:
    """A price as the catalogue writes it, checked already."""
    return Price(
        meter=said["meter"],
        scheme=said["scheme"],
        unit_price=_optional(said.get("unit_price")),
        tiers=tuple(_tier(tier) for tier in said.get("tiers", ())),
        package_size=_optional(said.get("package_size")),
        package_price=_optional(said.get("package_price")),
        round=said.get("round", "up"),
        minimum=_optional(said.get("minimum")),
        maximum=_optional(said.get("maximum")),
        markup=Decimal(said.get("markup", ZERO)),
        included_per_seat=Decimal(said.get("included_per_seat", ZERO)),
    )


def _tier(said: Mapping[str, str]) -> Tier:
    up_to = None if said["up_to"] == _INFINITY else Decimal(said["up_to"])
    return Tier(up_to, Decimal(said["unit_price"]), Decimal(said.get("flat", ZERO)))
