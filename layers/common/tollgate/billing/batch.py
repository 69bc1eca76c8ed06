"""A batch: what one account used of one meter in one seal window and billing period, on its way to the sink.

Its row is the truth about it; a queued message is only a hint to look at the row. States:

    sealed -> sending -> flushed | no_customer | rejected | expired | unconfirmed
    sealed -> shadowed

`sealed` waits to be sent (again, from `retry_at` on). `sending` was sent and its answer is not recorded: while the
lease runs someone is at it, afterwards it is in doubt. `no_customer` waits for the account's Stripe customer.
`shadowed` would have been sent, but the stack only watches (shadow mode). The other four and `shadowed` are final;
`rejected`, `expired` and `unconfirmed` are parked, with a reason and an alert, until a person or a proof repairs them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from decimal import ROUND_DOWN, Decimal
from typing import Final, NamedTuple

from tollgate.quantities import EXACT, plain
from tollgate.usage.markers import shard_of

SEALED: Final = "sealed"
SENDING: Final = "sending"
FLUSHED: Final = "flushed"
NO_CUSTOMER: Final = "no_customer"
REJECTED: Final = "rejected"
EXPIRED: Final = "expired"
UNCONFIRMED: Final = "unconfirmed"
SHADOWED: Final = "shadowed"

FINAL: Final = frozenset({FLUSHED, SHADOWED, REJECTED, EXPIRED, UNCONFIRMED})
PARKED: Final = frozenset({NO_CUSTOMER, REJECTED, EXPIRED, UNCONFIRMED})
REPAIRABLE: Final = frozenset({REJECTED, EXPIRED, UNCONFIRMED})

EXPIRES_S: Final = 34 * 86_400
"""Age of a batch's timestamp past which nothing is sent. Stripe refuses from 35 days on; a day is for the clocks."""
MAX_DIGITS: Final = 15
"""Significant digits that Stripe takes in a value (API 2026-04-22.dahlia and later)."""
MAX_PARTS: Final = 100
CORRECTIONS: Final = 500
"""Batches whose supplement counts from here on correct something at the sink; they stand for no usage. Those below
`UNDOING` move batches to another customer."""
UNDOING: Final = 900
"""Supplements from here on are corrections that take away what no batch put at the sink (`reconcile/repair.py`)."""
_MINUTE: Final = 60
_LARGEST_WHOLE: Final = Decimal(10) ** MAX_DIGITS - 1


class NotRepairable(Exception):
    """A batch that is not parked has no successor: it is on its way, arrived, or repaired already."""


class BatchKey(NamedTuple):
    """The key of a batch's row in the billing table."""

    pk: str
    sk: str

    @property
    def account(self) -> str:
        return self.pk.partition("#")[2]

    @property
    def window_start(self) -> int:
        return int(self.sk.split("#")[2])


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch. Times are epoch seconds, `units` what the sink is told to add.

    `window_start`/`window_end` bound the seal window, `period_start`/`period_end` the billing period; the units lie in
    both. `supplement` counts from 0: rows found after a window was frozen make a further one. `part` counts from 0:
    a total of more digits than the sink takes is split. `revision` counts repairs.
    """

    account: str
    meter: str
    period_start: int
    period_end: int
    window_start: int
    window_end: int
    supplement: int
    part: int
    event_name: str
    units: Decimal
    timestamp: int
    """The time the sink books it at."""
    created_at: int
    state: str
    state_at: int
    """When it came into its state."""
    customer: str | None = None
    revision: int = 0
    identifier: str | None = None
    """The sink's dedupe key; fixed when it is first sent."""
    attempts: int = 0
    sent_at: int | None = None
    """Start of the first attempt since it was last `sealed`."""
    retry_at: int | None = None
    doubt_since: int | None = None
    """Start of the first attempt whose end is unknown."""
    lease_until: int | None = None
    due_at: int | None = None
    """When seal looks at it again; None once nothing is left to do."""
    untold: bool = False
    """Its alert is not yet in the outbox."""
    reason: str | None = None
    detail: str | None = None
    repaired_by: str | None = None
    """Sort key of its successor."""
    version: int = 0
    """Counts the writes of its row; each write asserts it."""

    @property
    def key(self) -> BatchKey:
        return BatchKey(
            partition(self.account),
            sort_key(self.meter, self.period_start, self.window_start, self.supplement, self.part, self.revision),
        )

    @property
    def final(self) -> bool:
        return self.state in FINAL

    @property
    def undoes(self) -> bool:
        """Whether it takes away what no batch put at the sink: so the sum of what was sent is without it."""
        return self.supplement >= UNDOING

    @property
    def due_shard(self) -> str | None:
        """Its partition in the `due` index; batches without a customer keep apart, as they may wait for weeks."""
        if self.due_at is None:
            return None
        return due_shard(shard_of(self.account), waits_for_customer=self.state == NO_CUSTOMER)

    @property
    def group(self) -> str:
        """The FIFO group: the sink takes one call at a time for each customer and meter [Stripe: rate limits]."""
        name = f"{self.customer}#{self.event_name}"
        # SQS takes 128 characters of ASCII; event names may hold anything in up to 100.
        plain_name = len(name) <= 128 and name.isascii() and name.isprintable() and " " not in name
        return name if plain_name else hashlib.sha256(name.encode()).hexdigest()

    def into(self, state: str, now: int, **changes: object) -> Batch:
        """This batch moved to a state, with everything about the last attempt's timing cleared unless given."""
        timing: dict[str, object] = {"retry_at": None, "lease_until": None, "due_at": None}
        return replace(self, state=state, state_at=now, **{**timing, **changes})  # type: ignore[arg-type]


