"""Snapshot events of the v1 API: what changed, as the object was right after."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

from local.stripe_double.ids import new_id
from local.stripe_double.wire import API_VERSION, JsonObject

if TYPE_CHECKING:
    from local.stripe_double.state import Double


def emit(double: Double, event_type: str, obj: JsonObject, previous: JsonObject | None = None) -> JsonObject:
    """Note that `obj` changed, with the values that `previous` fields had before. Returns the event."""
    data: JsonObject = {"object": deepcopy(obj)}
    if previous is not None:
        data["previous_attributes"] = deepcopy(previous)
    event: JsonObject = {
        "id": new_id("evt"),
        "object": "event",
        "api_version": API_VERSION,
        "created": double.clock.now(),
        "data": data,
        "livemode": False,
        "pending_webhooks": 0,
        "request": {"id": None, "idempotency_key": None},
        "type": event_type,
    }
    double.events.append(event)
    return event
