"""Builds the OpenAPI 3.1 document from the routes, the request models and the answer models."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from tollgate.errors import (
    BodyTooLarge,
    Busy,
    FieldError,
    Invalid,
    MalformedBody,
    ScopeMissing,
    TollgateError,
    Unauthorized,
    UnsupportedMediaType,
)
from tollgate.http import billing_routes, gate_routes, manage_routes, schemas
from tollgate.http.dispatch import problem
from tollgate.http.openapi_operations import OPERATIONS, Operation
from tollgate.http.requests import EventIn, Id, Key, Moment
from tollgate.http.routing import MAX_BODY_BYTES, Route

VERSION = "0.1.0"
_REF = "#/components/schemas/{model}"
WITHOUT_STORE = frozenset({"getHealth", "getOpenapi"})
"""They answer whatever state DynamoDB is in."""
_HEADERS = {"ETag": "ETag", "CacheControl": "Cache-Control"}
"""By their names below `components.headers`."""
NOT_MODIFIED = 304
_TAGS = {
    "Reservations": "At request time: may this call run?",
    "Usage": "What was used, and where an account stands.",
    "Accounts": "Who is billed, on which plan.",
    "Billing": "What is sold at Stripe.",
    "Notifications": "What accounts and operators are told.",
    "Breaker": "What stops a runaway, and how to go on.",
    "Keys": "API keys and their scopes.",
    "Margins": "What accounts cost and what they bring.",
    "Reconciliation": "Events, batches and Stripe's totals, compared.",
    "Catalogue": "What can be bought.",
    "Service": "The API itself.",
}
_INTRODUCTION = (
    "Usage metering, quota enforcement and billing. Decimals are strings in answers, strings or JSON numbers in "
    "requests; times are RFC 3339 UTC. Every write accepts an Idempotency-Key. Errors are RFC 9457 problem documents "
    "with a stable `code`."
)


def document() -> dict[str, Any]:
    """The document as a JSON value. Raises KeyError for a route that `openapi_operations` does not describe."""
    paths: dict[str, dict[str, Any]] = {}
    routes = (*gate_routes.ROUTES, *manage_routes.ROUTES, *billing_routes.ROUTES)
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, OPERATIONS[route.name])
    return {
        "openapi": "3.1.0",
        "info": {"title": "Tollgate", "version": VERSION, "description": _INTRODUCTION},
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key: `tg_test_...`, `tg_live_...`.",
                }
            },
            "parameters": _parameters(),
            "headers": {
                "RetryAfter": {
                    "description": "Seconds until the same request is worth another try.",
                    "schema": {"type": "integer", "minimum": 1},
                },
                "WwwAuthenticate": {"schema": {"type": "string", "const": "Bearer"}},
                "ETag": {"schema": {"type": "string"}},
                "CacheControl": {"schema": {"type": "string"}},
            },
            "responses": {"Throttled": _throttled()},
            "examples": _problem_examples(routes),
            "schemas": _schemas(OPERATIONS.values()),
        },
    }


# -- one operation -----------------------------------------------------------------------------------------------------


def _operation(route: Route, described: Operation) -> dict[str, Any]:
    scopes = " or ".join(f"`{scope}`" for scope in route.scopes)
    needs = f"Needs the scope {scopes}." if scopes else "Public: needs no key."
    found: dict[str, Any] = {
        "operationId": route.name,
        "tags": [described.tag],
        "summary": described.summary,
        "description": f"{described.description} {needs}".strip(),
    }
    # Any of the scopes opens it: alternatives, as OpenAPI 3.1 writes them.
    found["security"] = [{"bearer": [scope]} for scope in route.scopes]
    parameters = [_path_parameter(route)] if "{id}" in route.path else []
    parameters += [{"$ref": f"#/components/parameters/{_BELOW[part]}"} for part in route.parts if part in _BELOW]
    parameters += [{"$ref": f"#/components/parameters/{name}"} for name in described.query]
    if route.method != "GET":
        parameters.append({"$ref": "#/components/parameters/IdempotencyKey"})
    if parameters:
        found["parameters"] = parameters
    if described.body is not None:
        content: dict[str, Any] = {"schema": _ref(described.body)}
        if described.examples:
            content["examples"] = {
                name.replace(" ", "-").replace("'", ""): {"summary": name, "value": value}
                for name, value in described.examples.items()
            }
        found["requestBody"] = {"required": described.body_required, "content": {"application/json": content}}
    found["responses"] = _responses(route, described)
    return found


_BELOW = {"{meter}": "LevelMeter", "{member}": "MemberId", "{invoice}": "InvoiceId", "{notification}": "NotificationId"}
"""Parameters of paths below an account."""


_OF = {
    "reservations": "ReservationId",
    "accounts": "AccountId",
    "keys": "KeyId",
    "webhook_endpoints": "EndpointId",
}


def _path_parameter(route: Route) -> dict[str, Any]:
    kind = route.parts[1]
    name = {
        "reservations": "ReservationId",
        "accounts": "AccountId",
        "keys": "KeyId",
        "webhook_endpoints": "EndpointId",
    }[kind]
    return {"$ref": f"#/components/parameters/{name}"}


def _responses(route: Route, described: Operation) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for status, (models, text) in described.answers.items():
        schemas = [_ref(model) for model in models]
        schema = {"anyOf": schemas} if len(schemas) > 1 else schemas[0] if schemas else {"type": "object"}
        found[str(status)] = {"description": text}
        if status != NOT_MODIFIED:
            found[str(status)]["content"] = {
                "application/json": {"schema": schema},
                **{kind: {"schema": {"type": "string"}} for kind in described.also},
            }
        if described.headers:
            found[str(status)]["headers"] = {
                _HEADERS[name]: {"$ref": f"#/components/headers/{name}"} for name in described.headers
            }
    if described.links:
        first = found[str(next(iter(described.answers)))]
        first["links"] = {
            link.operation: {"operationId": link.operation, "parameters": dict(link.parameters)}
            for link in described.links
        }
    by_status: dict[int, list[TollgateError]] = {}
    for error in _problems(route, described):
        by_status.setdefault(error.status, []).append(error)
    for status, errors in sorted(by_status.items()):
        found[str(status)] = _problem_response(status, errors)
    if route.scopes:
        found["429"] = {"$ref": "#/components/responses/Throttled"}
    return found


def _problems(route: Route, described: Operation) -> list[TollgateError]:
    """Every problem that a route can answer, an example of each: those of all routes of its kind, and its own."""
    found: list[TollgateError] = []
    if route.scopes:
        found.append(Unauthorized())
        if not {"usage", "read"} <= set(route.scopes):  # else every key has a scope that opens it
            found.append(ScopeMissing(route.scopes[0]))
    if route.method != "GET":
        found.append(
            Invalid(
                "An idempotency key is 1 to 255 visible ASCII characters.",
                (FieldError("Idempotency-Key", "idempotency_key"),),
            )
        )
    if described.body is not None:
        found += [
            MalformedBody("The body is not valid JSON."),
            BodyTooLarge(MAX_BODY_BYTES),
            UnsupportedMediaType(),
        ]
    if route.name not in WITHOUT_STORE:
        found.append(Busy())
    codes = {error.code for error in found}
    return found + [error for error in described.problems if error.code not in codes]


def _problem_response(status: int, errors: Sequence[TollgateError]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "description": errors[0].title,
        "content": {
            "application/problem+json": {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "examples": {error.code: {"$ref": f"#/components/examples/{error.code}"} for error in errors},
            }
        },
    }
    if status == 503:
        found["headers"] = {"Retry-After": {"$ref": "#/components/headers/RetryAfter"}}
    if status == 401:
        found["headers"] = {"WWW-Authenticate": {"$ref": "#/components/headers/WwwAuthenticate"}}
    return found


# -- components --------------------------------------------------------------------------------------------------------


def _problem_examples(routes: Sequence[Route]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for route in routes:
        for error in _problems(route, OPERATIONS[route.name]):
            if error.code not in found:
                found[error.code] = {"summary": error.title, "value": problem(error, "GyW7NhTfPHcEMtA=").body}
    return dict(sorted(found.items()))


def _throttled() -> dict[str, Any]:
    """API Gateway's own answer, before any function runs."""
    schema = {"type": "object", "properties": {"message": {"type": "string"}}, "required": ["message"]}
    return {
        "description": "Too many requests: API Gateway's own answer. Nothing was done; send it again later.",
        "content": {"application/json": {"schema": schema, "example": {"message": "Too Many Requests"}}},
    }


