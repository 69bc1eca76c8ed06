"""64 concurrent callers on a cap on spend across the edges of tiers, and on prepaid credits.

Charged is never more than the cap, whatever is committed above its reservation; at quiescence what fits is granted.
"""

from __future__ import annotations

import threading
import uuid
from decimal import ROUND_CEILING, ROUND_HALF_UP, Decimal
from typing import Any

import pytest

from local.testing import StackProcess
from tests.race.callers import CALLERS, ROUNDS, Caller, together

pytestmark = pytest.mark.stack

CAP = Decimal("9.00")
TIERS = (("0", "40", "0"), ("0.03", "120", "0"), ("0.02", "200", "0.25"), ("0.0125", "1000000000", "0"))
METERS = ("ai_credits", "llm_tokens")
ZERO, CENT, STEP = Decimal(0), Decimal("0.01"), Decimal("0.000001")


def of_credits(units: Decimal) -> Decimal:
    """What so many credits cost, by the catalogue's tiers."""
    total, low = ZERO, ZERO
    for price, high, flat in TIERS:
        if units > low or not low:
            total += (min(units, Decimal(high)) - low) * Decimal(price) + Decimal(flat)
        low = Decimal(high)
    return total


def of_tokens(units: Decimal) -> Decimal:
    return (units / 10).to_integral_value(ROUND_CEILING) * Decimal("0.07")


def rows_of(stack: StackProcess, account: str) -> list[dict[str, Any]]:
    """All usage events of an account."""
    found: list[dict[str, Any]] = []
    after: str | None = None
    while True:
        query = "" if after is None else f"&cursor={after}"
        answer = stack.api("GET", f"/v1/accounts/{account}/events?limit=100{query}")
        assert answer.status_code == 200, answer.text
        found += answer.json()["data"]
        after = answer.json()["next_cursor"]
        if after is None:
            return found


def usage_of(stack: StackProcess, account: str) -> Any:
    answer = stack.api("GET", f"/v1/accounts/{account}/usage")
    assert answer.status_code == 200, answer.text
    return answer.json()


def work_hard(account: str, meters: tuple[str, ...], codes: set[str]) -> Any:
    """Reservations that are committed in part, as they were, or above, or released; and usage that nobody asked for."""

    def work(caller: Caller, number: int) -> int:
        granted = 0
        for turn in range(ROUNDS):
            meter, quantity = caller.random.choice(meters), caller.random.randrange(1, 8)
            if caller.random.random() < 0.1:
                event = {"id": f"{number}-{turn}", "account": account, "meter": meter, "quantity": str(quantity)}
                found = caller.post("/v1/usage", {"events": [event]})
                assert found["results"][0]["status"] == "recorded"
                continue
            body = {"account": account, "meter": meter, "quantity": str(quantity)}
            found = caller.post("/v1/reservations", body)
            if not found["allowed"]:
                codes.add(found["denial"]["code"])
                continue
            granted += 1
            what, roll = f"/v1/reservations/{found['id']}", caller.random.random()
            if roll < 0.2:
                caller.post(f"{what}/release", {})
                continue
            if roll < 0.3:
                caller.post(f"{what}/extend", {"quantity": str(quantity + 2)})
            used = {} if roll < 0.6 else {"quantity": str(caller.random.choice((1, quantity, quantity + 5)))}
            done = caller.post(f"{what}/commit", used)
            reserved = min(Decimal(done["units"]), Decimal(quantity))
            assert Decimal(done["units"]) - Decimal(done["waived"]) >= reserved, "what was granted is paid for"
        return granted

    return work


def test_no_spend_past_the_cap_across_tier_edges_and_what_fits_is_granted(money_stack: StackProcess) -> None:
    account, codes = f"race-{uuid.uuid4().hex[:8]}", set[str]()
    money_stack.api("PUT", f"/v1/accounts/{account}", {"plan": "metered"}).raise_for_status()
    granted = together(money_stack, work_hard(account, METERS, codes))
    assert sum(granted) > CALLERS
    assert codes == {"spend_cap"}
    billed = dict.fromkeys(METERS, ZERO)
    for row in rows_of(money_stack, account):
        assert Decimal(row["credit_funded"]) == 0
        billed[row["meter"]] += Decimal(row["units"]) - Decimal(row["waived"])
    lines = (of_credits(billed["ai_credits"]), of_tokens(billed["llm_tokens"]))
    assert sum(lines, ZERO) <= CAP
    assert sum((line.quantize(CENT, ROUND_HALF_UP) for line in lines), ZERO) <= CAP

    caller = Caller(money_stack, 0)
    body = {"account": account, "meter": "ai_credits", "quantity": "100000"}
    refused = caller.post("/v1/reservations", body)
    assert refused["denial"]["code"] == "spend_cap"
    left = Decimal(refused["denial"]["remaining"])
    position, tokens = billed["ai_credits"], of_tokens(billed["llm_tokens"])
    assert of_credits(position + left) + tokens <= CAP < of_credits(position + left + STEP) + tokens
    if left:
        assert caller.post("/v1/reservations", {**body, "quantity": str(left)})["allowed"], "what fits is granted"
    more = caller.post("/v1/reservations", {**body, "quantity": "1"})
    assert more["denial"]["code"] == "spend_cap"
    assert Decimal(more["denial"]["remaining"]) == 0


