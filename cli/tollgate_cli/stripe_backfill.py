"""`tollgate stripe backfill`: a Stripe customer for every account."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Annotated, Final

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from tollgate import wiring
from tollgate.accounts.rules import Rules
from tollgate.accounts.store import AccountTable
from tollgate.billing.batch_store import BatchTable
from tollgate.billing.requeue import leave_to_seal
from tollgate.clock import system_clock
from tollgate.customers.attempt_store import AttemptTable
from tollgate.customers.backfill import TROUBLE, Known, Options, Row, StripeGone, backfill
from tollgate.customers.needed import CustomerDeps
from tollgate.customers.ports import Customer
from tollgate.errors import StripeUnavailable
from tollgate.stripe_api.customers import StripeCustomers
from tollgate.stripe_api.reading import pause
from tollgate_cli.output import FAILED, err, fail, note, out, table
from tollgate_cli.stripe_target import stripe_of
from tollgate_cli.target import Profile, Region, StackName, Target, connected

_SHOWN: Final = 200
"""Rows of trouble in the report; the rest is counted."""


def command(
    do: Annotated[bool, typer.Option("--apply", help="Make them. Without it: only say what would be done.")] = False,
    paid_only: Annotated[bool, typer.Option("--paid-only", help="Only accounts whose plan costs something.")] = False,
    match_email: Annotated[
        bool, typer.Option("--match-email", help="Take a customer made elsewhere, if no other has the address.")
    ] = False,
    replace_deleted: Annotated[
        bool, typer.Option("--replace-deleted", help="Make a new customer where the account's was deleted.")
    ] = False,
    rate: Annotated[int, typer.Option(min=1, max=80, help="Most requests to Stripe in a second.")] = 20,
    stack: StackName = None,
    profile: Profile = None,
    region: Region = None,
) -> None:
    """Find or make a Stripe customer for every account, and send what waited for one.

    May be stopped at any time and run again: no account gets a second customer. Exit code 1 if any account is left
    without one.
    """
    with connected(stack, profile, region) as target:
        stripe = stripe_of(target, _pace(rate))
        deps = _deps(target, StripeCustomers(stripe.connection))
        options = Options(dry=not do, match_email=match_email, replace_deleted=replace_deleted, paid_only=paid_only)
        troubles: list[Row] = []
        counted: Counter[str] = Counter()
        stopped = None
        try:
            for row in _run(deps, AccountTable(target.env["TOLLGATE_ACCOUNTS_TABLE"]), options, target.name):
                counted[row.result] += 1
                if row.result in TROUBLE or row.detail:
                    troubles.append(row)
        except StripeGone:
            stopped = f"{stripe.where} does not answer any more. Run the command again: it goes on from here."
        except StripeUnavailable as trouble:
            stopped = trouble.detail
    _report(target.name, counted, troubles)
    if stopped is not None:
        fail(stopped)
    if not do and (counted["would make"] or counted["would find"]):
        note("Nothing was changed: --apply does it.")
    if any(counted[result] for result in TROUBLE):
        raise typer.Exit(FAILED)


def _deps(target: Target, customers: StripeCustomers) -> CustomerDeps:
    batches = BatchTable(target.env["TOLLGATE_BILLING_TABLE"])

    def mapped(rules: Rules) -> None:
        # The command has no queue: the batches are due at once, and seal queues them within a minute.
        customer = rules.row.stripe_customer_id
        for account in rules.homes if customer is not None else ():
            leave_to_seal(batches, account, str(customer), system_clock() // 1000)

    accounts = wiring.account_deps(target.env)
    return CustomerDeps(accounts, customers, AttemptTable(target.env["TOLLGATE_ACCOUNTS_TABLE"]), mapped, target.name)


def _run(deps: CustomerDeps, accounts: AccountTable, options: Options, name: str) -> Iterator[Row]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err()) as bar:
        reading = bar.add_task("Reading Stripe's customers", total=None)

        def told() -> Iterator[Customer]:
            for customer in deps.stripe.all():
                bar.advance(reading)
                yield customer

        known = Known.read(told(), deps.stack)
        bar.remove_task(reading)
        ids = list(accounts.ids())
        task = bar.add_task(f"Accounts of {name}", total=len(ids))
        # Each account is taken out of the iterator once the one before it is done.
        yield from backfill(deps, bar.track(ids, task_id=task), known, options, pause)


def _pace(rate: int) -> Callable[[], None]:
    """Holds a request back until its turn: at most `rate` of them begin in a second."""
    lock, turn = threading.Lock(), [0]

    def before() -> None:
        with lock:
            now = time.monotonic_ns()
            turn[0] = max(turn[0] + 1_000_000_000 // rate, now)
            wait = turn[0] - now
        if wait > 0:
            time.sleep(wait / 1_000_000_000)

    return before


def _report(name: str, counted: Counter[str], troubles: list[Row]) -> None:
    out().print(table(f"Customers of {name}", ("", "accounts"), sorted(counted.items())))
    if troubles:
        rows = [(row.account, row.result, row.customer, row.detail) for row in troubles[:_SHOWN]]
        out().print(table("To look at", ("account", "", "customer", "why"), rows))
    if len(troubles) > _SHOWN:
        note(f"{len(troubles) - _SHOWN} more like these.")
