"""Each function is killed with -9 in the running stack, with traffic on it: nothing is lost, nothing counted twice.

What the clients were told was used, the account shows and Stripe bills: the same units, to the last one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from local.testing import StackProcess, wait_until
from tests.support.crash_stack import Billed, kill_busy, month

pytestmark = pytest.mark.stack

SLOW_STRIPE_S = 0.6


def _settle(stack: StackProcess) -> None:
    """Past holds, windows, leases and Stripe's lag; every queue drained."""
    for seconds in (1000, 20, 500, 200, 200):
        stack.advance(seconds)
        if seconds == 1000:
            stack.run("sweep")
        stack.run("seal")
        wait_until(lambda: all(row["waiting"] + row["in_flight"] == 0 for row in stack.queues().values()), 60)


def _killed_at_work(stack: StackProcess, function: str, work: Callable[[], Any]) -> None:
    """Start the work in a thread, kill the function in the middle of it; tried again where it was too quick."""
    for _ in range(8):
        ended: list[BaseException] = []

        def run(ended: list[BaseException] = ended) -> None:
            try:
                work()
            except AssertionError as error:
                ended.append(error)  # the run that was killed

        thread = threading.Thread(target=run)
        thread.start()
        met = kill_busy(stack, function, 15)
        thread.join()
        if met:
            return
    raise AssertionError(f"{function} was never met at work: {stack.functions()[function]}, {stack.queues()}")


@pytest.mark.parametrize("function", ["gate", "manage", "seal", "flush", "sweep"])
def test_killed_with_minus_nine(stack: StackProcess, function: str, killed: list[str]) -> None:
    account = Billed(stack)
    start, _ = month(stack.now())
    if function in ("gate", "manage"):
        with account.traffic() as running:
            assert kill_busy(stack, function), f"{function} was never met at work"
            assert not running.over, "the traffic ended before the kill"
        assert account.repeated, "no client saw the crash"
    else:
        with account.traffic():
            pass
        if function == "seal":
            stack.advance(20)
            _killed_at_work(stack, "seal", lambda: stack.run("seal"))
        elif function == "sweep":
            _open_holds(account)
            stack.advance(400)
            _killed_at_work(stack, "sweep", lambda: stack.run("sweep"))
        else:
            stack.double("POST", "/_double/settings", {"latency_seconds": SLOW_STRIPE_S})
            _killed_at_work(stack, "flush", lambda: _fill_a_window(account))
            stack.double("POST", "/_double/settings", {"latency_seconds": 0})
        with account.traffic(clients=3, rounds=3):  # it goes on
            pass
    killed.append(function)
    _settle(stack)
    _, end = month(stack.now())
    assert account.used > 0
    assert account.shown() == (account.used, Decimal(0))
    assert account.billed(start, end) == account.used
    parked = [message for message in stack.outbox() if account.name in str(message)]
    assert not parked, parked


def _fill_a_window(account: Billed) -> None:
    with account.traffic(clients=2, rounds=3):
        pass
    account.stack.advance(20)
    account.stack.run("seal")


def _open_holds(account: Billed) -> None:
    """Holds that nobody ends: work for the sweep."""
    with account.client() as http:
        for number in range(30):
            body = {"account": account.name, "member": f"h{number}", "meter": "ai_credits", "quantity": "1"}
            account.call(http, "POST", "/v1/reservations", body, f"open-{number}")
