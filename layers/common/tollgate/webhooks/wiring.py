"""Puts the worker's parts together, for the function and for `tollgate stripe events replay`."""

from __future__ import annotations

from collections.abc import Mapping

from tollgate import wiring
from tollgate.alerts.outbox_store import OutboxTable
from tollgate.billing.batch_store import BatchTable
from tollgate.clock import system_clock
from tollgate.settings import StripeEventsSettings
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


def event_deps(env: Mapping[str, str], settings: StripeEventsSettings, connection: Connection) -> EventDeps:
    """`env` names the tables."""
    accounts = wiring.account_deps(env)
    outbox = OutboxTable(settings.billing_table, system_clock)
    states = StateTable(env["TOLLGATE_ACCOUNTS_TABLE"])
    batches = BatchTable(settings.billing_table)
    return EventDeps(
        inbox=InboxDeps(InboxTable(settings.billing_table), outbox, system_clock),
        follow=FollowDeps(accounts, states, Subscriptions(connection), outbox, settings.stack),
        packs=PackDeps(accounts, Payments(connection), outbox, settings.stack),
        meters=MeterErrorDeps(batches, StripeEvents(connection), outbox, system_clock),
        live=settings.live,
    )
