"""Processes that share tables in moto, a clock in the test's hands and a catalogue with breakers."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from tests.unit.accounts.services import ENV, Clock
from tollgate import dynamo, wiring
from tollgate.accounts.rules import Rules
from tollgate.accounts.service import AccountDeps, AccountPatch, put_account
from tollgate.accounts.store import RulesTable
from tollgate.alerts.outbox_store import OutboxTable
from tollgate.breaker.platform import Platform
from tollgate.breaker.platform_store import PlatformTable
from tollgate.breaker.stops import Stops
from tollgate.breaker.trip import TripDeps
from tollgate.breaker.trip_store import TripTable
from tollgate.catalog.schema import parse_catalog
from tollgate.gate.commit import Commit, Committed, commit
from tollgate.gate.extend import Extended, extend
from tollgate.gate.item import Gate
from tollgate.gate.record import Recorded, Reported, record
from tollgate.gate.release import release
from tollgate.gate.reservation_id import Reservation
from tollgate.gate.reserve import Asked, Denied, Granted, reserve
from tollgate.ids import key_hash

SECRET = b"signs the links of these tests"
ALLOWED = 300
CATALOG = f"""
currency: usd
default_plan: hot
breaker: {{platform_cost_per_hour: "50.00"}}
meters:
  tokens: {{name: Tokens, unit: token, scale: 0, stripe_event_name: tokens}}
  images: {{name: Images, unit: image, scale: 0, stripe_event_name: images}}
plans:
  hot:
    name: Hot
    breaker: {{floor: {{tokens: {ALLOWED}}}}}
    prices:
      - {{meter: tokens, scheme: per_unit, unit_price: "0.001"}}
      - {{meter: images, scheme: per_unit, unit_price: "0.01"}}
  paced:
    name: Paced
    breaker: {{floor: {{tokens: {ALLOWED}}}}}
    limits: [{{id: burst, meter: tokens, window: minute, max: 50}}]
  calm: {{name: Calm, breaker: off, limits: [{{id: daily, meter: tokens, window: day, max: 10}}]}}
"""
_KEYS = itertools.count()


@dataclass
class Process:
    """One container: its own caches."""

    deps: AccountDeps
    stops: Stops
    counted: list[str]
    """Metrics, as often as they were counted."""

    def reserve(self, units: int = 1, account: str = "acme", **said: Any) -> Granted | Denied:
        asked = Asked(
            account=account,
            member=said.get("member"),
            key=key_hash("reservation", f"key-{next(_KEYS)}"),
            origin_ms=self.deps.gate.clock(),
            fingerprint=b"body",
            ttl_seconds=300,
            weigh=lambda rules: [rules.item(said.get("meter", "tokens"), Decimal(units), said.get("dimensions", {}))],
        )
        return reserve(self.deps.gate, asked)

    def commit(self, found: Granted, units: int | None = None, cost: str | None = None) -> Committed:
        used = [
            item if units is None else replace(item, quantity=Decimal(units), units=Decimal(units))
            for item in found.items
        ]
        request = Commit(_held(found), lambda rules: used, provider_cost=None if cost is None else Decimal(cost))
        return commit(self.deps.gate, request)

    def extend(self, found: Granted, units: int) -> Extended:
        return extend(self.deps.gate, _held(found), None, lambda rules: [rules.item("tokens", Decimal(units), {})])

    def release(self, found: Granted | Denied) -> None:
        assert isinstance(found, Granted)
        release(self.deps.gate, _held(found))

    def use(self, units: int, cost: str | None = None, account: str = "acme") -> Recorded:
        name = f"use-{next(_KEYS)}"
        event = Reported(name, key_hash("usage", name), None, b"body", account, None, "tokens", Decimal(units), {})
        (found,) = record(self.deps.gate, [event._replace(provider_cost=None if cost is None else Decimal(cost))])
        return found

    def until_refused(self, units: int = 1, **said: Any) -> tuple[int, Denied]:
        """How many units were granted in calls of this size, and the refusal that ended it."""
        granted = 0
        while granted <= 20 * ALLOWED:
            found = self.reserve(units, **said)
            if isinstance(found, Denied):
                return granted, found
            granted += units
            self.commit(found)
        raise AssertionError(f"{granted} units were granted")

    def rules(self, account: str = "acme") -> Rules:
        return self.deps.rules.fresh(account)

    def gate(self, account: str = "acme") -> Gate:
        found = self.deps.gate.gates.read(account)
        assert found is not None
        return found

    def taken(self, account: str = "acme") -> Decimal:
        (ruled,) = [one for one in self.rules(account).breakers if one.limit.meters == ("tokens",)]
        return self.gate(account).counts[ruled.counter.slot].taken


def _held(found: Granted) -> Reservation:
    asked = found.asked
    holds = {per: hold.pack() for per, hold in found.holds.items()}
    return Reservation(asked.account, asked.member, asked.key, holds, found.floor_ms, tuple(found.items))


def process(clock: Clock, catalog: str | None = None) -> Process:
    """A new container; `catalog` is published first."""
    made = wiring.account_deps(ENV)
    if catalog is not None:
        made.catalog.publish(parse_catalog(catalog))
    platform = PlatformTable(ENV["TOLLGATE_BILLING_TABLE"])
    rules = RulesTable(
        made.accounts,
        made.catalog,
        clock,
        lambda: made.catalog.breakers()._replace(stopped=platform.stopped() is not None),
    )
    outbox = OutboxTable(ENV["TOLLGATE_BILLING_TABLE"], clock)
    parts: list[Stops] = []
    counted: list[str] = []
    gate = replace(made.gate, rules=rules, clock=clock, pause=lambda tried: None, breaker=lambda: parts[0])
    gate = replace(gate, count=lambda name, limit, number: counted.extend([name] * number))
    deps = replace(made, rules=rules, gate=gate)

    def stopped(new: bool) -> None:
        counted.extend(["platform"] * new)
        rules.look_again()

    spending = Platform(platform, outbox, clock, lambda: rules.breakers.cost_cap, stopped)
    parts.append(
        Stops(
            TripDeps(deps, outbox, TripTable(ENV["TOLLGATE_BILLING_TABLE"]), wiring.event_table(ENV), lambda: SECRET),
            spending,
        )
    )
    return Process(deps, parts[0], counted)


def new_account(of: Process, account: str, plan: str = "hot") -> None:
    put_account(of.deps, account, AccountPatch(plan=plan))


def told(kind: str) -> list[dict[str, Any]]:
    """What stands in the outbox, oldest first."""
    rows = dynamo.query(
        ENV["TOLLGATE_BILLING_TABLE"],
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues={":pk": dynamo.s("outbox")},
    )
    found = [json.loads(raw["message"]["S"]) for raw in rows]
    return [message for message in found if message["kind"] == kind]
