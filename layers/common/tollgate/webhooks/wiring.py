"""Puts the worker's parts together, for the function and for `tollgate stripe events replay`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from tollgate import wiring
from tollgate.accounts.rules import Rules
from tollgate.alerts.outbox_store import OutboxTable
from tollgate.billing.batch_store import BatchTable
from tollgate.billing.requeue import leave_to_seal
from tollgate.clock import system_clock
from tollgate.customers.attempt_store import AttemptTable
from tollgate.customers.needed import CustomerDeps
from tollgate.customers.task import make_customer
from tollgate.settings import StripeEventsSettings
from tollgate.stripe_api.customers import StripeCustomers
from tollgate.stripe_api.events import StripeEvents
from tollgate.stripe_api.payments import Payments
from tollgate.stripe_api.reading import Connection
from tollgate.stripe_api.subscriptions import Subscriptions
from tollgate.subscriptions.follow import FollowDeps
from tollgate.subscriptions.state_store import StateTable
from tollgate.webhooks.dispatch import EventDeps
from tollgate.webhooks.inbox import InboxDeps
from tollgate.webhooks.inbox_store import InboxTable
from tollgate.webhooks.meter_errors import MeterErrorDeps
from tollgate.webhooks.packs import PackDeps
from tollgate.webhooks.queue_store import CUSTOMER_TASK


def event_deps(env: Mapping[str, str], settings: StripeEventsSettings, connection: Connection) -> EventDeps:
    """`env` names the tables."""
    accounts = wiring.account_deps(env)
    outbox = OutboxTable(settings.billing_table, system_clock)
    states = StateTable(env["TOLLGATE_ACCOUNTS_TABLE"])
    batches = BatchTable(settings.billing_table)

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
        live=settings.live,
        tasks={CUSTOMER_TASK: partial(make_customer, customers)},
    )
