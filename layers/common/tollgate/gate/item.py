"""The gate item as the domain sees it, and the one kind of write that changes it.

A GateWrite is a pure description: conditions and new values, no DynamoDB. `gate/store.py` turns it into one
UpdateItem; `taking.py`, `ending.py`, `force.py` and others plan it. Everything a write must not overlook is
asserted by it, so sending it twice, late, or after a crash can only fail, never apply twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import NamedTuple


class Count(NamedTuple):
    """One counter: `taken` = used + `held`, in the window that starts at `window` (epoch seconds)."""

    window: int
    taken: Decimal
    held: Decimal


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


class HoldWrite(NamedTuple):
    """`expect` None: no such hold; `new` None: removed. Both set and equal: asserted only."""

    key: str
    expect: bytes | None
    new: bytes | None


@dataclass(frozen=True, slots=True)
class GateWrite:
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


@dataclass(frozen=True, slots=True)
class Recounted:
    """The write that ends a recount: every counter and hold replaced, guarded by the nonce that froze the gate."""

    subject: str
    frozen_rev: int
    nonce: str
    new_rev: int
    counts: Mapping[int, Count]
    holds: Mapping[str, bytes]


class Written(NamedTuple):
    """The result of a GateWrite: applied with the gate as it is now, or refused with the gate as it stood."""

    applied: bool
    gate: Gate | None
    """None: refused, and there is no such gate."""
