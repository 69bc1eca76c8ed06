"""Brings an account to what its customer's subscriptions in Stripe mean.

Two rows: the billing state (what Stripe said) and the rules row (what binds the account), written in this order. The
state is read before Stripe is asked and written under the version read, so of two workers the one that was told
something older has to ask again; the rules row is written under its revision from a state that was read after that
revision. So the last word of Stripe stands in the end, however many workers look at once.

A crash between the two writes leaves a state whose `target` is not `applied`: the event is not done, comes again, and
applies it; so does every later event of the customer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, NamedTuple, Protocol

from tollgate.accounts.rules import NextPlan
from tollgate.accounts.service import AccountDeps, AccountPatch, Follow, change, follow, put_account
from tollgate.alerts.outbox import Alert, Outbox
from tollgate.catalog.store import Current
from tollgate.clock import rfc3339
from tollgate.errors import Busy, CustomerInUse, UnknownPlan
from tollgate.subscriptions.state import (
    ACCOUNT,
    ENDED,
    PAST_DUE,
    BillingState,
    Problem,
    Standing,
    Subscription,
    Target,
    standing_of,
)
from tollgate.sync.objects import STACK

BY: Final = "stripe"
"""Who changed it, for the audit."""
TRIES: Final = 10
_DAY: Final = 86_400


class StripeSubscriptions(Protocol):
    def of_customer(self, customer: str) -> list[Subscription]:
        """All of a customer's, ended ones too, as they are now; none where the customer is not there (any more)."""


class States(Protocol):
    def read(self, account: str) -> BillingState: ...
    def write(self, before: BillingState, after: BillingState) -> BillingState | None: ...


@dataclass(frozen=True, slots=True)
class FollowDeps:
    accounts: AccountDeps
    states: States
    stripe: StripeSubscriptions
    outbox: Outbox
    stack: str
    """Name of the stack: only subscriptions that carry it are followed."""


class Followed(NamedTuple):
    account: str
    standing: Standing | None
    """None: no subscription of ours that says anything."""


def account_of(deps: FollowDeps, customer: str) -> str | None:
    """The account that a customer belongs to. A customer that no account has belongs to the one that its subscription
    names, and is given to it. None: it is none of this stack's. Raises Busy."""
    account = deps.accounts.accounts.holder(customer)
    if account is not None:
        return account
    for one in deps.stripe.of_customer(customer):
        named = one.metadata.get(ACCOUNT)
        if named is None or one.metadata.get(STACK) != deps.stack or one.status in ("canceled", "incomplete_expired"):
            continue
        row = deps.accounts.rules.row(named)
        if row is None or row.stripe_customer_id is not None:
            _tell(deps, named, _stranger(deps, one, customer, named, row is not None))
            return None
        # Batches that waited for a customer are released by seal, which looks at them again and again.
        try:
            put_account(deps.accounts, row.account, AccountPatch(stripe_customer_id=customer, by=BY))
        except CustomerInUse:
            return deps.accounts.accounts.holder(customer)  # another worker, or the operator, was quicker
        return row.account
    return None


def follow_customer(deps: FollowDeps, customer: str) -> Followed | None:
    """Follow the subscriptions of a customer; None where the customer is none of ours. Raises what `follow_account`
    raises."""
    account = account_of(deps, customer)
    return None if account is None else follow_account(deps, account, customer)


def customer_deleted(deps: FollowDeps, customer: str) -> Followed | None:
    """A customer that was deleted in Stripe is the account's no more: its usage waits for another one, in sight, and
    is sent to none that does not count it. Its subscriptions ended with it."""
    account = deps.accounts.accounts.holder(customer)
    if account is None:
        return None
    followed = follow_account(deps, account, customer, gone=True)
    text = (
        f"Account {account}: its Stripe customer {customer} was deleted in Stripe. Usage of priced plans waits until "
        "the account has another one."
    )
    # Told before the mapping goes: afterwards nothing leads from the customer to the account.
    deps.outbox.put(
        Alert(
            id=f"customer_deleted#{account}#{customer}",
            kind="customer_deleted",
            account=account,
            subject=f"Stripe customer deleted: {account}",
            text=text,
            at_ms=deps.accounts.gate.clock(),
            facts={"customer": customer},
        )
    )
    change(
        deps.accounts,
        account,
        lambda row: replace(row, stripe_customer_id=None) if row.stripe_customer_id == customer else row,
        BY,
    )
    return followed


def follow_account(deps: FollowDeps, account: str, customer: str, *, gone: bool = False) -> Followed:
    """Follow an account's customer. `gone`: the customer was deleted. Raises UnknownAccount, CurrencyMismatch, Busy,
    and what Stripe's calls raise."""
    for tried in range(TRIES):
        if tried:
            deps.accounts.gate.pause(tried)
        before = deps.states.read(account)
        standing, problems = _fetched(deps, before, account, customer, gone)
        if standing is None:
            _tell(deps, account, problems)
            return Followed(account, None)
        target, more = _target_of(deps, standing, before)
        falls = before.falls
        if target is not None and target.falls_at is not None and target.falls_at not in falls:
            falls = (*falls, target.falls_at)
        after = replace(before, customer=customer, standing=standing, target=target, falls=falls)
        if after != before and deps.states.write(before, after) is None:
            continue
        _apply(deps, account)
        _tell(deps, account, [*problems, *more])
        _tell_standing(deps, account, standing, target)
        return Followed(account, standing)
    raise Busy


