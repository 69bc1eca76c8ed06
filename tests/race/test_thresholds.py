"""64 callers pass every mark of every limit, cap and credit balance, some of them twice: each is told exactly once."""

from __future__ import annotations

import uuid
from collections import Counter
from typing import Any

import pytest

from local.testing import StackProcess
from tests.race.callers import CALLERS, Caller, together

pytestmark = pytest.mark.stack

DEFAULT = [50, 80, 90, 100]
DAY_S = 86_400


def told(stack: StackProcess, account: str) -> Counter[tuple[str, str, str, str, int]]:
    """How often each mark was told: what, of which, of whom, in which window, at how many per cent."""
    return Counter(
        (
            message["of"],
            message["limit"],
            message.get("member", ""),
            message.get("window_start", ""),
            int(message["threshold"]),
        )
        for message in stack.outbox()
        if message["account"] == account and message["kind"] == "threshold"
    )


def use(account: str, units: int, meter: str = "llm_tokens") -> Any:
    """Each unit is a call of its own; every other one is sent twice, whole or only its commit."""

    def work(caller: Caller, number: int) -> int:
        granted = 0
        for turn in range(units):
            key = f"{number}-{turn}-{uuid.uuid4().hex[:6]}"
            body = {"account": account, "member": f"m{number % 4}", "meter": meter, "quantity": 1}
            body["idempotency_key"] = key
            found = caller.post("/v1/reservations", body)
            if not found["allowed"]:
                continue
            granted += 1
            commit = f"/v1/reservations/{found['id']}/commit"
            if caller.random.random() < 0.2:
                caller.post(f"/v1/reservations/{found['id']}/extend", {"ttl_seconds": 600})
            done = caller.post(commit, {})
            if number % 2:
                again = caller.post(commit, {})
                assert again["duplicate"]
                assert again["event_ids"] == done["event_ids"]
        return granted

    return work


def test_each_mark_of_each_window_is_told_once(money_stack: StackProcess) -> None:
    account = f"race-{uuid.uuid4().hex[:8]}"
    money_stack.api("PUT", f"/v1/accounts/{account}", {"plan": "told"}).raise_for_status()
    assert sum(together(money_stack, use(account, 3))) == 192
    first = told(money_stack, account)
    (burst,) = {start for of, name, _, start, _ in first if name == "burst"}
    assert sum(together(money_stack, use(account, 1))) == 0, "the burst limit is reached"

    money_stack.advance(5 * 3600)
    assert sum(together(money_stack, use(account, 1))) == 64
    found = told(money_stack, account)
    expected = {("limit", "burst", "", percent) for percent in DEFAULT}
    expected |= {("limit", "monthly", "", percent) for percent in DEFAULT}
    expected |= {("limit", "each", f"m{number}", percent) for number in range(4) for percent in DEFAULT}
    expected |= {("spend_cap", "spend_cap", "", percent) for percent in DEFAULT}
    assert set(found.values()) == {1}, "a mark was told twice"
    assert {(of, name, member, percent) for of, name, member, _, percent in found} == expected
    assert {percent for of, name, _, start, percent in found if start == burst} == set(DEFAULT)
    assert len(found) == len(expected), "64 of 192 pass no mark of the second five hours"
    assert money_stack.run("alert")["thresholds"]["told"] == 0, "the scheduled look finds nothing that was not told"
    assert told(money_stack, account) == found


def test_credits_are_told_once_though_they_come_back(money_stack: StackProcess) -> None:
    account = f"race-{uuid.uuid4().hex[:8]}"
    money_stack.api("PUT", f"/v1/accounts/{account}", {"plan": "wallet"}).raise_for_status()
    credits = {"meter": "ai_credits", "units": "128", "source": "shop", "source_id": "one"}
    Caller(money_stack, 0).post(f"/v1/accounts/{account}/credits", {**credits, "idempotency_key": "one"})

    def hold_and_release(caller: Caller, number: int) -> None:
        body = {"account": account, "meter": "ai_credits", "quantity": 1}
        found = caller.post("/v1/reservations", body)
        assert found["allowed"]
        caller.post(f"/v1/reservations/{found['id']}/release", {})

    together(money_stack, hold_and_release)
    assert sum(together(money_stack, use(account, 2, "ai_credits"))) == 2 * CALLERS
    found = told(money_stack, account)
    assert set(found.values()) == {1}
    assert {(of, percent) for of, _, _, _, percent in found} == {("credits", percent) for percent in DEFAULT}
