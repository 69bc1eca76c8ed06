"""Puts the worker's parts together."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from tollgate import wiring
from tollgate.accounts.rules import Rules
from tollgate.accounts.store import AccountTable
from tollgate.alerts.outbox_store import OutboxTable
from tollgate.billing.batch_store import BatchTable
from tollgate.billing.close import CloseDeps, CloseSettings, InvoiceClose
from tollgate.billing.close_due import TASK
from tollgate.billing.close_store import CloseTable
from tollgate.billing.requeue import leave_to_seal
from tollgate.billing.sealed_store import SealTable
from tollgate.clock import system_clock
from tollgate.customers.attempt_store import AttemptTable
from tollgate.customers.needed import CustomerDeps
from tollgate.customers.task import make_customer
from tollgate.settings import StripeEventsSettings, seconds, whole
from tollgate.stripe_api.customers import StripeCustomers
from tollgate.stripe_api.events import StripeEvents
from tollgate.stripe_api.invoices import StripeInvoices
from tollgate.stripe_api.payments import Payments
from tollgate.stripe_api.reading import Connection
from tollgate.stripe_api.subscriptions import Subscriptions
from tollgate.stripe_api.totals import StripeTotals
from tollgate.subscriptions.follow import FollowDeps
from tollgate.subscriptions.state_store import StateTable
from tollgate.usage.marker_store import MarkerTable
from tollgate.webhooks.dispatch import EventDeps
from tollgate.webhooks.inbox import InboxDeps
from tollgate.webhooks.inbox_store import InboxTable
from tollgate.webhooks.meter_errors import MeterErrorDeps
from tollgate.webhooks.packs import PackDeps
from tollgate.webhooks.queue_store import CUSTOMER_TASK

_DEFAULTS = {
    "TOLLGATE_SEAL_SECONDS": "300",
    "TOLLGATE_SEAL_GRACE_SECONDS": "60",
    "TOLLGATE_CLOSE_DEADLINE_SECONDS": "172800",
    "TOLLGATE_CLOSE_REVIEW_SECONDS": "86400",
    "TOLLGATE_CLOSE_REVIEW_PERCENT": "50",
}


def event_deps(env: Mapping[str, str], settings: StripeEventsSettings, connection: Connection) -> EventDeps:
    """`env` names the tables."""
    accounts = wiring.account_deps(env)
    outbox = OutboxTable(settings.billing_table, system_clock)
    states = StateTable(env["TOLLGATE_ACCOUNTS_TABLE"])
    batches = BatchTable(settings.billing_table)
    close = InvoiceClose(close_deps(env, settings, connection))

    def mapped(rules: Rules) -> None:
        # The worker has no flush queue: the batches are due at once, and seal queues them within a minute.
        customer = rules.row.stripe_customer_id
        for account in rules.homes if customer is not None else ():
            leave_to_seal(batches, account, str(customer), system_clock() // 1000)

    attempts = AttemptTable(env["TOLLGATE_ACCOUNTS_TABLE"])
    customers = CustomerDeps(accounts, StripeCustomers(connection), attempts, mapped, settings.stack)
    return EventDeps(
        inbox=InboxDeps(InboxTable(settings.billing_table), outbox, system_clock),
        follow=FollowDeps(accounts, states, Subscriptions(connection), outbox, settings.stack),
        packs=PackDeps(accounts, Payments(connection), outbox, settings.stack),
        meters=MeterErrorDeps(batches, StripeEvents(connection), outbox, system_clock),
        live=settings.stripe.mode == "live",
        close=close,
        tasks={TASK: close.task, CUSTOMER_TASK: partial(make_customer, customers)},
    )


def close_deps(env: Mapping[str, str], settings: StripeEventsSettings, connection: Connection) -> CloseDeps:
    """What the period close works with. Its reads are few and needed: they are not counted against a budget. The
    command line has the names of the tables only: it takes the template's defaults for the rest."""
    env = {**_DEFAULTS, **env}
    accounts = AccountTable(env["TOLLGATE_ACCOUNTS_TABLE"])
    return CloseDeps(
        closes=CloseTable(settings.billing_table),
        batches=BatchTable(settings.billing_table),
        markers=MarkerTable(settings.billing_table, seconds(env, "TOLLGATE_SEAL_SECONDS")),
        levels=SealTable(settings.billing_table),
        rules=wiring.rules_table(env),
        accounts=accounts,
        events=wiring.event_table(env),
        invoices=StripeInvoices(connection),
        totals=StripeTotals(connection, lambda reads: None),
        outbox=OutboxTable(settings.billing_table, system_clock),
        clock=system_clock,
        settings=CloseSettings(
            grace_seconds=seconds(env, "TOLLGATE_SEAL_GRACE_SECONDS"),
            deadline_seconds=seconds(env, "TOLLGATE_CLOSE_DEADLINE_SECONDS"),
            review_seconds=whole(env, "TOLLGATE_CLOSE_REVIEW_SECONDS"),
            percent=whole(env, "TOLLGATE_CLOSE_REVIEW_PERCENT"),
        ),
    )
