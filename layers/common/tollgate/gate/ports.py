"""What the gate's services need from the outside. The DynamoDB stores implement it; tests implement it in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Protocol

from tollgate.accounts.rules import AccountRow, Rules
from tollgate.clock import Clock
from tollgate.gate.item import Gate, GateWrite, Recounted, Written
from tollgate.usage.grant import Clawback, Ended, GrantRow, Pending
from tollgate.usage.outcome import Event, Outcome, OutcomeKey, Void

if TYPE_CHECKING:
    from tollgate.gate.shares import Known


class AnswerLost(Exception):
    """A store call whose answer never came: it may have been applied or not."""


class GateStore(Protocol):
    def write(self, write: GateWrite, *, retry: bool = True) -> Written:
        """One conditional UpdateItem. `retry` False: the SDK must not send it again by itself; raises AnswerLost."""

    def read(self, subject: str) -> Gate | None:
        """A consistent read."""

    def read_all(self, subjects: Sequence[str]) -> Mapping[str, Gate]:
        """Consistent reads of up to 100 gates; those that are not there are left out."""

    def recall(self, subject: str) -> Gate | None:
        """Money and credits of the gate as this process saw them last, without counters and holds: a guess, which the
        write's own conditions tell from the truth. None where it saw none."""

    def finish_recount(self, write: Recounted) -> bool: ...

    def close(self, subject: str) -> Gate:
        """Close a gate for good, whatever it says (one write, harmless to repeat); returns it as it stands."""


class OutcomeStore(Protocol):
    def origin(self, account: str, key: str, proposed_ms: int) -> int:
        """The origin time of a key that is no UUIDv7: the first proposed one wins (dedupe row)."""

    def find(self, account: str, key: str, origin_ms: int | None) -> Outcome | None:
        """The outcome of a key (`origin_ms` None: no UUIDv7, so its dedupe row is asked first); changes nothing."""

    def put_event(self, event: Event) -> Outcome | None:
        """Put where there is no row, or a void of older incarnations. Returns None where put, else the row there."""

    def put_void(self, void: Void) -> Outcome | None:
        """Put where there is no row, or raise a void of older incarnations. Returns None where the void now stands by
        this call, else the row there: an event, or a void that is equal or newer for every incarnation."""

    def get(self, at: OutcomeKey) -> Outcome | None:
        """A consistent read."""

    def events_between(self, account: str, first_ms: int, last_ms: int) -> Iterator[Event]:
        """Events whose origin time lies in [first_ms, last_ms], consistently read."""

    def commit_late(self, event: Event, over: Void, writes: Sequence[GateWrite]) -> bool:
        """One transaction: exactly `over` becomes `event`, and the gate writes apply; False where any part fails."""


class GrantStore(Protocol):
    def open(self, row: GrantRow) -> GrantRow:
        """Put a grant under a number that is free, once for each source; returns the row that stands there now. Raises
        Busy."""

    def rows(self, account: str) -> list[GrantRow]:
        """All grants of an account, oldest first (consistent)."""

    def get(self, account: str, number: int) -> GrantRow | None: ...

    def by_source(self, account: str, source: str, source_id: str) -> GrantRow | None: ...

    def begin_clawback(self, row: GrantRow, pending: Pending) -> bool:
        """Write down what is to be taken back; False where another clawback of the grant is under way or came first."""

    def end_clawback(self, row: GrantRow, done: Clawback) -> bool:
        """Write down what was; False where somebody else has."""

    def end(self, row: GrantRow, ended: Ended) -> None:
        """Write down how the grant stands when nothing can be used or come back any more; not where somebody else has
        since `row` was read."""


class SharedStore(Protocol):
    """Shards of the limits that accounts share, by name."""

    @property
    def known(self) -> Known:
        """What this process saw last."""

    def add(self, name: str, units: Decimal, most: Decimal | None, ends: int | None) -> tuple[bool, Decimal]:
        """Count units where the shard then holds at most `most` (None: in any case). Returns whether it was done, and
        what the shard holds. `ends`: of the window (epoch seconds). Raises Busy; then it may have been done."""

    def take_off(self, name: str, units: Decimal) -> Decimal | None:
        """Units given back, once at most; returns what the shard holds. None: not done, or nobody knows."""

    def counts(self, names: list[str]) -> list[Decimal]:
        """What the shards hold (consistent). Raises Busy."""


class Markers(Protocol):
    def ensure(self, account: str, recorded_ms: int, origins_ms: Iterable[int], *, again: bool = False) -> None:
        """Before a row: mark the account active in the seal window of `recorded_ms`, in rows of these origins.
        `again` writes the marker even where this process has written it before."""

    def ranges(self, account: str, since_s: int) -> list[tuple[int, int]]:
        """Origin ranges [first_ms, last_ms] that hold every row recorded since `since_s`."""


class RulesSource(Protocol):
    def get(self, account: str, accept: Callable[[Rules], object] | None = None) -> Rules:
        """The rules of an account, at most 60 s old; of one that became another one, that one's. An unknown account is
        created on the default plan once `accept` took that plan's rules; what it raises creates nothing. Raises
        UnknownAccount where there is no `accept`, or the catalogue forbids it."""

    def fresh(self, account: str) -> Rules:
        """The rules as stored now (consistent read). Raises UnknownAccount."""

    def stored(self, account: str) -> AccountRow:
        """The rules row under this very id, also where the account became another one. Raises UnknownAccount."""


class Breaker(Protocol):
    """The circuit breaker's rare part: what follows when it refused, or would have."""

    def trip(self, rules: Rules, meter: str, hour: int) -> None:
        """The account crossed what the hour that starts at epoch second `hour` may come to: freeze it and tell. Raises
        Busy."""

    def spent(self, cost: Decimal) -> None:
        """Usage that is recorded cost the operator this much, in US dollars."""


class _NoBreaker:
    """For those that decide over no usage."""

    def trip(self, rules: Rules, meter: str, hour: int) -> None:
        return None

    def spent(self, cost: Decimal) -> None:
        return None


Count = Callable[[str, str, int], None]
"""Told what operators watch, each of it rare: the metric's name, the limit it is about (or ""), how often."""


def uncounted(name: str, limit: str, number: int) -> None:
    """For processes that answer no requests."""


def _no_shared_store() -> SharedStore:
    raise NotImplementedError("no store for shared limits was handed in")


@dataclass(frozen=True, slots=True)
class GateDeps:
    """Everything the gate's services use, made once per process."""

    gates: GateStore
    outcomes: OutcomeStore
    markers: Markers
    rules: RulesSource
    clock: Clock
    incarnate: Callable[[int], bytes]
    """A new incarnation (UUIDv7) at an epoch millisecond."""
    nonce: Callable[[], bytes]
    """4 random bytes."""
    pause: Callable[[int], None]
    """Waits a little before try number n; jittered, so that contenders part."""
    grants: GrantStore
    seal_grace_ms: int = 60_000
    shared: Callable[[], SharedStore] = _no_shared_store
    """Asked where a plan has limits that accounts share, not before: the gate starts without their modules."""
    breaker: Callable[[], Breaker] = _NoBreaker
    """The same holds for this one."""
    count: Count = uncounted


def subject_of(account: str, per: str, member: str | None) -> str:
    """The gate's key: `account`, or `account#member`. Ids hold no `#`."""
    return account if per == "account" else f"{account}#{member}"
