"""Event destinations of the v2 API: create, list, retrieve, update, delete, enable, disable. Of their kinds only
webhook endpoints, with thin or snapshot payloads.

The address and the secret are left out of answers unless `include` names them, and the secret can be had at creation
only [SDK: EventDestinationCreateParams.include, EventDestinationRetrieveParams.include].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from local.stripe_double.clock import rfc3339
from local.stripe_double.endpoints import SNAPSHOT, THIN, Endpoint, check_events, check_url
from local.stripe_double.errors import ApiError, invalid
from local.stripe_double.ids import new_id
from local.stripe_double.operations import Call, Operation
from local.stripe_double.params import Nested, OneOf, Param, Params, Text, TextList, TextMap, Whole
from local.stripe_double.wire import API_VERSION, JsonObject

if TYPE_CHECKING:
    from local.stripe_double.state import Double

PREFIX = "ed_"
URL, SECRET = "webhook_endpoint.url", "webhook_endpoint.signing_secret"
_METADATA = TextMap(max_keys=50, max_key=40, max_value=500)

WEBHOOK = Params({"url": Param(Text(), required=True)})
CREATE = Params(
    {
        "description": Param(Text()),
        "enabled_events": Param(TextList(300), required=True),
        "event_payload": Param(OneOf((SNAPSHOT, THIN)), required=True),
        "include": Param(TextList(2)),
        "metadata": Param(_METADATA),
        "name": Param(Text(), required=True),
        "snapshot_api_version": Param(OneOf((API_VERSION,))),
        "type": Param(OneOf(("webhook_endpoint",)), required=True),
        "webhook_endpoint": Param(Nested(WEBHOOK)),
    },
    frozenset({"amazon_eventbridge", "azure_event_grid", "events_from"}),
)
UPDATE = Params(
    {
        "description": Param(Text()),
        "enabled_events": Param(TextList(300)),
        "include": Param(TextList(1)),
        "metadata": Param(_METADATA),
        "name": Param(Text()),
        "webhook_endpoint": Param(Nested(WEBHOOK)),
    }
)
RETRIEVE = Params({"include": Param(TextList(1))})
# `page` is only ever sent by following `next_page_url`, so the SDK has no name for it.
LIST = Params({"include": Param(TextList(1)), "limit": Param(Whole(1, 100)), "page": Param(Whole(0))})
SWITCH = Params()


def create(double: Double, call: Call) -> JsonObject:
    """POST /v2/core/event_destinations [SDK: EventDestinationCreateParams]."""
    params = call.params
    payload = params["event_payload"]
    if "webhook_endpoint" not in params:
        raise invalid("Missing required param: webhook_endpoint.", "webhook_endpoint", "parameter_missing")
    if payload == THIN and "snapshot_api_version" in params:
        raise invalid("snapshot_api_version is for snapshot events only", "snapshot_api_version")
    check_url(params["webhook_endpoint"]["url"], "webhook_endpoint[url]")
    check_events(params["enabled_events"], payload)
    now_ms = double.clock.now_ms()
    endpoint = Endpoint(
        id=new_id("ed_test"),
        url=params["webhook_endpoint"]["url"],
        enabled_events=params["enabled_events"],
        secret=new_id("whsec"),
        payload=payload,
        created_ms=now_ms,
        api_version=params.get("snapshot_api_version", API_VERSION) if payload == SNAPSHOT else None,
        name=params["name"],
        description=params.get("description", ""),
        metadata=params.get("metadata", {}),
        updated_ms=now_ms,
    )
    included = _included(params, {URL, SECRET})
    double.endpoints.add(endpoint)
    return view(endpoint, included)


def retrieve(double: Double, call: Call) -> JsonObject:
    """GET /v2/core/event_destinations/{id}."""
    return view(_known(double, call), _included(call.params, {URL}))


def update(double: Double, call: Call) -> JsonObject:
    """POST /v2/core/event_destinations/{id} [SDK: EventDestinationUpdateParams]."""
    endpoint, params = _known(double, call), call.params
    included = _included(params, {URL})
    if "webhook_endpoint" in params:
        check_url(params["webhook_endpoint"]["url"], "webhook_endpoint[url]")
        endpoint.url = params["webhook_endpoint"]["url"]
    if "enabled_events" in params:
        check_events(params["enabled_events"], endpoint.payload)
        endpoint.enabled_events = params["enabled_events"]
    endpoint.name = params.get("name", endpoint.name)
    endpoint.description = params.get("description", endpoint.description)
    merged = {**endpoint.metadata, **params.get("metadata", {})}
    endpoint.metadata = {key: value for key, value in merged.items() if value}
    endpoint.updated_ms = double.clock.now_ms()
    return view(endpoint, included)


def delete(double: Double, call: Call) -> JsonObject:
    """DELETE /v2/core/event_destinations/{id}: `{id, object}` [SDK: DeletedObject]."""
    endpoint = _known(double, call)
    double.endpoints.remove(endpoint.id)
    return {"id": endpoint.id, "object": "v2.core.event_destination"}


def enable(double: Double, call: Call) -> JsonObject:
    """POST /v2/core/event_destinations/{id}/enable."""
    return _switched(double, call, True)


def disable(double: Double, call: Call) -> JsonObject:
    """POST /v2/core/event_destinations/{id}/disable."""
    return _switched(double, call, False)


def list_all(double: Double, call: Call) -> JsonObject:
    """GET /v2/core/event_destinations: newest first, `{data, next_page_url, previous_page_url}`."""
    included = _included(call.params, {URL})
    found = [view(one, included) for one in reversed(double.endpoints.all(PREFIX))]
    limit, start = call.params.get("limit", 20), call.params.get("page", 0)
    query = f"page={start + limit}&limit={limit}" + "".join(f"&include[{i}]={name}" for i, name in enumerate(included))
    more = start + limit < len(found)
    return {
        "data": found[start : start + limit],
        "next_page_url": f"{call.path}?{query}" if more else None,
        "previous_page_url": None,
    }


def view(endpoint: Endpoint, included: list[str]) -> JsonObject:
    """[SDK: v2.core.EventDestination]."""
    webhook: JsonObject = {}
    if URL in included:
        webhook["url"] = endpoint.url
    if SECRET in included:
        webhook["signing_secret"] = endpoint.secret
    shown: JsonObject = {
        "id": endpoint.id,
        "object": "v2.core.event_destination",
        "created": rfc3339(endpoint.created_ms),
        "description": endpoint.description or "",
        "enabled_events": list(endpoint.enabled_events),
        "event_payload": endpoint.payload,
        "events_from": ["@self"],
        "livemode": False,
        "metadata": dict(endpoint.metadata),
        "name": endpoint.name,
        "status": "enabled" if endpoint.enabled else "disabled",
        "status_details": None if endpoint.enabled else {"disabled": {"reason": "user"}},
        "type": "webhook_endpoint",
        "updated": rfc3339(endpoint.updated_ms),
        "webhook_endpoint": webhook,
    }
    if endpoint.payload == SNAPSHOT:
        shown["snapshot_api_version"] = endpoint.api_version
    return shown


def _included(params: Mapping[str, Any], known: set[str]) -> list[str]:
    included: list[str] = params.get("include", [])
    for name in included:
        if name not in known:
            raise invalid(f"Invalid include: {name}", "include")
    return included


def _switched(double: Double, call: Call, enabled: bool) -> JsonObject:
    endpoint = _known(double, call)
    endpoint.enabled = enabled
    endpoint.updated_ms = double.clock.now_ms()
    return view(endpoint, [])


def _known(double: Double, call: Call) -> Endpoint:
    endpoint = double.endpoints.get(call.args["id"], PREFIX)
    if endpoint is None:
        raise ApiError(404, f"No such event destination: '{call.args['id']}'", code="not_found")
    return endpoint


OPERATIONS = (
    Operation("POST", "/v2/core/event_destinations", create, CREATE),
    Operation("GET", "/v2/core/event_destinations", list_all, LIST),
    Operation("GET", "/v2/core/event_destinations/{id}", retrieve, RETRIEVE),
    Operation("POST", "/v2/core/event_destinations/{id}", update, UPDATE),
    Operation("DELETE", "/v2/core/event_destinations/{id}", delete, SWITCH),
    Operation("POST", "/v2/core/event_destinations/{id}/enable", enable, SWITCH),
    Operation("POST", "/v2/core/event_destinations/{id}/disable", disable, SWITCH),
)
