"""Traffic on the running stack that survives crashes, and its two ends: what clients were told, what Stripe bills."""

from __future__ import annotations

import calendar
import os
import signal
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import httpx

from local.testing import StackProcess, wait_until

STRIPE_KEY = "sk_test_local"
MEMBERS = 4
_PATIENCE_S = 90


class Billed:
    """One account with its Stripe customer, used by clients that repeat whatever got no answer."""

    def __init__(self, stack: StackProcess, plan: str = "team") -> None:
        self.stack = stack
        self.name = f"kill-{uuid.uuid4().hex[:10]}"
        self.stripe = httpx.Client(base_url=stack.double_url, auth=(STRIPE_KEY, ""), trust_env=False, timeout=20)
        made = self.stripe.post("/v1/customers", data={"name": self.name}).raise_for_status().json()
        self.customer = str(made["id"])
        body = {"plan": plan, "stripe_customer_id": self.customer}
        stack.api("PUT", f"/v1/accounts/{self.name}", body).raise_for_status()
        self.used = Decimal(0)
        self.repeated = 0
        self._lock = threading.Lock()

    def call(self, http: httpx.Client, method: str, path: str, body: Any, key: str) -> Any:
        """One call under one key, repeated until it is answered; its JSON. Raises AssertionError for a refusal."""
        until = time.monotonic() + _PATIENCE_S
        while True:
            answer = http.request(method, path, json=body, headers={"Idempotency-Key": key})
            if answer.status_code < 500:
                assert answer.status_code in (200, 201), answer.text
                return answer.json()
            with self._lock:
                self.repeated += 1
            assert time.monotonic() < until, answer.text
            time.sleep(0.05)

    def client(self) -> httpx.Client:
        headers = {"Authorization": "Bearer tg_test_local"}
        return httpx.Client(base_url=self.stack.base_url, headers=headers, timeout=40, trust_env=False)

    def one_client(self, number: int, rounds: int, stop: threading.Event) -> None:
        """Reserve and commit, in one call and in two, report usage, and now and then rename the account."""
        member = f"m{number % MEMBERS}"
        with self.client() as http:
            for round_ in range(rounds):
                if stop.is_set():
                    return
                key = str(uuid.uuid4())
                body = {"account": self.name, "member": member, "meter": "ai_credits", "quantity": "3"}
                if round_ % 3 == 0:
                    done = self.call(http, "POST", "/v1/reservations", {**body, "commit": True}, key)
                    units = Decimal(done["units"])
                elif round_ % 3 == 1:
                    held = self.call(http, "POST", "/v1/reservations", body, key)
                    done = self.call(http, "POST", f"/v1/reservations/{held['id']}/commit", {"quantity": "2"}, key)
                    units = Decimal(done["units"])
                else:
                    event = {"id": key, "account": self.name, "member": member, "meter": "ai_credits", "quantity": "1"}
                    found = self.call(http, "POST", "/v1/usage", {"events": [event]}, key)["results"][0]
                    assert found["status"] in ("recorded", "duplicate"), found
                    units = Decimal(found["units"])
                with self._lock:
                    self.used += units
                if number == 0:
                    self.call(http, "PUT", f"/v1/accounts/{self.name}", {"name": f"round {round_}"}, str(uuid.uuid4()))

    def traffic(self, clients: int = 6, rounds: int = 9) -> Running:
        return Running(self, clients, rounds)

    def billed(self, start: int, end: int) -> Decimal:
        """What Stripe's summaries hold for the customer in [start, end), epoch seconds."""
        meters = self.stripe.get("/v1/billing/meters", params={"limit": 100}).raise_for_status().json()["data"]
        meter = next(meter["id"] for meter in meters if meter["event_name"] == "ai_credits")
        answer = self.stripe.get(
            f"/v1/billing/meters/{meter}/event_summaries",
            params={"customer": self.customer, "start_time": start, "end_time": end},
        )
        rows = answer.raise_for_status().json()["data"]
        return sum((Decimal(str(row["aggregated_value"])) for row in rows), Decimal(0))

    def shown(self) -> tuple[Decimal, Decimal]:
        """(used, held) as the account's usage shows them."""
        body = self.stack.api("GET", f"/v1/accounts/{self.name}/usage").raise_for_status().json()
        used = next(Decimal(meter["used"]) for meter in body["meters"] if meter["id"] == "ai_credits")
        return used, sum((Decimal(limit["held"]) for limit in body["limits"]), Decimal(0))


class Running:
    """Traffic in threads; `with` waits for all of it and raises what a client raised."""

    def __init__(self, billed: Billed, clients: int, rounds: int) -> None:
        self._pool = ThreadPoolExecutor(clients)
        self._stop = threading.Event()
        self._work = [self._pool.submit(billed.one_client, number, rounds, self._stop) for number in range(clients)]

    def __enter__(self) -> Running:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self._stop.set()
        self._pool.shutdown()
        for work in self._work:
            work.result()

    @property
    def over(self) -> bool:
        return all(work.done() for work in self._work)


def kill_busy(stack: StackProcess, function: str, seconds: float = 20) -> bool:
    """SIGKILL to a process of the function while it is at work; False where none was met in time.

    True only if the stack saw an invocation die of it.
    """
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        row = stack.functions()[function]
        if not row["busy_pids"]:
            continue
        failures = row["failures"]
        try:
            os.kill(row["busy_pids"][0], signal.SIGKILL)
        except ProcessLookupError:
            continue
        if _died(stack, function, failures):
            return True
    return False


def _died(stack: StackProcess, function: str, failures_before: int) -> bool:
    """Whether an invocation ended with the process; else it had just finished."""
    try:
        wait_until(lambda: stack.functions()[function]["failures"] > failures_before, 3)
    except AssertionError:
        return False
    return True


def month(text: str) -> tuple[int, int]:
    """The UTC month that an RFC 3339 time lies in, as epoch seconds."""
    year, number = int(text[:4]), int(text[5:7])
    following = (year + 1, 1) if number == 12 else (year, number + 1)
    return calendar.timegm((year, number, 1, 0, 0, 0)), calendar.timegm((*following, 1, 0, 0, 0))
