"""The gate item as the domain sees it, and the one kind of write that changes it.

A GateWrite is a pure description: conditions and new values, no DynamoDB. `gate/store.py` turns it into one
UpdateItem; `taking.py`, `ending.py`, `force.py` and others plan it. Everything a write must not overlook is
asserted by it, so sending it twice, late, or after a crash can only fail, never apply twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from typing import NamedTuple

from tollgate.quantities import ZERO

CLOSED = 1 << 53
"""The revision of a gate whose account became another one: higher than any, so that whoever meets it loads the rules
anew, and learns where to go. Nothing writes to it any more."""


class Count(NamedTuple):
    """One counter: `taken` = used + `held`, in the window that starts at `window` (epoch seconds)."""

    window: int
    taken: Decimal
    held: Decimal


class Paid(NamedTuple):
    """The paid position of one meter in the billing period: `taken` = used + `held`, without what credits funded or
    what was waived. Those are counted beside it once they are used."""

    taken: Decimal
    held: Decimal
    credited: Decimal = ZERO
    waived: Decimal = ZERO


class Money(NamedTuple):
    """What one billing period has come to: `spend` is the charge of all paid positions under the rules of the gate's
    revision. All of it rolls over in one write."""

    period: int
    """Start, in epoch seconds."""
    spend: Decimal
    paid: Mapping[int, Paid]
    """By meter slot. A position is kept when its meter loses its price: coming back refills nothing."""
    past: tuple[Decimal, ...] = ()
    """What the closed periods before came to, the latest first; at most three."""


class Grant(NamedTuple):
    """Prepaid credits: units of one meter. `left` excludes reserved units. Times in epoch seconds."""

    meter: int
    """The meter's slot."""
    left: Decimal
    priority: int
    starts: int
    ends: int
    """Exclusive; FOREVER where it never expires."""
    every: str = ""
    """Of a plan's grant: how often it comes."""
    units: Decimal = ZERO
    """Of a plan's grant: how many were given, without what was carried over."""
    carried: Decimal = ZERO
    """Units left of the windows before that it began with."""
    clawed: Decimal = ZERO
    """Units taken back so far."""
    moved: Decimal = ZERO
    """Of a plan's grant that is over: the units that the next one began with; `left` no longer has them."""
    whose: bytes = b""
    """Who alone may burn it (`usage.grant.whose`): a member whose seat brought it. Empty: everyone."""

    @property
    def unused(self) -> Decimal:
        """What was neither used nor taken back."""
        return self.left + self.moved

    def burned_by(self, mine: bytes) -> bool:
        """Whether the member `mine` (`usage.grant.whose`) may burn it; an empty one, what is everyone's alone."""
        return self.whose in (b"", mine)


class Level(NamedTuple):
    """What a level meter stands at: set, not added up. `number` counts the changes of this meter, from 1."""

    number: int
    units: Decimal
    at_ms: int
    """When it was set, epoch milliseconds; never before the change that it follows."""
    priced: bool = False
    """Whether the plan had a price for it then."""
    open: str = ""
    """What the change's row is made of, until that row is known to stand."""


@dataclass(frozen=True, slots=True)
class Gate:
    """One subject's gate as read in one piece. `rev` < 0: frozen for a recount under revision -rev."""

    subject: str
    rev: int
    counts: Mapping[int, Count]
    holds: Mapping[str, bytes]
    """Packed holds by key hash."""
    recount: str | None = None
    """Nonce of the recount that froze the gate."""
    money: Money | None = None
    grants: Mapping[int, Grant] = field(default_factory=dict)
    """By grant number."""
    levels: Mapping[int, Level] = field(default_factory=dict)
    """By meter slot."""
    merged: int = 0
    """How many of the accounts that became this one are counted here."""
    given: int = 0
    """How many grants ever came onto it: whoever knows the number overlooks none."""

    @property
    def closed(self) -> bool:
        return self.rev == CLOSED


class Step(Enum):
    """How a write changes one counter."""

    ADD = "add"
    """In the asserted window: taken += d_taken, held += d_held."""
    ROLL = "roll"
    """Window `expect` is over: taken = held + d_taken, held = held + d_held, in the new window."""
    FIRST = "first"
    """The counter is not in the gate yet."""
    BACK = "back"
    """Whatever the window: taken += d_taken, held += d_held (both <= 0): held units always live in the current one."""