def _fetched(
    deps: FollowDeps, before: BillingState, account: str, customer: str, gone: bool
) -> tuple[Standing | None, list[Problem]]:
    now = deps.accounts.gate.clock() // 1000
    if gone:
        last = before.standing if before.customer == customer else None
        return None if last is None else Standing(ENDED, last.subscription, "deleted", anchor=last.anchor), []
    standing, problems = standing_of(deps.stripe.of_customer(customer), deps.stack, account, now)
    last = before.standing
    if standing is None or last is None or standing.past_due_since != now:
        return standing, problems
    if (last.access, last.subscription) == (PAST_DUE, standing.subscription):
        # Stripe does not tell since when: since we first saw it.
        standing = replace(standing, past_due_since=last.past_due_since)
    return standing, problems


def _target_of(deps: FollowDeps, standing: Standing, before: BillingState) -> tuple[Target | None, list[Problem]]:
    """The plan that a standing means; the one before where it means none that there is."""
    current = deps.accounts.catalog.current()
    if current is None:
        raise Busy  # the catalogue is being loaded for the first time
    fallback = current.fallback, _version(current, current.fallback)
    if standing.access == ENDED:
        return Target(standing.subscription, *fallback), []
    if standing.plan is None or standing.version is None:
        return before.target, []
    try:
        deps.accounts.catalog.version(standing.plan, standing.version)
    except UnknownPlan:
        text = f"its prices are of plan {standing.plan} version {standing.version}, which no catalogue was loaded with"
        return before.target, [Problem("unknown_plan", standing.subscription, text)]
    if standing.past_due_since is None:
        return Target(standing.subscription, standing.plan, standing.version), []
    falls_at = standing.past_due_since + current.grace_days * _DAY
    if falls_at <= deps.accounts.gate.clock() // 1000:
        return Target(standing.subscription, *fallback), []
    return Target(standing.subscription, standing.plan, standing.version, falls_at, *fallback), []


def _version(current: Current, plan: str) -> int:
    if plan not in current.versions:
        raise UnknownPlan(plan)
    return current.versions[plan]


def _apply(deps: FollowDeps, account: str) -> None:
    """Bring the rules row to the target that stands in the state, unless it was brought there before: what an operator
    changed since then stays until Stripe says something new."""
    seen: list[BillingState] = []

    def told() -> Follow | None:
        state = deps.states.read(account)
        seen.append(state)
        target = state.target
        if target is None or target == state.applied:
            return None
        falls = None
        if target.falls_at is not None and target.falls_to is not None and target.falls_version is not None:
            falls = NextPlan(target.falls_to, target.falls_version, target.falls_at)
        standing = state.standing
        if standing is None:
            return Follow(target.plan, target.plan_version, None, None, falls, state.falls)
        began = None
        if standing.started is not None and standing.period_start is not None:
            began = standing.started, standing.period_start
        return Follow(target.plan, target.plan_version, standing.anchor, began, falls, state.falls)

    follow(deps.accounts, account, told, BY)
    state = seen[-1]
    if state.target is None or state.target == state.applied:
        return
    # Not written: another worker wrote a newer state and applies it, or a crash; then this is done once more.
    deps.states.write(
        state,
        replace(state, applied=state.target, falls=() if state.target.falls_at is None else (state.target.falls_at,)),
    )


# ---- what an operator is told ----------------------------------------------------------------------------------------


def _stranger(deps: FollowDeps, one: Subscription, customer: str, named: str, known: bool) -> list[Problem]:
    why = "which has another Stripe customer" if known else "which does not exist"
    return [Problem("wrong_customer", one.id, f"its customer is {customer}, its metadata names account {named}, {why}")]


def _tell(deps: FollowDeps, account: str, problems: list[Problem]) -> None:
    for code, thing, text in problems:
        deps.outbox.put(
            Alert(
                id=f"{code}#{account}#{thing}",
                kind=code,
                account=account,
                subject=f"Subscription in Stripe: {code.replace('_', ' ')}",
                text=f"Account {account}, {thing}: {text}.",
                at_ms=deps.accounts.gate.clock(),
                facts={"object": thing},
            )
        )


def _tell_standing(deps: FollowDeps, account: str, standing: Standing, target: Target | None) -> None:
    if target is None or standing.access not in (PAST_DUE, ENDED):
        return
    if standing.past_due_since is None:
        kind, since = "subscription_ended", deps.accounts.gate.clock() // 1000
        text = f"is {standing.status} in Stripe; the account is on plan {target.plan}"
        told = standing.status
    elif target.falls_at is None:
        kind, since = "grace_over", standing.past_due_since
        text, told = f"is still not paid; the account is on plan {target.plan}", str(since)
    else:
        kind, since = "past_due", standing.past_due_since
        text = (
            f"is past due. Unless it is paid, the account moves to plan {target.falls_to} at {rfc3339(target.falls_at)}"
        )
        told = str(since)
    deps.outbox.put(
        Alert(
            id=f"{kind}#{account}#{standing.subscription}#{told}",
            kind=kind,
            account=account,
            subject=f"{kind.replace('_', ' ').capitalize()}: {account}",
            text=f"Account {account}: subscription {standing.subscription} {text}.",
            at_ms=since * 1000,
            facts={"subscription": standing.subscription, "plan": target.plan},
        )
    )
