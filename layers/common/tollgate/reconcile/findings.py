"""What a comparison finds: each difference has a class, the units that it adds to it, its evidence and a repair."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Final, NamedTuple

from tollgate.billing.batch import Batch
from tollgate.quantities import ZERO

IN_FLIGHT: Final = "in_flight"
LAG: Final = "lag"
UNSEALED: Final = "unsealed_row"
UNSENT: Final = "unsent"
UNCONFIRMED: Final = "unconfirmed"
REJECTED: Final = "rejected"
LATE: Final = "late_after_finalization"
WRONG_CUSTOMER: Final = "wrong_customer"
DUPLICATE: Final = "duplicate"
FOREIGN: Final = "foreign_event"
WRONG_PRICE: Final = "wrong_price"
"""Of an invoice: two prices bill the same usage, or none does."""
OUTSIDE: Final = "outside_lines"
"""Of an invoice: booked in the minute in which its period begins, before the second."""
ROUNDING: Final = "rounding"
UNEXPLAINED: Final = "unexplained"
CLASSES: Final = (
    IN_FLIGHT,
    LAG,
    UNSEALED,
    UNSENT,
    UNCONFIRMED,
    REJECTED,
    LATE,
    WRONG_CUSTOMER,
    DUPLICATE,
    FOREIGN,
    WRONG_PRICE,
    OUTSIDE,
    ROUNDING,
    UNEXPLAINED,
)
PASSING: Final = frozenset({IN_FLIGHT, LAG, ROUNDING})
"""Nothing is wrong about these: they go by themselves, or are none of ours."""

# What is done about a difference. The first ones are safe by themselves; the others need a person.
WAIT: Final = "wait"
RESEAL: Final = "reseal"
"""Mark the window again: seal freezes the rows as a supplement, and finds those that it has."""
QUEUE: Final = "queue"
"""Due at once: seal sends the hint again."""
RESEND: Final = "resend"
"""Under the same identifier, while the sink certainly remembers it: what it has is a duplicate."""
ARRIVED: Final = "note_arrival"
"""Its totals show it: the batch is flushed."""
SEND_ANEW: Final = "send_anew"
"""Its totals show that it is not there: a successor takes the units over."""
RESTORE_SENT: Final = "restore_flushed"
RESTORE: Final = "restore"
"""Put the lost row of a batch again."""
CANCEL: Final = "cancel"
"""Cancel one of two identifiers of the same units, within 24 hours."""
AUTOMATIC: Final = frozenset({RESEAL, QUEUE, RESEND, ARRIVED, SEND_ANEW, RESTORE_SENT, RESTORE, CANCEL})

REPAIR: Final = "repair"
"""A successor of a refused batch, once its cause is gone."""
CORRECT: Final = "correct"
"""Send the negative of it, in an open period."""
MOVE: Final = "move"
"""Undo it at the wrong customer and send it for the right one, in an open period."""
RESEND_LOST: Final = "send_lost_anew"
"""A successor of what was taken and is not counted, past the time in which the sink remembers."""
CREDIT_NOTE: Final = "credit_note"
INVOICE_ITEM: Final = "invoice_item"
MAP_CUSTOMER: Final = "map_customer"
LOOK: Final = "look"
NOTHING: Final = "none"
"""The invoice is right as it is."""
BY_PERSON: Final = frozenset({REPAIR, CORRECT, MOVE, RESEND_LOST})
"""Done when a person says so; CREDIT_NOTE, INVOICE_ITEM, MAP_CUSTOMER and LOOK are a person's own work."""


class Place(NamedTuple):
    """Where rows stand that have to be sealed again."""

    home: str
    window_start: int
    origins: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference. `units`: what it adds to (sink's total - events' total), of an invoice to (billed - events)."""

    kind: str
    units: Decimal
    repair: str
    evidence: str
    batch: Batch | None = None
    place: Place | None = None
    at: int | None = None
    """The minute at the sink, epoch seconds."""
    customer: str | None = None
    applied: bool = False

    @property
    def passing(self) -> bool:
        return self.applied or self.kind in PASSING or self.repair in (WAIT, NOTHING)


def unexplained(difference: Decimal, findings: list[Finding]) -> Decimal:
    left = difference
    for one in findings:
        left -= one.units
    return left if left else ZERO
