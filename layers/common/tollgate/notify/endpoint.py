"""Webhook endpoints: whom a stack tells by signed HTTP requests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from tollgate.notify.channels import Channel

MOST: Final = 20
"""Endpoints of a stack: each message is sent to each of them."""
OVERLAP_S: Final = 86_400
MOST_OVERLAP_S: Final = 7 * 86_400


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`disabled`: why nothing is sent there. `old_secret` signs besides `secret` until `old_until` (epoch s)."""

    id: str
    url: str
    events: tuple[str, ...]
    description: str
    created_ms: int
    secret: str
    old_secret: str | None = None
    old_until: int = 0
    disabled: str | None = None
    rev: int = 1

    def signers(self, now: int) -> tuple[str, ...]:
        """The secrets that a delivery is signed with, newest first."""
        if self.old_secret is not None and now < self.old_until:
            return self.secret, self.old_secret
        return (self.secret,)

    def rotated(self, secret: str, now: int, overlap_s: int) -> Endpoint:
        return replace(self, secret=secret, old_secret=self.secret, old_until=now + overlap_s)

    def channel(self, now: int) -> Channel:
        return Channel(self.id, (self.url,), self.events, secrets=self.signers(now))