def partition(account: str) -> str:
    return f"batch#{account}"


def sort_key(meter: str, period_start: int, window_start: int, supplement: int, part: int, revision: int) -> str:
    first = f"{meter}#{period_start:012d}#{window_start:012d}#{supplement:03d}.{part}"
    return f"{first}.r{revision}" if revision else first


def due_shard(shard: int, *, waits_for_customer: bool = False) -> str:
    return f"{shard:02d}.no_customer" if waits_for_customer else f"{shard:02d}"


def parked_shard(shard: int) -> str:
    """Where the index `due` lists what is parked, told of, and not repaired: for people, nothing comes due there."""
    return f"{shard:02d}.parked"


def timestamp_of(window_start: int, period_start: int) -> int:
    """Where the sink books a window's units: its first whole minute (rounded down, as windows may be shorter than a
    minute), moved inside the period: attribution is by this time alone [Stripe: grace period]."""
    return max(window_start // _MINUTE * _MINUTE, period_start)


def identifier_of(stack: str, batch: Batch) -> str:
    """The dedupe key of a batch: 67 characters, equal for equal batches, different for all others.

    Beside stack, customer, meter, period, window and revision it holds what else tells two batches apart: the account
    (a customer may move to another account within a window), the supplement and the part.
    """
    parts = (
        stack,
        batch.account,
        batch.customer,
        batch.meter,
        batch.event_name,
        batch.period_start,
        batch.window_start,
        batch.supplement,
        batch.part,
        batch.revision,
    )
    return "tg_" + hashlib.sha256("\x00".join(str(part) for part in parts).encode()).hexdigest()


def successor(batch: Batch, now: int, customer: str | None = None) -> Batch:
    """The repaired batch: a new row with the next revision, hence a new identifier; the same units at the same time.

    `customer` names another Stripe customer where the old one was the trouble. Only a batch that certainly did not
    arrive may have one: for `unconfirmed` that needs a proof from the sink's totals.
    Raises NotRepairable where the batch is not parked for good, or has a successor.
    """
    if batch.state not in REPAIRABLE or batch.repaired_by is not None:
        raise NotRepairable(f"batch {batch.key.sk} is {batch.state}, repaired by {batch.repaired_by}")
    billed = customer or batch.customer
    return replace(
        batch,
        revision=batch.revision + 1,
        state=SEALED if billed else NO_CUSTOMER,
        state_at=now,
        created_at=now,
        customer=billed,
        identifier=None,
        attempts=0,
        sent_at=None,
        retry_at=None,
        doubt_since=None,
        lease_until=None,
        due_at=now,
        untold=not billed,
        reason=None,
        detail=None,
        version=0,
    )


def split(units: Decimal) -> list[Decimal]:
    """Values of at most 15 digits, as written without exponent, whose sum is exactly `units` (> 0), largest first.

    Digits are counted as written: whether the sink counts the zeros at the end of 10**18 is not known.
    Raises ValueError where that would take more than 100 values.
    """
    parts: list[Decimal] = []
    rest = units
    while rest:
        if len(parts) == MAX_PARTS:
            raise ValueError(f"{plain(units)} units do not fit into {MAX_PARTS} values of {MAX_DIGITS} digits")
        part = _leading(rest)
        parts.append(part)
        rest = EXACT.subtract(rest, part)
    return parts


def _leading(value: Decimal) -> Decimal:
    whole, _, fraction = plain(value).partition(".")
    whole = whole.lstrip("0")
    if len(whole) > MAX_DIGITS:
        return _LARGEST_WHOLE
    lead = len(fraction) - len(fraction.lstrip("0")) if not whole else 0
    places = lead + MAX_DIGITS - len(whole)
    if len(fraction) <= places:
        return value
    return value.quantize(Decimal(1).scaleb(-places), rounding=ROUND_DOWN, context=EXACT)
