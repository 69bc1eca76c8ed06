"""Webhook endpoints of the v1 API: create, list, retrieve, update, delete. Snapshot payloads; secrets are
shown once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from local.stripe_double.endpoints import SNAPSHOT, Endpoint, check_events, check_url
from local.stripe_double.errors import invalid, missing_resource
from local.stripe_double.ids import new_id
from local.stripe_double.lists import PAGING, page
from local.stripe_double.operations import Call, Operation
from local.stripe_double.params import Flag, OneOf, Param, Params, Text, TextList, TextMap
from local.stripe_double.wire import API_VERSION, JsonObject

if TYPE_CHECKING:
    from local.stripe_double.state import Double

PREFIX = "we_"
MOST = 16
_METADATA = TextMap(unsettable=True, max_keys=50, max_key=40, max_value=500)

CREATE = Params(
    {
        # Another version would have other shapes, which the double does not speak.
        "api_version": Param(OneOf((API_VERSION,))),
        "description": Param(Text(unsettable=True)),
        "enabled_events": Param(TextList(300), required=True),
        "metadata": Param(_METADATA),
        "url": Param(Text(), required=True),
    },
    frozenset({"connect", "expand"}),
)
UPDATE = Params(
    {
        "description": Param(Text(unsettable=True)),
        "disabled": Param(Flag()),
        "enabled_events": Param(TextList(300)),
        "metadata": Param(_METADATA),
        "url": Param(Text()),
    },
    frozenset({"expand"}),
)
RETRIEVE = Params({}, frozenset({"expand"}))
LIST = Params({**PAGING}, frozenset({"expand"}))
DELETE = Params()


def create(double: Double, call: Call) -> JsonObject:
    """POST /v1/webhook_endpoints [SDK: WebhookEndpointCreateParams]. At most 16 in an account [docs: webhooks].
    `secret` is in this answer only [SDK: WebhookEndpoint.secret]."""
    params = call.params
    check_url(params["url"], "url")
    check_events(params["enabled_events"], SNAPSHOT)
    if len(double.endpoints.all(PREFIX)) >= MOST:
        raise invalid(f"You have reached the maximum of {MOST} test webhook endpoints.")
    endpoint = Endpoint(
        id=new_id("we"),
        url=params["url"],
        enabled_events=params["enabled_events"],
        secret=new_id("whsec"),
        payload=SNAPSHOT,
        created_ms=double.clock.now_ms(),
        api_version=params.get("api_version"),
        description=params.get("description"),
        metadata={key: value for key, value in (params.get("metadata") or {}).items() if value},
    )
    double.endpoints.add(endpoint)
    return {**view(endpoint), "secret": endpoint.secret}


def retrieve(double: Double, call: Call) -> JsonObject:
    """GET /v1/webhook_endpoints/{id}."""
    return view(_known(double, call))


def update(double: Double, call: Call) -> JsonObject:
    """POST /v1/webhook_endpoints/{id}: the API version stays what it was [SDK: WebhookEndpointUpdateParams]."""
    endpoint, params = _known(double, call), call.params
    if "url" in params:
        check_url(params["url"], "url")
        endpoint.url = params["url"]
    if "enabled_events" in params:
        check_events(params["enabled_events"], SNAPSHOT)
        endpoint.enabled_events = params["enabled_events"]
    if "description" in params:
        endpoint.description = params["description"]
    if "disabled" in params:
        endpoint.enabled = not params["disabled"]
    if "metadata" in params:
        merged = {} if params["metadata"] is None else {**endpoint.metadata, **params["metadata"]}
        endpoint.metadata = {key: value for key, value in merged.items() if value}
    return view(endpoint)


def delete(double: Double, call: Call) -> JsonObject:
    """DELETE /v1/webhook_endpoints/{id}: what is still waiting for it is not sent any more."""
    endpoint = _known(double, call)
    double.endpoints.remove(endpoint.id)
    return {"id": endpoint.id, "object": "webhook_endpoint", "deleted": True}


def list_all(double: Double, call: Call) -> JsonObject:
    """GET /v1/webhook_endpoints: newest first."""
    return page([view(one) for one in reversed(double.endpoints.all(PREFIX))], call.params, call.path, "webhook")


def view(endpoint: Endpoint) -> JsonObject:
    """[SDK: WebhookEndpoint], without its secret."""
    return {
        "id": endpoint.id,
        "object": "webhook_endpoint",
        "api_version": endpoint.api_version,
        "application": None,
        "created": endpoint.created_ms // 1000,
        "description": endpoint.description,
        "enabled_events": list(endpoint.enabled_events),
        "livemode": False,
        "metadata": dict(endpoint.metadata),
        "status": "enabled" if endpoint.enabled else "disabled",
        "url": endpoint.url,
    }


def _known(double: Double, call: Call) -> Endpoint:
    endpoint = double.endpoints.get(call.args["id"], PREFIX)
    if endpoint is None:
        raise missing_resource("webhook endpoint", call.args["id"])
    return endpoint


OPERATIONS = (
    Operation("POST", "/v1/webhook_endpoints", create, CREATE),
    Operation("GET", "/v1/webhook_endpoints", list_all, LIST),
    Operation("GET", "/v1/webhook_endpoints/{id}", retrieve, RETRIEVE),
    Operation("POST", "/v1/webhook_endpoints/{id}", update, UPDATE),
    Operation("DELETE", "/v1/webhook_endpoints/{id}", delete, DELETE),
)
