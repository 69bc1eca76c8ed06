"""Requests, answers and the table of routes.

A hand-written router of a few lines instead of a framework's: it answers 405 and problem documents everywhere, drives
authorization and the OpenAPI document from the same table, and keeps the gate's import light (docs/decisions/0002).
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import unquote

from tollgate.errors import (
    BodyTooLarge,
    MalformedBody,
    MethodNotAllowed,
    NoSuchRoute,
    UnsupportedMediaType,
)

MAX_BODY_BYTES = 512 * 1024
MAX_DEPTH = 32
"""Levels of arrays and objects in a body; no valid request comes near it."""
_NONE: Mapping[str, str] = MappingProxyType({})


class Request(NamedTuple):
    """One HTTP request. `headers` have lower-case names."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    request_id: str
    params: Mapping[str, str] = _NONE


class Response(NamedTuple):
    status: int
    body: Any
    headers: Mapping[str, str] = _NONE


class Route(NamedTuple):
    """`path` as in OpenAPI (`/v1/reservations/{id}`); `scopes`: any of them opens it, none: public."""

    method: str
    path: str
    scopes: tuple[str, ...]
    handle: Callable[[Any, Request], Response]
    name: str

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(self.path.strip("/").split("/"))


ROUTED_TO_GATE = (
    ("POST", ("v1", "reservations")),
    ("GET", ("v1", "reservations", "{id}")),
    ("POST", ("v1", "reservations", "{id}", "commit")),
    ("POST", ("v1", "reservations", "{id}", "release")),
    ("POST", ("v1", "reservations", "{id}", "extend")),
    ("POST", ("v1", "usage")),
    ("POST", ("v1", "estimates")),
)
"""What the HTTP API sends to the gate function. Another method on these paths arrives at the manage function, which
must know them (without loading the gate's modules) to answer 405 instead of 404."""

ROUTED_TO_BILLING = (
    ("POST", ("v1", "accounts", "{id}", "checkout")),
    ("POST", ("v1", "accounts", "{id}", "subscription")),
    ("GET", ("v1", "accounts", "{id}", "invoices", "{invoice}", "audit")),
)
"""The same for the billing function."""


class WrongMethod(MethodNotAllowed):
    """`allowed`: the methods of the path, for the Allow header that RFC 9110 (15.5.6) asks for."""

    def __init__(self, method: str, allowed: tuple[str, ...]) -> None:
        super().__init__(f"{method} is not possible here; use {', '.join(allowed)}.")
        self.allowed = allowed


class Router:
    """Finds the route of a request."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = tuple(routes)
        self._by_length: dict[int, list[tuple[tuple[str, ...], Route]]] = {}
        for route in routes:
            self._by_length.setdefault(len(route.parts), []).append((route.parts, route))

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        """The route and its path parameters. Raises NoSuchRoute, WrongMethod."""
        pieces = path.strip("/").split("/")
        allowed: set[str] = set()
        for parts, route in self._by_length.get(len(pieces), ()):
            params = _match(parts, pieces)
            if params is None:
                continue
            if route.method == method:
                return route, params
            allowed.add(route.method)
        allowed |= {
            kind
            for kind, parts in (*ROUTED_TO_GATE, *ROUTED_TO_BILLING)
            if len(parts) == len(pieces) and _match(parts, pieces) is not None
        }
        if allowed:
            raise WrongMethod(method[:32], tuple(sorted(allowed)))
        raise NoSuchRoute(method, path[:200])


def _match(parts: Sequence[str], pieces: Sequence[str]) -> dict[str, str] | None:
    params = {}
    for part, piece in zip(parts, pieces, strict=True):
        if part.startswith("{"):
            if not piece:
                return None
            params[part[1:-1]] = unquote(piece)
        elif part != piece:
            return None
    return params


def request_of(event: Mapping[str, Any]) -> Request:
    """An HTTP API event (payload 2.0) as a Request. Raises MalformedBody, BodyTooLarge."""
    context = event["requestContext"]
    raw = event.get("body") or ""
    if event.get("isBase64Encoded"):
        try:
            body = base64.b64decode(raw, validate=True)
        except (binascii.Error, ValueError):
            raise MalformedBody("The body is not readable; send JSON in UTF-8.") from None
    else:
        body = raw.encode("utf-8", "surrogatepass")
    if len(body) > MAX_BODY_BYTES:
        raise BodyTooLarge(MAX_BODY_BYTES)
    return Request(
        method=context["http"]["method"],
        path=event["rawPath"],
        query=event.get("queryStringParameters") or {},
        headers=event.get("headers") or {},
        body=body,
        request_id=str(context.get("requestId", "")),
    )


def json_body(request: Request) -> Any:
    """The JSON of a request body, numbers as int or Decimal (read from their text, never through a float).

    Raises UnsupportedMediaType, MalformedBody.
    """
    kind = request.headers.get("content-type")
    if kind is not None and kind.split(";")[0].strip().lower() not in ("application/json", ""):
        raise UnsupportedMediaType
    try:
        found = _JSON.decode(request.body.decode("utf-8"))
    except UnicodeDecodeError:
        raise MalformedBody("The body is not valid UTF-8.") from None
    except RecursionError:
        raise MalformedBody("The body is nested too deeply.") from None
    except ValueError as error:
        raise MalformedBody(f"The body is not valid JSON: {error}.") from None
    # Counting bytes tells that most bodies cannot be deep and hold no lone surrogate; only the others are walked.
    if request.body.count(b"[") + request.body.count(b"{") > MAX_DEPTH and _too_deep(found):
        raise MalformedBody("The body is nested too deeply.")
    if b"\\u" in request.body and not _is_text(found):
        raise MalformedBody("The body holds a lone surrogate, which is no character.")
    return found


def _levels(value: Any) -> Iterator[list[Any]]:
    """The arrays and objects in `value`, level by level: recursion is what must not overflow."""
    level = [value]
    while level := [outer for outer in level if isinstance(outer, dict | list)]:
        yield level
        level = [inner for outer in level for inner in (outer.values() if isinstance(outer, dict) else outer)]


def _too_deep(value: Any) -> bool:
    return any(depth > MAX_DEPTH for depth, _ in enumerate(_levels(value), 1))


def _is_text(value: Any) -> bool:
    """Whether every string in `value` is text that UTF-8 can carry (JSON's escapes can spell half a character)."""
    names = [name for level in _levels(value) for outer in level if isinstance(outer, dict) for name in outer]
    inner = [
        one
        for level in _levels([value])
        for outer in level
        for one in (outer.values() if isinstance(outer, dict) else outer)
    ]
    return all(not isinstance(text, str) or _encodes(text) for text in (*names, *inner))


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _integer(text: str) -> int | Decimal:
    return int(text) if len(text) <= 18 else _decimal(text)


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise ValueError("a number is out of range") from None


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON number")


_JSON = json.JSONDecoder(parse_float=_decimal, parse_int=_integer, parse_constant=_no_constant)
