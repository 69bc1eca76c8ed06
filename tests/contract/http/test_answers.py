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
        refused = surface.call(
            "POST", f"/v1/reservations/{name}/{action}", {"ttl_seconds": 9} if action == "extend" else None
        )
        assert (refused.status, refused.code) == (409, "already_committed")


def test_released_and_gone(surface: Surface) -> None:
    name = reserve(surface)
    assert surface.call("POST", f"/v1/reservations/{name}/release", headers={"Idempotency-Key": "r"}).status == 200
    assert surface.call("POST", f"/v1/reservations/{name}/release", headers={"Idempotency-Key": "r"}).status == 200
    assert surface.call("POST", f"/v1/reservations/{name}/release").code == "already_released"
    assert surface.call("POST", f"/v1/reservations/{name}/extend", {"ttl_seconds": 9}).code == "already_released"
    assert surface.call("GET", f"/v1/reservations/{name}").body["status"] == "released"
    late = surface.call("POST", f"/v1/reservations/{name}/commit", {})
    assert (late.status, late.body["late"]) == (200, True)


def test_a_refusal_is_an_answer(surface: Surface) -> None:
    over = surface.call("POST", "/v1/reservations", {"account": "alice", "meter": "ai_credits", "quantity": 10**7})
    assert (over.status, over.body["allowed"], over.body["denial"]["code"]) == (200, False, "limit_reached")
    assert (over.body["denial"]["resolve"], over.body["denial"]["limit"]) == ("upgrade", "daily")
    not_in_plan = surface.call("POST", "/v1/reservations", {"account": "alice", "meter": "llm_tokens", "quantity": 1})
    assert (not_in_plan.status, not_in_plan.body["denial"]["code"]) == (200, "not_in_plan")


def test_a_refused_extension_is_not_remembered(surface: Surface) -> None:
    name = reserve(surface, account="extending", quantity="5")
    path, headers = f"/v1/reservations/{name}/extend", {"Idempotency-Key": "same"}
    refused = surface.call("POST", path, {"quantity": 10**7}, headers=headers)
    assert (refused.status, refused.body["allowed"], refused.body["units"]) == (200, False, "5")
    granted = surface.call("POST", path, {"quantity": 6}, headers=headers)
    assert (granted.status, granted.body["allowed"], granted.body["units"]) == (200, True, "6")
    assert surface.call("POST", path, {"quantity": 7}, headers=headers).code == "idempotency_mismatch"


def test_several_items_for_a_member_with_limits(surface: Surface) -> None:
    assert surface.call("PUT", "/v1/accounts/team", {"plan": "seats"}).status == 200
    body = {
        "account": "team",
        "member": "u-1",
        "items": [
            {"meter": "ai_credits", "quantity": 1, "dimensions": {"model": "a-1"}},
            {"meter": "ai_credits", "quantity": "2"},
        ],
    }
    held = surface.call("POST", "/v1/reservations", body, key="usage")
    assert [(item["units"]) for item in held.body["items"]] == ["1", "2"]
    assert {state["member"] for state in held.body["limits"] if state["per"] == "member"} == {"u-1"}
    for _ in range(2):
        last = surface.call("POST", "/v1/reservations", body)
    assert last.body["denial"]["limit"] == "jobs"
    frozen = surface.call("POST", "/v1/accounts/team/freeze", {"reason": "late"})
    assert frozen.body["frozen"]["reason"] == "late"
    refused = surface.call("POST", "/v1/reservations", body)
    assert (refused.body["denial"]["code"], refused.body["denial"]["resolve"]) == ("frozen", "contact")
    raised = surface.call(
        "POST", f"/v1/reservations/{held.body['id']}/extend", {"items": [{"meter": "ai_credits", "quantity": 9}]}
    )
    assert (raised.status, raised.body["allowed"]) == (200, False)
    assert surface.call("POST", "/v1/accounts/team/unfreeze").body["frozen"] is None
    usage = surface.call("GET", "/v1/accounts/team/usage?member=u-1", key="read")
    assert [state["held"] for state in usage.body["limits"] if state["id"] == "seat"] == ["6"]


def test_reserve_and_commit_in_one_call(surface: Surface) -> None:
    body = {"account": "alice", "meter": "ai_credits", "quantity": "0.5", "commit": True}
    first = surface.call("POST", "/v1/reservations", body, headers={"Idempotency-Key": "once"})
    again = surface.call("POST", "/v1/reservations", body, headers={"Idempotency-Key": "once"})
    assert (first.status, first.body["duplicate"]) == (201, False)
    assert again.body["event_ids"] == first.body["event_ids"]
    other = surface.call("POST", "/v1/reservations", {**body, "quantity": 1}, headers={"Idempotency-Key": "once"})
    assert (other.status, other.code) == (409, "idempotency_mismatch")


