"""Every operation succeeds, and what it answers is what the OpenAPI document promises (`Surface` compares each)."""

from __future__ import annotations

import pytest
from tests.contract.http.surface import Surface


def reserve(surface: Surface, account: str = "alice", quantity: str = "1", **more: object) -> str:
    answer = surface.call(
        "POST", "/v1/reservations", {"account": account, "meter": "ai_credits", "quantity": quantity, **more}
    )
    assert answer.status == 201, answer
    return str(answer.body["id"])


def test_a_reservation_from_beginning_to_end(surface: Surface) -> None:
    name = reserve(surface, quantity="2.50")
    state = surface.call("GET", f"/v1/reservations/{name}")
    assert (state.body["status"], state.body["units"]) == ("open", "2.5")
    longer = surface.call("POST", f"/v1/reservations/{name}/extend", {"ttl_seconds": 600, "quantity": 4})
    assert (longer.body["allowed"], longer.body["units"]) == (True, "4")
    done = surface.call("POST", f"/v1/reservations/{name}/commit", {"quantity": 0.25, "provider_cost": "0.002"})
    assert (done.body["units"], done.body["duplicate"], len(done.body["event_ids"])) == ("0.25", False, 1)
    again = surface.call("POST", f"/v1/reservations/{name}/commit")
    assert (again.body["duplicate"], again.body["event_ids"]) == (True, done.body["event_ids"])
    assert surface.call("GET", f"/v1/reservations/{name}").body["status"] == "committed"
    for action in ("release", "extend"):
        refused = surface.call("POST", f"/v1/reservations/{name}/{action}", {"ttl_seconds": 9} if action == "extend" else None)
        assert (refused.status, refused.code) == (409, "already_committed")
