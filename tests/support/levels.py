"""Setting levels in the in-memory world, and what must hold of a level and its rows at rest."""

from __future__ import annotations

from decimal import Decimal

from tests.support.memory import World
from tollgate.catalog.model import Limit, Meter, Plan, Price
from tollgate.gate.levels import Refused, Setting, Standing, set_level, settle_levels
from tollgate.gate.ports import GateDeps
from tollgate.ids import fingerprint, key_hash
from tollgate.usage.outcome import Event
from tollgate.windows import LIFETIME

CREDITS = Meter("ai_credits", "AI credits", "credit")
STORAGE = Meter("storage", "Gigabytes stored", "gigabyte", scale=3, stripe_event_name="storage", kind="level")
SEATS = Meter("seats", "Seats", "seat", scale=0, stripe_event_name="seats", kind="level")
STORED = Price("storage", "per_unit", unit_price=Decimal("0.10"))


def level_limit(name: str, most: str, meter: str = "storage") -> Limit:
    return Limit(name, (meter,), "account", LIFETIME, None, (), Decimal(most))


def level_plan(most: str = "100", *more: Limit, version: int = 1, prices: tuple[Price, ...] = (STORED,)) -> Plan:
    return Plan("test", version, "Test", prices=prices, limits=(level_limit("disk", most), *more))


def put(
    deps: GateDeps,
    level: str | int,
    key: str,
    *,
    meter: str = "storage",
    account: str = "acme",
    origin_ms: int | None = None,
    member: str | None = None,
) -> Standing | Refused:
    asked = Setting(
        account,
        meter,
        Decimal(level),
        key_hash("level", key),
        origin_ms,
        fingerprint(f"{meter} {level}".encode()),
        member,
    )
    return set_level(deps, asked)


def rows(world: World, meter: str = "storage", account: str = "acme") -> list[Event]:
    """The rows of a meter's changes, by their numbers."""
    found = [row for row in world.events(account) if row.items[0].meter == meter]
    return sorted(found, key=lambda row: row.items[0].level or 0)


def assert_levels_recorded(world: World, account: str = "acme") -> None:
    """Every level has its row; rows are numbered without gaps, in the order of time; the gate has the last of them."""
    gate = world.gates.get(account)
    if gate is None:
        return
    step, world.step = world.step, lambda name: None
    try:
        gate = settle_levels(world.deps(), world.rules(account), gate)
    finally:
        world.step = step
    for slot, level in gate.levels.items():
        found = rows(world, world.row(account).meters[slot], account)
        assert [row.items[0].level for row in found] == list(range(1, level.number + 1))
        assert len({row.at.key for row in found}) == len(found), "a key counted twice"
        assert [row.recorded_ms for row in found] == sorted(row.recorded_ms for row in found)
        assert (found[-1].items[0].units, found[-1].recorded_ms, level.open) == (level.units, level.at_ms, "")
