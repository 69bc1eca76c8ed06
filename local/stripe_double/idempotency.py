"""Idempotency keys of the v1 API: the first answer is kept for a day and given again."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from local.stripe_double.clock import DAY_MS
from local.stripe_double.errors import ApiError
from local.stripe_double.wire import Answer

KEPT_MS = DAY_MS
MAX_LENGTH = 255


@dataclass
class _Kept:
    fingerprint: str
    since_ms: int
    answer: Answer | None = None


class SavedAnswers:
    """Answers by Idempotency-Key, in the order the keys were first used.

    [docs: idempotent requests] the first status and body are replayed, 500s included; other parameters under the same
    key are an `idempotency_error`; keys have at most 255 characters and may be forgotten after 24 hours (the double
    forgets exactly then); nothing is kept where no endpoint began to execute. A key whose first call is still
    running: 409 `idempotency_key_in_use` [docs: error codes]. A replay has the header `Idempotent-Replayed: true`
    [observed].
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def begin(self, key: str, fingerprint: str, now_ms: int) -> Answer | None:
        """The answer to replay, or None: the call may run, and `finish` must follow. Raises ApiError."""
        if not key or len(key) > MAX_LENGTH:
            raise ApiError(
                400,
                f"Idempotency keys must have between 1 and {MAX_LENGTH} characters.",
                kind="idempotency_error",
                saved=False,
            )
        kept = self._live(key, now_ms)
        if kept is None:
            self._kept[key] = _Kept(fingerprint, now_ms)
            return None
        if kept.fingerprint != fingerprint:
            raise ApiError(
                400,
                "Keys for idempotent requests can only be used with the same endpoint and parameters they were first "
                f"used with. Try using a key other than '{key}' if you meant to execute a different request.",
                kind="idempotency_error",
                saved=False,
            )
        if kept.answer is None:
            raise ApiError(
                409,
                f"There is currently another in-progress request using the idempotency key '{key}'.",
                kind="idempotency_error",
                code="idempotency_key_in_use",
                saved=False,
            )
        return kept.answer

    def finish(self, key: str, answer: Answer) -> None:
        """Keep the answer of a call that began, or free the key where the answer is none to keep.

        The key may be gone: the clock can be moved by a day while a call runs.
        """
        if answer.saved:
            self.replace(key, answer)
        else:
            self._kept.pop(key, None)

    def keep_first(self, key: str, fingerprint: str, answer: Answer, now_ms: int) -> None:
        """Keep an injected answer, unless the key has one already: the first answer stands."""
        if self._live(key, now_ms) is None:
            self._kept[key] = _Kept(fingerprint, now_ms, answer)

    def replace(self, key: str, answer: Answer) -> None:
        """Keep this answer in place of whatever the key has; a forgotten key stays forgotten."""
        if key in self._kept:
            self._kept[key].answer = answer

    def _live(self, key: str, now_ms: int) -> _Kept | None:
        while self._kept:
            oldest_key, oldest = next(iter(self._kept.items()))
            if now_ms - oldest.since_ms < KEPT_MS:
                break
            del self._kept[oldest_key]
        return self._kept.get(key)
