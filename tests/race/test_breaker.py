"""A loop that hammers one account with 64 callers is cut inside the hour's allowance, with not one unit more."""

from __future__ import annotations

import uuid
from decimal import Decimal
from typing import Any

import pytest

from local.testing import StackProcess
from tests.race.callers import Caller, together

pytestmark = pytest.mark.stack
ALLOWED = 150
LAST_SECONDS = 300
"""Seconds before the hour's end in which the test begins the next one first: two hours allow twice as much."""


def test_64_callers_are_cut_to_the_unit_and_the_freeze_binds(money_stack: StackProcess) -> None:
    left = 3600 - money_stack.seconds() % 3600
    if left < LAST_SECONDS:
        money_stack.advance(left + 1)
    account = f"hot-{uuid.uuid4().hex[:8]}"
    money_stack.api("PUT", f"/v1/accounts/{account}", {"plan": "hot"}).raise_for_status()

    def hammer(caller: Caller, number: int) -> list[dict[str, Any]]:
        found = []
        while True:
            answer = caller.post("/v1/reservations", _asked(account))
            found.append(answer)
            if not answer["allowed"]:
                return found
            if caller.random.random() < 0.7:
                caller.post(f"/v1/reservations/{answer['id']}/commit", {})

    answers = [answer for found in together(money_stack, hammer) for answer in found]
    granted = sum((Decimal(answer["units"]) for answer in answers if answer["allowed"]), Decimal(0))
    refusals = [answer["denial"]["code"] for answer in answers if not answer["allowed"]]
    assert granted == ALLOWED, "all that is allowed, and not one unit more"
    assert set(refusals) <= {"breaker", "frozen"}
    assert "breaker" in refusals
    shown = money_stack.api("GET", f"/v1/accounts/{account}/usage").json()
    assert shown["frozen"]["reason"] == "breaker"
    assert shown["limits"] == [], "no plan limit"
    denied = together(money_stack, lambda caller, number: caller.post("/v1/reservations", _asked(account)))
    assert {answer["denial"]["code"] for answer in denied} == {"frozen"}, "whoever asks, wherever"
    (told,) = _told(money_stack, account)
    assert (told["audience"], told["allowed"]) == ("both", str(ALLOWED))
    assert told["pattern"].endswith("100 % of one size")
    assert Caller(money_stack, 0).post("/v1/usage", {"events": [_event(account)]})["results"][0]["status"] == "recorded"
    link = told["resume_path"]
    assert money_stack.api("POST", f"{link[:-8]}AAAAAAAA").json()["code"] == "resume_link_invalid"
    assert money_stack.api("GET", f"/v1/accounts/{account}/usage").json()["frozen"] is not None
    money_stack.api("POST", link).raise_for_status()
    assert money_stack.api("POST", link).json()["code"] == "already_resumed"
    again = [answer for found in together(money_stack, hammer) for answer in found]
    granted = sum((Decimal(answer["units"]) for answer in again if answer["allowed"]), Decimal(0))
    assert granted == ALLOWED, "one allowance more, from what was used by then"
    assert money_stack.api("POST", link).json()["code"] == "already_resumed", "another trip has another link"
    assert len({one["id"] for one in _told(money_stack, account)}) == 2
    money_stack.api("POST", f"/v1/accounts/{account}/unfreeze", {"grace": "2"}).raise_for_status()
    one = Caller(money_stack, 0)
    assert one.post("/v1/reservations", _asked(account, str(2 * ALLOWED)))["allowed"]
    assert one.post("/v1/reservations", _asked(account))["denial"]["code"] == "breaker"
    assert len(_told(money_stack, account)) == 3


def _asked(account: str, quantity: str = "1") -> dict[str, Any]:
    """Held for longer than the test: no unit comes back by itself."""
    return {"account": account, "meter": "ai_credits", "quantity": quantity, "ttl_seconds": 3600}


def _told(stack: StackProcess, account: str) -> list[dict[str, Any]]:
    outbox = stack.api("GET", "/_local/outbox").json()["data"]
    return [one for one in outbox if (one["kind"], one["account"]) == ("breaker", account)]


def _event(account: str) -> dict[str, str]:
    return {"id": uuid.uuid4().hex, "account": account, "meter": "ai_credits", "quantity": "3"}