def test_usage_and_its_events(surface: Surface) -> None:
    events = [
        {
            "id": "u-1",
            "account": "bob",
            "member": "m",
            "meter": "ai_credits",
            "quantity": 7,
            "dimensions": {"model": "b"},
        },
        {
            "id": "u-2",
            "account": "bob",
            "meter": "ai_credits",
            "quantity": "1e3",
            "metadata": {"a": [1.5, {"b": None}]},
        },
        {"id": "u-2", "account": "bob", "meter": "ai_credits", "quantity": 1000, "metadata": {"a": [1.5, {"b": None}]}},
        {"id": "u-1", "account": "bob", "meter": "ai_credits", "quantity": 8},
        {"id": "u-3", "account": "bob", "meter": "ai_credits", "quantity": 1, "occurred_at": "2001-01-01T00:00:00Z"},
        {"id": 7},
        "nothing",
    ]
    answer = surface.call("POST", "/v1/usage", {"events": events}, key="usage")
    found = [(result["id"], result["status"], result.get("error", {}).get("code")) for result in answer.body["results"]]
    assert found == [
        ("u-1", "recorded", None),
        ("u-2", "rejected", "invalid"),
        ("u-2", "recorded", None),
        ("u-1", "rejected", "idempotency_mismatch"),
        ("u-3", "rejected", "invalid"),
        (None, "rejected", "invalid"),
        (None, "rejected", "invalid"),
    ]
    assert answer.body["results"][0]["over_limits"] == ["models"]
    assert surface.call("POST", "/v1/usage", {"events": events[:1]}).body["results"][0]["status"] == "duplicate"
    listed = surface.call("GET", "/v1/accounts/bob/events?limit=1", key="read")
    rest = surface.call("GET", f"/v1/accounts/bob/events?cursor={listed.body['next_cursor']}")
    assert [event["units"] for event in (*listed.body["data"], *rest.body["data"])] in (["7", "1000"], ["1000", "7"])
    one = surface.call("GET", "/v1/accounts/bob/events?dimension.model=b&member=m&from=2020-01-01T00:00:00Z")
    assert [event["units"] for event in one.body["data"]] == ["7"]
    assert one.body["data"][0]["usage_id"] == "u-1"
    assert surface.call("GET", "/v1/accounts/bob/events?from=2030-01-01T00:00:00Z").body["data"] == []


def test_a_key_of_a_batch_belongs_to_the_account(surface: Surface) -> None:
    def send(*accounts: str) -> int:
        events = [{"id": f"k-{name}", "account": name, "meter": "ai_credits", "quantity": 1} for name in accounts]
        return surface.call("POST", "/v1/usage", {"events": events}, headers={"Idempotency-Key": "batch-1"}).status

    assert [send("keyed-1"), send("keyed-2"), send("keyed-1", "keyed-2")] == [200, 200, 200]
    assert [send("keyed-1", "keyed-1"), send("keyed-2", "keyed-1")] == [409, 409]


@pytest.mark.parametrize(
    "window",
    ["from=2030-01-01T00:00:00Z&to=2020-01-01T00:00:00Z", "to=1900-01-01T00:00:00Z", "to=9999-12-31T23:59:59Z"],
)
def test_any_window_of_events_can_be_asked_for(surface: Surface, window: str) -> None:
    reserve(surface, account="windows", commit=True)
    assert surface.call("GET", f"/v1/accounts/windows/events?{window}").status == 200


def test_accounts(surface: Surface) -> None:
    made = surface.call(
        "PUT",
        "/v1/accounts/carol",
        {
            "plan": "free",
            "timezone": "Asia/Kathmandu",
            "stripe_customer_id": "cus_1",
            "overrides": {"limits": {"daily": {"max": 5}}},
        },
        headers={"Idempotency-Key": "k"},
    )
    assert (made.body["timezone"], made.body["rev"]) == ("Asia/Kathmandu", 1)
    cleared = surface.call("PUT", "/v1/accounts/carol", {"stripe_customer_id": None, "name": "Carol"})
    assert (cleared.body["stripe_customer_id"], cleared.body["name"]) == (None, "Carol")
    assert surface.call("POST", "/v1/accounts/carol/plan", {"plan": "seats"}).body["plan"]["id"] == "seats"
    assert surface.call("GET", "/v1/accounts/carol").body["plan"] == {"id": "seats", "version": 1, "name": "Seats"}
    surface.call("PUT", "/v1/accounts/dave", {"stripe_customer_id": "cus_1"})
    taken = surface.call("PUT", "/v1/accounts/carol", {"stripe_customer_id": "cus_1"})
    assert (taken.status, taken.code) == (409, "customer_in_use")
    page = surface.call("GET", "/v1/accounts?limit=1")
    rest = surface.call("GET", f"/v1/accounts?cursor={page.body['next_cursor']}")
    assert {"carol", "dave"} <= {account["id"] for account in (*page.body["data"], *rest.body["data"])}