def _parameters() -> dict[str, Any]:
    an_id, a_key = TypeAdapter(Id).json_schema(), TypeAdapter(Key).json_schema()
    moment = TypeAdapter(Moment).json_schema()
    a_key["description"] = "Visible ASCII. Ties repeats of this write together; another body under it is a 409."
    return {
        "AccountId": {"name": "id", "in": "path", "required": True, "schema": an_id},
        "ReservationId": {
            "name": "id",
            "in": "path",
            "required": True,
            "schema": {"type": "string", "pattern": "^rsv_[A-Za-z0-9_-]+$", "description": "As it was answered."},
        },
        "KeyId": {
            "name": "id",
            "in": "path",
            "required": True,
            "schema": {"type": "string", "pattern": "^key_[0-9a-f]{16}$"},
        },
        "LevelMeter": {
            "name": "meter",
            "in": "path",
            "required": True,
            "schema": {"type": "string", "minLength": 1, "maxLength": 64, "description": "One of `kind: level`."},
        },
        "MemberId": {"name": "member", "in": "path", "required": True, "schema": an_id},
        "InvoiceId": {
            "name": "invoice",
            "in": "path",
            "required": True,
            "schema": {"type": "string", "pattern": "^in_[A-Za-z0-9_]{1,60}$", "description": "Stripe's id."},
        },
        "EndpointId": {
            "name": "id",
            "in": "path",
            "required": True,
            "schema": {"type": "string", "pattern": "^whe_[0-9a-f]{16}$"},
        },
        "NotificationId": {
            "name": "notification",
            "in": "path",
            "required": True,
            "schema": {"type": "string", "pattern": "^msg_[0-9]{13}[0-9a-f]{20}$"},
        },
        "IdempotencyKey": {"name": "Idempotency-Key", "in": "header", "schema": a_key},
        "limit": _query("limit", {"type": "integer", "minimum": 1, "maximum": 100, "default": 50}),
        "cursor": _query("cursor", {"type": "string", "description": "`next_cursor` of the page before."}),
        "audit_limit": _query("limit", {"type": "integer", "minimum": 1, "maximum": 5000, "default": 1000}),
        "rows": _query("rows", {"type": "string", "enum": ["events", "batches"], "default": "events"}),
        "format": _query("format", {"type": "string", "enum": ["json", "csv"]}),
        "unread": _query("unread", {"type": "boolean", "default": False}),
        "period": _query("period", {"type": "string", "pattern": "^20[0-9]{2}-(0[1-9]|1[0-2])$"}),
        "spend_above": _query("spend_above", {"type": "string", "pattern": r"^[0-9]{1,12}(\.[0-9]{1,6})?$"}),
        "token": _query("token", {"type": "string", "description": "As it stands in the link."}),
        "member": _query("member", an_id),
        "member_filter": _query("member", {"type": "string"}),
        "meter": _query("meter", {"type": "string"}),
        "from": _query("from", moment),
        "to": _query("to", moment),
    }


