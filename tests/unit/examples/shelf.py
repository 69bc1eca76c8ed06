"""The example catalogues as loaded files, as published plan versions, and as a gate that enforces one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from decimal import Decimal
from functools import cache
from pathlib import Path

from tests.support.gate import NOON, Client
from tests.support.memory import World
from tollgate.catalog.frozen import PlanVersion, plan_from_json, plan_to_json
from tollgate.catalog.model import Catalog, units
from tollgate.catalog.schema import load_catalog
from tollgate.gate.grants import give
from tollgate.gate.reserve import Asked, Denied, Granted, reserve
from tollgate.ids import fingerprint, key_hash
from tollgate.rating.bill import Bill, Used, bill
from tollgate.usage.grant import FOREVER, GrantRow

FOLDER = Path(__file__).parents[3] / "examples" / "catalogs"
IMAGES, AGENT, RESELLER = "image-app", "coding-agent", "llm-reseller"
TODAY = date(2026, 11, 21)
"""The day of `NOON`, whose rates hold."""

Call = tuple[str, int | str, Mapping[str, str]]
"""(meter, quantity, dimensions) of one measured thing."""


@cache
def catalog(name: str) -> Catalog:
    return load_catalog(FOLDER / f"{name}.yaml", TODAY)


@cache
def version(name: str, plan: str) -> PlanVersion:
    """The plan as `tollgate catalog load` stores it and the gate reads it back."""
    found = catalog(name)
    return plan_from_json(plan_to_json(replace(found.plans[plan], version=1), found.meters.values()))


def client(name: str, plan: str) -> Client:
    """A client of one account on that plan, at Saturday 2026-11-21 12:00 UTC."""
    found = version(name, plan)
    return Client(World(NOON, found.meters, found.plan))


def buy(of: Client, plan: str, pack: str, name: str) -> None:
    """The credits of a pack that the account bought."""
    rules = of.world.rules(of.account)
    found = next(one for one in version(IMAGES, plan).plan.packs if one.id == pack)
    now = of.deps.clock()
    ends = FOREVER if found.expires_days is None else now // 1000 + found.expires_days * 86_400
    row = GrantRow(
        of.account, 0, found.meter, found.units, "pack", name, found.priority, now // 1000, ends, created_ms=now
    )
    assert give(of.deps, rules, row)[1]


def together(of: Client, key: str, *calls: Call) -> Granted | Denied:
    """Reserve several measured things as one decision, as a call with its request, input and output is."""
    asked = Asked(
        of.account,
        None,
        key_hash("reservation", key),
        None,
        fingerprint(repr(calls).encode()),
        300,
        lambda rules: [rules.item(meter, Decimal(quantity), dimensions) for meter, quantity, dimensions in calls],
    )
    return reserve(of.deps, asked)


def refused_by(answer: Granted | Denied) -> str:
    """The id of the limit that refused."""
    assert isinstance(answer, Denied), answer
    assert answer.code == "limit_reached"
    assert answer.state is not None
    return answer.state.ruled.limit.id


def counted(name: str, plan: str, *calls: Call) -> dict[str, Decimal]:
    """The units of each meter that the calls come to on that plan, each counted by itself as its event is."""
    found = version(name, plan)
    sums: dict[str, Decimal] = {}
    for meter, quantity, dimensions in calls:
        sums[meter] = sums.get(meter, Decimal(0)) + units(found.meters[meter], Decimal(quantity), dimensions)
    return sums


def billed(name: str, plan: str, used: Mapping[str, Used], seats: int = 0) -> Bill:
    return bill(version(name, plan).plan, catalog(name).currency, used, seats)
