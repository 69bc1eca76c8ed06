"""64 clients over HTTP that start at one moment."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from local.testing import StackProcess

CALLERS = 64
ROUNDS = 6


class Caller:
    """One client with its own connection, as 64 app servers would have."""

    def __init__(self, stack: StackProcess, seed: int) -> None:
        self.http = httpx.Client(
            base_url=stack.base_url,
            headers={"Authorization": "Bearer tg_test_local"},
            timeout=60,
            trust_env=False,
        )
        self.random = random.Random(seed)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The answer; 503 `busy` is sent again, as its Retry-After says."""
        for _ in range(30):
            answer = self.http.post(path, json=body)
            if answer.status_code != 503:
                assert answer.status_code < 500, answer.text
                return answer.json()
            threading.Event().wait(0.1)
        raise AssertionError("busy for 30 tries")


def together(stack: StackProcess, work: Callable[[Caller, int], Any]) -> list[Any]:
    """`work` in 64 threads that start at one moment."""
    gate = threading.Barrier(CALLERS)

    def one(number: int) -> Any:
        caller = Caller(stack, number)
        try:
            gate.wait()
            return work(caller, number)
        finally:
            caller.http.close()

    with ThreadPoolExecutor(CALLERS) as pool:
        return list(pool.map(one, range(CALLERS)))
