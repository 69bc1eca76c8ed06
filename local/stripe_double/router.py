"""Which operation a request is for."""

from __future__ import annotations

from local.stripe_double import (
    charges,
    checkout_sessions,
    core_events,
    credit_notes,
    customers,
    disputes,
    event_destinations,
    event_summaries,
    events,
    invoice_items,
    invoices,
    meter_event_adjustments,
    meter_events,
    meters,
    prices,
    products,
    refunds,
    subscription_items,
    subscriptions,
    webhook_endpoints,
)
from local.stripe_double.errors import not_emulated
from local.stripe_double.operations import Operation

RESOURCES = (
    customers,
    meters,
    meter_events,
    event_summaries,
    meter_event_adjustments,
    core_events,
    events,
    webhook_endpoints,
    event_destinations,
    checkout_sessions,
    charges,
    refunds,
    disputes,
    products,
    prices,
    subscriptions,
    subscription_items,
    invoices,
    invoice_items,
    credit_notes,
)
"""One module a resource, each with its `OPERATIONS`; a new resource is a new module here."""

OPERATIONS: tuple[Operation, ...] = tuple(operation for resource in RESOURCES for operation in resource.OPERATIONS)


def find(method: str, path: str) -> tuple[Operation, dict[str, str]]:
    """The operation and the ids in the path. Raises ApiError (404 `not_emulated`) for all that the double does not
    know.
    """
    for operation in OPERATIONS:
        args = operation.args(method, path)
        if args is not None:
            return operation, args
    raise not_emulated(f"This double does not emulate {method} {path}")
