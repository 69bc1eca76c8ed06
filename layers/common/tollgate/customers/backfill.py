"""Stripe customers for all accounts there are: found or made, one after another.

It may be stopped anywhere and run again: accounts that have their customer cost one read of ours, and the one that was
under way is taken up where it stood (`needed`). Stripe's whole list of customers is read once, a hundred at a time,
instead of a search for each account.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final, Literal, NamedTuple

from tollgate.accounts.rules import AccountRow, Rules
from tollgate.accounts.service import change
from tollgate.customers.needed import BY, CustomerDeps, of_account, provide
from tollgate.customers.ports import Customer
from tollgate.errors import Busy, CustomerInUse, StripeRefused, StripeUnavailable

Result = Literal[
    "had", "found", "made", "would find", "would make", "deleted", "in use", "ambiguous", "refused", "failed"
]
TROUBLE: Final[frozenset[Result]] = frozenset({"deleted", "in use", "ambiguous", "refused", "failed"})
TRIES: Final = 4
MOST_FAILURES: Final = 5
"""Accounts in a row that Stripe gave no answer for: then it is an outage, and the run stops."""


class Row(NamedTuple):
    """What came of an account. `customer`: None where it has none after this."""

    account: str
    result: Result
    customer: str | None = None
    detail: str = ""


class StripeGone(Exception):
    """Stripe answers nobody any more; run it again later."""


@dataclass(frozen=True, slots=True)
class Options:
    """`dry`: change nothing. `match_email`: take a customer that others made, if it is the only one with the account's
    address. `replace_deleted`: make a new one in place of a customer that was deleted. `paid_only`: pass over accounts
    whose plan costs nothing."""

    dry: bool = False
    match_email: bool = False
    replace_deleted: bool = False
    paid_only: bool = False


@dataclass(slots=True)
class Known:
    """Stripe's live customers: by the account in their metadata, by address for those without, and all ids."""

    by_account: dict[str, list[Customer]] = field(default_factory=dict)
    by_email: dict[str, list[Customer]] = field(default_factory=dict)
    ids: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, customers: Iterable[Customer], stack: str) -> Known:
        known = cls()
        for one in customers:
            known.ids.add(one.id)
            if one.stack == stack and one.account is not None:
                known.by_account.setdefault(one.account, []).append(one)
            elif one.account is None and one.email:
                known.by_email.setdefault(one.email.lower(), []).append(one)
        return known


def backfill(
    deps: CustomerDeps,
    accounts: Iterable[str],
    known: Known,
    options: Options,
    wait: Callable[[int], None],
) -> Iterator[Row]:
    """What came of each account, as it comes. `wait` is called with the number of tries before a repetition. Raises
    StripeUnavailable for a key that Stripe does not take, and StripeGone."""
    failures = 0
    for account in accounts:
        row = _patiently(deps, account, known, options, wait)
        if row is None:
            continue
        yield row
        failures = failures + 1 if row.result == "failed" else 0
        if failures >= MOST_FAILURES:
            raise StripeGone


def _patiently(
    deps: CustomerDeps, account: str, known: Known, options: Options, wait: Callable[[int], None]
) -> Row | None:
    for tried in range(TRIES):
        if tried:
            wait(tried)
        try:
            return _one(deps, account, known, options)
        except CustomerInUse as in_use:
            return Row(account, "in use", None, in_use.detail)
        except StripeRefused as refused:
            return Row(account, "refused", None, refused.message)
        except StripeUnavailable as trouble:
            if trouble.key_refused:
                raise
            last = trouble.message
        except Busy as busy:
            last = busy.detail
    return Row(account, "failed", None, last)


def _one(deps: CustomerDeps, account: str, known: Known, options: Options) -> Row | None:
    rules = deps.accounts.rules.fresh(account)
    if options.paid_only and not costs(rules):
        return None
    has = rules.row.stripe_customer_id
    if has is not None:
        if has in known.ids or deps.stripe.exists(has):
            return Row(account, "had", has)
        if not options.replace_deleted or options.dry:
            return Row(account, "deleted", has, "deleted at Stripe, or of another Stripe account")
        _forget(deps, account, has)
    found = of_account(known.by_account.get(rules.account, []), deps.stack, rules.account)
    if not found and options.match_email and rules.row.email:
        same = known.by_email.get(rules.row.email.lower(), [])
        if len(same) > 1:
            return Row(account, "ambiguous", None, f"{len(same)} customers have the address {rules.row.email}")
        found = same
    if options.dry:
        return Row(account, "would find", found[0].id) if found else Row(account, "would make")
    if found and found[0].account is None:
        # A crash here leaves a customer that carries the account's metadata: the next run finds it by that.
        deps.stripe.claim(found[0].id, deps.stack, rules.account)
    provided = provide(deps, account, lambda: found)
    detail = []
    if provided.spare:
        detail.append(f"also carry its metadata: {', '.join(provided.spare)}")
    if provided.undescribed:
        detail.append(f"without email and name: {provided.undescribed}")
    return Row(account, provided.how, provided.customer, "; ".join(detail))


def costs(rules: Rules) -> bool:
    """Whether anything about the account's plan is to be paid."""
    plan = rules.plan
    return bool(plan.base_fee or plan.prices or plan.seats or plan.packs)


def _forget(deps: CustomerDeps, account: str, customer: str) -> None:
    """A crash after this leaves an account without a customer: the next run makes one."""

    def without(row: AccountRow) -> AccountRow:
        return replace(row, stripe_customer_id=None) if row.stripe_customer_id == customer else row

    change(deps.accounts, account, without, BY)
