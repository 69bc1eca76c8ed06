"""Events about a change: the object as it is now, and what its changed fields were before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from local.stripe_double.events import emit
from local.stripe_double.wire import JsonObject

if TYPE_CHECKING:
    from local.stripe_double.state import Double


def emit_update(double: Double, event_type: str, before: JsonObject, after: JsonObject) -> None:
    """Emit an update unless nothing changed: Stripe sends none for an update without effect [observed].
    `previous_attributes` holds the old values of changed fields [docs: events].
    """
    previous = {name: before.get(name) for name, value in after.items() if before.get(name) != value}
    if previous:
        emit(double, event_type, after, previous)
