"""Billing meters: create, retrieve, update, list, deactivate, reactivate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from local.stripe_double.errors import ApiError, missing_resource
from local.stripe_double.ids import new_id
from local.stripe_double.lists import PAGING, page
from local.stripe_double.operations import Call, Operation
from local.stripe_double.params import Nested, OneOf, Param, Params, Text
from local.stripe_double.wire import JsonObject

if TYPE_CHECKING:
    from local.stripe_double.state import Double

_EXPAND = frozenset({"expand"})
CUSTOMER_MAPPING = Params(
    {"event_payload_key": Param(Text(100), required=True), "type": Param(OneOf(("by_id",)), required=True)}
)
DEFAULT_AGGREGATION = Params({"formula": Param(OneOf(("sum", "count", "last")), required=True)})
VALUE_SETTINGS = Params({"event_payload_key": Param(Text(100), required=True)})
CREATE = Params(
    {
        "customer_mapping": Param(Nested(CUSTOMER_MAPPING)),
        "default_aggregation": Param(Nested(DEFAULT_AGGREGATION), required=True),
        "display_name": Param(Text(250), required=True),
        "event_name": Param(Text(100), required=True),
        "event_time_window": Param(OneOf(("day", "hour"))),
        "value_settings": Param(Nested(VALUE_SETTINGS)),
    },
    _EXPAND,
)
UPDATE = Params({"display_name": Param(Text(250))}, _EXPAND)
RETRIEVE = Params({}, _EXPAND)
SWITCH = Params({}, _EXPAND)
LIST = Params({**PAGING, "status": Param(OneOf(("active", "inactive")))}, _EXPAND)


@dataclass
class Meter:
    """One meter. `formula` is sum, count or last; `event_time_window` None, hour or day; times are epoch seconds."""

    id: str
    display_name: str
    event_name: str
    formula: str
    event_time_window: str | None
    customer_key: str
    value_key: str
    created: int
    updated: int
    deactivated_at: int | None = None

    @property
    def active(self) -> bool:
        return self.deactivated_at is None

    def view(self) -> JsonObject:
        return {
            "id": self.id,
            "object": "billing.meter",
            "created": self.created,
            "customer_mapping": {"event_payload_key": self.customer_key, "type": "by_id"},
            "default_aggregation": {"formula": self.formula},
            "display_name": self.display_name,
            "event_name": self.event_name,
            "event_time_window": self.event_time_window,
            "livemode": False,
            "status": "active" if self.active else "inactive",
            "status_transitions": {"deactivated_at": self.deactivated_at},
            "updated": self.updated,
            "value_settings": {"event_payload_key": self.value_key},
        }


class Meters:
    """All meters. At most one active meter has a given event name."""

    def __init__(self) -> None:
        self._by_id: dict[str, Meter] = {}

    def add(self, meter: Meter) -> None:
        self._by_id[meter.id] = meter

    def get(self, meter_id: str) -> Meter:
        """Raises ApiError (404) for an unknown id."""
        meter = self._by_id.get(meter_id)
        if meter is None:
            raise missing_resource("billing meter", meter_id)
        return meter

    def active(self, event_name: str) -> Meter | None:
        return next((meter for meter in self.newest_first() if meter.active and meter.event_name == event_name), None)

    def archived(self, event_name: str) -> Meter | None:
        """The newest inactive meter with this event name."""
        return next(
            (meter for meter in self.newest_first() if not meter.active and meter.event_name == event_name), None
        )

    def newest_first(self) -> list[Meter]:
        return list(reversed(self._by_id.values()))


def create(double: Double, call: Call) -> JsonObject:
    """POST /v1/billing/meters [SDK: MeterCreateParams]. A second active meter for an event name is refused [docs: an
    event name belongs to one meter; the error's text is assumed]. Payload keys default to `stripe_customer_id` and
    `value` [SDK].
    """
    params = call.params
    _refuse_second_active(double, params["event_name"])
    now = double.clock.now()
    meter = Meter(
        id=new_id("mtr_test"),
        display_name=params["display_name"],
        event_name=params["event_name"],
        formula=params["default_aggregation"]["formula"],
        event_time_window=params.get("event_time_window"),
        customer_key=params.get("customer_mapping", {}).get("event_payload_key", "stripe_customer_id"),
        value_key=params.get("value_settings", {}).get("event_payload_key", "value"),
        created=now,
        updated=now,
    )
    double.meters.add(meter)
    return meter.view()


def retrieve(double: Double, call: Call) -> JsonObject:
    """GET /v1/billing/meters/{id} [SDK]."""
    return double.meters.get(call.args["id"]).view()


def update(double: Double, call: Call) -> JsonObject:
    """POST /v1/billing/meters/{id}: only `display_name` can change [SDK: MeterUpdateParams; docs: meters are
    immutable].
    """
    meter = double.meters.get(call.args["id"])
    if "display_name" in call.params:
        meter.display_name = call.params["display_name"]
        meter.updated = double.clock.now()
    return meter.view()


def deactivate(double: Double, call: Call) -> JsonObject:
    """POST .../deactivate: no more events are accepted [SDK]. Refused where it is inactive already [assumed]."""
    meter = double.meters.get(call.args["id"])
    if not meter.active:
        raise ApiError(400, "This meter is already inactive.")
    meter.deactivated_at = meter.updated = double.clock.now()
    return meter.view()


def reactivate(double: Double, call: Call) -> JsonObject:
    """POST .../reactivate: events are accepted again [SDK]. Refused where it is active, or where another active meter
    has taken the event name [assumed from one active meter per event name]."""
    meter = double.meters.get(call.args["id"])
    if meter.active:
        raise ApiError(400, "This meter is already active.")
    _refuse_second_active(double, meter.event_name)
    meter.deactivated_at = None
    meter.updated = double.clock.now()
    return meter.view()


def list_all(double: Double, call: Call) -> JsonObject:
    """GET /v1/billing/meters: newest first, optionally by status [SDK: MeterListParams]."""
    status = call.params.get("status")
    views = [meter.view() for meter in double.meters.newest_first()]
    return page([view for view in views if status in (None, view["status"])], call.params, call.path, "billing meter")


def _refuse_second_active(double: Double, event_name: str) -> None:
    other = double.meters.active(event_name)
    if other is not None:
        raise ApiError(
            400, f"There is already an active meter with the event name {event_name}: {other.id}.", param="event_name"
        )


OPERATIONS = (
    Operation("POST", "/v1/billing/meters", create, CREATE),
    Operation("GET", "/v1/billing/meters", list_all, LIST),
    Operation("GET", "/v1/billing/meters/{id}", retrieve, RETRIEVE),
    Operation("POST", "/v1/billing/meters/{id}", update, UPDATE),
    Operation("POST", "/v1/billing/meters/{id}/deactivate", deactivate, SWITCH),
    Operation("POST", "/v1/billing/meters/{id}/reactivate", reactivate, SWITCH),
)
