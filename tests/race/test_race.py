"""64 concurrent callers over HTTP on one account near several caps.

Never above a cap; at quiescence what fits is granted. Runs unchanged on another DynamoDB engine: set
AWS_ENDPOINT_URL_DYNAMODB (docs/testing.md).
"""

from __future__ import annotations

import threading
import uuid
from decimal import Decimal
from typing import Any

import pytest

from local.testing import StackProcess
from tests.race.callers import ROUNDS, Caller, together

pytestmark = pytest.mark.stack

PREMIUM_CAP = Decimal(50)
FREE_CAP = Decimal(10)


def limits_of(stack: StackProcess, account: str, member: str | None = None) -> dict[str, dict[str, Any]]:
    query = "" if member is None else f"?member={member}"
    answer = stack.api("GET", f"/v1/accounts/{account}/usage{query}")
    assert answer.status_code == 200, answer.text
    return {limit["id"]: limit for limit in answer.json()["limits"]}


def test_no_oversell_on_a_daily_cap_and_what_fits_is_granted(stack: StackProcess) -> None:
    account = f"race-{uuid.uuid4().hex[:8]}"
    stack.api("PUT", f"/v1/accounts/{account}", {"plan": "free"}).raise_for_status()
    used: list[Decimal] = []
    lock = threading.Lock()

    def work(caller: Caller, number: int) -> None:
        for _ in range(ROUNDS):
            body = {"account": account, "member": f"m{number}", "meter": "ai_credits", "quantity": "1"}
            found = caller.post("/v1/reservations", body)
            if not found["allowed"]:
                assert found["denial"]["limit"] == "daily"
                continue
            for limit in found["limits"]:
                taken = Decimal(limit["used"]) + Decimal(limit["held"])
                assert taken <= Decimal(limit["max"]), limit
            if caller.random.random() < 0.5:
                answer = caller.post(f"/v1/reservations/{found['id']}/commit", {})
                with lock:
                    used.append(Decimal(answer["units"]))
            else:
                caller.post(f"/v1/reservations/{found['id']}/release", {})

    together(stack, work)
    daily = limits_of(stack, account)["daily"]
    assert Decimal(daily["held"]) == 0
    assert Decimal(daily["used"]) == sum(used)
    assert sum(used) <= FREE_CAP
    left = FREE_CAP - sum(used)
    caller = Caller(stack, 0)
    if left:
        body = {"account": account, "member": "last", "meter": "ai_credits", "quantity": str(left)}
        assert caller.post("/v1/reservations", body)["allowed"], "what fits is granted"
    refused = caller.post(
        "/v1/reservations", {"account": account, "member": "last2", "meter": "ai_credits", "quantity": "1"}
    )
    assert refused["denial"]["limit"] == "daily"


def test_member_and_account_caps_together(stack: StackProcess) -> None:
    account = f"race-{uuid.uuid4().hex[:8]}"
    stack.api("PUT", f"/v1/accounts/{account}", {"plan": "pro"}).raise_for_status()
    committed: list[tuple[str, Decimal]] = []
    lock = threading.Lock()

    def work(caller: Caller, number: int) -> None:
        member = f"m{number % 3}"
        for _ in range(ROUNDS):
            body = {
                "account": account,
                "member": member,
                "meter": "ai_credits",
                "quantity": str(caller.random.choice((1, 2, 3))),
                "dimensions": {"model": "premium"},
            }
            found = caller.post("/v1/reservations", body)
            if not found["allowed"]:
                assert found["denial"]["limit"] == "premium"
                continue
            roll = caller.random.random()
            if roll < 0.6:
                answer = caller.post(f"/v1/reservations/{found['id']}/commit", {})
                with lock:
                    committed.append((member, Decimal(answer["units"])))
            elif roll < 0.9:
                caller.post(f"/v1/reservations/{found['id']}/release", {})
            else:  # two answers to one call, at once: it counts once
                commit = f"/v1/reservations/{found['id']}/commit"
                first, second = caller.post(commit, {}), caller.post(commit, {})
                assert second["duplicate"]
                with lock:
                    committed.append((member, Decimal(first["units"])))

    together(stack, work)
    for number in range(3):
        member = f"m{number}"
        premium = limits_of(stack, account, member)["premium"]
        expected = sum((units for name, units in committed if name == member), Decimal(0))
        assert Decimal(premium["used"]) == expected
        assert expected <= PREMIUM_CAP
        assert Decimal(premium["held"]) == 0
    total = sum((units for _, units in committed), Decimal(0))
    assert Decimal(limits_of(stack, account)["burst"]["used"]) == total


