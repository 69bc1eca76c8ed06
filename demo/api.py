"""Tollgate's HTTP API and the local runner's controls, as the demo calls them. Every call is safe to send again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import httpx

_TRIES = 8
_RETRIED = frozenset({429, 502, 503, 504})
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 3.0
_TIMEOUT_SECONDS = 40


class NoStack(Exception):
    """Nothing answers where the stack should be; the text says how to start one."""


class StackLost(Exception):
    """The stack stopped answering, or answered what it never should."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer. Numbers of the body are Decimals."""

    status: int
    body: Any

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def code(self) -> str:
        """The problem's stable code, where the answer is one."""
        code = self.body.get("code") if isinstance(self.body, dict) else None
        return code if isinstance(code, str) else f"http_{self.status}"

    @property
    def detail(self) -> str:
        """The problem's sentence, or what there is instead."""
        detail = self.body.get("detail") if isinstance(self.body, dict) else None
        return detail if isinstance(detail, str) else str(self.body)


def decimal_json(text: bytes | str) -> Any:
    """JSON with every number as an exact Decimal. Raises ValueError."""
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)


def send(
    client: httpx.Client,
    method: str,
    path: str,
    pause: Callable[[float], None] = time.sleep,
    tries: int = _TRIES,
    **parts: Any,
) -> Reply:
    """One call, sent again after a lost connection or an answer that asks for it.

    Raises StackLost once all tries are used up.
    """
    wait, trouble = _FIRST_PAUSE_SECONDS, ""
    for tried in range(tries):
        if tried:
            pause(wait)
            wait = min(wait * 2, _LONGEST_PAUSE_SECONDS)
        try:
            answer = client.request(method, path, **parts)
        except httpx.TransportError as error:
            trouble = f"{type(error).__name__}: {error}"
            continue
        if answer.status_code in _RETRIED:
            trouble = f"status {answer.status_code}"
            continue
        try:
            return Reply(answer.status_code, decimal_json(answer.content) if answer.content else None)
        except ValueError:
            raise StackLost(f"{method} {path} answered {answer.status_code} and no JSON") from None
    raise StackLost(f"{method} {path} failed {tries} times ({trouble})")


class Stack:
    """A running stack. Each thread opens its own; close it."""

    def __init__(self, base_url: str, key: str, transport: httpx.BaseTransport | None = None) -> None:
        self.base_url = base_url.rstrip("/")
        self._client = httpx.Client(
            base_url=self.base_url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=_TIMEOUT_SECONDS,
            # A proxy of the environment leads nowhere near a stack on this machine.
            trust_env=not self.base_url.startswith(("http://127.0.0.1", "http://localhost")),
            transport=transport,
        )

    def close(self) -> None:
        self._client.close()

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None, key: str | None = None) -> Reply:
        """An API call; `key` is its Idempotency-Key. Raises StackLost."""
        headers = {} if key is None else {"Idempotency-Key": key}
        return send(self._client, method, path, headers=headers, json=body)

    def check(self) -> None:
        """Raises NoStack where none answers, StackLost where something else does or the key is wrong."""
        try:
            self._client.get("/v1/health", timeout=10)
        except httpx.TransportError:
            raise NoStack(
                f"No stack answers at {self.base_url}; start it with `make run` in another terminal "
                "(or name another one with --base-url)."
            ) from None
        health = self.call("GET", "/v1/health")
        if not health.ok or not isinstance(health.body, dict) or "status" not in health.body:
            raise StackLost(f"{self.base_url} is no Tollgate: GET /v1/health answers {health.status}.")
        accounts = self.call("GET", "/v1/accounts?limit=1")
        if accounts.status in (401, 403):
            raise StackLost(f"The key is refused ({accounts.detail}) Name one with all scopes by --key.")

    # -- the local runner's own controls; a deployed stack has none ------------------------------------------------

    def clock_offset_seconds(self) -> int | None:
        """How far the stack's clock is ahead; None for a stack that is not local."""
        reply = send(self._client, "GET", "/_local/clock")
        return int(reply.body["offset_seconds"]) if reply.ok else None

    def seal_now(self) -> bool:
        """Run seal over all shards. Whether there was anything to do (also where it failed)."""
        try:
            reply = send(self._client, "POST", "/_local/run/seal", tries=1)
        except StackLost:
            # A run that failed left work for the next one; a stack that is gone shows in the calls that follow.
            return True
        return not reply.ok or any(reply.body["result"].values())

    def alerts(self) -> list[dict[str, Any]]:
        """Messages to the operator, newest first: `account`, `kind`, `subject`, `text`."""
        reply = send(self._client, "GET", "/_local/outbox")
        return list(reply.body["data"]) if reply.ok else []

    def queued(self) -> dict[str, int]:
        """Messages in each queue, waiting or in a function's hands."""
        rows = send(self._client, "GET", "/_local/queues").body["data"]
        return {row["name"]: int(row["waiting"] + row["in_flight"]) for row in rows}
