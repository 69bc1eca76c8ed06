"""Limits that accounts share over HTTP: what is answered, and that it is what the OpenAPI document promises."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract.http.surface import CATALOG, Answer, Surface
from tollgate.catalog.schema import parse_catalog

SHARED = """
currency: usd
default_plan: free
meters:
  images: {name: Images, unit: image, scale: 0, stripe_event_name: images}
  clips: {name: Clips, unit: clip, scale: 0, stripe_event_name: clips}
plans:
  free:
    name: Free
    limits:
      - {id: everyone, meter: images, per: plan, window: hour, max: 1000}
      - {id: address, meter: images, per: "dimension:ip", window: day, max: 40}
      - {id: clips_ever, meter: clips, per: plan, window: lifetime, max: 3}
      - {id: mine, meter: images, per: account, window: day, max: 35}
"""


@pytest.fixture(scope="module")
def shared(surface: Surface) -> Iterator[Surface]:
    surface.manage_deps.accounts.catalog.publish(parse_catalog(SHARED))
    yield surface
    surface.manage_deps.accounts.catalog.publish(parse_catalog(CATALOG))


def reserve(surface: Surface, account: str, quantity: int, ip: str | None = None, **more: Any) -> Answer:
    body = {"account": account, "meter": "images", "quantity": quantity, **more}
    if ip is not None:
        body["dimensions"] = {"ip": ip}
    return surface.call("POST", "/v1/reservations", body)


def test_a_grant_lists_them_and_a_refusal_names_one(shared: Surface) -> None:
    limits = {limit["id"]: limit for limit in reserve(shared, "a", 30, "192.0.2.1").body["limits"]}
    assert list(limits) == ["mine", "address", "everyone"]
    address, everyone = limits["address"], limits["everyone"]
    assert (address["per"], address["value"], address["source"]) == ("dimension:ip", "192.0.2.1", "plan")
    assert [address[name] for name in ("max", "used", "held", "remaining", "over")] == ["40", "30", "0", "10", False]
    assert "approximate" not in address
    assert (everyone["per"], everyone["approximate"], everyone["max"]) == ("plan", True, "1000")
    assert "value" not in everyone
    refused = reserve(shared, "b", 11, "192.0.2.1")
    assert refused.status == 200
    denial = refused.body["denial"]
    assert denial["message"] == (
        "All requests with this ip together have used 30 out of 40 Images today; this needs 11 more."
    )
    assert [denial[name] for name in ("code", "limit", "source", "requested", "remaining", "resolve")] == [
        "limit_reached",
        "address",
        "plan",
        "11",
        "10",
        "wait",
    ]
    assert denial["resets_at"] == address["resets_at"]
    assert refused.body["limits"][0]["id"] == "address"
    assert reserve(shared, "b", 10, "192.0.2.1").status == 201
    assert reserve(shared, "b", 41, "192.0.2.2").body["denial"]["resolve"] == "upgrade"


def test_a_limit_without_end_asks_for_an_upgrade(shared: Surface) -> None:
    for account in ("a", "b", "c"):
        assert reserve(shared, account, 1, meter="clips", commit=True).status == 201
    denial = reserve(shared, "d", 1, meter="clips").body["denial"]
    assert (denial["resolve"], denial["resets_at"], denial["retry_after_seconds"]) == ("upgrade", None, None)
    assert denial["message"] == "All accounts on Free together have used 3 out of 3 Clips; this needs 1 more."


def test_what_is_given_back_is_granted_to_others(shared: Surface) -> None:
    first = reserve(shared, "e", 30, "192.0.2.3").body["id"]
    second = reserve(shared, "f", 10, "192.0.2.3").body["id"]
    assert not reserve(shared, "g", 1, "192.0.2.3").body["allowed"]
    shared.call("POST", f"/v1/reservations/{first}/commit", {"quantity": 5})
    shared.call("POST", f"/v1/reservations/{second}/release")
    assert reserve(shared, "g", 35, "192.0.2.3").status == 201
    assert not reserve(shared, "h", 1, "192.0.2.3").body["allowed"]


def test_an_extension_and_an_estimate_are_refused_alike(shared: Surface) -> None:
    name = reserve(shared, "i", 20, "192.0.2.4").body["id"]
    assert reserve(shared, "j", 15, "192.0.2.4").status == 201
    answer = shared.call("POST", f"/v1/reservations/{name}/extend", {"quantity": 26})
    assert (answer.status, answer.body["allowed"], answer.body["units"]) == (200, False, "20")
    assert (answer.body["denial"]["limit"], answer.body["denial"]["remaining"]) == ("address", "5")
    assert answer.body["limits"][-1]["id"] == "address"
    assert shared.call("POST", f"/v1/reservations/{name}/extend", {"quantity": 25}).body["allowed"]
    body = {"account": "k", "meter": "images", "quantity": 1, "dimensions": {"ip": "192.0.2.4"}}
    estimate = shared.call("POST", "/v1/estimates", body).body
    assert (estimate["allowed"], estimate["denial"]["limit"]) == (False, "address")


def test_usage_past_it_is_recorded_and_said(shared: Surface) -> None:
    events = [
        {"id": f"u{number}", "account": "l", "meter": "images", "quantity": 30, "dimensions": {"ip": "192.0.2.5"}}
        for number in range(2)
    ]
    results = [shared.call("POST", "/v1/usage", {"events": [event]}).body["results"][0] for event in events]
    assert [found["status"] for found in results] == ["recorded", "recorded"]
    assert [found["over_limits"] for found in results] == [[], ["mine", "address"]]
    assert not reserve(shared, "m", 1, "192.0.2.5").body["allowed"]


def test_a_retry_is_granted_though_the_cap_is_used_up(shared: Surface) -> None:
    first = reserve(shared, "n", 30, "192.0.2.6", idempotency_key="once")
    reserve(shared, "o", 10, "192.0.2.6")
    again = reserve(shared, "n", 30, "192.0.2.6", idempotency_key="once")
    assert (first.status, again.status) == (201, 201)
    done = [shared.call("POST", f"/v1/reservations/{one.body['id']}/commit") for one in (first, again)]
    assert [one.body["duplicate"] for one in done] == [False, True]
