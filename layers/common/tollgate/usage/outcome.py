"""The outcome of a reservation or usage event: one immutable row, `event` or `void`, at its outcome key.

The outcome key is (account, origin time, key hash). A row names the *incarnation* of the hold it belongs to, for each
gate that took part: only holds of exactly these incarnations are counted by the row, all others give their units back.
A void is a high-water mark: it voids the holds of its incarnations and older ones, and only a commit of a newer one (or
the late commit's transaction) replaces it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

from tollgate.quantities import EXACT, ONE, ZERO

ACCOUNT = "account"
MEMBER = "member"


class OutcomeKey(NamedTuple):
    account: str
    origin_ms: int
    key: str
    """Key hash (`ids.key_hash`)."""


@dataclass(frozen=True, slots=True)
class UsedItem:
    """One measured thing that was used. `units` is what the meter counts; credits and waived units are part of it."""

    meter: str
    quantity: Decimal
    units: Decimal
    dimensions: Mapping[str, str] = field(default_factory=dict)
    credit_funded: Decimal = ZERO
    waived: Decimal = ZERO
    priced: bool = True
    """Whether the plan that it was reserved under has a price for the meter: a later change of plan bills nothing."""
    weight: Decimal = ONE
    """Units for each quantity, by the plan version; `units` are 0 all the same where the app's cache answered."""
    credits: tuple[tuple[int, Decimal], ...] = ()
    """What was burned, by grant number; `credit_funded` is the sum."""
    level: int | None = None
    """Of a level meter: the number of this change. `units` are then what it stands at, which nothing adds up."""

    @property
    def billable(self) -> Decimal:
        """What is added to the bill; a level is none of it."""
        if not self.priced or self.level is not None:
            return ZERO
        return EXACT.subtract(EXACT.subtract(self.units, self.credit_funded), self.waived)


@dataclass(frozen=True, slots=True)
class Event:
    """What was used, by whom, when. One row holds the items of one call; each item is one usage event."""

    at: OutcomeKey
    incarnations: Mapping[str, bytes]
    """By subject kind: `account`, and `member` where a member gate took part."""
    recorded_ms: int
    items: tuple[UsedItem, ...]
    member: str | None = None
    plan: str = ""
    plan_version: int = 0
    occurred_ms: int | None = None
    cached: bool = False
    provider_cost: Decimal | None = None
    metadata: Mapping[str, Any] | None = None
    usage_id: str | None = None
    """The caller's own id of a usage event; None: it came of a reservation."""
    token: str | None = None
    """Key hash of the usage batch's hold that counts this row; None: the hold of the row's own key."""
    fingerprint: bytes = b""
    """Digest of the body that recorded it."""
    commit_key: str | None = None
    """Hash of the commit call's own Idempotency-Key, where it sent one."""
    call: bytes = b""
    """Nonce of the call that wrote it: tells a duplicate from the own write repeated by the SDK."""
    late: bool = False
    over_reserved: bool = False
    joined: bool = False
    """Whether `at.account` had become another account when it was written: its credits are numbered as that one's."""

    @property
    def hold_key(self) -> str:
        return self.token or self.at.key

    @property
    def recorded_s(self) -> int:
        return self.recorded_ms // 1000

    @property
    def units(self) -> Decimal:
        return sum((item.units for item in self.items), ZERO)

    @property
    def waived(self) -> Decimal:
        return sum((item.waived for item in self.items), ZERO)


class Void(NamedTuple):
    """No usage: the reservation was released, dropped, or its hold expired."""

    at: OutcomeKey
    incarnations: Mapping[str, bytes]
    why: str
    """`released`, `expired` or `refused`."""
    voided_ms: int
    release_key: str | None = None
    """Hash of the release call's own Idempotency-Key, where it sent one."""
    call: bytes = b""
    """Nonce of the release call that put it: tells a second release from the own put repeated by the SDK."""

    def blocks(self, incarnations: Mapping[str, bytes]) -> bool:
        """Whether it voids any of these incarnations (its own or older than it)."""
        return any(
            per in self.incarnations and self.incarnations[per] >= incarnation
            for per, incarnation in incarnations.items()
        )


Outcome = Event | Void


def counts_for(event: Event, per: str, key: str, incarnation: bytes) -> bool:
    """Whether `event` is what the hold at `key` with `incarnation` became."""
    return event.hold_key == key and event.incarnations.get(per) == incarnation