def _query(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema}


def _ref(model: type[BaseModel]) -> dict[str, Any]:
    return {"$ref": _REF.format(model=model.__name__)}


def _schemas(operations: Iterable[Operation]) -> dict[str, Any]:
    wanted: list[tuple[type[BaseModel], JsonSchemaMode]] = [(schemas.Problem, "serialization"), (EventIn, "validation")]
    for operation in operations:
        if operation.body is not None:
            wanted.append((operation.body, "validation"))
        for models, _ in operation.answers.values():
            wanted += [(model, "serialization") for model in models]
    _, found = models_json_schema(
        list(dict.fromkeys(wanted)), ref_template=_REF, schema_generator=_Generator, by_alias=True
    )
    definitions: dict[str, Any] = found["$defs"]
    definitions["UsageIn"]["properties"]["events"]["items"] = {
        "anyOf": [
            {"$ref": _REF.format(model="EventIn")},
            {"description": "Anything else is answered as rejected, and spoils no other event."},
        ]
    }
    return dict(sorted(definitions.items()))


class _Generator(GenerateJsonSchema):
    """Without what pydantic derives from Python: titles made of field names, and null as the default of an absence."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        if schema.get("default", ...) is not None:
            return super().default_schema(schema)
        inner = schema["schema"]
        if self.mode == "serialization" and inner["type"] == "nullable":
            inner = inner["schema"]  # answers leave such a field out instead
        return self.generate_inner(inner)
