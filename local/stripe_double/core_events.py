"""Thin events of the v2 API: list and retrieve. Today they are meter error reports; `courier` delivers them to
event destinations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from local.stripe_double.clock import DAY_MS, parse_rfc3339, rfc3339
from local.stripe_double.errors import ApiError, invalid
from local.stripe_double.lists import within
from local.stripe_double.operations import Call, Operation
from local.stripe_double.params import Moment, Nested, Param, Params, Text, TextList, Whole
from local.stripe_double.wire import JsonObject

if TYPE_CHECKING:
    from local.stripe_double.state import Double

KEPT_MS = 30 * DAY_MS

_BOUND = Param(Moment())
CREATED = Params({"gt": _BOUND, "gte": _BOUND, "lt": _BOUND, "lte": _BOUND})
LIST = Params(
    {
        "created": Param(Nested(CREATED)),
        "limit": Param(Whole(1, 100)),
        "object_id": Param(Text()),
        "types": Param(TextList(20)),
        # Only ever sent by following `next_page_url`, so the SDK has no name for it.
        "page": Param(Text()),
    }
)
RETRIEVE = Params()


def list_all(double: Double, call: Call) -> JsonObject:
    """GET /v2/core/events: the last 30 days, newest first, `{data, next_page_url, previous_page_url}` [SDK: v2
    ListObject, EventListParams]. Page size 20 unless given [assumed].
    """
    params = call.params
    types, object_id, created = params.get("types"), params.get("object_id"), params.get("created")
    found = [
        event
        for event in reversed(_kept(double))
        if (types is None or event["type"] in types)
        and (object_id is None or event.get("related_object", {}).get("id") == object_id)
        and within(parse_rfc3339(event["created"]), created)
    ]
    limit = params.get("limit", 20)
    start = _start(found, params.get("page"))
    data = found[start : start + limit]
    more = start + limit < len(found)
    return {
        "data": data,
        "next_page_url": _next_page(call, data[-1]["id"], limit) if more else None,
        "previous_page_url": None,
    }


def retrieve(double: Double, call: Call) -> JsonObject:
    """GET /v2/core/events/{id}: with its `data`, for 30 days [SDK: EventService.retrieve]. Else 404 `not_found`
    [docs: v2 errors].
    """
    for event in _kept(double):
        if event["id"] == call.args["id"]:
            return event
    raise ApiError(404, f"No such event: '{call.args['id']}'", code="not_found")


def _kept(double: Double) -> list[JsonObject]:
    now_ms = double.clock.now_ms()
    return [
        event for event in double.error_reports.published(now_ms) if parse_rfc3339(event["created"]) > now_ms - KEPT_MS
    ]


def _start(found: list[JsonObject], last_id: str | None) -> int:
    """Pages continue after the last event shown, so an event that comes meanwhile shifts nothing."""
    if last_id is None:
        return 0
    for index, event in enumerate(found):
        if event["id"] == last_id:
            return index + 1
    raise invalid(f"Invalid page: {last_id}", "page")


def _next_page(call: Call, last_id: str, limit: int) -> str:
    """The filters travel in the URL: the SDK follows it without parameters of its own."""
    query: list[tuple[str, str]] = [("page", last_id), ("limit", str(limit))]
    query += [(f"types[{index}]", name) for index, name in enumerate(call.params.get("types", []))]
    if "object_id" in call.params:
        query.append(("object_id", call.params["object_id"]))
    query += [(f"created[{bound}]", rfc3339(ms)) for bound, ms in call.params.get("created", {}).items()]
    return f"{call.path}?{urlencode(query, quote_via=quote)}"


OPERATIONS = (
    Operation("GET", "/v2/core/events", list_all, LIST),
    Operation("GET", "/v2/core/events/{id}", retrieve, RETRIEVE),
)
