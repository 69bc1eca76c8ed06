"""Input that is allowed and strange: it works, and nothing breaks behind it."""

from __future__ import annotations

import pytest

from tests.contract.http.surface import Surface

NAMES = ["rules", "keys", "catalog", "customer", "|", "+", "a@b.c", "-", "_", "...a", "A" * 64, "a:b|c+d"]
UUIDS = [
    "00000000-0000-7000-8000-000000000000",
    "ffffffff-ffff-7fff-bfff-ffffffffffff",
    "01a1fc22-48aa-7000-8000-000000000001",
    "FFFFFFFF-FFFF-7FFF-BFFF-FFFFFFFFFFFF",
]


@pytest.mark.parametrize("name", NAMES)
def test_any_allowed_account_name(surface: Surface, name: str) -> None:
    path = f"/v1/accounts/{name}"
    assert surface.call("PUT", path, {"name": "n"}, headers={"Idempotency-Key": "k"}).status == 200
    held = surface.call("POST", "/v1/reservations", {"account": name, "meter": "ai_credits", "quantity": 1})
    assert surface.call("POST", f"/v1/reservations/{held.body['id']}/commit").status == 200
    event = {"id": name, "account": name, "member": name, "meter": "ai_credits", "quantity": 1}
    assert surface.call("POST", "/v1/usage", {"events": [event]}).body["results"][0]["status"] == "recorded"
    assert len(surface.call("GET", f"{path}/events").body["data"]) == 2
    assert surface.call("GET", f"{path}/usage?member={name.replace('+', '%2B')}").status == 200
    assert name in listed(surface)


def listed(surface: Surface) -> list[str]:
    """All accounts, page by page."""
    cursor = ""
    seen: list[str] = []
    while True:
        page = surface.call("GET", f"/v1/accounts?limit=2{cursor}")
        assert page.status == 200
        seen += [account["id"] for account in page.body["data"]]
        if page.body["next_cursor"] is None:
            break
        cursor = f"&cursor={page.body['next_cursor']}"
    assert len(set(seen)) == len(seen)
    return seen


@pytest.mark.parametrize("uuid", UUIDS)
def test_a_uuid_of_any_time(surface: Surface, uuid: str) -> None:
    """The time inside a key is the caller's word, and callers' clocks are wrong."""
    body = {"account": f"at-{uuid[:4]}", "meter": "ai_credits", "quantity": 1}
    held = surface.call("POST", "/v1/reservations", body, headers={"Idempotency-Key": uuid})
    assert held.status == 201
    assert surface.call("GET", f"/v1/reservations/{held.body['id']}").body["status"] == "open"
    assert surface.call("POST", f"/v1/reservations/{held.body['id']}/extend", {"ttl_seconds": 60}).status == 200
    assert surface.call("POST", f"/v1/reservations/{held.body['id']}/commit").status == 200
    used = surface.call("POST", "/v1/usage", {"events": [{**body, "id": uuid}]})
    assert used.body["results"][0]["status"] == "recorded"
    assert len(surface.call("GET", f"/v1/accounts/{body['account']}/events").body["data"]) == 2


def test_the_smallest_and_the_largest_numbers(surface: Surface) -> None:
    body = {"account": "numbers", "meter": "ai_credits"}
    for quantity in ("0.000000000001", "0.0000005", "0.000001", 1e-12, 1e-7):
        held = surface.call("POST", "/v1/reservations", {**body, "quantity": quantity})
        assert held.status == 201, quantity
        assert surface.call("POST", f"/v1/reservations/{held.body['id']}/commit").status == 200
    event = {**body, "quantity": "999999999999999.999999999999", "provider_cost": "999999999999999.999999999999"}
    assert surface.call("POST", "/v1/usage", {"events": [{**event, "id": "huge"}]}).body["results"][0]["units"] == (
        "1000000000000000"
    )
    listed = surface.call("GET", "/v1/accounts/numbers/events").body["data"]
    assert "999999999999999.999999999999" in [row["quantity"] for row in listed]
    refused = surface.call("POST", "/v1/reservations", {**body, "quantity": 999999999999999})
    assert refused.body["denial"]["code"] == "limit_reached"


def test_text_of_every_kind(surface: Surface) -> None:
    text = "\u0000\u001f\u007f\ufffe\uffff\U0010ffff\u202eä𝄞\"'<>&%#[bold]\\"
    body = {"name": text, "email": text}
    assert surface.call("PUT", "/v1/accounts/text", body).body["name"] == text
    frozen = surface.call("POST", "/v1/accounts/text/freeze", {"reason": text})
    assert frozen.body["frozen"]["reason"] == text
    assert surface.call("POST", "/v1/accounts/text/unfreeze").status == 200
    event = {
        "id": "t",
        "account": "text",
        "meter": "ai_credits",
        "quantity": 1,
        "dimensions": {text: text, "empty": ""},
        "metadata": {text: [text, None, True, 1.5, 10**30, {"": {}}]},
    }
    assert surface.call("POST", "/v1/usage", {"events": [event]}).body["results"][0]["status"] == "recorded"
    shown = surface.call("GET", "/v1/accounts/text/events").body["data"][0]
    assert shown["dimensions"] == event["dimensions"]
    assert shown["metadata"][text][0] == text


def test_the_largest_reservation_id_still_works(surface: Surface) -> None:
    """As many dimensions as are let through: whatever is granted can be committed."""
    for size in (10, 20, 25, 30, 40, 64):
        dimensions = [
            {f"{item}{name}".ljust(40, "k"): f"{item * 7919 + name * 104729}".ljust(size, "v") for name in range(10)}
            for item in range(8)
        ]
        items = [{"meter": "ai_credits", "quantity": "0.123456", "dimensions": one} for one in dimensions]
        held = surface.call("POST", "/v1/reservations", {"account": "wide", "member": "m" * 64, "items": items})
        if held.status == 201:
            assert len(held.body["id"]) <= 7000
            assert surface.call("POST", f"/v1/reservations/{held.body['id']}/commit").status == 200
        else:
            assert held.code == "reservation_too_large"


def test_an_account_named_accounts(surface: Surface) -> None:
    """Its rules row must not stand in the list of accounts."""
    surface.call("PUT", "/v1/accounts/accounts", {"name": "n"})
    assert "accounts" in listed(surface)
