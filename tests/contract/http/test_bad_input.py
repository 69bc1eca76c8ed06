"""Bad input: a problem document with a stable code and the right status, and nothing changed."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.contract.http.operations import BODIES, EVENT, OPEN, OPEN_TO_EVERY_KEY, PUBLIC, READS, RESERVE, lacking
from tests.contract.http.surface import Answer, Surface
from tollgate.http import billing_routes, gate_routes
from tollgate.http.routing import ROUTED_TO_BILLING, ROUTED_TO_GATE


class Untouched:
    """Calls that must change nothing, on an account with one open reservation."""

    def __init__(self, surface: Surface) -> None:
        self.surface = surface
        found = surface.call("POST", "/v1/reservations", {**RESERVE, "ttl_seconds": 86_400})
        self.open = str(found.body["id"])
        self._before = surface.contents()

    def call(self, method: str, path: str, *args: Any, **more: Any) -> Answer:
        try:
            answer = self.surface.call(method, path.replace(OPEN, self.open), *args, **more)
        finally:
            before, self._before = self._before, self.surface.contents()
        assert self._before == before, f"{method} {path} changed something: {answer}"
        return answer


@pytest.fixture(scope="module")
def untouched(surface: Surface) -> Untouched:
    return Untouched(surface)


def refused(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.code


def test_every_operation_is_here(surface: Surface) -> None:
    named = {operation["operationId"] for path in surface.document["paths"].values() for operation in path.values()}
    assert named == {*BODIES, *READS, *PUBLIC}


# -- bodies that are no JSON objects -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b'{"account": "bad",}',
        b"{'account': 'bad'}",
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"account": "b\xff\xfe"}',
        b"\xef\xbb\xbf{}",
        b'{"a": "\xed\xa0\x80"}',
        b"\x00",
        b'{"a": 1} {}',
        b'{"a": 1e99999999999999999999}',
        b"[" * 100_000,
        b"[" * 33 + b"]" * 33,
        b'{"a":' * 4_000 + b"1" + b"}" * 4_000,
        b'{"account": "\\ud800"}',
        b'{"account": "bad", "dimensions": {"\\uDFFF": "x"}}',
        b'{"events": [{"metadata": {"a": ["b", "\\ude00\\ud83d"]}}]}',
        b'"\\ud800"',
        b'{"metadata":' + b"[" * 9_000 + b"]" * 9_000 + b"}",
    ],
    ids=lambda content: repr(content[:24]),
)
@pytest.mark.parametrize("operation", BODIES)
def test_malformed(untouched: Untouched, operation: str, content: bytes) -> None:
    method, path, _ = BODIES[operation]
    assert refused(untouched.call(method, path, content=content)) == (400, "malformed")


@pytest.mark.parametrize("operation", BODIES)
@pytest.mark.parametrize("content", [b"[]", b"null", b"true", b"17", b'"text"', b"0.5"])
def test_json_that_is_no_object(untouched: Untouched, operation: str, content: bytes) -> None:
    method, path, _ = BODIES[operation]
    assert refused(untouched.call(method, path, content=content)) == (422, "invalid")


@pytest.mark.parametrize(
    "operation", ["createReservation", "recordUsage", "putAccount", "freezeAccount", "changePlan", "createKey"]
)
def test_no_body(untouched: Untouched, operation: str) -> None:
    method, path, _ = BODIES[operation]
    assert refused(untouched.call(method, path, content=b"")) == (400, "malformed")


@pytest.mark.parametrize("operation", BODIES)
def test_unknown_field(untouched: Untouched, operation: str) -> None:
    method, path, body = BODIES[operation]
    answer = untouched.call(method, path, {**body, "quantiy": 1})
    assert refused(answer) == (422, "invalid")
    assert {"path": "quantiy", "code": "extra_forbidden"} in answer.body["errors"]


@pytest.mark.parametrize("operation", BODIES)
def test_a_body_over_the_limit(untouched: Untouched, operation: str) -> None:
    method, path, _ = BODIES[operation]
    answer = untouched.call(method, path, content=b'{"a": "' + b"x" * 512 * 1024 + b'"}')
    assert refused(answer) == (413, "body_too_large")


@pytest.mark.parametrize("operation", BODIES)
@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonx"]
)
def test_another_media_type(untouched: Untouched, operation: str, kind: str) -> None:
    method, path, body = BODIES[operation]
    body = body or {"idempotency_key": "k"}
    assert refused(untouched.call(method, path, body, headers={"Content-Type": kind})) == (
        415,
        "unsupported_media_type",
    )


@pytest.mark.parametrize("operation", BODIES)
@pytest.mark.parametrize("name", ["", " ", "a b", "x" * 256, "\xe4"])
def test_a_wrong_idempotency_key(untouched: Untouched, operation: str, name: str) -> None:
    method, path, body = BODIES[operation]
    answer = untouched.call(method, path, body, headers={"Idempotency-Key": name})
    assert refused(answer) == (422, "invalid")
    assert answer.body["errors"] == [{"path": "Idempotency-Key", "code": "idempotency_key"}]
    answer = untouched.call(method, path, {**body, "idempotency_key": name})
    assert refused(answer) == (422, "invalid")
    answer = untouched.call(method, path, {**body, "idempotency_key": "a"}, headers={"Idempotency-Key": "b"})
    assert refused(answer) == (422, "invalid")


# -- keys --------------------------------------------------------------------------------------------------------------

EVERY_CALL = {**BODIES, **{name: (*read, None) for name, read in READS.items()}}


@pytest.mark.parametrize("operation", EVERY_CALL)
@pytest.mark.parametrize("key", [None, "unknown", "revoked"])
def test_no_valid_key(untouched: Untouched, operation: str, key: str | None) -> None:
    method, path, body = EVERY_CALL[operation]
    answer = untouched.call(method, path, body, key=key)
    assert refused(answer) == (401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic dGc6", "Bearer " + "x" * 5000, "Bearer \xe4", "tg_test_x"]
)
def test_no_bearer_token(untouched: Untouched, header: str) -> None:
    answer = untouched.call("GET", "/v1/keys", headers={"Authorization": header})
    assert refused(answer) == (401, "unauthorized")


@pytest.mark.parametrize("operation", EVERY_CALL)
def test_a_key_without_the_scope(untouched: Untouched, operation: str) -> None:
    method, path, body = EVERY_CALL[operation]
    if operation in OPEN_TO_EVERY_KEY:
        assert [untouched.call(method, path, body, key=key).status for key in ("read", "usage")] == [200, 200]
        return
    assert refused(untouched.call(method, path, body, key=lacking(operation))) == (403, "scope_missing")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/nothing"), ("GET", "/"), ("POST", "/v1/reservations/a/b"), ("GET", "/v1/accounts//usage")],
)
def test_no_such_route(untouched: Untouched, method: str, path: str) -> None:
    assert refused(untouched.call(method, path, key=None)) == (404, "route_not_found")


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/accounts/bad", "GET, PUT"),
        ("/v1/keys", "GET, POST"),
        ("/v1/reservations", "POST"),
        ("/v1/reservations/rsv_x", "GET"),
        ("/v1/reservations/rsv_x/commit", "POST"),
        ("/v1/usage", "POST"),
    ],
)
def test_another_method(untouched: Untouched, path: str, allowed: str) -> None:
    answer = untouched.call("PATCH", path, {})
    assert refused(answer) == (405, "method_not_allowed")
    assert answer.headers["allow"] == allowed


def test_manage_knows_what_the_gate_takes() -> None:
    assert set(ROUTED_TO_GATE) == {(route.method, route.parts) for route in gate_routes.ROUTES}
    assert set(ROUTED_TO_BILLING) == {(route.method, route.parts) for route in billing_routes.ROUTES}


# -- reservations and usage --------------------------------------------------------------------------------------------

HUGE = [
    (10**15, "too_large"),
    ("1000000000000000", "too_large"),
    ("9" * 30, "too_large"),
    ("1.0000000000001", "too_precise"),
    ("0.0000000000001", "too_precise"),
    ("0." + "0" * 29 + "1", "too_precise"),
    ("1" * 31, "decimal"),
    ("1e3", "decimal"),
    ("١", "decimal"),
    ("", "decimal"),
    (" 1", "decimal"),
    ("0x1", "decimal"),
    ("NaN", "decimal"),
    ("Infinity", "decimal"),
    (True, "decimal"),
    ([1], "decimal"),
    ({}, "decimal"),
]
RAW_NUMBERS = [
    ("1e999999999", "too_large"),
    ("1e-999999999", "too_precise"),
    ("-1e999999999", "too_large"),
    ("1" * 5_000, "too_large"),
    ("1." + "0" * 5_000 + "1", "too_precise"),
]
NOT_POSITIVE = [
    (0, "not_positive"),
    ("0", "not_positive"),
    ("0.000", "not_positive"),
    (-1, "not_positive"),
    ("-0.5", "not_positive"),
    (-0.0, "not_positive"),
]


@pytest.mark.parametrize(("quantity", "code"), [*HUGE, *NOT_POSITIVE, (None, "missing")])
def test_a_wrong_quantity(untouched: Untouched, quantity: object, code: str) -> None:
    answer = untouched.call("POST", "/v1/reservations", {**RESERVE, "quantity": quantity})
    assert refused(answer) == (422, "invalid")
    assert answer.body["errors"] == [{"path": "quantity", "code": code}]
    if quantity is None:
        return
    answer = untouched.call("POST", f"/v1/reservations/{OPEN}/extend", {"quantity": quantity})
    assert (refused(answer), answer.body["errors"][0]["code"]) == ((422, "invalid"), code)
    rejected = untouched.call("POST", "/v1/usage", {"events": [{**EVENT, "quantity": quantity}]})
    assert rejected.body["results"][0]["error"]["errors"] == [{"path": "quantity", "code": code}]


@pytest.mark.parametrize(("number", "code"), RAW_NUMBERS, ids=lambda text: text[:14])
@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "huge"}], ids=["", "with key"])
def test_a_number_whose_spelling_is_huge(untouched: Untouched, number: str, code: str, headers: dict[str, str]) -> None:
    body = '{"account": "bad", "meter": "ai_credits", "quantity": %s}' % number  # noqa: UP031 - braces
    answer = untouched.call("POST", "/v1/reservations", content=body.encode(), headers=headers)
    assert answer.body["errors"] == [{"path": "quantity", "code": code}]
    answer = untouched.call(
        "POST", f"/v1/reservations/{OPEN}/commit", content=b'{"provider_cost": %s}' % number.encode(), headers=headers
    )
    assert answer.body["errors"] == [{"path": "provider_cost", "code": code}]


@pytest.mark.parametrize("quantity", ["-1", "-0", -1, "-0.0"])
def test_a_wrong_used_quantity(untouched: Untouched, quantity: object) -> None:
    answer = untouched.call("POST", f"/v1/reservations/{OPEN}/commit", {"quantity": quantity})
    assert refused(answer) == (422, "invalid")


LONG = "x" * 65
WRONG_IDS = ["", LONG, "a b", "a#b", "a/b", "..", ".", "ä", "a\x00", 7, None, ["a"], {"a": 1}, True]


@pytest.mark.parametrize("name", WRONG_IDS)
def test_wrong_ids(untouched: Untouched, name: object) -> None:
    assert refused(untouched.call("POST", "/v1/reservations", {**RESERVE, "account": name})) == (422, "invalid")
    if name is not None:
        assert refused(untouched.call("POST", "/v1/reservations", {**RESERVE, "member": name})) == (422, "invalid")
    for field in ("id", "account"):
        rejected = untouched.call("POST", "/v1/usage", {"events": [{**EVENT, field: name}]})
        assert rejected.body["results"][0]["error"]["errors"][0]["path"] == field


@pytest.mark.parametrize("name", [LONG, "%20", "a%23b", "%2e%2e", "..", "%00", "%ff", "a%F0%9F%98%80", "x" * 3000])
def test_wrong_ids_in_the_path(untouched: Untouched, name: str) -> None:
    calls: list[tuple[str, str, Any]] = [
        ("PUT", "", {}),
        ("GET", "", None),
        ("POST", "/freeze", {"reason": "r"}),
        ("POST", "/unfreeze", None),
        ("POST", "/plan", {"plan": "free"}),
        ("GET", "/usage", None),
        ("GET", "/events", None),
    ]
    for method, rest, body in calls:
        assert refused(untouched.call(method, f"/v1/accounts/{name}{rest}", body)) == (422, "invalid")
    assert refused(untouched.call("GET", f"/v1/accounts/bad/usage?member={name}")) == (422, "invalid")
    assert refused(untouched.call("DELETE", f"/v1/keys/{name}")) == (404, "not_found")


@pytest.mark.parametrize("change", ["cut", "flip", "longer", "foreign", "prefix", "empty", "huge", "dots"])
def test_forged_reservation_ids(untouched: Untouched, change: str) -> None:
    name = untouched.open
    forged = {
        "cut": name[:-4],
        "flip": name[:40] + ("A" if name[40] != "A" else "B") + name[41:],
        "longer": name + "AAAA",
        "foreign": "rsv_" + "A" * 80,
        "prefix": name[4:],
        "empty": "rsv_",
        "huge": "rsv_" + "A" * 9000,
        "dots": "..",
    }[change]
    for method, action, body in (
        ("GET", "", None),
        ("POST", "/commit", {}),
        ("POST", "/release", None),
        ("POST", "/extend", {"ttl_seconds": 60}),
    ):
        answer = untouched.call(method, f"/v1/reservations/{forged}{action}", body)
        assert refused(answer) == (404, "reservation_not_found")


def test_unknown_meter(untouched: Untouched) -> None:
    answer = untouched.call("POST", "/v1/reservations", {**RESERVE, "meter": "nothing"})
    assert (refused(answer), answer.body["errors"]) == (
        (422, "unknown_meter"),
        [{"path": "meter", "code": "unknown_meter"}],
    )
    items = [{"meter": "ai_credits", "quantity": 1}, {"meter": "nothing", "quantity": 1}]
    answer = untouched.call("POST", "/v1/reservations", {"account": "bad", "items": items})
    assert answer.body["errors"] == [{"path": "items.1.meter", "code": "unknown_meter"}]
    for action in ("commit", "extend"):
        answer = untouched.call("POST", f"/v1/reservations/{OPEN}/{action}", {"items": items})
        assert refused(answer) == (422, "unknown_meter")
    rejected = untouched.call("POST", "/v1/usage", {"events": [{**EVENT, "meter": "nothing"}]})
    assert rejected.body["results"][0]["error"]["code"] == "unknown_meter"


ITEM = {"meter": "ai_credits", "quantity": 1}


@pytest.mark.parametrize(
    ("body", "path", "code"),
    [
        ({"account": "bad"}, "meter", "missing"),
        ({**RESERVE, "items": [ITEM]}, "meter", "conflict"),
        ({"account": "bad", "items": []}, "items", "too_short"),
        ({"account": "bad", "items": [ITEM] * 9}, "items", "too_long"),
        ({"account": "bad", "items": [{**ITEM, "x": 1}]}, "items.0.x", "extra_forbidden"),
        ({"account": "bad", "items": "text"}, "items", "list_type"),
        ({**RESERVE, "meter": LONG}, "meter", "string_too_long"),
        ({**RESERVE, "meter": ""}, "meter", "string_too_short"),
        ({**RESERVE, "meter": 5}, "meter", "string_type"),
        ({**RESERVE, "ttl_seconds": 4}, "ttl_seconds", "ttl"),
        ({**RESERVE, "ttl_seconds": 86_401}, "ttl_seconds", "ttl"),
        ({**RESERVE, "ttl_seconds": 10**40}, "ttl_seconds", "integer"),
        ({**RESERVE, "ttl_seconds": 60.5}, "ttl_seconds", "integer"),
        ({**RESERVE, "ttl_seconds": "60"}, "ttl_seconds", "integer"),
        ({**RESERVE, "ttl_seconds": True}, "ttl_seconds", "integer"),
        ({**RESERVE, "commit": 1}, "commit", "bool_type"),
        ({**RESERVE, "dimensions": {str(n): "x" for n in range(11)}}, "dimensions", "too_many"),
        ({**RESERVE, "dimensions": {"": "x"}}, "dimensions", "dimension_name"),
        ({**RESERVE, "dimensions": {"x" * 41: "x"}}, "dimensions", "dimension_name"),
        ({**RESERVE, "dimensions": {"x": LONG}}, "dimensions", "dimension_value"),
        ({**RESERVE, "dimensions": {"x": 1}}, "dimensions.x", "string_type"),
        ({**RESERVE, "dimensions": {"x": None}}, "dimensions.x", "string_type"),
        ({**RESERVE, "dimensions": ["x"]}, "dimensions", "dict_type"),
    ],
)
def test_wrong_reservations(untouched: Untouched, body: dict[str, Any], path: str, code: str) -> None:
    answer = untouched.call("POST", "/v1/reservations", body)
    assert refused(answer) == (422, "invalid")
    assert {"path": path, "code": code} in answer.body["errors"]


def test_dimensions_that_no_reservation_id_can_carry(untouched: Untouched) -> None:
    names = iter(random.Random(7).sample(range(0x3400, 0x9FFF), 80 * 104))
    text = "".join(chr(next(names)) for _ in range(80 * 104))
    pieces = [text[start : start + 104] for start in range(0, len(text), 104)]
    items = [
        {**ITEM, "dimensions": {piece[:40]: piece[40:] for piece in pieces[start : start + 10]}}
        for start in range(0, 80, 10)
    ]
    answer = untouched.call("POST", "/v1/reservations", {"account": "bad", "items": items})
    assert refused(answer) == (422, "reservation_too_large")


@pytest.mark.parametrize(
    ("action", "body", "code"),
    [
        ("commit", {"quantity": 1, "items": [ITEM]}, "conflict"),
        ("commit", {"metadata": {"a": "x" * 2048}}, "too_large"),
        ("commit", {"metadata": {"a": "\U0001f600" * 520}}, "too_large"),
        ("commit", {"metadata": "text"}, "dict_type"),
        ("commit", {"provider_cost": "-1"}, "negative"),
        ("commit", {"cached": "yes"}, "bool_type"),
        ("commit", {"dimensions": {str(n): "x" for n in range(11)}}, "too_many"),
        ("extend", {}, "missing"),
        ("extend", {"ttl_seconds": 60, "expires_at": "2030-01-01T00:00:00Z"}, "conflict"),
        ("extend", {"expires_at": "2001-01-01T00:00:00Z"}, "range"),
        ("extend", {"expires_at": "2099-01-01T00:00:00Z"}, "range"),
        ("extend", {"expires_at": "2026-11-20"}, "time"),
        ("extend", {"expires_at": "2026-11-20T10:00:00"}, "time"),
        ("extend", {"expires_at": "20261120T100000Z"}, "time"),
        ("extend", {"expires_at": "2026-W47-5T10:00:00Z"}, "time"),
        ("extend", {"expires_at": "9999-12-31T23:59:59-23:59"}, "range"),
        ("extend", {"expires_at": 1_795_262_400}, "time"),
        ("extend", {"quantity": 1, "items": [ITEM]}, "conflict"),
    ],
)
def test_wrong_ends(untouched: Untouched, action: str, body: dict[str, Any], code: str) -> None:
    answer = untouched.call("POST", f"/v1/reservations/{OPEN}/{action}", body)
    assert refused(answer) == (422, "invalid")
    assert answer.body["errors"][0]["code"] == code


def test_a_101st_event(untouched: Untouched) -> None:
    events = [{**EVENT, "id": f"e-{index}"} for index in range(101)]
    answer = untouched.call("POST", "/v1/usage", {"events": events})
    assert (refused(answer), answer.body["errors"]) == ((422, "invalid"), [{"path": "events", "code": "too_long"}])
    assert refused(untouched.call("POST", "/v1/usage", {"events": []})) == (422, "invalid")
    assert refused(untouched.call("POST", "/v1/usage", {"events": EVENT})) == (422, "invalid")


@pytest.mark.parametrize(
    "event",
    [
        None,
        7,
        "text",
        [],
        {},
        {**EVENT, "x": 1},
        {**EVENT, "occurred_at": "soon"},
        {**EVENT, "metadata": {"a": "x" * 2048}},
    ],
)
def test_a_wrong_event(untouched: Untouched, event: object) -> None:
    answer = untouched.call("POST", "/v1/usage", {"events": [event]})
    assert (answer.status, answer.body["results"][0]["status"]) == (200, "rejected")


# -- accounts, keys, queries -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"plan": "gold"}, 422, "unknown_plan"),
        ({"plan": ""}, 422, "invalid"),
        ({"plan": "x" * 257}, 422, "invalid"),
        ({"plan": 5}, 422, "invalid"),
        ({"timezone": "Mars/Olympus"}, 422, "unknown_timezone"),
        ({"timezone": "America"}, 422, "unknown_timezone"),
        ({"timezone": "../../etc/passwd"}, 422, "unknown_timezone"),
        ({"timezone": "/etc/localtime"}, 422, "unknown_timezone"),
        ({"timezone": "UTC\x00"}, 422, "unknown_timezone"),
        ({"stripe_customer_id": "sub_1"}, 422, "invalid"),
        ({"stripe_customer_id": "cus_" + "x" * 61}, 422, "invalid"),
        ({"stripe_customer_id": "cus_1\n"}, 422, "invalid"),
        ({"email": ""}, 422, "invalid"),
        ({"overrides": {"a": "x"}}, 422, "invalid"),
        ({"overrides": {"limits": {"daily": {}}}}, 422, "invalid"),
        ({"overrides": {"limits": {"daily": {"max": "-1"}}}}, 422, "invalid"),
        ({"overrides": {"limits": {"dayly": {"max": "5"}}}}, 422, "unknown_limit"),
        ({"overrides": []}, 422, "invalid"),
        ({"overrides": {"limits": {"daily": {"max": "5"}}}, "timezone": "Nowhere"}, 422, "unknown_timezone"),
    ],
)
def test_wrong_accounts(untouched: Untouched, body: dict[str, Any], status: int, code: str) -> None:
    assert refused(untouched.call("PUT", "/v1/accounts/bad", body)) == (status, code)
    assert refused(untouched.call("PUT", "/v1/accounts/new", body)) == (status, code)
    assert refused(untouched.call("PUT", "/v1/accounts/bad", body, headers={"Idempotency-Key": "k"})) == (status, code)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("", None),
        ("/usage", None),
        ("/events", None),
        ("/freeze", {"reason": "r"}),
        ("/unfreeze", None),
        ("/plan", {"plan": "free"}),
    ],
)
def test_an_unknown_account(untouched: Untouched, path: str, body: Any) -> None:
    method = "POST" if path in ("/freeze", "/unfreeze", "/plan") else "GET"
    answer = untouched.call(method, f"/v1/accounts/nobody{path}", body, headers={"Idempotency-Key": "k"})
    assert refused(answer) == (404, "account_not_found")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/accounts/bad/plan", {"plan": "gold"}),
        ("/v1/accounts/bad/plan", {"plan": "free", "when": "later"}),
        ("/v1/accounts/bad/plan", {}),
        ("/v1/accounts/bad/freeze", {}),
        ("/v1/accounts/bad/freeze", {"reason": ""}),
        ("/v1/accounts/bad/freeze", {"reason": "x" * 257}),
        ("/v1/accounts/bad/freeze", {"reason": None}),
        ("/v1/keys", {}),
        ("/v1/keys", {"scopes": []}),
        ("/v1/keys", {"scopes": ["root"]}),
        ("/v1/keys", {"scopes": "read"}),
        ("/v1/keys", {"scopes": ["read"] * 4}),
        ("/v1/keys", {"scopes": ["read"], "name": "x" * 65}),
        ("/v1/keys", {"scopes": ["read"], "name": ""}),
    ],
)
def test_wrong_administration(untouched: Untouched, path: str, body: dict[str, Any]) -> None:
    answer = untouched.call("POST", path, body)
    assert (answer.status, answer.code) in ((422, "invalid"), (422, "unknown_plan"))


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=101",
        "limit=-1",
        "limit=ten",
        "limit=",
        "limit=1.0",
        "limit=1&limit=2",
        "limit=%D9%A1",
        "cursor=x",
        "cursor=",
        "cursor=%00",
        "cursor=" + "A" * 4000,
        "cursor=%D9%A1",
        "cursor=eA==",
    ],
)
def test_wrong_pages(untouched: Untouched, query: str) -> None:
    for path in ("/v1/accounts", "/v1/accounts/bad/events"):
        assert refused(untouched.call("GET", f"{path}?{query}")) == (422, "invalid")


@pytest.mark.parametrize(
    "time", ["", "now", "2026-11-20", "1795262400", "2026-11-20T10:00:00", "2026-11-31T10:00:00Z", "%00"]
)
def test_wrong_times(untouched: Untouched, time: str) -> None:
    for name in ("from", "to"):
        assert refused(untouched.call("GET", f"/v1/accounts/bad/events?{name}={time}")) == (422, "invalid")


@pytest.mark.parametrize("path", ["/v1/reservations", "/v1/usage"])
def test_a_refused_call_creates_no_account(untouched: Untouched, path: str) -> None:
    body: dict[str, Any] = {"account": f"unseen{path[-5:]}".replace("/", "-"), "meter": "nothing", "quantity": 1}
    untouched.call("POST", path, {"events": [{**body, "id": "e"}]} if path == "/v1/usage" else body)
