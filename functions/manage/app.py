"""The manage function: accounts, usage, events, keys, plans; also the HTTP API's `$default` route (our 404)."""

from __future__ import annotations

import os
from typing import Any

from aws_lambda_powertools import Logger

from tollgate import dynamo, secrets, wiring
from tollgate.accounts.rules import Rules
from tollgate.alerts.notification_store import NotificationTable
from tollgate.billing.batch_store import BatchTable
from tollgate.billing.queue_store import FlushQueue, QueueRefused
from tollgate.billing.requeue import release_account
from tollgate.breaker.platform_store import PlatformTable
from tollgate.clock import system_clock
from tollgate.http.dispatch import Api
from tollgate.http.manage_routes import ROUTES, ManageApiDeps
from tollgate.http.openapi import document_text
from tollgate.http.routing import Router
from tollgate.margins.book_store import BookTable
from tollgate.margins.margin_store import MarginTable
from tollgate.notify.channel_store import ChannelTable
from tollgate.reconcile.report_store import ReportTable
from tollgate.settings import PRIVATE_WEBHOOKS, switch, text
from tollgate.usage.idempotency_store import IdempotencyTable
from tollgate.webhooks.queue_store import CUSTOMER_TASK, StripeEventsQueue

logger = Logger()
batches = BatchTable(os.environ["TOLLGATE_BILLING_TABLE"])
queue = FlushQueue(os.environ["TOLLGATE_FLUSH_QUEUE_URL"])


def release(rules: Rules) -> None:
    """Batches that waited for this account's Stripe customer go on. The account is changed already: what the queue
    refuses comes due and is queued by seal."""
    customer = rules.row.stripe_customer_id
    if customer is None:
        return
    try:
        for account in rules.homes:
            release_account(batches, queue, account, customer, system_clock() // 1000)
    except QueueRefused as refused:
        logger.warning("batches wait for seal to queue them", extra={"reason": str(refused)})


keys = wiring.keys(os.environ)
accounts = wiring.account_deps(os.environ)
stripe_events = StripeEventsQueue(text(os.environ, "TOLLGATE_STRIPE_EVENTS_QUEUE_URL"))


def missing(rules: Rules) -> None:
    """Where customers are made at sign-up, the worker makes this account's: this function has no Stripe key."""
    current = accounts.catalog.current()
    if current is not None and current.stripe_customers == "at_signup":
        stripe_events.task(CUSTOMER_TASK, {"account": rules.account})


api = Api(
    Router(ROUTES),
    keys,
    ManageApiDeps(
        accounts=accounts,
        events=wiring.event_table(os.environ),
        keys=keys,
        idempotency=IdempotencyTable(os.environ["TOLLGATE_ACCOUNTS_TABLE"]),
        mode=os.environ["TOLLGATE_MODE"],
        openapi=document_text,
        customer_mapped=release,
        members=wiring.member_table(os.environ),
        customer_missing=missing,
        runs=ReportTable(os.environ["TOLLGATE_BILLING_TABLE"]),
        margins=MarginTable(os.environ["TOLLGATE_BILLING_TABLE"]),
        book=BookTable(os.environ["TOLLGATE_CONFIG_TABLE"], system_clock),
        link_secret=lambda: secrets.read(os.environ["TOLLGATE_SIGNING_SECRET_PARAMETER"]).encode(),
        platform=PlatformTable(os.environ["TOLLGATE_BILLING_TABLE"]),
        notifications=NotificationTable(os.environ["TOLLGATE_BILLING_TABLE"]),
        channels=ChannelTable(os.environ["TOLLGATE_CONFIG_TABLE"]),
        private_webhooks=switch(os.environ, PRIVATE_WEBHOOKS),
    ),
    logger,
    dynamo.unavailable,
)


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    return api.answer(event)
