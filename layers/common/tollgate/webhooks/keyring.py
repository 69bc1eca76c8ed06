"""The endpoint secrets that deliveries may be signed with: several, and rotated while deliveries arrive."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

from tollgate.clock import Clock
from tollgate.errors import BadSignature
from tollgate.webhooks.signature import verify

MAX_AGE_MS: Final = 300_000
"""A secret that was taken out of the parameter is accepted so much longer, at most."""
AGAIN_MS: Final = 30_000
"""Least time between two reads: whoever sends forged bodies must not make us read without end."""


class NoSecrets(Exception):
    """The parameter holds no webhook secret; nothing can be verified."""


def secrets_in(text: str) -> tuple[str, ...]:
    """The secrets in a parameter's value: a JSON list or a list with commas, of `whsec_…` each. Raises NoSecrets."""
    listed = text.split(",")
    if text.lstrip().startswith("["):
        try:
            listed = json.loads(text)
        except ValueError as error:
            raise NoSecrets("the webhook secrets are no JSON list") from error
    found = tuple(one.strip() for one in listed if isinstance(one, str) and one.strip())
    # An empty secret would be a key that anybody can sign with.
    if not found or any(not one.startswith("whsec_") or len(one) < len("whsec_") + 3 for one in found):
        raise NoSecrets("the webhook secrets are no list of whsec_…")
    return found


class Keyring:
    """The secrets as last read, read again when they are old and when a signature does not fit them."""

    def __init__(self, read: Callable[[], str], clock: Clock) -> None:
        """`read` gives the parameter's value as it stands."""
        self._read, self._clock = read, clock
        self._secrets: tuple[str, ...] = ()
        self._read_ms: int | None = None

    def check(self, raw: bytes, header: str) -> None:
        """Raises BadSignature, NoSecrets, and what reading raises."""
        self._fresh(MAX_AGE_MS)
        try:
            verify(raw, header, self._secrets, self._clock() // 1000)
        except BadSignature as refused:
            # Signed under a secret that came after the last read? Nothing that was read helps a stale or malformed one.
            if refused.reason != "wrong" or not self._fresh(AGAIN_MS):
                raise
            verify(raw, header, self._secrets, self._clock() // 1000)

    def _fresh(self, age_ms: int) -> bool:
        """Read again where the last read is older; returns whether that brought other secrets."""
        now = self._clock()
        if self._read_ms is not None and 0 <= now - self._read_ms < age_ms:
            return False
        before, self._secrets = self._secrets, secrets_in(self._read())
        self._read_ms = now
        return self._secrets != before
