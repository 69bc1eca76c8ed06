"""Grants of prepaid credits as rows: what was given, taken back, and what was left when it ended (pure).

How much of a grant is left stands on the gate alone; who burned it stands in the event rows. A row is put before its
grant comes onto the gate, and says how it ended before it is taken off, so that the ledger can always be made.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from tollgate.ids import fingerprint

FOREVER = 1 << 40
"""`ends` of a grant that never expires."""
PLAN = "plan"
"""Source of the grants that a plan gives by itself."""
IDENTIFY = "identify"
"""Source of the grants that came with an account that became this one."""


class Clawback(NamedTuple):
    """Credits taken back: a refund, a dispute. `taken` is less than `wanted` where they had been used already."""

    source: str
    source_id: str
    wanted: Decimal
    taken: Decimal
    at_ms: int
    reason: str | None = None


class Pending(NamedTuple):
    """A clawback under way. `before`: what had been taken back from the grant until then."""

    source: str
    source_id: str
    wanted: Decimal
    before: Decimal
    at_ms: int
    reason: str | None = None


class Ended(NamedTuple):
    """How a grant stands on the gate that is over: nothing of it can be used or come back any more."""

    left: Decimal
    carried: Decimal
    at: int = 0
    """When that was written down, in epoch seconds: it goes off the gate some time later."""


class GrantRow(NamedTuple):
    """One grant. `number` is unique in the account; (`source`, `source_id`) is, too. Times in epoch seconds."""

    account: str
    number: int
    meter: str
    units: Decimal
    source: str
    source_id: str
    priority: int
    starts: int
    ends: int
    created_ms: int
    reason: str | None = None
    every: str = ""
    """Of a plan's grant: how often it comes."""
    clawbacks: tuple[Clawback, ...] = ()
    pending: Pending | None = None
    ended: Ended | None = None
    member: str | None = None
    """Who alone may burn it: the member whose seat brought it. None: everyone."""

    @property
    def clawed(self) -> Decimal:
        return sum((one.taken for one in self.clawbacks), Decimal(0))

    def same_as(self, other: GrantRow) -> bool:
        """Whether both are the same gift, asked for twice."""
        mine = (self.meter, self.units, self.priority, self.starts, self.ends, self.reason)
        return mine == (other.meter, other.units, other.priority, other.starts, other.ends, other.reason)


def whose(member: str | None) -> bytes:
    """What a member is called in the grants of a gate, which every write of it pays for. Two of 500 members are called
    the same with a probability below 10**-13."""
    return b"" if member is None else fingerprint(member.encode(), 8)


def came_from(account: str, number: int) -> str:
    """The source's id of a grant that came with `account`, where it had this number."""
    return f"{account}:{number}"


def grant_id(number: int) -> str:
    """The public id of a grant: unique in its account."""
    return f"grant_{number}"
