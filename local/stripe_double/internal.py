"""Calls that Stripe makes on itself: completing a checkout creates a customer, a price, a subscription."""

from __future__ import annotations

from typing import TYPE_CHECKING

from local.stripe_double.forms import Form
from local.stripe_double.operations import Call
from local.stripe_double.wire import JsonObject

if TYPE_CHECKING:
    from local.stripe_double.state import Double


def call(double: Double, method: str, path: str, form: Form | None = None) -> JsonObject:
    """What the public call answers, with all its checks. Raises ApiError as it does."""
    from local.stripe_double import router  # the table of all resources, the callers of this among them

    operation, args = router.find(method, path)
    return operation.handler(double, Call(args, operation.params.read(form or {}), path))
