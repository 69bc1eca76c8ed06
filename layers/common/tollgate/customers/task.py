"""The worker's task that makes an account's Stripe customer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tollgate.customers.needed import CustomerDeps, provide
from tollgate.errors import CustomerInUse, StripeRefused, UnknownAccount


def make_customer(deps: CustomerDeps, message: Mapping[str, Any]) -> str:
    """`{"account": id}` in; what came of it out. Raises StripeUnavailable and Busy: the queue repeats it, which is
    harmless."""
    try:
        return f"customer {provide(deps, str(message['account'])).how}"
    except (CustomerInUse, StripeRefused, UnknownAccount) as refused:
        return f"customer refused: {refused.detail}"  # repeating it would change nothing; backfill names such accounts
