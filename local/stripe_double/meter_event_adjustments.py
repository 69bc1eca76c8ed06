"""Billing meter event adjustments: cancel one event."""

from __future__ import annotations

from typing import TYPE_CHECKING

from local.stripe_double.clock import DAY_MS
from local.stripe_double.errors import ApiError
from local.stripe_double.operations import Call, Operation
from local.stripe_double.params import Nested, OneOf, Param, Params, Text
from local.stripe_double.wire import JsonObject

if TYPE_CHECKING:
    from local.stripe_double.state import Double

CANCEL = Params({"identifier": Param(Text(100))})
CREATE = Params(
    {
        "cancel": Param(Nested(CANCEL)),
        "event_name": Param(Text(100), required=True),
        "type": Param(OneOf(("cancel",)), required=True),
    },
    frozenset({"expand"}),
)


def create(double: Double, call: Call) -> JsonObject:
    """POST /v1/billing/meter_event_adjustments: the event no longer counts.

    Only within 24 hours of its receipt [SDK: Cancel.identifier]. The SDK marks `cancel` and its identifier as
    optional; there is nothing else to cancel by, so without one it is a missing parameter [assumed]. An unknown
    event, one cancelled already or one of another event name is refused [assumed]. The identifier stays taken
    [assumed]. `status` is `pending` [SDK: pending or complete]: summaries show it after the lag.
    """
    event_name = call.params["event_name"]
    identifier = call.params.get("cancel", {}).get("identifier")
    if identifier is None:
        raise ApiError(
            400,
            "Missing required param: cancel[identifier].",
            code="parameter_missing",
            param="cancel[identifier]",
            saved=False,
        )
    event = double.meter_events.latest(identifier)
    if event is None or event.event_name != event_name:
        raise ApiError(400, f"No event of {event_name} found with identifier {identifier}.", param="cancel[identifier]")
    now_ms = double.clock.now_ms()
    if now_ms - event.received_ms > DAY_MS:
        raise ApiError(
            400, "You can only cancel events within 24 hours of Stripe receiving them.", param="cancel[identifier]"
        )
    if event.cancelled_ms is not None:
        raise ApiError(400, f"The event with identifier {identifier} is already cancelled.", param="cancel[identifier]")
    event.cancelled_ms = now_ms
    return {
        "object": "billing.meter_event_adjustment",
        "cancel": {"identifier": identifier},
        "event_name": event_name,
        "livemode": False,
        "status": "pending",
        "type": "cancel",
    }


OPERATIONS = (Operation("POST", "/v1/billing/meter_event_adjustments", create, CREATE),)
