"""How every call to Stripe, beside the meter events' sink, is made, and what its failures mean.

- no answer, a broken answer, 5xx: unknown. A v1 500 may follow an effect, and its Idempotency-Key replays it for a
  day [docs: idempotent requests].
- 429: rate limited, or a lock; the SDK never repeats a plain one, and there is no Retry-After [docs: rate limits; SDK].
  `Stripe-Rate-Limited-Reason` says which limit; without the header it may be `lock_timeout`.
- 409: another request holds the object or the Idempotency-Key.
- 401, 403: the key is wrong, was rotated, or lacks a permission: the same request succeeds once that is mended.
- any other 4xx: refused for good, as it stands.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final, TypeVar

import stripe

from tollgate.errors import StripeRefused, StripeUnavailable

__all__ = ["Connection", "StripeRefused", "StripeUnavailable", "called", "pause"]

T = TypeVar("T")

TRIES: Final = 6
_BASE_MS: Final = 250
_MOST_MS: Final = 8_000
_FOR_NOW: Final = frozenset({401, 403, 409, 429})
_DONE_NOTHING: Final = frozenset({401, 403, 429})
"""Refused before anything was executed. A 409 may mean that the same key is being executed right now."""


def called(request: Callable[[], T]) -> T:
    """What an SDK call returns. Raises StripeUnavailable or StripeRefused, never a StripeError."""
    try:
        return request()
    except stripe.StripeError as error:
        raise _ours(error) from error


def pause(tried: int) -> None:
    """Before the next try: a random part of a quarter second, doubled with each try up to 8 s."""
    time.sleep(random.randrange(min(_BASE_MS * 2**tried, _MOST_MS)) / 1000)


class Connection:
    """A Stripe client that is made when it is first needed, and made anew after a 401, as the key may be rotated.

    `connect` makes one. `wait` is called with the number of tries before each repetition, `before` before every
    request: it may hold it back to keep a rate.
    """

    def __init__(
        self,
        connect: Callable[[], stripe.StripeClient],
        wait: Callable[[int], None] = pause,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        self._connect = connect
        self._wait = wait
        self._before = before
        self._client: stripe.StripeClient | None = None

    def once(self, request: Callable[[stripe.StripeClient], T]) -> T:
        """One attempt. Raises StripeUnavailable, StripeRefused."""
        if self._client is None:
            self._client = self._connect()
        client = self._client
        self._before()
        try:
            return called(lambda: request(client))
        except StripeUnavailable as trouble:
            if trouble.http_status == 401:
                self._client = None
            raise

    def patiently(self, request: Callable[[stripe.StripeClient], T], tries: int = TRIES) -> T:
        """Up to `tries` attempts while Stripe is unavailable; a refused key is tried twice (the new one, if it was
        rotated). Only for requests that may be repeated: reads, deletions, writes that say the same again, and
        creations with an Idempotency-Key. Raises as `once`."""
        for tried in range(tries):
            if tried:
                self._wait(tried)
            try:
                return self.once(request)
            except StripeUnavailable as trouble:
                if tried + 1 >= (2 if trouble.key_refused else tries):
                    raise
        raise ValueError("tries must be at least 1")


def _ours(error: stripe.StripeError) -> StripeRefused | StripeUnavailable:
    status, message = error.http_status, " ".join((error.user_message or str(error)).split())[:500]
    code = str(error.code or "")
    if status is not None and 400 <= status < 500 and status not in _FOR_NOW:
        return StripeRefused(status, code, message)
    headers = error.headers or {}
    reason = str(headers.get("Stripe-Rate-Limited-Reason") or headers.get("stripe-rate-limited-reason") or code)
    return StripeUnavailable(status, message or "no answer", reason=reason, done_nothing=status in _DONE_NOTHING)
