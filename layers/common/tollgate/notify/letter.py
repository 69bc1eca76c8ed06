"""A message of the outbox on its way: what became of it on each channel, and when it is to be looked at again.

States of a delivery: `waiting` (for its first or next attempt, or for the end of quiet hours), `held` (over the
channel's limit an hour: goes into a digest), and the ends `sent`, `digested`, `skipped` (nobody to send it to any more)
and `failed` (given up; `tollgate notify replay` begins again).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from tollgate.alerts.outbox import Words, message_id

WAITING, HELD = "waiting", "held"
SENT, DIGESTED, SKIPPED, FAILED = "sent", "digested", "skipped", "failed"
OPEN: Final = (WAITING, HELD)

FIRST_WAIT_S: Final = 30
MOST_WAIT_S: Final = 4 * 3600
GIVE_UP_S: Final = 48 * 3600
"""From the first attempt on."""
LEASE_S: Final = 90
"""How long a run has a message for itself: longer than a run can last, so that only a crashed one's come due by it."""
KEPT_S: Final = 90 * 86_400
"""How long a message is kept once nothing is left to do about it; one that failed stays until it is replayed."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message on one channel. `at`: when it is due, or when it ended (epoch s); `since`: its first attempt, or when
    it was first put off because others failed before it."""

    state: str
    at: int
    attempts: int = 0
    since: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Letter:
    """One message. `deliveries` None: nobody has looked yet, so its channels are still to be chosen."""

    place: str
    """Its sort key in the outbox: `<put ms, 13 digits>#<alert id>`."""
    message: Mapping[str, Any]
    deliveries: Mapping[str, Delivery] | None = None
    due_at: int | None = None
    version: int = 0

    @property
    def id(self) -> str:
        put_ms, _, alert = self.place.partition("#")
        return message_id(int(put_ms), alert)

    @property
    def put_at(self) -> int:
        """When it was put (epoch s)."""
        return int(self.place.partition("#")[0]) // 1000

    @property
    def kind(self) -> str:
        return str(self.message["kind"])

    @property
    def account(self) -> str:
        return str(self.message["account"])

    @property
    def audience(self) -> str:
        return str(self.message.get("audience", "operator"))

    @property
    def words(self) -> Words:
        return Words(str(self.message["subject"]), str(self.message["text"]))

    @property
    def to_customer(self) -> Words:
        own = self.message.get("customer")
        return self.words if own is None else Words(str(own["subject"]), str(own["text"]))

    @property
    def failed(self) -> bool:
        return any(one.state == FAILED for one in (self.deliveries or {}).values())

    def ready(self, now: int) -> list[str]:
        """Channels whose turn has come."""
        return [name for name, one in (self.deliveries or {}).items() if one.state in OPEN and one.at <= now]

    def having(self, name: str, delivery: Delivery) -> Letter:
        """With another state on one channel; it is due when the first of its channels is."""
        return self.at_channels({**(self.deliveries or {}), name: delivery})

    def at_channels(self, deliveries: Mapping[str, Delivery]) -> Letter:
        waits = [one.at for one in deliveries.values() if one.state in OPEN]
        return replace(self, deliveries=deliveries, due_at=min(waits, default=None))

    def replayed(self, channel: str | None, now: int) -> Letter | None:
        """To be sent again from the start: where it was given up, or on that channel whatever became of it. None where
        that is nowhere."""
        there = self.deliveries or {}
        again = [name for name, one in there.items() if name == channel or (channel is None and one.state == FAILED)]
        if not again:
            return None
        return self.at_channels({**there, **{name: Delivery(WAITING, now) for name in again}})

    def leased(self, now: int) -> Letter:
        return replace(self, due_at=now + LEASE_S)


class NotDelivered(Exception):
    """A channel did not take a message. `final`: nor will it ever; `gone`: its receiver wants nothing more at all;
    `retry_after`: seconds that it asked to wait."""

    def __init__(self, reason: str, *, final: bool = False, gone: bool = False, retry_after: int | None = None) -> None:
        super().__init__(reason)
        self.reason, self.final, self.gone, self.retry_after = reason, final, gone, retry_after


class NoReceiver(Exception):
    """There is nobody to send it to, such as a customer without an address; the text says so."""


@dataclass(slots=True)
class Counts:
    """What a run did."""

    sent: int = 0
    retried: int = 0
    held: int = 0
    failed: int = 0
    left: int = 0
    digests: int = 0
    failures: list[Exception] = field(default_factory=list)
    """Defects: raised at the end of the run. A channel's trouble is none."""


def sent(delivery: Delivery, now: int) -> Delivery:
    return replace(_tried(delivery, now), state=SENT, at=now, reason="")


def not_sent(delivery: Delivery, trouble: NotDelivered, now: int, jitter: Callable[[int], int]) -> Delivery:
    """After an attempt that failed: the next one, twice to four times as far away as the one before, or the end."""
    tried = _tried(delivery, now)
    wait = backoff(tried.attempts, jitter)
    if trouble.retry_after is not None:
        wait = max(wait, min(trouble.retry_after, MOST_WAIT_S))
    if trouble.final or trouble.gone or now + wait > tried.since + GIVE_UP_S:
        return replace(tried, state=FAILED, at=now, reason=trouble.reason)
    return replace(tried, state=WAITING, at=now + wait, reason=trouble.reason)


def put_off(delivery: Delivery, wait: int, now: int, jitter: Callable[[int], int]) -> Delivery:
    """Untried, as the channel is down: `wait` seconds and a little longer; or the end, as for those that were tried."""
    wait = min(wait, MOST_WAIT_S) + jitter(FIRST_WAIT_S)
    since = delivery.since or now
    if now + wait > since + GIVE_UP_S:
        return replace(delivery, state=FAILED, at=now, since=since, reason="the channel was down all the time")
    return replace(delivery, at=now + wait, since=since, reason="the channel is down")


def backoff(attempts: int, jitter: Callable[[int], int]) -> int:
    """Seconds until the next attempt: 30 s, 2 min, 8 min, ... at most 4 h, of which half is chance. `jitter(n)`: 0 to
    n - 1."""
    most: int = min(FIRST_WAIT_S * 4 ** min(attempts - 1, 8), MOST_WAIT_S)
    return most // 2 + jitter(most // 2 + 1)


def _tried(delivery: Delivery, now: int) -> Delivery:
    return replace(delivery, attempts=delivery.attempts + 1, since=delivery.since or now)
