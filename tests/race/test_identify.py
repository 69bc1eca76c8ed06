"""32 concurrent callers over HTTP under both ids, while the one account becomes the other.

Never above a cap, no unit lost or counted twice. Runs unchanged on another DynamoDB engine (docs/testing.md).
"""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest

from local.testing import StackProcess
from tests.race.callers import Caller
from tests.race.test_race import limits_of

pytestmark = pytest.mark.stack

CALLERS = 32
ROUNDS = 8
CAP = Decimal(10)


@pytest.mark.parametrize("repeats", range(2))
def test_callers_of_both_ids_meet_one_cap(stack: StackProcess, repeats: int) -> None:
    name = uuid.uuid4().hex[:8]
    guest, known = f"anon-{name}", f"user-{name}"
    for account in (guest, known):
        stack.api("PUT", f"/v1/accounts/{account}", {"plan": "free"}).raise_for_status()
    lock, start, begun = threading.Lock(), threading.Barrier(CALLERS + 2), threading.Event()
    used: list[Decimal] = []
    refused: list[str] = []

    def call(number: int) -> None:
        caller = Caller(stack, number)
        start.wait()
        for round_ in range(ROUNDS):
            account = (guest, known)[(number + round_) % 2]
            quantity = Decimal(caller.random.choice(["0.25", "0.5", "0.75"]))
            body = {"account": account, "member": f"m{number % 4}", "meter": "ai_credits", "quantity": str(quantity)}
            found = caller.post("/v1/reservations", body)
            if round_ == 1:
                begun.set()
            if not found["allowed"]:
                with lock:
                    refused.append(found["denial"]["code"])
                continue
            assert not any(limit["over"] for limit in found["limits"]), found
            path = f"/v1/reservations/{found['id']}"
            if caller.random.random() < 0.3:
                assert caller.post(f"{path}/release", {})["status"] == "released"
                continue
            done = caller.post(f"{path}/commit", {"quantity": str(quantity - Decimal("0.125"))})
            assert not done["late"], done
            with lock:
                used.append(Decimal(done["units"]))
        caller.http.close()

    def become(number: int) -> None:
        caller = Caller(stack, number)
        start.wait()
        begun.wait(60)
        answer = caller.post(f"/v1/accounts/{guest}/identify", {"into": known})
        assert answer["id"] == known, answer
        assert answer["aliases"] == [guest]
        caller.http.close()

    with ThreadPoolExecutor(CALLERS + 2) as pool:
        jobs = [pool.submit(call, number) for number in range(CALLERS)]
        jobs += [pool.submit(become, number) for number in (100, 101)]  # sent twice at once
        for job in jobs:
            job.result()
    total = sum(used, Decimal(0))
    shown = {account: limits_of(stack, account)["daily"] for account in (guest, known)}
    assert shown[guest] == shown[known]
    assert [Decimal(shown[known]["used"]), Decimal(shown[known]["held"])] == [total, 0]
    # Two caps of ten until then, one from then on: what both used before counts on it.
    assert total <= 2 * CAP
    left = CAP - total
    body = {"account": guest, "member": "m0", "meter": "ai_credits"}
    if left > 0:
        found = stack.api("POST", "/v1/reservations", {**body, "quantity": str(left)}).json()
        assert found["allowed"], found
    found = stack.api("POST", "/v1/reservations", {**body, "quantity": "0.001"}).json()
    assert not found["allowed"]
    swept = stack.run("sweep")
    assert swept["repaired"] == 0, swept
