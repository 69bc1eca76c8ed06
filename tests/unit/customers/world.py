"""Making customers on tables in moto and against the Stripe double, with a process that can die after any call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from local.stripe_double.testing import Account, sdk
from tests.unit.accounts.services import Clock, services
from tollgate.accounts.rules import Rules
from tollgate.accounts.service import AccountPatch, put_account
from tollgate.customers.attempt_store import AttemptTable
from tollgate.customers.needed import CustomerDeps
from tollgate.customers.ports import Attempt, AttemptStore, Customer, CustomerPort
from tollgate.stripe_api.customers import StripeCustomers
from tollgate.stripe_api.reading import Connection

STACK = "dev"


class Died(BaseException):
    """The process is gone: nothing catches this."""


@dataclass
class Life:
    """Counts the calls that change something; the process dies after the given one, its effect done."""

    dies_after: int | None = None
    calls: list[str] = field(default_factory=list)

    def did(self, what: str) -> None:
        self.calls.append(what)
        if len(self.calls) == self.dies_after:
            raise Died


@dataclass
class Mortal:
    """Stripe's customers and the attempts, each call of which may be the last."""

    stripe: CustomerPort
    store: AttemptStore
    life: Life

    def search(self, stack: str, account: str) -> list[Customer]:
        return self.stripe.search(stack, account)

    def all(self, since: int | None = None) -> Iterator[Customer]:
        return self.stripe.all(since)

    def exists(self, customer: str) -> bool:
        return self.stripe.exists(customer)

    def create(self, stack: str, account: str, key: str) -> Customer:
        made = self.stripe.create(stack, account, key)
        self.life.did("create")
        return made

    def claim(self, customer: str, stack: str, account: str) -> None:
        self.stripe.claim(customer, stack, account)
        self.life.did("claim")

    def describe(self, customer: str, email: str | None, name: str | None) -> None:
        self.stripe.describe(customer, email, name)
        self.life.did("describe")

    def begin(self, account: str, now: int) -> Attempt:
        attempt = self.store.begin(account, now)
        self.life.did("begin")
        return attempt

    def next(self, account: str, attempt: Attempt) -> None:
        self.store.next(account, attempt)
        self.life.did("next")

    def end(self, account: str) -> None:
        self.store.end(account)
        self.life.did("end")


@dataclass
class World:
    """One stack; `mapped`: accounts whose waiting batches were released."""

    stripe: Account
    clock: Clock
    deps: CustomerDeps
    mapped: list[str] = field(default_factory=list)

    def account(self, account: str, **patch: Any) -> str:
        put_account(self.deps.accounts, account, AccountPatch(**patch))
        return account

    def mortal(self, dies_after: int | None) -> tuple[CustomerDeps, Life]:
        life = Life(dies_after)
        both = Mortal(self.deps.stripe, self.deps.attempts, life)

        def mapped(rules: Rules) -> None:
            self.deps.mapped(rules)
            life.did("mapped")

        return replace(self.deps, stripe=both, attempts=both, mapped=mapped), life

    def stored(self, account: str) -> str | None:
        return self.deps.accounts.rules.fresh(account).row.stripe_customer_id

    def at_stripe(self, account: str) -> list[Any]:
        """Live customers that carry the account's metadata."""
        with self.stripe.double.lock:
            live = self.stripe.double.customers.live()
            return [one for one in live if one.metadata.get("tollgate_account") == account]


def world(stripe: Account, wait: Callable[[int], None] = lambda tried: None) -> World:
    clock = Clock("2026-11-20T12:00:00Z")  # where the double's clock stands
    mapped: list[str] = []
    deps = CustomerDeps(
        accounts=services(clock),
        stripe=StripeCustomers(Connection(lambda: sdk(stripe.url, timeout=1), wait)),
        attempts=AttemptTable("accounts"),
        mapped=lambda rules: mapped.append(rules.account),
        stack=STACK,
    )
    return World(stripe, clock, deps, mapped)
