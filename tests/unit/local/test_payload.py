"""HTTP API payload 2.0, both ways."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from local.payload import BadAnswer, HttpRequest, Router, build_event, read_answer
from local.template import Route

ROUTES = [
    Route("GET", "/v1/things/{id}", "reader"),
    Route("ANY", "/v1/things/{id}", "anything"),
    Route("POST", "/v1/things/{id}/commit", "gate"),
    Route("POST", "/v1/things/known/commit", "known"),
    Route("GET", "/v1/files/{path+}", "files"),
    Route("ANY", "$default", "manage"),
]


def event_of(
    method: str = "GET", path: bytes = b"/", query: bytes = b"", body: bytes = b"", **headers: str
) -> dict[str, Any]:
    pairs = [
        (name.replace("_", "-").encode(), value.encode())
        for name, value in {"host": "api.local:8787", **headers}.items()
    ]
    request = HttpRequest(method, path, query, pairs, body, "127.0.0.1")
    found = Router(ROUTES).find(method, path)
    assert found is not None
    event: dict[str, Any] = json.loads(build_event(request, found[0], found[1], "request-1", 1_763_683_200.25))
    return event


@pytest.mark.parametrize(
    ("method", "path", "function", "parameters"),
    [
        ("GET", b"/v1/things/a", "reader", {"id": "a"}),
        ("PUT", b"/v1/things/a", "anything", {"id": "a"}),
        ("POST", b"/v1/things/a%7Cb%40c/commit", "gate", {"id": "a|b@c"}),
        ("POST", b"/v1/things/a%2Fb/commit", "gate", {"id": "a/b"}),
        ("POST", b"/v1/things/known/commit", "known", {}),
        ("GET", b"/v1/files/a/b/c", "files", {"path": "a/b/c"}),
        ("GET", b"/v1/files/", "manage", {}),
        ("POST", b"/v1/things//commit", "manage", {}),
        ("POST", b"/v1/things/a/commit/", "manage", {}),
        ("DELETE", b"/v1/things/a/commit", "manage", {}),
        ("GET", b"/", "manage", {}),
    ],
)
def test_the_most_literal_route_wins(method: str, path: bytes, function: str, parameters: dict[str, str]) -> None:
    found = Router(ROUTES).find(method, path)
    assert found is not None
    assert (found[0].function, found[1]) == (function, parameters)


def test_without_a_default_route_nothing_is_found() -> None:
    assert Router(ROUTES[:-1]).find("GET", b"/nowhere") is None


def test_event_of_a_request() -> None:
    event = event_of(
        "POST",
        b"/v1/things/a%20b/commit",
        b"x=1&x=2&empty=&y=%C3%A9",
        b'{"q": "1"}',
        content_type="application/json; charset=utf-8",
        cookie="a=1; b=2",
        user_agent="test",
    )
    assert event["version"] == "2.0"
    assert event["routeKey"] == event["requestContext"]["routeKey"] == "POST /v1/things/{id}/commit"
    assert event["rawPath"] == event["requestContext"]["http"]["path"] == "/v1/things/a b/commit"
    assert event["rawQueryString"] == "x=1&x=2&empty=&y=%C3%A9"
    assert event["queryStringParameters"] == {"x": "1,2", "empty": "", "y": "é"}
    assert event["pathParameters"] == {"id": "a b"}
    assert event["cookies"] == ["a=1", "b=2"]
    assert "cookie" not in event["headers"]
    assert (event["body"], event["isBase64Encoded"]) == ('{"q": "1"}', False)
    assert event["requestContext"]["http"] == {
        "method": "POST",
        "path": "/v1/things/a b/commit",
        "protocol": "HTTP/1.1",
        "sourceIp": "127.0.0.1",
        "userAgent": "test",
    }
    assert event["requestContext"]["timeEpoch"] == 1_763_683_200_250
    assert event["requestContext"]["time"] == "21/Nov/2025:00:00:00 +0000"
    assert event["requestContext"]["requestId"] == "request-1"


def test_a_bare_request_has_no_optional_fields() -> None:
    event = event_of("GET", b"/anything")
    assert event["routeKey"] == "$default"
    assert not {"body", "cookies", "queryStringParameters", "pathParameters"} & set(event)


def test_repeated_headers_are_joined() -> None:
    request = HttpRequest("GET", b"/", b"", [(b"x-a", b"1"), (b"x-a", b"2")], b"", "127.0.0.1")
    event = json.loads(build_event(request, ROUTES[-1], {}, "r", 0.0))
    assert event["headers"]["x-a"] == "1,2"


@pytest.mark.parametrize(
    ("content_type", "body", "plain"),
    [
        ("application/json", '{"é": 1}'.encode(), True),
        ("application/problem+json", b"{}", True),
        ("text/plain", b"hello", True),
        ("application/json", b"\xff\xfe", False),
        ("application/x-www-form-urlencoded", b"a=1", False),
        ("application/octet-stream", b"abc", False),
        ("", b"abc", False),
    ],
)
def test_only_text_travels_as_text(content_type: str, body: bytes, plain: bool) -> None:
    event = event_of("POST", b"/x", b"", body, content_type=content_type)
    assert event["isBase64Encoded"] is not plain
    assert (event["body"].encode() if plain else base64.b64decode(event["body"])) == body


def test_an_answer_becomes_a_response() -> None:
    answer = read_answer(
        json.dumps(
            {
                "statusCode": 201,
                "headers": {"Content-Type": "application/json", "X-N": 5, "Content-Length": "999"},
                "cookies": ["a=1", "b=2"],
                "body": '{"é": 1}',
            }
        ).encode()
    )
    assert answer.status == 201
    assert answer.headers == [
        (b"content-type", b"application/json"),
        (b"x-n", b"5"),
        (b"set-cookie", b"a=1"),
        (b"set-cookie", b"b=2"),
    ]
    assert answer.body == '{"é": 1}'.encode()


@pytest.mark.parametrize(
    ("payload", "status", "kind", "body"),
    [
        ({"statusCode": 204}, 204, b"text/plain;charset=UTF-8", b""),
        ({"statusCode": "200", "body": None}, 200, b"text/plain;charset=UTF-8", b""),
        ({"statusCode": 200, "body": "AAE=", "isBase64Encoded": True}, 200, b"text/plain;charset=UTF-8", b"\x00\x01"),
        ({"hello": 1}, 200, b"application/json", b'{"hello": 1}'),
        ("text", 200, b"application/json", b"text"),
        (None, 200, b"application/json", b"null"),
    ],
)
def test_other_forms_of_an_answer(payload: object, status: int, kind: bytes, body: bytes) -> None:
    answer = read_answer(json.dumps(payload).encode())
    assert (answer.status, dict(answer.headers)[b"content-type"], answer.body) == (status, kind, body)


@pytest.mark.parametrize(
    "payload",
    [
        b"no json",
        b'{"statusCode": "ok"}',
        b'{"statusCode": true}',
        b'{"statusCode": 42}',
        b'{"statusCode": 200, "body": {"a": 1}}',
        b'{"statusCode": 200, "body": "!", "isBase64Encoded": true}',
        b'{"statusCode": 200, "headers": {"x": ["a"]}}',
    ],
)
def test_what_api_gateway_would_not_take(payload: bytes) -> None:
    with pytest.raises(BadAnswer):
        read_answer(payload)
