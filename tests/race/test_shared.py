"""64 concurrent callers over HTTP, ten accounts, one cap that they share: never past it, and what fits is granted.

Runs on a stack of its own: the other suites' catalogue has no such limit.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from local.testing import StackProcess
from tests.race.callers import Caller, together
from tests.support.stack import STRIPE_LAG_SECONDS, beyond_rights
from tollgate.gate.shares import FRESH_MS

pytestmark = pytest.mark.stack

CAP = Decimal(600)
VALUE_CAP = Decimal(50)
ROUNDS = 8
CATALOG = f"""
currency: usd
default_plan: free
meters:
  images: {{name: Images, unit: image, scale: 0, stripe_event_name: images}}
plans:
  free:
    name: Free
    limits:
      - {{id: mine, meter: images, per: account, window: lifetime, max: 5000}}
      - {{id: everyone, meter: images, per: plan, window: lifetime, max: {CAP}}}
  anonymous:
    name: Anonymous
    limits:
      - {{id: mine, meter: images, per: account, window: lifetime, max: 5000}}
      - {{id: address, meter: images, per: "dimension:ip", window: lifetime, max: {VALUE_CAP}}}
"""


@pytest.fixture(scope="module")
def sharing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackProcess]:
    state: Path = tmp_path_factory.mktemp("sharing")
    catalog = state / "catalog.yaml"
    catalog.write_text(CATALOG, encoding="utf-8")
    environment = {"TOLLGATE_CATALOG": str(catalog), "TOLLGATE_STRIPE_LAG_SECONDS": STRIPE_LAG_SECONDS}
    running = StackProcess(state, environment).wait_ready()
    try:
        yield running
        if not os.environ.get("AWS_ENDPOINT_URL_DYNAMODB"):
            assert beyond_rights(running.aws_calls()) == [], "calls that the template's policies do not allow"
    finally:
        running.stop()


class Book:
    """What callers know to be granted at a moment at least, and used in the end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.granted = self.most = Decimal(0)
        self.busy = 0
        """Calls without an answer that is known: each may have left its units counted."""

    def note(self, answer: httpx.Response) -> None:
        with self._lock:
            self.busy += answer.status_code == 503

    def add(self, units: Decimal) -> None:
        with self._lock:
            self.granted += units
            self.most = max(self.most, self.granted)


def rush(stack: StackProcess, accounts: list[str], limit: str, sizes: tuple[int, ...], ip: str | None = None) -> Book:
    """Each caller reserves again and again, and commits all of it, commits less, or releases."""
    book = Book()

    def work(caller: Caller, number: int) -> None:
        caller.http.event_hooks = {"response": [book.note]}
        for _ in range(ROUNDS):
            asked = caller.random.choice(sizes)
            body: dict[str, Any] = {"account": accounts[number % len(accounts)], "meter": "images", "quantity": asked}
            if ip is not None:
                body["dimensions"] = {"ip": ip}
            found = caller.post("/v1/reservations", body)
            if not found["allowed"]:
                assert found["denial"]["limit"] == limit
                assert found["denial"]["code"] == "limit_reached"
                continue
            book.add(Decimal(asked))
            roll = caller.random.random()
            used = asked if roll < 0.5 else asked // 2 if roll < 0.8 else 0
            book.add(Decimal(used - asked))  # before it is sent: others may be granted what goes back
            if used:
                done = caller.post(f"/v1/reservations/{found['id']}/commit", {"quantity": used})
                assert not done["duplicate"]
            else:
                caller.post(f"/v1/reservations/{found['id']}/release", {})

    together(stack, work)
    return book


def rest(stack: StackProcess, account: str, ip: str | None = None) -> Decimal:
    """What one more caller gets once all is quiet."""
    time.sleep(FRESH_MS / 1000 + 0.2)
    caller, got = Caller(stack, 0), Decimal(0)
    for asked in (32, 8, 1):
        while True:
            body: dict[str, Any] = {"account": account, "meter": "images", "quantity": asked, "commit": True}
            if ip is not None:
                body["dimensions"] = {"ip": ip}
            if not caller.post("/v1/reservations", body)["allowed"]:
                break
            got += asked
    return got


def accounts_on(stack: StackProcess, plan: str) -> list[str]:
    run = uuid.uuid4().hex[:8]
    names = [f"{plan}-{run}-{number}" for number in range(10)]
    for name in names:
        stack.api("PUT", f"/v1/accounts/{name}", {"plan": plan}).raise_for_status()
    return names


def used_by(stack: StackProcess, accounts: list[str]) -> Decimal:
    total = Decimal(0)
    for account in accounts:
        limits = stack.api("GET", f"/v1/accounts/{account}/usage").json()["limits"]
        (mine,) = [limit for limit in limits if limit["id"] == "mine"]
        assert mine["held"] == "0"
        total += Decimal(mine["used"])
    return total


def test_ten_accounts_of_a_plan_never_pass_their_cap_and_what_fits_is_granted(sharing: StackProcess) -> None:
    accounts = accounts_on(sharing, "free")
    book = rush(sharing, accounts, "everyone", (1, 2, 5, 40, 90))
    assert book.most <= CAP
    assert used_by(sharing, accounts) == book.granted
    got = rest(sharing, accounts[0])
    assert CAP - book.busy * 90 <= book.granted + got <= CAP, "what fits is granted, but for what busy calls left"
    assert used_by(sharing, accounts) == book.granted + got


def test_one_value_of_a_dimension_never_passes_its_cap(sharing: StackProcess) -> None:
    accounts = accounts_on(sharing, "anonymous")
    books = {ip: rush(sharing, accounts, "address", (1, 2, 3), ip) for ip in ("192.0.2.1", "192.0.2.2")}
    for ip, book in books.items():
        assert book.most <= VALUE_CAP
        assert VALUE_CAP - book.busy * 3 <= book.granted + rest(sharing, accounts[0], ip) <= VALUE_CAP
    assert used_by(sharing, accounts) <= 2 * VALUE_CAP
