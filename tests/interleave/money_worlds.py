"""Worlds with prices, caps on spend and credits: as in `worlds.py`, with so little money that calls meet at the cap.

On each, two reservations of 4 and 3 units are open, and of two requests for 2 more only one is paid for.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from tests.interleave.worlds import LOWERED, PLANS, Shape
from tests.support.gate import CREDITS, limit
from tollgate.catalog.model import GrantRule, Limit, Meter, Plan, Price, Tier

TOKENS = Meter("tokens", "Tokens", "token", scale=0)


def _dollars(amount: str) -> Decimal:
    return Decimal(amount)


def per_unit(amount: str) -> Price:
    return Price("ai_credits", "per_unit", unit_price=_dollars(amount))


def _graduated(edge: int, below: str, flat: str, above: str) -> Price:
    tiers = (
        Tier(Decimal(edge), _dollars(below), Decimal(0)),
        Tier(None, _dollars(above), _dollars(flat)),
    )
    return Price("ai_credits", "graduated", tiers=tiers)


PACKAGES = Price("tokens", "package", package_size=Decimal(2), package_price=_dollars("1.005"))


def priced(cap: str | None, *prices: Price, version: int = 1, **more: object) -> Plan:
    made = Plan("pro", version, "Pro", prices=prices, spend_cap=None if cap is None else _dollars(cap))
    return replace(made, **more)  # type: ignore[arg-type]


def _seat(amount: str) -> Limit:
    return Limit("seat_money", (), "member", None, None, (), None, _dollars(amount))


PER_UNIT = Shape("per unit", None)
TIERS = Shape("tiers", None)
"""The reservations lie across the edge, where a flat amount falls due."""
TWO_METERS = Shape("two meters", None, (CREDITS, TOKENS))
"""One cap; both lines of the invoice are rounded."""
SPLIT = Shape("included, credits, overage", None, grant=4)
PREPAID = Shape("prepaid", None)
"""Nothing but the plan's credits, which come each period and roll over."""
NO_OVERAGE = Shape("overage off", None)
MEMBER_MONEY = Shape("member's money", "alice")

_TIER = _graduated(5, "0.10", "0.50", "1.00")
_INCLUDED = _graduated(2, "0", "0", "1.00")
PLANS.update(
    {
        PER_UNIT.name: priced("10", per_unit("1")),
        TIERS.name: priced("6", _TIER),
        TWO_METERS.name: priced("4.37", per_unit("0.335"), PACKAGES),
        SPLIT.name: priced("3", _INCLUDED),
        PREPAID.name: priced(
            None, overage="off", grants=(GrantRule("ai_credits", Decimal(10), "period", rollover_max=Decimal(3)),)
        ),
        NO_OVERAGE.name: priced(None, _graduated(10, "0", "0", "1.00"), overage="off"),
        MEMBER_MONEY.name: priced("11", per_unit("1"), limits=(_seat("9"),)),
    }
)
LOWERED.update(
    {
        PER_UNIT.name: priced("10", per_unit("1.25"), version=2),
        TIERS.name: priced("6", per_unit("0.70"), version=2),
        TWO_METERS.name: priced("3", per_unit("0.335"), PACKAGES, version=2),
        SPLIT.name: priced(None, _INCLUDED, overage="off", version=2),
        PREPAID.name: priced(None, overage="off", version=2, grants=(GrantRule("ai_credits", Decimal(12), "period"),)),
        NO_OVERAGE.name: Plan("free", 2, "Free", limits=(limit("daily", 10),)),
        MEMBER_MONEY.name: priced("11", per_unit("1"), limits=(_seat("8"),), version=2),
    }
)
"""Other prices, or less money, from version 2 on."""
MONEY_SHAPES = (PER_UNIT, TIERS, TWO_METERS, SPLIT, PREPAID, NO_OVERAGE, MEMBER_MONEY)