def test_an_override_binds_the_very_next_reservation(surface: Surface) -> None:
    def daily(quantity: str) -> tuple[bool, str, str | None]:
        body = {"account": "own-terms", "meter": "ai_credits", "quantity": quantity}
        answer = surface.call("POST", "/v1/reservations", body).body
        state = next(state for state in answer["limits"] if state["id"] == "daily")
        return answer["allowed"], state["source"], state["max"]

    def override(most: str | int | None) -> None:
        body = {"overrides": {"limits": {"daily": {"max": most}}}}
        assert surface.call("PUT", "/v1/accounts/own-terms", body).body["overrides"] == {
            "limits": {"daily": {"max": None if most is None else str(most)}}
        }

    assert daily("20") == (True, "plan", "1000000")
    override(25)
    assert daily("6") == (False, "operator", "25")
    assert daily("5") == (True, "operator", "25")
    override(10)
    assert daily("1") == (False, "operator", "10")
    override(None)
    assert daily("5000000") == (True, "operator", None)
    assert surface.call("PUT", "/v1/accounts/own-terms", {"overrides": None}).body["overrides"] is None
    refused = surface.call("POST", "/v1/reservations", {"account": "own-terms", "meter": "ai_credits", "quantity": 1})
    assert (refused.body["denial"]["source"], refused.body["denial"]["resolve"]) == ("plan", "wait")


def test_overrides_follow_the_plan(surface: Surface) -> None:
    terms = {"overrides": {"limits": {"jobs": {"max": 3}}}, "plan": "seats"}
    assert surface.call("PUT", "/v1/accounts/follows", terms).status == 200
    body = {"account": "follows", "member": "m", "meter": "ai_credits", "quantity": 1}
    found = [surface.call("POST", "/v1/reservations", body).body for _ in range(4)]
    assert [answer["allowed"] for answer in found] == [True, True, True, False]
    assert found[-1]["denial"]["message"] == "3 reservations are open, which is the most allowed at once."
    assert surface.call("POST", "/v1/accounts/follows/plan", {"plan": "free"}).status == 200
    assert surface.call("POST", "/v1/reservations", body).body["allowed"], "inert where the plan has no such limit"


def test_keys(surface: Surface) -> None:
    body = {"name": "backend", "scopes": ["usage", "read"]}
    made = surface.call("POST", "/v1/keys", body)
    assert made.status == 201
    listed = surface.call("GET", "/v1/keys").body["data"]
    assert next(key for key in listed if key["id"] == made.body["id"])["revoked_at"] is None
    assert "secret" not in listed[0]
    page = surface.call("GET", "/v1/keys?limit=1").body
    rest = surface.call("GET", f"/v1/keys?limit=100&cursor={page['next_cursor']}").body
    assert ([*page["data"], *rest["data"]], rest["next_cursor"]) == (listed, None)
    assert surface.call("GET", "/v1/keys?limit=0").status == 422
    for _ in range(2):
        assert surface.call("DELETE", f"/v1/keys/{made.body['id']}").body == {"id": made.body["id"], "revoked": True}


def test_a_repeated_key_creation_makes_no_second_key(surface: Surface) -> None:
    headers = {"Idempotency-Key": "make"}
    assert surface.call("POST", "/v1/keys", {"name": "a", "scopes": ["read"]}, headers=headers).status == 201
    before = surface.contents()["TOLLGATE_CONFIG_TABLE"]
    again = surface.call("POST", "/v1/keys", {"name": "a", "scopes": ["read"], "idempotency_key": "make"})
    other = surface.call("POST", "/v1/keys", {"name": "b", "scopes": ["read"]}, headers=headers)
    assert [(answer.status, answer.code) for answer in (again, other)] == [
        (409, "key_already_made"),
        (409, "idempotency_mismatch"),
    ]
    assert surface.contents()["TOLLGATE_CONFIG_TABLE"] == before


def test_what_is_public(surface: Surface) -> None:
    plans = surface.call("GET", "/v1/plans", key=None)
    assert [plan["id"] for plan in plans.body["data"]] == ["free", "seats"]
    assert surface.call("GET", "/v1/health", key=None).body == {"status": "ok"}
    assert surface.call("GET", "/v1/openapi.json", key=None).body == surface.document
