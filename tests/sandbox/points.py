"""What the product takes Stripe to do, point by point: the one list. `probes` has a probe for each.

`open`: no documentation settles it. The others are documented, or were seen by others.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from tests.sandbox.side import Probing

Verdict = Literal["confirmed", "contradicted", "not probed"]

PATIENCE_S: Final = 1_200
"""How long a probe waits for what Stripe does later."""
SUMMARY_S: Final = 900
"""After which a missing event is taken for lost, not late (`reconcile/account.py:CLOSED_S`)."""


@dataclass(frozen=True, slots=True)
class Point:
    """`expected`: what the product assumes, and the double does. `otherwise`: what it means if Stripe does not."""

    id: str
    open: bool
    expected: str
    otherwise: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What a probe saw, in words, and whether it is what was expected."""

    text: str
    agrees: bool


@dataclass(frozen=True, slots=True)
class Result:
    """`seen`: or why it was not probed. `broke`: a probe that did not get to an answer, although it could have."""

    verdict: Verdict
    seen: str
    broke: bool = False


class NotProbed(Exception):
    """The probe cannot say; the message says why."""


Probe = Generator["Probing", bool, Seen]
"""Yields what it waits for (asked again and again; true: go on), and is told whether that came in time."""


def _open(name: str, expected: str, otherwise: str) -> Point:
    return Point(name, True, expected, otherwise)


def _relied(name: str, expected: str, otherwise: str) -> Point:
    return Point(name, False, expected, otherwise)


POINTS: Final = (
    _open(
        "identifier-scope",
        "an identifier is unique in the whole account",
        "harmless: ours name customer and meter (billing/batch.py)",
    ),
    _open(
        "identifier-later",
        "after 24 hours an identifier counts again",
        "harmless: nothing in doubt is sent again after 20 hours (billing/batch.py)",
    ),
    _open(
        "timestamp-ahead",
        "more than 5 minutes ahead: refused at once, timestamp_in_future",
        "the batch is found by its error report (webhooks/meter_errors.py)",
    ),
    _open(
        "meter-archived",
        "refused at once, no_active_meter",
        "the batch is found by its error report (webhooks/meter_errors.py)",
    ),
    _open(
        "customer-unknown",
        "taken, and told in an error report: meter_event_customer_not_found",
        "refused at once is harmless; without a report only reconciliation finds it",
    ),
    _open(
        "customer-deleted",
        "taken, and told in an error report: meter_event_customer_not_found",
        "refused at once is harmless; without a report only reconciliation finds it",
    ),
    _open(
        "report-request",
        "a sample names our identifier, or the Idempotency-Key that begins with it",
        "harmless, but slower: every batch of the window is checked all the same",
    ),
    _open(
        "summary-freshness",
        f"an event shows in the summaries within {SUMMARY_S} s",
        "raise CLOSED_S in reconcile/account.py and the least hold of an invoice, LEAST_S in billing/close_row.py",
    ),
    _open(
        "summary-edge",
        "a summary holds its first second and not its last: [start, end)",
        "totals at period edges differ by that second's events: billing/grid.py",
    ),
    _open(
        "pre-aggregated-customer",
        "a meter with an hour's window keeps the last event of each customer",
        "harmless: `stripe sync` makes no such meter and refuses one",
    ),
    _open(
        "pre-aggregated-order",
        "of an hour the event received last counts, whatever its timestamp; hours are added up",
        "harmless: `stripe sync` makes no such meter and refuses one",
    ),
    _open(
        "last-same-second",
        "a meter with formula last: of two events at one second the one received last",
        "levels (docs/levels.md): two levels in one minute could bill the older one",
    ),
    _open(
        "tier-lines",
        "a graduated price is one line, rounded once: 20 units at 0.15 cents in two tiers are 3 cents",
        "choose tier prices that come to whole cents at each edge (docs/stripe.md), or bills differ by a cent a tier",
    ),
    _open(
        "concurrency",
        "of calls at one time for a customer and meter some get 429, endpoint-concurrency, and do not count",
        "the flush queue sends one at a time for each pair: only the reason's name matters",
    ),
    _open(
        "clock-timestamps",
        "for a customer on a test clock, timestamps are compared with the clock's frozen time",
        "only tests with test clocks: usage in a moved period cannot be sent",
    ),
    _open(
        "finalizes-at",
        "a period's draft waits for automatically_finalizes_at, past the grace, and bills what is sent meanwhile",
        "period close (docs/period-close.md) has only Stripe's own grace",
    ),
    _relied(
        "duplicate",
        "a second event of an identifier is refused, in the words that mean flushed, and does not count",
        "STOP: a resend bills twice (billing/stripe_sink.py)",
    ),
    _relied("timestamp-old", "over 35 days old: refused at once, timestamp_too_old", "billing/stripe_sink.py:_REASONS"),
    _relied("digits", "over 15 digits: refused at once, too_many_digits", "billing/stripe_sink.py:_REASONS"),
    _relied("no-meter", "unknown event name: refused at once, no_active_meter", "billing/stripe_sink.py:_REASONS"),
    _relied("decimals", "decimals of 15 digits add up exactly", "batches would need whole numbers"),
    _relied("negative", "a negative event is taken off", "corrections need a credit note (reconcile/fix.py)"),
    _relied("cancel", "a cancelled event counts no more; a second cancellation is refused", "reconcile/fix.py"),
    _relied("last", "a meter with formula last: the latest timestamp's value", "levels (docs/levels.md)"),
    _relied(
        "lines",
        "150 in packages of 60, up, at $10: $30; 30 at 0.05 cents: 2 cents; 1.5 at $1: $1.50; none, first flat $10: "
        "$10; 6 by volume at $6.50: $39",
        "rating/ bills otherwise than Stripe",
    ),
    _relied(
        "subscription",
        "metered only: active without an invoice, its period ends at a whole minute",
        "subscriptions/checkout.py; summaries are asked for in whole minutes",
    ),
    _relied("catalogue", "what `stripe sync` made, it finds again: nothing to do", "sync/diff.py"),
    _relied(
        "unique",
        "a second active meter of an event name, product of an id, price of a lookup key: refused",
        "a crash of `stripe sync` could make things twice",
    ),
    _relied(
        "customer-list", "a new customer is in the list at once", "a second one could be made (customers/needed.py)"
    ),
    _relied(
        "customer-search",
        f"a new customer is found by its metadata within {PATIENCE_S} s",
        "`stripe backfill` goes by the list alone (customers/needed.py)",
    ),
    _relied(
        "idempotency",
        "a key again gives the same object; with another body it is refused",
        "a repetition after a lost answer makes things twice (stripe_api/)",
    ),
    _relied("events", f"a change is in the list of events within {PATIENCE_S} s", "`stripe events replay` misses some"),
    _relied(
        "checkout",
        "pages for a plan and for a pack are made; those for a plan can be ended, and others stay",
        "POST …/checkout (subscriptions/checkout.py)",
    ),
    _relied(
        "destinations",
        "both webhook destinations can be made with every event type that we handle, and are listed",
        "webhooks/dispatch.py:TYPES",
    ),
)