def test_credits_are_burned_once_and_never_below_zero(money_stack: StackProcess) -> None:
    account, codes = f"race-{uuid.uuid4().hex[:8]}", set[str]()
    money_stack.api("PUT", f"/v1/accounts/{account}", {"plan": "wallet"}).raise_for_status()
    credits = f"/v1/accounts/{account}/credits"
    taken: list[Decimal] = []
    lock = threading.Lock()
    use = work_hard(account, METERS[:1], codes)

    def give(caller: Caller, units: str, source: str, **more: str) -> Any:
        body = {"meter": "ai_credits", "units": units, "source": "shop", "source_id": source, **more}
        answers = [caller.post(credits, {**body, "idempotency_key": f"{source}-{turn}"}) for turn in range(2)]
        assert answers[0]["grant"]["id"] == answers[1]["grant"]["id"], "told twice, given once"
        return answers[-1]

    give(Caller(money_stack, 0), "150", "first")

    def work(caller: Caller, number: int) -> int:
        if number % 16 == 0:
            give(caller, "100", f"bought-{number}")
        if number % 16 == 1:
            back = give(caller, "-20", f"refund-{number}", refund_of="first")
            with lock:
                taken.append(Decimal(back["clawback"]["taken"]))
        done: int = use(caller, number)
        return done

    granted = together(money_stack, work)
    assert sum(granted) > CALLERS
    assert codes == {"credits_exhausted"}
    given = Decimal(150 + 100 * (CALLERS // 16))
    burned = ZERO
    for row in rows_of(money_stack, account):
        burned += Decimal(row["credit_funded"])
        assert Decimal(row["credit_funded"]) + Decimal(row["waived"]) == Decimal(row["units"])
    usage = usage_of(money_stack, account)
    left = sum((Decimal(one["available"]) for one in usage["credits"]), ZERO)
    assert all(Decimal(grant["available"]) >= 0 for one in usage["credits"] for grant in one["grants"])
    assert given == left + burned + sum(taken)
    ledger = money_stack.api("GET", f"/v1/accounts/{account}/ledger?limit=1").json()["data"]
    assert Decimal(ledger[0]["balance"]) == left

    caller = Caller(money_stack, 0)
    body = {"account": account, "meter": "ai_credits"}
    if left:
        assert caller.post("/v1/reservations", {**body, "quantity": str(left)})["allowed"], "what is left is granted"
    refused = caller.post("/v1/reservations", {**body, "quantity": "1"})
    assert refused["denial"]["code"] == "credits_exhausted"


def test_each_member_burns_the_units_of_its_own_seat_and_there_are_no_more_seats(money_stack: StackProcess) -> None:
    """32 members with 2 callers each, 20 seats: who came first has one, and pays for what that does not.
    Nothing is given back here, so that every unit of a seat is burned."""
    account = f"race-{uuid.uuid4().hex[:8]}"
    money_stack.api("PUT", f"/v1/accounts/{account}", {"plan": "crew"}).raise_for_status()
    members, seats, each = [f"m{number}" for number in range(32)], 20, Decimal(12)

    def work(caller: Caller, number: int) -> None:
        member = members[number % len(members)]
        for turn in range(ROUNDS):
            body = {"account": account, "member": member, "meter": "ai_credits", "quantity": "1.5"}
            if turn % 3 == 2:
                others = {**body, "id": f"{number}-{turn}"}, {**body, "id": f"{number}-{turn}-all", "member": None}
                events = [{key: value for key, value in event.items() if value is not None} for event in others]
                found = caller.post("/v1/usage", {"events": events})
                assert [one["status"] for one in found["results"]] == ["recorded"] * 2
                continue
            found = caller.post("/v1/reservations", {**body, "commit": turn % 3 == 1})
            assert found["allowed"]
            if turn % 3 == 0:
                caller.post(f"/v1/reservations/{found['id']}/commit", {"quantity": "2"})

    together(money_stack, work)
    used: dict[str | None, Decimal] = {}
    funded: dict[str | None, Decimal] = {}
    for row in rows_of(money_stack, account):
        member = row["member"]
        used[member] = used.get(member, ZERO) + Decimal(row["units"])
        funded[member] = funded.get(member, ZERO) + Decimal(row["credit_funded"])
        assert Decimal(row["waived"]) == 0
    assert all(used[member] == Decimal(2 * ROUNDS) * 5 / 3 for member in members)
    assert used[None] == Decimal(CALLERS * ROUNDS) / 2
    assert funded[None] == 0
    assert sorted(funded[member] for member in members) == [ZERO] * (len(members) - seats) + [each] * seats
    billed = sum(used.values(), ZERO) - seats * each
    assert Decimal(usage_of(money_stack, account)["spend"]["usage"]) == billed / 100
    ledger = money_stack.api("GET", f"/v1/accounts/{account}/ledger?limit=1").json()["data"]
    assert Decimal(ledger[0]["balance"]) == 0, "what was never given is not shown"
