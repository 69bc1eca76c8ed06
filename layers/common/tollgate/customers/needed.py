"""One Stripe customer for one account: found or made, stored at once, and what waited for it is sent.

How a second customer is kept from being made, although the process may die after any call and search lags behind:

- Before anything is asked of Stripe, the attempt is noted beside the account. All tries of an attempt send the same
  request under the same Idempotency-Key, so at once or again they get the same customer, for at least a day [docs].
- A try that finds an attempt noted looks for what that one may have made: among the customers made since, in Stripe's
  list, which is never late, and by search, for what is older.
- A 5xx would be replayed under its key for a day, and may follow an effect: then the next attempt has another key, and
  finds what was made in the list.

The customer id is stored under a revision of the rules row and is unique both ways (`accounts/store.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Literal

from tollgate.accounts.rules import AccountRow, Rules
from tollgate.accounts.service import AccountDeps, change
from tollgate.customers.ports import Attempt, AttemptStore, Customer, CustomerPort
from tollgate.errors import StripeRefused, StripeUnavailable

BY: Final = "customers"
"""Who did it, in the audit."""
_SKEW_S: Final = 300
"""Our clock may be ahead of Stripe's, whose `created` is asked for."""
_SEARCHED_S: Final = 3600
"""Search knows what is older than this, outages included [docs: search; an hour is assumed]."""


@dataclass(frozen=True, slots=True)
class CustomerDeps:
    """`mapped` is told of the rules once an account has its customer: batches that waited for it go on."""

    accounts: AccountDeps
    stripe: CustomerPort
    attempts: AttemptStore
    mapped: Callable[[Rules], object]
    stack: str

    def now(self) -> int:
        return self.accounts.gate.clock() // 1000


@dataclass(frozen=True, slots=True)
class Provided:
    """`how`: the account had it, it was found at Stripe, or made. `spare`: further customers at Stripe that carry the
    account's metadata; nothing is sent to them. `undescribed`: why Stripe did not take email and name."""

    customer: str
    how: Literal["had", "found", "made"]
    spare: tuple[str, ...] = ()
    undescribed: str | None = None


def provide(deps: CustomerDeps, account: str, known: Callable[[], list[Customer]] | None = None) -> Provided:
    """The account's Stripe customer. `known`: its live customers at Stripe where the caller has read the whole list.

    Raises UnknownAccount, CustomerInUse (Stripe's metadata names this account, our mapping another), StripeRefused,
    StripeUnavailable, Busy. Repeating it is harmless.
    """
    row = deps.accounts.rules.fresh(account).row
    if row.stripe_customer_id is not None:
        return Provided(row.stripe_customer_id, "had")
    # A crash after this leaves a noted attempt: the next try looks for what this one may have made.
    attempt = deps.attempts.begin(row.account, deps.now())
    # Read again: a try that ended before this one began has stored its customer, and its number is not ours.
    row = deps.accounts.rules.fresh(account).row
    if row.stripe_customer_id is not None:
        deps.attempts.end(row.account)
        return Provided(row.stripe_customer_id, "had")
    found = known() if known is not None else []
    if not found and (known is None or attempt.again):
        found = _look(deps, row, attempt)
    how: Literal["found", "made"] = "found" if found else "made"
    chosen = found[0] if found else _make(deps, row, attempt)
    customer = chosen.id
    undescribed = _describe(deps, row, chosen)
    # A crash here leaves a customer that no account has: the next try finds it.
    rules = change(
        deps.accounts,
        row.account,
        lambda at: at if at.stripe_customer_id is not None else replace(at, stripe_customer_id=customer),
        BY,
    )
    # A crash here leaves a noted attempt of an account with a customer, and batches that seal releases when due.
    deps.attempts.end(row.account)
    deps.mapped(rules)
    stored = rules.row.stripe_customer_id
    assert stored is not None
    spare = tuple(one for one in {customer: None, **{one.id: None for one in found}} if one != stored)
    return Provided(stored, how if stored == customer else "had", spare, undescribed)


def customer_key(stack: str, account: str, number: int) -> str:
    """The Idempotency-Key of an attempt."""
    digest = hashlib.sha256("\n".join((stack, account, str(number))).encode()).hexdigest()
    return f"tollgate-customer-{digest[:40]}"


def of_account(customers: list[Customer], stack: str, account: str) -> list[Customer]:
    """Those that carry an account's metadata, oldest first: every try prefers the same one."""
    ours = {one.id: one for one in customers if (one.stack, one.account) == (stack, account)}
    return sorted(ours.values(), key=lambda one: (one.created, one.id))


def _look(deps: CustomerDeps, row: AccountRow, attempt: Attempt) -> list[Customer]:
    """Customers that carry the account's metadata."""
    found = deps.stripe.search(deps.stack, row.account)
    if attempt.again and not found:
        since = max(attempt.since, deps.now() - _SEARCHED_S) - _SKEW_S
        found = list(deps.stripe.all(since))
    return of_account(found, deps.stack, row.account)


def _make(deps: CustomerDeps, row: AccountRow, attempt: Attempt) -> Customer:
    """The attempt's customer. Its own number, not the newest: a try that looked before another try's effect must not
    get a key beyond that one's."""
    key = customer_key(deps.stack, row.account, attempt.number)
    try:
        made = deps.stripe.create(deps.stack, row.account, key)
    except StripeUnavailable as trouble:
        if trouble.http_status is not None and trouble.http_status >= 500:
            deps.attempts.next(row.account, attempt)  # its key would replay this for a day
        raise
    if attempt.again and not deps.stripe.exists(made.id):
        # The key's answer is from before the customer was deleted. The next try has another key.
        deps.attempts.next(row.account, attempt)
        raise StripeUnavailable(None, f"customer {made.id} was deleted as it was made")
    return made


def _describe(deps: CustomerDeps, row: AccountRow, customer: Customer) -> str | None:
    """Email and name where the customer has none, as far as Stripe takes them: a wrong address must not keep an
    account from being billed. Returns why Stripe did not take them."""
    email = None if customer.email else row.email
    name = None if customer.name else row.name
    if email is None and name is None:
        return None
    try:
        deps.stripe.describe(customer.id, email, name)
    except StripeRefused as refused:
        return refused.message
    return None
