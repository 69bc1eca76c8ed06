"""The accounts services on tables in moto, with the clock in the test's hands and a catalogue of priced plans."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from tollgate import wiring
from tollgate.accounts.audit import Entry
from tollgate.accounts.rules import AccountRow
from tollgate.accounts.service import AccountDeps, AccountPatch, put_account
from tollgate.accounts.store import RulesTable
from tollgate.catalog.schema import parse_catalog

ENV = {
    "TOLLGATE_GATES_TABLE": "gates",
    "TOLLGATE_EVENTS_TABLE": "events",
    "TOLLGATE_BILLING_TABLE": "events",
    "TOLLGATE_ACCOUNTS_TABLE": "accounts",
    "TOLLGATE_CONFIG_TABLE": "catalog",
}
CATALOG = """
currency: usd
default_plan: free
meters:
  images: {name: Images, unit: image, scale: 0, stripe_event_name: images}
  tokens: {name: Tokens, unit: token, scale: 0, stripe_event_name: tokens}
  stored: {kind: level, name: Stored, unit: gigabyte, stripe_event_name: stored}
plans:
  free: {name: Free, limits: [{id: daily, meter: images, window: day, max: 10}]}
  pro:
    name: Pro
    base_fee: "29.00"
    spend_cap: "60.00"
    prices:
      - {meter: images, scheme: per_unit, unit_price: "0.02"}
      - meter: tokens
        scheme: graduated
        tiers: [{up_to: 1000, unit_price: "0"}, {up_to: inf, unit_price: "0.001"}]
    limits:
      - {id: daily, meter: images, window: day, max: 5000}
      - {id: jobs, per: member, concurrent: 2}
      - {id: seat, per: member, amount: "20.00"}
  secret: {name: Secret, public: false, base_fee: "500.00"}
  asked: {name: Asked, overage: opt_in, prices: [{meter: images, scheme: per_unit, unit_price: "0.02"}]}
  none: {name: None, overage: "off", prices: [{meter: images, scheme: per_unit, unit_price: "0.02"}]}
"""
NOON = "2026-11-21T12:00:00Z"
DECEMBER = int(datetime(2026, 12, 1, tzinfo=UTC).timestamp())
"""The end of the billing period that NOON lies in."""


class Clock:
    """Epoch milliseconds, as the test says."""

    def __init__(self, at: str = NOON) -> None:
        self.ms = int(datetime.fromisoformat(at).timestamp() * 1000)

    def __call__(self) -> int:
        return self.ms


def services(clock: Clock, catalog: str = CATALOG) -> AccountDeps:
    """The services of one process; the catalogue is published."""
    made = wiring.account_deps(ENV)
    made.catalog.publish(parse_catalog(catalog))
    rules = RulesTable(made.accounts, made.catalog, clock)
    return replace(made, rules=rules, gate=replace(made.gate, rules=rules, clock=clock, pause=lambda tried: None))


def joined(deps: AccountDeps, account: str, plan: str) -> AccountRow:
    """The account, moved to or made on a plan."""
    return put_account(deps, account, AccountPatch(plan=plan))[0].row


def audit(deps: AccountDeps, account: str) -> list[Entry]:
    """All entries of an account, newest first."""
    return deps.accounts.audit(account, 100, None)[0]
