"""Snapshot events of the v1 API: what changed, as the object was right after; listed for 30 days.

| call | SDK |
| --- | --- |
| `GET /v1/events` | `EventListParams` |
| `GET /v1/events/{id}` | `EventRetrieveParams` |

Every event goes to the endpoints that want it (`deliveries`).
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from local.stripe_double.clock import DAY_MS, SECOND_MS
from local.stripe_double.errors import invalid, missing_resource
from local.stripe_double.ids import new_id
from local.stripe_double.lists import CREATED, PAGING, page, within
from local.stripe_double.operations import Call, Operation
from local.stripe_double.params import Flag, Param, Params, SecondsOrRange, Text, TextList
from local.stripe_double.wire import API_VERSION, JsonObject

if TYPE_CHECKING:
    from local.stripe_double.state import Double

KEPT_SECONDS = 30 * DAY_MS // SECOND_MS

LIST = Params(
    {
        **PAGING,
        "created": Param(SecondsOrRange(CREATED)),
        "delivery_success": Param(Flag()),
        "type": Param(Text()),
        "types": Param(TextList(20)),
    },
    frozenset({"expand"}),
)
RETRIEVE = Params({}, frozenset({"expand"}))


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
    double.deliveries.snapshot(event, double.endpoints.all(), double.clock.now_ms())
    return event


def wants(patterns: Iterable[str], event_type: str) -> bool:
    """Whether `customer.created` is meant by names such as itself, `customer.*` or `*` [SDK: EventListParams.type]."""
    return any(fnmatchcase(event_type, pattern) for pattern in patterns)


def list_all(double: Double, call: Call) -> JsonObject:
    """GET /v1/events: the last 30 days, newest first. `delivery_success=false` are those of which a delivery is still
    pending or has failed for good [SDK: EventListParams]."""
    params = call.params
    if "type" in params and "types" in params:
        raise invalid("You may only specify one of these parameters: type, types.")
    patterns = [params["type"]] if "type" in params else params.get("types", ["*"])
    success = params.get("delivery_success")
    found = [
        view(double, event)
        for event in reversed(_kept(double))
        if wants(patterns, event["type"])
        and within(event["created"], params.get("created"))
        and (success is None or double.deliveries.all_delivered(event["id"]) == success)
    ]
    return page(found, params, call.path, "event")


def retrieve(double: Double, call: Call) -> JsonObject:
    """GET /v1/events/{id}: for 30 days [docs: API, events]."""
    for event in _kept(double):
        if event["id"] == call.args["id"]:
            return view(double, event)
    raise missing_resource("event", call.args["id"])


def view(double: Double, event: JsonObject) -> JsonObject:
    """The event with the number of endpoints that have not yet taken it [SDK: Event.pending_webhooks]."""
    return {**event, "pending_webhooks": double.deliveries.pending(event["id"])}


def _kept(double: Double) -> list[JsonObject]:
    now = double.clock.now()
    return [event for event in double.events if event["created"] > now - KEPT_SECONDS]


OPERATIONS = (
    Operation("GET", "/v1/events", list_all, LIST),
    Operation("GET", "/v1/events/{id}", retrieve, RETRIEVE),
)
