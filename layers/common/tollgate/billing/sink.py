"""The sink port: where batches go. Stripe meter events today; another sink is one more module like `stripe_sink`."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol


@dataclass(frozen=True, slots=True)
class SinkEvent:
    """One batch as the sink gets it. `identifier` is the dedupe key of the batch, `idempotency_key` of this attempt;
    `value` has at most 15 significant digits, `timestamp` is epoch seconds."""

    identifier: str
    idempotency_key: str
    customer: str
    event_name: str
    value: Decimal
    timestamp: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """The sink has it now."""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The sink had it already, under this identifier."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The sink did not take this attempt, for certain. `retryable`: the same batch can succeed later."""

    status: int
    code: str
    message: str
    retryable: bool


@dataclass(frozen=True, slots=True)
class NotSent:
    """The attempt never left: no connection came about."""

    detail: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """No answer, or one that tells nothing (5xx): the attempt may have counted or not."""

    detail: str


SendResult = Accepted | Duplicate | Refused | NotSent | Unknown


class SinkUnavailable(Exception):
    """A read from the sink that got no usable answer; ask again later."""


class Sink(Protocol):
    def send(self, event: SinkEvent) -> SendResult:
        """One attempt, never repeated by itself: every resend must be the caller's, with a new idempotency key."""

    def customer_exists(self, customer: str) -> bool:
        """Whether the sink knows the customer and has not deleted it. Raises SinkUnavailable."""

    def total(self, customer: str, event_name: str, start: int, end: int) -> Decimal:
        """Units counted in [start, end), whole minutes in epoch seconds; lags behind. Raises SinkUnavailable."""
