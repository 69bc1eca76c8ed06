"""The billing function: HTTP routes that need Stripe, which manage has no key for."""

from __future__ import annotations

import os
from typing import Any

from aws_lambda_powertools import Logger

from tollgate import dynamo, wiring
from tollgate.accounts.rules import AccountRow
from tollgate.billing.batch_store import BatchTable
from tollgate.billing.invoice_audit import AuditDeps
from tollgate.billing.sealed_store import SealTable
from tollgate.clock import system_clock
from tollgate.customers.attempt_store import AttemptTable
from tollgate.customers.needed import CustomerDeps, provide
from tollgate.http.billing_routes import ROUTES, BillingApiDeps
from tollgate.http.dispatch import Api
from tollgate.http.routing import Router
from tollgate.settings import BillingSettings
from tollgate.stripe_api.checkout import StripeShop
from tollgate.stripe_api.client import connector
from tollgate.stripe_api.customers import StripeCustomers
from tollgate.stripe_api.invoices import StripeInvoices
from tollgate.stripe_api.reading import Connection
from tollgate.subscriptions.asked_store import AskedTable
from tollgate.subscriptions.checkout import SaleDeps

logger = Logger()
settings = BillingSettings.from_env(os.environ)
STRIPE_READ_MS = 8_000
"""A person waits, and API Gateway for no longer than 30 s."""

connection = Connection(connector(settings.stripe, STRIPE_READ_MS))
accounts = wiring.account_deps(os.environ)
customers = CustomerDeps(
    accounts=accounts,
    stripe=StripeCustomers(connection),
    attempts=AttemptTable(settings.accounts_table),
    # Batches that waited for the customer come due, and seal releases them; this function has no queue.
    mapped=lambda rules: None,
    stack=settings.stack,
)


def customer(row: AccountRow) -> str:
    return provide(customers, row.account).customer


api = Api(
    Router(ROUTES),
    wiring.keys(os.environ),
    BillingApiDeps(
        sales=SaleDeps(
            stack=settings.stack,
            rules=accounts.rules,
            catalog=accounts.catalog,
            shop=StripeShop(connection, settings.stack),
            customer=customer,
            asked=AskedTable(settings.accounts_table),
            clock=system_clock,
        ),
        audit=AuditDeps(
            invoices=StripeInvoices(connection),
            accounts=accounts.accounts,
            rules=accounts.rules,
            plans=accounts.catalog,
            batches=BatchTable(settings.billing_table),
            seals=SealTable(settings.billing_table),
            events=wiring.event_table(os.environ),
        ),
        loopback=settings.stripe.api_base is not None,
    ),
    logger,
    dynamo.unavailable,
)


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    return api.answer(event)
