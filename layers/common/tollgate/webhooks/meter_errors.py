"""Usage that Stripe took with 200 and did not count: it says so later, in a report about ten seconds of its work.

A report names samples only, so every batch that was sent in its window is looked at again:

- its identifier is among the samples: it was not counted, so it is `rejected`, for the code that Stripe gave;
- all errors are sampled: the others were counted;
- the only trouble was customers that are not there: each batch's customer is asked for, and decides;
- otherwise it may be one of those that the samples do not show: `unconfirmed`, until Stripe's totals settle it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from tollgate.alerts.outbox import Alert, Outbox
from tollgate.billing.batch import FLUSHED, REJECTED, UNCONFIRMED, Batch, BatchKey
from tollgate.billing.ports import BatchStore
from tollgate.billing.trouble import tell
from tollgate.clock import Clock, rfc3339_ms

BEFORE_S: Final = 300
"""How long after our call Stripe may validate a meter event; a batch is looked at for so long before the window."""
AFTER_S: Final = 30
"""The clocks: a batch counts as sent when we wrote down its answer."""
_NO_CUSTOMER: Final = "meter_event_customer_not_found"
_REASONS: Final = {
    _NO_CUSTOMER: "customer_not_found",
    "archived_meter": "no_active_meter",
    "no_meter": "no_active_meter",
}
"""Codes of reports, and the reason that a synchronous refusal for the same has."""
TRIES: Final = 5


class MeterErrors(NamedTuple):
    """One report. `samples`: (code, identifier) of some of its `total` errors; `meter` None: no meter has the name."""

    event: str
    meter: str | None
    first_ms: int
    last_ms: int
    total: int
    codes: tuple[str, ...]
    samples: tuple[tuple[str, str], ...]
    summary: str


class Reports(Protocol):
    def meter_errors(self, event: str) -> MeterErrors: ...
    def event_name(self, meter: str) -> str: ...
    def customer_exists(self, customer: str) -> bool: ...


class SentBatches(BatchStore, Protocol):
    def sent_between(self, first: int, last: int) -> Iterator[BatchKey]:
        """Keys of the batches that were written down as sent in epoch seconds first to last."""


@dataclass(frozen=True, slots=True)
class MeterErrorDeps:
    batches: SentBatches
    stripe: Reports
    outbox: Outbox
    clock: Clock


class Rechecked(NamedTuple):
    looked_at: int
    rejected: int
    unconfirmed: int


def recheck(deps: MeterErrorDeps, event: str) -> Rechecked:
    """Look at every batch of a report's window again. Repeating it finds the batches as it left them: only a `flushed`
    one is changed. A crash in between leaves some that are still `flushed`: the event comes again. One that was parked
    and not told yet is due, and seal tells it."""
    report = deps.stripe.meter_errors(event)
    name = None if report.meter is None else deps.stripe.event_name(report.meter)
    sampled = {identifier: code for code, identifier in report.samples if identifier}
    hidden = report.total > len(report.samples) or any(not identifier for _, identifier in report.samples)
    exists: dict[str, bool] = {}
    looked = rejected = unconfirmed = 0
    for key in deps.batches.sent_between(report.first_ms // 1000 - BEFORE_S, -(-report.last_ms // 1000) + AFTER_S):
        for _ in range(TRIES):
            batch = deps.batches.get(key)
            if batch is None or (name is not None and batch.event_name != name):
                break
            if batch.state != FLUSHED:
                break
            looked += 1
            step = _judged(deps, batch, report, sampled, hidden, exists)
            if step is None:
                break
            after = deps.batches.replace(batch, step)
            if after is None:
                continue
            tell(deps.outbox, deps.batches, after)
            rejected += after.state == REJECTED
            unconfirmed += after.state == UNCONFIRMED
            break
    found = rejected + unconfirmed
    if hidden or found < len(sampled):
        _tell_of_strangers(deps, report, name, found)
    return Rechecked(looked, rejected, unconfirmed)


def _judged(
    deps: MeterErrorDeps,
    batch: Batch,
    report: MeterErrors,
    sampled: dict[str, str],
    hidden: bool,
    exists: dict[str, bool],
) -> Batch | None:
    """What a batch becomes; None: it was counted."""
    code = sampled.get(batch.identifier or "")
    if code is not None:
        return _parked(deps, batch, REJECTED, _REASONS.get(code, code), report)
    if not hidden:
        return None
    if set(report.codes) == {_NO_CUSTOMER} and batch.customer is not None:
        if batch.customer not in exists:
            exists[batch.customer] = deps.stripe.customer_exists(batch.customer)
        return None if exists[batch.customer] else _parked(deps, batch, REJECTED, "customer_not_found", report)
    return _parked(deps, batch, UNCONFIRMED, "in_an_error_report", report)


def _parked(deps: MeterErrorDeps, batch: Batch, state: str, reason: str, report: MeterErrors) -> Batch:
    now = deps.clock() // 1000
    detail = f"{report.event}: {', '.join(report.codes)}. {report.summary}"[:300]
    return batch.into(state, now, reason=reason, detail=detail, untold=True, due_at=now)


def _tell_of_strangers(deps: MeterErrorDeps, report: MeterErrors, name: str | None, found: int) -> None:
    """The report counts more errors than batches were found: another sender's, or one that was in flight."""
    first, last = rfc3339_ms(report.first_ms), rfc3339_ms(report.last_ms)
    deps.outbox.put(
        Alert(
            id=f"meter_errors#{report.event}",
            kind="meter_errors",
            account="",
            subject=f"Stripe did not count {report.total} meter events",
            text=(
                f"Between {first} and {last} Stripe refused {report.total} events of meter {name or 'unknown'} "
                f"({', '.join(report.codes)}); {found} batches of this stack were parked for it."
            ),
            at_ms=report.last_ms,
            facts={"event": report.event, "meter": name or ""},
        )
    )
