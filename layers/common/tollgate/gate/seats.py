"""Seats: how many an account has, and who has one where each has units of its own. Pure.

Whoever asks first in a billing period has a seat until it ends: the grants of its units on the account's gate say so.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from tollgate.accounts.rules import Rules
from tollgate.gate.item import Gate, Grant
from tollgate.quantities import ZERO
from tollgate.usage.grant import whose

EVERY = "seats"
"""`every` of the units that seats bring: with each billing period."""
MAX_OWN = 500
"""Entries of one gate that are members' own in a billing period: each makes every write of it larger. Past it nobody
gets a seat's units."""


def counted(rules: Rules, gate: Gate | None) -> Decimal:
    """How many seats an account has: what the plan's level meter for them stands at, at least the plan's minimum."""
    sold = rules.plan.seats
    if sold is None:
        return ZERO
    many = ZERO
    if sold.meter is not None and gate is not None and sold.meter in rules.row.meters:
        level = gate.levels.get(rules.row.meters.index(sold.meter))
        many = ZERO if level is None else level.units
    return max(many, Decimal(sold.minimum))


def brought(rules: Rules) -> frozenset[str]:
    """The meters that seats bring units of."""
    if rules.plan.seats is None:
        return frozenset()
    return frozenset(price.meter for price in rules.plan.prices if price.included_per_seat)


def holders(grants: Iterable[Grant], now: int) -> set[bytes]:
    """Who has a seat's units in the billing period at epoch second `now`."""
    return {grant.whose for grant in grants if grant.whose and grant.every == EVERY and grant.ends > now}


def has_one(rules: Rules, gate: Gate | None, now: int, mine: bytes) -> bool:
    """Whether a member has a seat, or one is free: whoever comes first has it until the period ends."""
    own = [] if gate is None else [grant for grant in gate.grants.values() if grant.whose and grant.ends > now]
    taken = holders(own, now)
    return mine in taken or (len(taken) < int(counted(rules, gate)) and len(own) < MAX_OWN)


def seatless(rules: Rules, gate: Gate | None, now: int, member: str | None) -> bool:
    """Whether a member has no seat's units on the gate, where it might: a gate that was not read may hide a seat."""
    if member is None or not rules.own_seats:
        return False
    return whose(member) not in holders(() if gate is None else gate.grants.values(), now)
