"""Levels and members over HTTP: what is answered, what is kept, and what reservations may not touch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract.http.surface import CATALOG, Answer, Surface
from tollgate.catalog.schema import parse_catalog

STORED = """
currency: usd
default_plan: free
meters:
  images: {name: Images, unit: image, scale: 0, stripe_event_name: images}
  storage: {name: Gigabytes stored, unit: gigabyte, scale: 3, kind: level, stripe_event_name: storage}
  seats: {name: Seats, unit: seat, scale: 0, kind: level, stripe_event_name: seats}
plans:
  free:
    name: Free
    limits: [{id: disk, meter: storage, max: 5}, {id: daily, meter: images, window: day, max: 10}]
  pro:
    name: Pro
    base_fee: "10.00"
    spend_cap: "3.00"
    prices:
      - meter: storage
        scheme: graduated
        tiers: [{up_to: 10, unit_price: "0"}, {up_to: inf, unit_price: "0.50"}]
      - {meter: images, scheme: per_unit, unit_price: "1"}
    limits: [{id: disk, meter: storage, max: 1000}]
  disk: {name: Disk only, prices: [{meter: storage, scheme: per_unit, unit_price: "0.25"}]}
  team:
    name: Team
    limits:
      - {id: seat, meter: images, per: member, window: day, max: 5}
      - {id: jobs, per: member, concurrent: 3}
  crew:
    name: Crew
    seats: {unit_price: "20.00", minimum: 1, pooled: false, meter: seats}
    prices: [{meter: images, scheme: per_unit, unit_price: "1", included_per_seat: 5}]
  squad:
    name: Squad
    seats: {unit_price: "20.00", minimum: 1, pooled: false}
    prices: [{meter: images, scheme: per_unit, unit_price: "1", included_per_seat: 5}]
    limits: [{id: seat, meter: images, per: member, window: day, max: 8}]
