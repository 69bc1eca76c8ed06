"""HTTP API payload format 2.0: a request as an event, a function's answer as a response.

Details follow API Gateway: paths and path parameters arrive decoded (function URLs do not decode them), repeated
headers and query parameters are joined by commas, cookies stand apart, and a body that is not of a text type is base64.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, unquote

from local.settings import ACCOUNT_ID
from local.template import Route

INTERNAL_ERROR = b'{"message":"Internal Server Error"}'
_TEXT_TYPES = ("application/json", "application/xml", "application/javascript")
_DEFAULT_ANSWER_TYPE = b"text/plain;charset=UTF-8"


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request on the wire."""

    method: str
    raw_path: bytes
    """As sent, percent-encoded, without the query string."""
    query: bytes
    headers: Sequence[tuple[bytes, bytes]]
    """Names in lower case."""
    body: bytes
    client: str


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A response for the wire."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class BadAnswer(Exception):
    """A function's answer that API Gateway would not accept."""


class Router:
    """Finds the route of a request: the most literal path wins, then a method over ANY, then $default."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._default = next((route for route in routes if route.path == "$default"), None)
        ordered = [(route.path.strip("/").split("/"), route) for route in routes if route.path != "$default"]
        # Literal segments before variables, variables before greedy ones, a named method before ANY.
        ordered.sort(key=lambda pair: ([_rank(part) for part in pair[0]], pair[1].method == "ANY"))
        self._routes = ordered

    def find(self, method: str, raw_path: bytes) -> tuple[Route, dict[str, str]] | None:
        """The route and its decoded path parameters, or None (API Gateway's own 404)."""
        parts = raw_path.decode("latin-1").removeprefix("/").split("/")
        for pattern, route in self._routes:
            if route.method in (method, "ANY"):
                found = _match(pattern, parts)
                if found is not None:
                    return route, found
        return None if self._default is None else (self._default, {})


def _rank(part: str) -> int:
    if not part.startswith("{"):
        return 0
    return 2 if part.endswith("+}") else 1


def _match(pattern: list[str], parts: list[str]) -> dict[str, str] | None:
    found: dict[str, str] = {}
    for index, part in enumerate(pattern):
        if part.endswith("+}"):
            rest = "/".join(parts[index:])
            return {**found, part[1:-2]: unquote(rest)} if rest else None
        if index >= len(parts):
            return None
        if part.startswith("{"):
            if not parts[index]:
                return None
            found[part[1:-1]] = unquote(parts[index])
        elif part != parts[index]:
            return None
    return found if len(parts) == len(pattern) else None


def _joined(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, value in pairs:
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    return joined


def _body(body: bytes, content_type: str) -> tuple[str, bool]:
    """The body as an event holds it, and whether that is base64."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind.startswith("text/") or kind in _TEXT_TYPES or kind.endswith(("+json", "+xml")):
        try:
            return body.decode("utf-8"), False
        except UnicodeDecodeError:
            pass  # a text type with bytes that are no text travels as bytes
    return base64.b64encode(body).decode("ascii"), True


def build_event(
    request: HttpRequest,
    route: Route,
    parameters: Mapping[str, str],
    request_id: str,
    now: float,
    *,
    decoded: bool = True,
) -> bytes:
    """The event of payload format 2.0 as JSON. `now` is epoch seconds in stack time; `decoded`: whether the path is."""
    path = request.raw_path.decode("latin-1")
    if decoded:
        path = unquote(path, errors="replace")
    pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers]
    headers = _joined([pair for pair in pairs if pair[0] != "cookie"])
    host = headers.get("host", "localhost")
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": route.key,
        "rawPath": path,
        "rawQueryString": request.query.decode("latin-1"),
        "headers": headers
        | {
            "x-forwarded-for": request.client,
            "x-forwarded-port": host.rpartition(":")[2] if ":" in host else "80",
            "x-forwarded-proto": "http",
            "content-length": str(len(request.body)),
        },
        "requestContext": {
            "accountId": ACCOUNT_ID,
            "apiId": "local",
            "domainName": host,
            "domainPrefix": host.partition(".")[0],
            "http": {
                "method": request.method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": request.client,
                "userAgent": headers.get("user-agent", ""),
            },
            "requestId": request_id,
            "routeKey": route.key,
            "stage": "$default",
            "time": datetime.fromtimestamp(now, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000"),
            "timeEpoch": int(now * 1000),
        },
        "isBase64Encoded": False,
    }
    cookies = [part.strip() for name, value in pairs if name == "cookie" for part in value.split(";") if part.strip()]
    if cookies:
        event["cookies"] = cookies
    if request.query:
        query = parse_qsl(request.query.decode("latin-1"), keep_blank_values=True)
        if query:
            event["queryStringParameters"] = _joined(query)
    if parameters:
        event["pathParameters"] = dict(parameters)
    if request.body:
        event["body"], event["isBase64Encoded"] = _body(request.body, headers.get("content-type", ""))
    return json.dumps(event).encode()


def _header_text(value: object) -> bytes:
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if not isinstance(value, (str, int, float)):
        raise BadAnswer(f"a header's value is {value!r}")
    return str(value).encode("utf-8")


def read_answer(payload: bytes) -> HttpAnswer:
    """A function's answer as a response. Raises BadAnswer where API Gateway would answer 500.

    An answer without statusCode is the body of a 200 (the inferred format of payload 2.0).
    """
    try:
        answer = json.loads(payload)
    except ValueError as problem:
        raise BadAnswer(f"the answer is not JSON: {problem}") from problem
    if not isinstance(answer, dict) or "statusCode" not in answer:
        body = answer.encode() if isinstance(answer, str) else payload
        return HttpAnswer(200, [(b"content-type", b"application/json")], body)
    status = answer["statusCode"]
    if isinstance(status, str) and status.isdigit():
        status = int(status)
    if isinstance(status, bool) or not isinstance(status, int) or not 100 <= status <= 599:
        raise BadAnswer(f"statusCode is {answer['statusCode']!r}")
    body_text = answer.get("body")
    if body_text is None:
        body_text = ""
    if not isinstance(body_text, str):
        raise BadAnswer("body is not a text")
    try:
        body = base64.b64decode(body_text, validate=True) if answer.get("isBase64Encoded") else body_text.encode()
    except binascii.Error as problem:
        raise BadAnswer(f"body is not base64: {problem}") from problem
    headers = [(str(n).lower().encode("latin-1"), _header_text(v)) for n, v in (answer.get("headers") or {}).items()]
    headers = [pair for pair in headers if pair[0] not in (b"content-length", b"connection", b"transfer-encoding")]
    if not any(name == b"content-type" for name, _ in headers):
        headers.append((b"content-type", _DEFAULT_ANSWER_TYPE))
    headers += [(b"set-cookie", str(cookie).encode()) for cookie in answer.get("cookies") or []]
    return HttpAnswer(status, headers, body)
