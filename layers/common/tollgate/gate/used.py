"""What a row keeps of an item that was used."""

from __future__ import annotations

from tollgate.accounts.rules import Item
from tollgate.catalog.model import Plan
from tollgate.usage.outcome import UsedItem


def used_item(plan: Plan, item: Item) -> UsedItem:
    """Whether it is billed is decided here, by the plan it was weighed under, not by a later one."""
    priced = any(price.meter == item.meter for price in plan.prices)
    return UsedItem(item.meter, item.quantity, item.units, item.dimensions, priced=priced, weight=item.weight)
