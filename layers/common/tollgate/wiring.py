"""Puts the parts together once per process: stores from table names, services from stores, the clock and randomness.

Stores take their names from the environment that a function hands in; a missing name fails the function's start.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from tollgate.accounts.key_store import KeyTable
from tollgate.accounts.store import AccountTable, RulesTable
from tollgate.alerts.watch import Tell, Watched
from tollgate.catalog.model import Breakers
from tollgate.catalog.store import CatalogTable
from tollgate.clock import system_clock
from tollgate.gate.ports import Breaker, Count, GateDeps, SharedStore, uncounted
from tollgate.gate.store import GateTable, closing_part, transact_part
from tollgate.ids import uuid7
from tollgate.usage.grant_store import GrantTable
from tollgate.usage.marker_store import MarkerTable
from tollgate.usage.member_store import MemberTable
from tollgate.usage.store import EventTable

if TYPE_CHECKING:
    from tollgate.accounts.rules import Rules
    from tollgate.accounts.service import AccountDeps
    from tollgate.alerts.outbox import Outbox
    from tollgate.gate.item import Gate, GateWrite


def pause(tried: int) -> None:
    """Up to 2**n times 4 ms, at most 100 ms: contenders for one item part quickly."""
    time.sleep(random.randrange(min(4_000 * 2**tried, 100_000)) / 1_000_000)


def keys(env: Mapping[str, str]) -> KeyTable:
    return KeyTable(env["TOLLGATE_CONFIG_TABLE"], system_clock)


def catalog_table(env: Mapping[str, str]) -> CatalogTable:
    return CatalogTable(env["TOLLGATE_CONFIG_TABLE"])


def rules_table(env: Mapping[str, str]) -> RulesTable:
    catalog = catalog_table(env)
    return RulesTable(AccountTable(env["TOLLGATE_ACCOUNTS_TABLE"]), catalog, system_clock, breakers(env, catalog))


def breakers(env: Mapping[str, str], catalog: CatalogTable) -> Callable[[], Breakers]:
    """How the circuit breakers stand. Whether everything is stopped is asked only where the catalogue has a cap."""

    def read() -> Breakers:
        found = catalog.breakers()
        if found.cost_cap is None:
            return found
        from tollgate.breaker.platform_store import PlatformTable  # with the first such catalogue

        return found._replace(stopped=PlatformTable(env["TOLLGATE_BILLING_TABLE"]).stopped() is not None)

    return read


def event_table(env: Mapping[str, str]) -> EventTable:
    gates = env.get("TOLLGATE_GATES_TABLE", "")
    return EventTable(env["TOLLGATE_EVENTS_TABLE"], lambda write: transact_part(gates, write))


def member_table(env: Mapping[str, str]) -> MemberTable:
    return MemberTable(env["TOLLGATE_EVENTS_TABLE"], system_clock)


def gate_table(env: Mapping[str, str]) -> GateTable:
    return GateTable(env["TOLLGATE_GATES_TABLE"], member_table(env).begins)


def telling(table: str) -> Tell:
    """Tells what a gate's write passed. Its modules come with the first mark that is passed: most calls pass none."""

    @lru_cache(maxsize=1)
    def outbox() -> Outbox:
        from tollgate.alerts.outbox_store import OutboxTable

        return OutboxTable(table, system_clock)

    def told(rules: Rules, write: GateWrite, gate: Gate, member: str | None, now_ms: int) -> None:
        from tollgate.alerts.telling import tell

        tell(outbox(), rules, write, gate, member, now_ms)

    return told


def gate_deps(env: Mapping[str, str], rules: RulesTable, count: Count = uncounted) -> GateDeps:
    def contended(tried: int) -> None:
        count("GateRetries", "", 1)
        pause(tried)

    return GateDeps(
        gates=Watched(gate_table(env), rules, system_clock, telling(env["TOLLGATE_BILLING_TABLE"])),
        outcomes=event_table(env),
        markers=MarkerTable(env["TOLLGATE_BILLING_TABLE"], int(env.get("TOLLGATE_SEAL_SECONDS", "300"))),
        rules=rules,
        clock=system_clock,
        incarnate=uuid7,
        nonce=lambda: os.urandom(4),
        pause=contended,
        grants=GrantTable(env["TOLLGATE_EVENTS_TABLE"]),
        seal_grace_ms=int(env.get("TOLLGATE_SEAL_GRACE_SECONDS", "60")) * 1000,
        shared=shared_store(env["TOLLGATE_GATES_TABLE"]),
        breaker=breaker(env, rules, count),
        count=count,
    )


def breaker(env: Mapping[str, str], rules: RulesTable, count: Count) -> Callable[[], Breaker]:
    """The breaker's rare part, made with the first trip or the first cost: the gate starts without it."""

    @lru_cache(maxsize=1)
    def made() -> Breaker:
        from tollgate.accounts.service import AccountDeps
        from tollgate.breaker.stops import Stops

        accounts = AccountTable(env["TOLLGATE_ACCOUNTS_TABLE"])
        deps = AccountDeps(accounts, catalog_table(env), rules, gate_deps(env, rules, count))
        return Stops.of(env, deps, event_table(env))

    return made


def shared_store(table: str) -> Callable[[], SharedStore]:
    """The store of shared limits, made when it is first asked for: most gates never need its modules."""

    @lru_cache(maxsize=1)
    def made() -> SharedStore:
        from tollgate.gate.shared_store import SharedTable

        return SharedTable(table)

    return made


def account_deps(env: Mapping[str, str]) -> AccountDeps:
    from tollgate.accounts.service import AccountDeps  # only for those who change accounts: not at the gate's start

    gates = env["TOLLGATE_GATES_TABLE"]
    accounts = AccountTable(env["TOLLGATE_ACCOUNTS_TABLE"], lambda gate: closing_part(gates, gate))
    catalog = catalog_table(env)
    rules = RulesTable(accounts, catalog, system_clock, breakers(env, catalog))
    return AccountDeps(accounts, catalog, rules, gate_deps(env, rules))
