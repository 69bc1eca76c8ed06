"""What a row keeps of an item that was used."""

from __future__ import annotations

from decimal import Decimal

from tollgate.accounts.rules import Item
from tollgate.gate.parts import Split
from tollgate.quantities import ZERO
from tollgate.usage.outcome import UsedItem


def used_item(item: Item, split: Split) -> UsedItem:
    """Who pays for it was decided where it was held, by the plan of that time, not by a later one."""
    return UsedItem(
        item.meter,
        item.quantity,
        item.units,
        item.dimensions,
        credit_funded=sum((units for _, units in split.credits), Decimal(ZERO)),
        waived=split.waived,
        priced=split.funded,
        weight=item.weight,
        credits=split.credits,
    )
