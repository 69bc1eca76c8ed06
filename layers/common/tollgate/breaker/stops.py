"""What the gate does once the circuit breaker refused, or usage cost something: put together with the first of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from tollgate import secrets
from tollgate.accounts.rules import Rules
from tollgate.accounts.service import AccountDeps
from tollgate.alerts.outbox_store import OutboxTable
from tollgate.breaker.platform import Platform
from tollgate.breaker.platform_store import PlatformTable
from tollgate.breaker.trip import NewestEvents, TripDeps, trip
from tollgate.breaker.trip_store import TripTable


@dataclass(frozen=True, slots=True)
class Stops:
    """The gate's `Breaker`."""

    trips: TripDeps
    platform: Platform

    @staticmethod
    def of(env: Mapping[str, str], accounts: AccountDeps, events: NewestEvents) -> Stops:
        """From the names in the environment. `accounts.rules`: the very ones that decide in this process."""
        rules, clock, billing = accounts.rules, accounts.gate.clock, env["TOLLGATE_BILLING_TABLE"]
        outbox = OutboxTable(billing, clock)
        secret = env["TOLLGATE_SIGNING_SECRET_PARAMETER"]

        def stopped(new: bool) -> None:
            if new:
                accounts.gate.count("BreakerTrips", "", 1)
            rules.look_again()

        return Stops(
            TripDeps(accounts, outbox, TripTable(billing), events, lambda: secrets.read(secret).encode()),
            Platform(PlatformTable(billing), outbox, clock, lambda: rules.breakers.cost_cap, stopped),
        )

    def trip(self, rules: Rules, meter: str, hour: int) -> None:
        trip(self.trips, rules, meter, hour)

    def spent(self, cost: Decimal) -> None:
        self.platform.spent(cost)