class CounterWrite(NamedTuple):
    slot: int
    step: Step
    d_taken: Decimal
    d_held: Decimal
    window: int = 0
    """The window asserted (ADD) or entered (ROLL, FIRST)."""
    expect: tuple[int, int] | None = None
    """ADD: the stored window start lies in [low, high]. ROLL: low is the start of the window left behind."""
    cap: Decimal | None = None
    """Where set: afterwards taken <= cap."""

    @classmethod
    def back(cls, slot: int, units: Decimal) -> CounterWrite:
        """Held units given back."""
        return cls(slot, Step.BACK, -units, -units)


class PaidMove(NamedTuple):
    """One meter's change inside a piece of its price. Where bounds are set, the position before the write lies in
    [`low`, `high`], or (`low`, `high`] with `low_open`."""

    slot: int
    d_taken: Decimal
    d_held: Decimal
    low: Decimal | None = None
    low_open: bool = False
    high: Decimal | None = None
    d_credited: Decimal = ZERO
    d_waived: Decimal = ZERO


class MoneyAdd(NamedTuple):
    """Positions and spend move, whatever others do meanwhile inside the same pieces."""

    period: int
    """Asserted."""
    moves: tuple[PaidMove, ...]
    d_spend: Decimal = ZERO
    most: Decimal | None = None
    """Where set: the spend before the write is at most this."""


class MoneySet(NamedTuple):
    """Asserts the money exactly as it was seen and replaces it: first use, a new period, other prices, across an edge.
    `sure`: counters that the new state was made from, asserted, too."""

    expect: Money | None
    new: Money
    sure: tuple[tuple[int, Count | None], ...] = ()


class GrantMove(NamedTuple):
    """`left` changes. `low`: at least so much is left before; `exactly`: just so much is."""

    number: int
    change: Decimal
    low: Decimal | None = None
    exactly: Decimal | None = None
    clawed: tuple[Decimal, Decimal] | None = None
    """Where set: what was taken back so far (asserted), and with this write."""
    moved: Decimal = ZERO
    """Where set: what the next grant begins with."""


class LevelSet(NamedTuple):
    """A level takes the place of change number `expect` (0: none). `first`: no meter of this gate has a level yet."""

    slot: int
    """The meter's slot."""
    expect: int
    new: Level
    first: bool = False


class HoldWrite(NamedTuple):
    """`expect` None: no such hold; `new` None: removed. Both set and equal: asserted only."""

    key: str
    expect: bytes | None
    new: bytes | None


class GateWrite(NamedTuple):
    subject: str
    rev: int | None
    """The revision asserted; None: the gate must not exist yet and is created with all its maps."""
    new_rev: int
    counters: tuple[CounterWrite, ...] = ()
    holds: tuple[HoldWrite, ...] = ()
    max_holds: int | None = None
    """Where set: fewer holds than this before the write."""
    freeze: str | None = None
    """Where set: the nonce of the recount that this write begins (`new_rev` is then negative)."""
    money: MoneyAdd | MoneySet | None = None
    grants: tuple[GrantMove, ...] = ()
    new_grants: tuple[tuple[int, Grant], ...] = ()
    """Put where the number is free."""
    gone_grants: tuple[tuple[int, Decimal], ...] = ()
    """(number, left): taken out where exactly so much is left."""
    grants_known: int | None = None
    """Where set: just so many grants came onto the gate before the write (`Gate.given`), so that none is overlooked."""
    level: LevelSet | None = None


class Recounted(NamedTuple):
    """The write that ends a recount: every counter and hold replaced, guarded by the nonce that froze the gate."""

    subject: str
    frozen_rev: int
    nonce: str
    new_rev: int
    counts: Mapping[int, Count]
    holds: Mapping[str, bytes]
    money: Money | None = None
    merged: int = 0
    new_grants: tuple[tuple[int, Grant], ...] = ()
    """Grants that come with accounts that became this one."""


class Written(NamedTuple):
    """The result of a GateWrite: applied with the gate as it is now, or refused with the gate as it stood."""

    applied: bool
    gate: Gate | None
    """None: refused, and there is no such gate."""
