"""The inbox: each event of Stripe is processed until it is done, however often it is delivered, and once at a time.

States: `processing` with a lease, `done`, `failed` with a reason. Whoever puts `processing` works; a delivery that
finds a lease still running is put back on the queue, one that finds the work done is acknowledged. A worker that dies
leaves a lease that ends, and the event is delivered again. What an event does may thus be done twice in part: every
effect is idempotent.

`failed` is no end: a delivery, or `tollgate stripe events replay`, takes it up again. Where the reason can pass by
itself the delivery is not acknowledged, so the queue brings it back; where it cannot, it is, with an alert.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from tollgate.alerts.outbox import Alert, Outbox
from tollgate.clock import Clock
from tollgate.errors import TollgateError

PROCESSING: Final = "processing"
DONE: Final = "done"
FAILED: Final = "failed"
LEASE_S: Final = 90
"""Longer than the worker function lives, shorter than the queue hides a message."""
KEPT_S: Final = 40 * 86_400
"""How long a row is kept. Stripe delivers for 3 days and lists events for 30 [docs]."""
_REASON_CHARACTERS: Final = 500


class Letter(NamedTuple):
    """An event's row. Times in epoch seconds; `attempts` counts those who took it up, and names the last one."""

    id: str
    type: str
    state: str
    attempts: int
    lease_until: int
    reason: str | None = None
    outcome: str | None = None
    """What became of a done one: what the handler said."""


class Inbox(Protocol):
    def take(self, event: str, kind: str, now: int, lease_s: int) -> tuple[Letter, bool]:
        """Take an event up, unless it is done or somebody is at it. Returns its row now and whether it is ours."""

    def end(
        self, letter: Letter, state: str, now: int, *, reason: str | None = None, outcome: str | None = None
    ) -> bool:
        """Write down how our attempt ended; False where another one took it up meanwhile."""


@dataclass(frozen=True, slots=True)
class InboxDeps:
    inbox: Inbox
    outbox: Outbox
    clock: Clock


class InHand(Exception):
    """Another worker is at this event, or died less than a lease ago: look again later."""


class Processed(NamedTuple):
    outcome: str
    """What the handler said; `duplicate` where the event was done before, `failed` where it cannot succeed as it is."""
    first: bool = True


DUPLICATE: Final = "duplicate"


def process(deps: InboxDeps, event: str, kind: str, work: Callable[[], str]) -> Processed:
    """Do `work` for an event unless that is done. Raises InHand, and what `work` raises where it can pass by itself:
    the delivery is then not to be acknowledged.

    A crash after the work and before its `done` leaves a lease; the work is then done again, and changes nothing.
    """
    letter, ours = deps.inbox.take(event, kind, deps.clock() // 1000, LEASE_S)
    if not ours:
        if letter.state == DONE:
            return Processed(DUPLICATE, first=False)
        raise InHand(f"event {event} is being processed")
    try:
        outcome = work()
    except TollgateError as error:
        reason = f"{error.code}: {error.detail}"[:_REASON_CHARACTERS]
        deps.inbox.end(letter, FAILED, deps.clock() // 1000, reason=reason)
        if error.retryable:
            raise
        # Told after it is written down: a crash between leaves a failed event, which its next delivery tells of.
        deps.outbox.put(_alert(event, kind, reason, deps.clock()))
        return Processed(FAILED)
    except Exception as error:
        # A defect, or a store that does not answer. The queue brings it back, in the end to its dead letters.
        reason = f"{type(error).__name__}: {error}"[:_REASON_CHARACTERS]
        deps.inbox.end(letter, FAILED, deps.clock() // 1000, reason=reason)
        raise
    deps.inbox.end(letter, DONE, deps.clock() // 1000, outcome=outcome)
    return Processed(outcome)


def _alert(event: str, kind: str, reason: str, now_ms: int) -> Alert:
    return Alert(
        id=f"stripe_event#{event}",
        kind="stripe_event_failed",
        account="",
        subject=f"An event of Stripe could not be processed: {kind}",
        text=(
            f"Event {event} ({kind}): {reason} Once the cause is gone, `tollgate stripe events replay` processes it."
        ),
        at_ms=now_ms,
        facts={"event": event, "type": kind},
    )
