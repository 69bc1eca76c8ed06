"""The close of one invoice's period: its row, its states, and what it means for usage that comes later.

    closing -> (review ->) shut -> finalizing -> closed

`closing`: the draft is held, usage of the period is on its way to Stripe. `review`: all of it is there, and the invoice
is so much higher than the one before that a person may look first. `shut`: from here on nothing is sent into the
period; where a batch turns up that was sealed meanwhile, it opens again. `finalizing`: nobody was found sending, there
is no way back. `closed`: reconciliation compares the invoice once more, nothing else is left to do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from tollgate.usage.markers import shard_of

CLOSING: Final = "closing"
REVIEW: Final = "review"
SHUT: Final = "shut"
FINALIZING: Final = "finalizing"
CLOSED: Final = "closed"

MATCHED: Final = "matched"
"""Stripe's totals were equal to what was sent."""
DEADLINE: Final = "deadline"
"""They were not in time; what was missing is not charged."""
ELSEWHERE: Final = "elsewhere"
"""Stripe, or a person at Stripe, finalized it first."""
GONE: Final = "gone"
"""The draft was deleted: nothing is billed by it, so its period is not shut."""

BACKSTOP_S: Final = 3600
"""How long after our own deadline Stripe finalizes by itself: only if we are not there to do it."""
LEAST_S: Final = 900
"""No look at Stripe's totals sooner than this after the period's end: they are eventually consistent [docs]."""
IN_FLIGHT_S: Final = 180
"""How long before Stripe finalizes by itself nothing is sent any more: longer than a flush's lease."""
COMPARED_S: Final = 3600
"""How long after its end a close is compared with Stripe's totals: they lag behind."""
KEPT_S: Final = 100 * 86_400
"""How long after its period a close is kept: batches are never sent so late."""

LATE: Final = "late_after_finalization"
"""Reason of a batch that expired because its period's invoice is final."""
IN_DOUBT: Final = "finalized_in_doubt"
"""The same, of a batch that had perhaps been sent before."""


class CloseKey(NamedTuple):
    """The key of a close's row: by Stripe customer, so that flush finds those of a batch."""

    customer: str
    invoice: str

    @property
    def pk(self) -> str:
        return partition(self.customer)


@dataclass(frozen=True, slots=True)
class Close:
    """One invoice's close. Times are epoch seconds; usage booked in [`start`, `end`) is on the invoice."""

    customer: str
    invoice: str
    account: str
    subscription: str | None
    start: int
    end: int
    meters: tuple[str, ...]
    """Our ids of the meters that the invoice bills, as far as its prices are ours."""
    state: str
    created_at: int
    deadline: int
    """When we let go at the latest."""
    finalizes_at: int
    """When Stripe finalizes the draft by itself."""
    next_at: int
    """No step before this."""
    due_at: int | None = None
    """When seal has it looked at (again); once it is closed, when reconciliation compares it; None after that."""
    waits: int = 0
    """Steps that found something missing."""
    reason: str | None = None
    """What the last step waited for."""
    review_until: int | None = None
    """Set once: an invoice is held for review one time."""
    outcome: str | None = None
    version: int = 0
    """Counts the writes of its row; each write asserts it."""

    @property
    def key(self) -> CloseKey:
        return CloseKey(self.customer, self.invoice)

    @property
    def due_shard(self) -> str | None:
        """Its partition in the `due` index, apart from the batches': of what seal has looked at, or of what is closed
        and not compared."""
        if self.due_at is None:
            return None
        return (final_shard if self.state == CLOSED else due_shard)(shard_of(self.customer))

    def into(self, state: str, at: int, **changes: object) -> Close:
        """Moved to a state, with its next step at `at`."""
        return replace(self, state=state, **{"next_at": at, "due_at": at, "waits": 0, **changes})  # type: ignore[arg-type]

    def shuts_out(self, timestamp: int, now: int) -> bool:
        """Whether usage booked at `timestamp` must not be sent any more, because this invoice would not bill it."""
        if not self.start <= timestamp < self.end or self.outcome == GONE:
            return False
        return self.state in (SHUT, FINALIZING, CLOSED) or now >= self.finalizes_at - IN_FLIGHT_S


def partition(customer: str) -> str:
    return f"close#{customer}"


def due_shard(shard: int) -> str:
    return f"{shard:02d}.close"


def final_shard(shard: int) -> str:
    return f"{shard:02d}.final"