def test_one_key_from_all_callers_holds_once(stack: StackProcess) -> None:
    account, key = f"race-{uuid.uuid4().hex[:8]}", str(uuid.uuid4())
    stack.api("PUT", f"/v1/accounts/{account}", {"plan": "free"}).raise_for_status()
    body = {"account": account, "member": "m", "meter": "ai_credits", "quantity": "4", "idempotency_key": key}
    found = together(stack, lambda caller, number: caller.post("/v1/reservations", body))
    assert all(one["allowed"] for one in found)
    assert Decimal(limits_of(stack, account)["daily"]["held"]) == 4
    done = together(stack, lambda caller, number: caller.post(f"/v1/reservations/{found[number]['id']}/commit", {}))
    assert sum(not one["duplicate"] for one in done) == 1
    assert len({tuple(one["event_ids"]) for one in done}) == 1
    daily = limits_of(stack, account)["daily"]
    assert [Decimal(daily[name]) for name in ("used", "held")] == [4, 0]


def test_usage_ids_count_once_from_all_callers(stack: StackProcess) -> None:
    account = f"race-{uuid.uuid4().hex[:8]}"
    stack.api("PUT", f"/v1/accounts/{account}", {"plan": "pro"}).raise_for_status()
    events = [
        {"id": f"e{number}", "account": account, "member": "m", "meter": "ai_credits", "quantity": "2"}
        for number in range(10)
    ]
    found = together(stack, lambda caller, number: caller.post("/v1/usage", {"events": events[number % 5 :]}))
    recorded = [one["id"] for answer in found for one in answer["results"] if one["status"] == "recorded"]
    assert sorted(recorded) == sorted(event["id"] for event in events)
    assert Decimal(limits_of(stack, account)["burst"]["used"]) == 20


def test_a_freeze_binds_every_next_reservation(stack: StackProcess) -> None:
    account = f"race-{uuid.uuid4().hex[:8]}"
    stack.api("PUT", f"/v1/accounts/{account}", {"plan": "pro"}).raise_for_status()
    frozen = threading.Event()
    body = {"account": account, "meter": "ai_credits", "quantity": "1", "commit": True}

    def work(caller: Caller, number: int) -> None:
        for _ in range(ROUNDS):
            sent_after = frozen.is_set()
            found = caller.post("/v1/reservations", body)
            if sent_after:
                assert found.get("denial", {}).get("code") == "frozen", found
            if number == 0 and not sent_after:
                answer = stack.api("POST", f"/v1/accounts/{account}/freeze", {"reason": "race"})
                assert answer.status_code == 200, answer.text
                frozen.set()

    together(stack, work)


def test_a_resent_one_call_commit_gets_its_first_answer_though_it_used_up_the_cap(stack: StackProcess) -> None:
    for key in (str(uuid.uuid4()), "01a1fbf5-0479-7c10-8f00-" + uuid.uuid4().hex[:12]):
        account = f"race-{uuid.uuid4().hex[:8]}"
        stack.api("PUT", f"/v1/accounts/{account}", {"plan": "free"}).raise_for_status()
        caller = Caller(stack, 0)
        body = {"account": account, "member": "m", "meter": "ai_credits", "quantity": "10", "commit": True}
        first = caller.post("/v1/reservations", {**body, "idempotency_key": key})
        again = caller.post("/v1/reservations", {**body, "idempotency_key": key})
        assert first["allowed"]
        assert again["allowed"]
        assert again["duplicate"]
        assert again["event_ids"] == first["event_ids"]
        assert caller.post(f"/v1/reservations/{again['id']}/commit", {})["duplicate"]
        assert not caller.post("/v1/reservations", {**body, "idempotency_key": f"{key}-other"})["allowed"]