"""
_NAMES = itertools.count()


@pytest.fixture(scope="module")
def stored(surface: Surface) -> Iterator[Surface]:
    surface.manage_deps.accounts.catalog.publish(parse_catalog(STORED))
    yield surface
    surface.manage_deps.accounts.catalog.publish(parse_catalog(CATALOG))


@pytest.fixture
def account(stored: Surface) -> str:
    return new(stored, "pro")


def new(surface: Surface, plan: str) -> str:
    name = f"levels-{next(_NAMES)}"
    assert surface.call("PUT", f"/v1/accounts/{name}", {"plan": plan}).status == 200
    return name


def put(surface: Surface, account: str, level: Any, key: str | None = None, **more: Any) -> dict[str, Any]:
    answer = raw_put(surface, account, {"level": level, **more}, key)
    assert answer.status == 200, answer
    found: dict[str, Any] = answer.body
    return found


def raw_put(
    surface: Surface, account: str, body: Any, key: str | None = None, meter: str = "storage", by: str = "usage"
) -> Answer:
    headers = {} if key is None else {"Idempotency-Key": key}
    return surface.call("PUT", f"/v1/accounts/{account}/levels/{meter}", body, key=by, headers=headers)


def get(surface: Surface, account: str, meter: str = "storage") -> dict[str, Any]:
    answer = surface.call("GET", f"/v1/accounts/{account}/levels/{meter}", key="read")
    assert answer.status == 200, answer
    found: dict[str, Any] = answer.body
    return found


def usage(surface: Surface, account: str) -> dict[str, Any]:
    found: dict[str, Any] = surface.call("GET", f"/v1/accounts/{account}/usage").body
    return found


# -- levels ------------------------------------------------------------------------------------------------------------


def test_a_level_is_set_and_read(stored: Surface, account: str) -> None:
    unset = get(stored, account)
    assert (unset["level"], unset["change"], unset["updated_at"], unset["max"]) == ("0", 0, None, "1000")
    found = put(stored, account, "12.5", member="ann", dimensions={"region": "eu"})
    assert found["allowed"] is True
    assert (found["account"], found["meter"], found["level"], found["current_level"], found["change"]) == (
        account,
        "storage",
        "12.5",
        "12.5",
        1,
    )
    assert get(stored, account) == {
        name: found[name] for name in ("account", "meter", "level", "max", "updated_at", "change", "limits")
    }
    (limit,) = found["limits"]
    assert (limit["id"], limit["used"], limit["remaining"], limit["over"]) == ("disk", "12.5", "987.5", False)
    assert (limit["window"], limit["resets_at"]) == ("lifetime", None)


def test_a_refused_raise_says_why_and_changes_nothing(stored: Surface) -> None:
    account = new(stored, "free")
    put(stored, account, 4)
    found = put(stored, account, "5.001", key="too-much")
    assert (found["allowed"], found["level"], found["change"]) == (False, "4", 1)
    assert found["denial"] == {
        "code": "limit_reached",
        "limit": "disk",
        "source": "plan",
        "requested": "5.001",
        "remaining": "1",
        "resets_at": None,
        "retry_after_seconds": None,
        "resolve": "upgrade",
        "message": "Gigabytes stored: 5.001 is more than the 5 allowed.",
    }
    assert stored.call("POST", f"/v1/accounts/{account}/plan", {"plan": "pro"}).status == 200
    assert put(stored, account, "5.001", key="too-much")["allowed"], "a refusal is not remembered"


def test_the_operator_may_allow_more(stored: Surface) -> None:
    account = new(stored, "free")
    body = {"overrides": {"limits": {"disk": {"max": "7"}}}}
    assert stored.call("PUT", f"/v1/accounts/{account}", body).status == 200
    assert put(stored, account, 7)["max"] == "7"
    assert put(stored, account, 8)["denial"]["source"] == "operator"


def test_a_key_sets_a_level_once(stored: Surface, account: str) -> None:
    first = put(stored, account, 5, key="k-1")
    assert put(stored, account, 5, key="k-1") == first
    assert raw_put(stored, account, {"level": 5, "idempotency_key": "k-1"}).body == first
    put(stored, account, 7, key="k-2")
    again = put(stored, account, 5, key="k-1")
    assert {**again, "current_level": "5"} == first
    assert again["current_level"] == "7"
    assert get(stored, account)["level"] == "7"
    assert raw_put(stored, account, {"level": 6}, "k-1").code == "idempotency_mismatch"
    assert raw_put(stored, account, {"level": 5}, "k-1", meter="seats").code == "idempotency_mismatch"
    events = stored.call("GET", f"/v1/accounts/{account}/events").body["data"]
    assert [event["level_change"] for event in events] == [2, 1]


def test_each_change_is_an_event(stored: Surface, account: str) -> None:
    changed = put(stored, account, "2.5", member="ann", dimensions={"region": "eu"})
    stored.call("POST", "/v1/usage", {"events": [{"id": "e", "account": account, "meter": "images", "quantity": 1}]})
    events = stored.call("GET", f"/v1/accounts/{account}/events").body["data"]
    shown = next(event for event in events if event["meter"] == "storage")
    assert shown["id"] == changed["event_id"]
    assert (shown["quantity"], shown["units"], shown["level_change"]) == ("2.5", "2.5", 1)
    assert (shown["member"], shown["dimensions"]) == ("ann", {"region": "eu"})
    assert shown["recorded_at"] == changed["updated_at"]
    assert [event["level_change"] for event in events if event["meter"] == "images"] == [None]


def test_a_frozen_account_may_lower(stored: Surface, account: str) -> None:
    put(stored, account, 5)
    stored.call("POST", f"/v1/accounts/{account}/freeze", {"reason": "Payment failed"})
    refused = put(stored, account, 6)
    assert (refused["denial"]["code"], refused["denial"]["resolve"]) == ("frozen", "contact")
    assert put(stored, account, 4)["allowed"]
    stored.call("POST", f"/v1/accounts/{account}/unfreeze", {})
    assert put(stored, account, 6)["allowed"]


def test_an_account_is_made_by_its_first_level(stored: Surface) -> None:
    name = f"levels-{next(_NAMES)}"
    assert raw_put(stored, name, {"level": 1}, meter="nothing").code == "unknown_meter"
    assert stored.call("GET", f"/v1/accounts/{name}/levels/storage").code == "account_not_found"
    assert put(stored, name, 1)["change"] == 1
    assert usage(stored, name)["plan"]["id"] == "free"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "missing"),
        ({"level": -1}, "negative"),
        ({"level": "1e3"}, "decimal"),
        ({"level": None}, "decimal"),
        ({"level": "1" * 16}, "too_large"),
        ({"level": 1, "quantity": 1}, "extra_forbidden"),
        ({"level": 1, "member": "a b"}, "id"),
        ({"level": 1, "dimensions": {"a": 1}}, "string_type"),
    ],
)
def test_a_body_that_is_wrong(stored: Surface, account: str, body: Any, code: str) -> None:
    answer = raw_put(stored, account, body)
    assert (answer.code, answer.body["errors"][0]["code"]) == ("invalid", code)
    assert get(stored, account)["change"] == 0


def test_a_path_that_is_wrong(stored: Surface, account: str) -> None:
    assert raw_put(stored, account, {"level": 1}, meter="images").code == "no_level_meter"
    assert raw_put(stored, account, {"level": 1}, meter="x" * 65).code == "unknown_meter"
    assert stored.call("GET", f"/v1/accounts/{account}/levels/images").code == "no_level_meter"
    assert stored.call("GET", f"/v1/accounts/{account}/levels/other").code == "unknown_meter"
    assert raw_put(stored, account, {"level": 1}, by="read").code == "scope_missing"
    assert stored.call("POST", f"/v1/accounts/{account}/levels/storage", {"level": 1}).code == "method_not_allowed"


def test_a_level_is_neither_reserved_nor_reported(stored: Surface, account: str) -> None:
    item = {"account": account, "meter": "storage", "quantity": 1}
    for path in ("/v1/reservations", "/v1/estimates"):
        answer = stored.call("POST", path, item)
        assert (answer.status, answer.code, answer.body["errors"]) == (
            422,
            "level_meter",
            [{"path": "meter", "code": "level_meter"}],
        )
    both = {"account": account, "items": [{"meter": "images", "quantity": 1}, {"meter": "storage", "quantity": 1}]}
    assert stored.call("POST", "/v1/reservations", both).body["errors"][0]["path"] == "items.1.meter"
    (result,) = stored.call("POST", "/v1/usage", {"events": [{"id": "x", **item}]}).body["results"]
    assert (result["status"], result["error"]["code"]) == ("rejected", "level_meter")


def test_usage_shows_levels_and_what_they_come_to_beside_the_cap(stored: Surface, account: str) -> None:
    put(stored, account, 16)
    assert stored.call("POST", "/v1/reservations", _images(account, 2, commit=True)).body["allowed"]
    found = usage(stored, account)
    level = next(meter for meter in found["meters"] if meter["id"] == "storage")
    assert (level["used"], level["included"], level["overage"]) == ("16", "10", "6")
    assert [limit["used"] for limit in found["limits"] if limit["id"] == "disk"] == ["16"]
    spend = found["spend"]
    assert (spend["usage"], spend["levels"], spend["total"], spend["cap"]) == ("2", "3", "15", "3")
    assert stored.call("POST", "/v1/reservations", _images(account, 1, commit=True)).body["allowed"]
    assert stored.call("POST", "/v1/reservations", _images(account, 1)).body["denial"]["code"] == "spend_cap"
    assert put(stored, account, 900)["allowed"], "no cap on spend is about levels"


def test_a_change_of_plan_prices_the_level_that_stands(stored: Surface) -> None:
    account = new(stored, "free")
    put(stored, account, 5)
    stored.call("POST", f"/v1/accounts/{account}/plan", {"plan": "disk"})
    found = get(stored, account)
    assert (found["level"], found["change"]) == ("5", 2), "said again, under the plan that prices it"
    stored.call("POST", f"/v1/accounts/{account}/plan", {"plan": "pro"})
    assert get(stored, account)["change"] == 2


def test_a_plan_that_prices_levels_alone(stored: Surface) -> None:
    account = new(stored, "disk")
    put(stored, account, 10)
    spend = usage(stored, account)["spend"]
    assert (spend["usage"], spend["levels"], spend["total"], spend["cap"], spend["held"]) == (
        "0",
        "2.5",
        "2.5",
        None,
        "0",
    )
    assert usage(stored, new(stored, "team"))["spend"] is None


# -- members -----------------------------------------------------------------------------------------------------------


def _images(account: str, quantity: int, **more: Any) -> dict[str, Any]:
    return {"account": account, "meter": "images", "quantity": quantity, **more}


def spend(surface: Surface, account: str, member: str, quantity: int) -> bool:
    answer = surface.call("POST", "/v1/reservations", _images(account, quantity, member=member, commit=True))
    return bool(answer.body["allowed"])


def members(surface: Surface, account: str, query: str = "") -> Any:
    answer = surface.call("GET", f"/v1/accounts/{account}/members{query}", key="read")
    assert answer.status == 200, answer
    return answer.body


def remove(surface: Surface, account: str, member: str) -> Answer:
    return surface.call("DELETE", f"/v1/accounts/{account}/members/{member}")


def test_members_are_listed_with_what_they_used(stored: Surface) -> None:
    account = new(stored, "team")
    assert members(stored, account) == {"data": [], "next_cursor": None}
    for member, quantity in (("ann", 2), ("bob", 3), ("ann", 1)):
        assert spend(stored, account, member, quantity)
    stored.call("POST", "/v1/reservations", _images(account, 1, member="cy"))
    data = members(stored, account)["data"]
    assert [one["id"] for one in data] == ["cy", "bob", "ann"], "newest first"
    assert [one["meters"] for one in data] == [
        [{"id": "images", "used": used, "held": held}] for used, held in (("0", "1"), ("3", "0"), ("3", "0"))
    ]
    assert [one["removed_at"] for one in data] == [None, None, None]
    first = members(stored, account, "?limit=2")
    rest = members(stored, account, f"?limit=2&cursor={first['next_cursor']}")
    assert [one["id"] for one in first["data"] + rest["data"]] == ["cy", "bob", "ann"]
    assert rest["next_cursor"] is None


def test_a_member_that_leaves_and_comes_back_is_refilled_nothing(stored: Surface) -> None:
    account = new(stored, "team")
    assert spend(stored, account, "ann", 4)
    removed = remove(stored, account, "ann")
    assert removed.status == 200
    assert removed.body["id"] == "ann"
    (shown,) = members(stored, account)["data"]
    assert shown["removed_at"] == removed.body["removed_at"]
    assert remove(stored, account, "ann").body == removed.body
    total = next(meter for meter in usage(stored, account)["meters"] if meter["id"] == "images")
    assert total["used"] == "4", "the account's totals stay"
    assert not spend(stored, account, "ann", 2), "its limit of 5 a day is as it left it"
    assert members(stored, account)["data"][0]["removed_at"] is not None, "a refusal is no return"
    assert spend(stored, account, "ann", 1)
    (back,) = members(stored, account)["data"]
    assert (back["removed_at"], back["meters"][0]["used"]) == (None, "5")
    again = remove(stored, account, "ann")
    assert again.body["removed_at"] >= removed.body["removed_at"]
    assert members(stored, account)["data"][0]["removed_at"] == again.body["removed_at"]


def test_open_reservations_of_a_removed_member_end_as_they_would(stored: Surface) -> None:
    account = new(stored, "team")
    held = stored.call("POST", "/v1/reservations", _images(account, 3, member="ann")).body["id"]
    assert remove(stored, account, "ann").status == 200
    assert members(stored, account)["data"][0]["removed_at"] is not None
    assert stored.call("POST", f"/v1/reservations/{held}/release").status == 200
    assert members(stored, account)["data"][0]["removed_at"] is not None, "nothing was used"


def test_members_that_are_not_there(stored: Surface) -> None:
    account = new(stored, "team")
    assert remove(stored, account, "nobody").code == "not_found"
    assert remove(stored, account, "a%20b").code == "invalid"
    assert remove(stored, "no-such-account", "ann").code == "account_not_found"
    assert stored.call("GET", f"/v1/accounts/{account}/members?cursor=x").code == "invalid"
    assert stored.call("DELETE", f"/v1/accounts/{account}/members/ann", key="usage").code == "scope_missing"


def test_usage_that_was_reported_lists_its_member(stored: Surface) -> None:
    account = new(stored, "team")
    event = {"id": "e-1", "account": account, "member": "dee", "meter": "images", "quantity": 9}
    stored.call("POST", "/v1/usage", {"events": [event]})
    (shown,) = members(stored, account)["data"]
    assert (shown["id"], shown["meters"][0]["used"]) == ("dee", "9")


def test_members_of_a_plan_that_began_to_count_them(stored: Surface) -> None:
    account = new(stored, "free")
    assert spend(stored, account, "ann", 1)
    assert members(stored, account)["data"] == [], "nothing was limited by member"
    stored.call("POST", f"/v1/accounts/{account}/plan", {"plan": "team"})
    assert spend(stored, account, "ann", 1)
    (shown,) = members(stored, account)["data"]
    assert shown["meters"][0]["used"] == "2", "counted from its events"


def test_a_member_that_moves_to_another_account_leaves_what_it_used_and_begins_there(stored: Surface) -> None:
    """Its counters are of the account that a call names: nothing moves, so nothing is counted twice or refilled."""
    old, there = new(stored, "team"), new(stored, "team")
    assert spend(stored, old, "ann", 3)
    held = stored.call("POST", "/v1/reservations", _images(old, 1, member="ann")).body["id"]
    before = stored.call("GET", f"/v1/accounts/{old}/events").body

    assert spend(stored, there, "ann", 4), "its counters begin there"
    assert members(stored, there)["data"][0]["meters"] == [{"id": "images", "used": "4", "held": "0"}]
    assert stored.call("GET", f"/v1/accounts/{old}/events").body == before, "what it used stays where it was used"
    assert stored.call("POST", f"/v1/reservations/{held}/commit").status == 200
    ended = next(meter for meter in usage(stored, old)["meters"] if meter["id"] == "images")
    assert ended["used"] == "4", "an open reservation ends where it was made"

    for account, left in ((old, 1), (there, 1), (old, 0), (there, 0)):  # to and fro within the window of 5 a day
        assert not spend(stored, account, "ann", left + 1)
        assert not left or spend(stored, account, "ann", left)
    assert remove(stored, old, "ann").status == 200
    listed = {account: members(stored, account)["data"][0] for account in (old, there)}
    assert [listed[old]["removed_at"] is None, listed[there]["removed_at"] is None] == [False, True]
    assert [one["meters"][0]["used"] for one in listed.values()] == ["5", "5"]


# -- units that each seat has for itself -------------------------------------------------------------------------------


def funded(surface: Surface, account: str, quantity: int, member: str | None = None) -> str:
    """Who pays for so many images, by the row of them."""
    more = {} if member is None else {"member": member}
    answer = surface.call("POST", "/v1/reservations", _images(account, quantity, commit=True, **more))
    assert answer.body["allowed"], answer
    row = surface.call("GET", f"/v1/accounts/{account}/events?limit=1").body["data"][0]
    return f"{row['credit_funded']} of {row['units']}"


def own(surface: Surface, account: str, member: str | None) -> list[Any]:
    """(units that can be burned, [(id, whose) of their grants])."""
    query = "" if member is None else f"?member={member}"
    credits = surface.call("GET", f"/v1/accounts/{account}/usage{query}").body["credits"]
    return [(one["available"], [(grant["id"], grant["member"]) for grant in one["grants"]]) for one in credits]


def test_each_seat_has_units_of_its_own(stored: Surface) -> None:
    account = new(stored, "crew")
    assert own(stored, account, "ann") == [("5", [(None, "ann")])], "they come with its first request"
    assert funded(stored, account, 4, "ann") == "4 of 4"
    assert own(stored, account, "ann") == [("1", [("grant_0", "ann")])]
    assert own(stored, account, "bob") == [], "there is one seat, and looking has taken none"
    assert own(stored, account, None) == []
    assert funded(stored, account, 2, "bob") == "0 of 2"
    asked = {**_images(account, 3), "member": "ann"}
    estimate = stored.call("POST", "/v1/estimates", asked).body
    assert (estimate["cost"], estimate["funding"]) == ("2", {"included": "0", "credits": "1", "overage": "2"})

    assert stored.call("PUT", f"/v1/accounts/{account}/levels/seats", {"level": 2}).status == 200
    assert funded(stored, account, 6, "bob") == "5 of 6", "a seat that comes brings its units at once"
    assert funded(stored, account, 1) == "0 of 1"
    shown = usage(stored, account)
    images = next(meter for meter in shown["meters"] if meter["id"] == "images")
    assert (images["used"], images["credit_funded"], images["overage"]) == ("13", "9", "4")
    assert shown["spend"]["usage"] == "4"
    entries = stored.call("GET", f"/v1/accounts/{account}/ledger").body["data"]
    assert [(one["type"], one["units"], one["member"]) for one in reversed(entries)] == [
        ("grant", "5", "ann"),
        ("grant", "5", "bob"),
        ("burn", "-4", "ann"),
        ("burn", "-5", "bob"),
    ]
    assert entries[0]["balance"] == "1"


def test_a_removed_member_keeps_its_seat_until_the_period_ends(stored: Surface) -> None:
    account = new(stored, "squad")
    assert funded(stored, account, 1, "ann") == "1 of 1"
    assert remove(stored, account, "ann").status == 200
    assert funded(stored, account, 1, "bob") == "0 of 1"
    assert funded(stored, account, 6, "ann") == "4 of 6"
    assert not spend(stored, account, "ann", 2), "the limit counts what the seat pays for, too"
