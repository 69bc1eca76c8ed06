"""What an account can buy at Stripe: a plan version's parts, or a pack of its credits (pure)."""

from __future__ import annotations

from typing import NamedTuple

from tollgate.catalog.model import Pack, Plan
from tollgate.errors import FieldError, Invalid, PlanNotForSale, UnknownPack
from tollgate.sync.objects import BASE, SEATS, lookup_key, meter_part, pack_part


class Part(NamedTuple):
    """One price of a plan version, by the lookup key that the sync gave it. `quantity` None: metered."""

    part: str
    key: str
    quantity: int | None


def parts_of(plan: Plan, stack: str, seats: int | None) -> tuple[Part, ...]:
    """The prices that a subscription to the plan has: base fee, seats, each priced meter.

    `seats` None: as few as the plan bills, at least one. Raises PlanNotForSale where there is nothing to pay, Invalid
    for seats that the plan does not sell.
    """
    if plan.seats is None and seats is not None:
        raise Invalid(f"The plan `{plan.id}` sells no seats; leave `seats` out.", (FieldError("seats", "not_sold"),))
    parts = []
    if plan.base_fee:
        parts.append(_part(plan, stack, BASE, 1))
    if plan.seats is not None:
        if seats is not None and seats < plan.seats.minimum:
            raise Invalid(
                f"The plan `{plan.id}` begins at {plan.seats.minimum} seats.", (FieldError("seats", "too_few"),)
            )
        parts.append(_part(plan, stack, SEATS, max(plan.seats.minimum, 1) if seats is None else seats))
    parts += [_part(plan, stack, meter_part(price.meter), None) for price in plan.prices]
    if not parts:
        raise PlanNotForSale(plan.id, "it costs nothing; move the account with POST /v1/accounts/{id}/plan")
    return tuple(parts)


def metered(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """Those of them that are billed by usage."""
    return tuple(part for part in parts if part.quantity is None)


def pack_of(plan: Plan, pack: str) -> Pack:
    """Raises UnknownPack."""
    for sold in plan.packs:
        if sold.id == pack:
            return sold
    raise UnknownPack(pack, plan.id)


def pack_price(plan: Plan, stack: str, pack: Pack) -> Part:
    """The one-time price of a pack."""
    return _part(plan, stack, pack_part(pack.id), 1)


def _part(plan: Plan, stack: str, part: str, quantity: int | None) -> Part:
    return Part(part, lookup_key(stack, plan.id, plan.version, part), quantity)
