"""Reconciliation of many changed pairs on a fast stand-in: what it asks of Stripe and the queue, how long it takes and
how much memory it holds. The stand-in's stores are dictionaries, so the seconds are the product's own.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

from bench.report import Check, Listing, Section
from tollgate.accounts.rules import AccountRow, Rules, compile_rules, with_plan
from tollgate.billing.batch import FLUSHED, Batch
from tollgate.billing.close_row import CloseKey
from tollgate.billing.grid import Grid
from tollgate.billing.seal import batches_of
from tollgate.billing.sealed import MeterTotal, PeriodTotal, SealedWindow
from tollgate.catalog.model import Meter, Plan, Price
from tollgate.gate.sweep_store import GateAudits
from tollgate.reconcile.account import DAY_S
from tollgate.reconcile.budget import ReadBudget
from tollgate.reconcile.ports import Pair, ReconcileDeps
from tollgate.reconcile.run import PAIRS_A_PART, Part, start_run, work
from tollgate.usage.markers import SHARDS, shard_of
from tollgate.usage.outcome import Event, OutcomeKey, UsedItem
from tollgate.windows import Calendar

PAIRS = 100_000
COUNTED = 2_000
"""As many in a run that only counts."""
_DAY = 1_795_219_200
"""2026-11-21, UTC."""
_NOW = _DAY + 2 * DAY_S
_WINDOW = _DAY + 36_000
_PERIOD = (1_793_491_200, 1_796_083_200)
_METER = Meter("ai_credits", "AI credits", "credit", stripe_event_name="credits_used")
_PLAN = Plan("pro", 1, "Pro", prices=(Price("ai_credits", "per_unit", unit_price=Decimal("0.01")),))
_UNITS = Decimal(3)


def section(pairs: int) -> Section:
    """Reconcile `pairs` accounts that each used something on one day."""
    stand_in = StandIn(pairs)
    before = _peak()
    started = time.perf_counter()
    messages: list[Part] = []
    start_run(stand_in.deps, stand_in, messages.extend)
    planned = time.perf_counter()
    budget = ReadBudget(stand_in, 10 * pairs, stand_in.clock)
    for part in messages:
        work(stand_in.deps, stand_in, budget, part)
    ended = time.perf_counter()
    rows: list[tuple[str, int | Decimal]] = [
        ("pairs", pairs),
        ("messages", len(messages)),
        ("reads at Stripe", stand_in.reads),
        ("seconds to plan", _seconds(planned - started)),
        ("seconds to compare, one worker", _seconds(ended - planned)),
        ("peak memory beyond the stand-in's, MB", _peak() - before),
        ("bytes of the largest message", max(len(part.body()) for part in messages)),
    ]
    return Section(
        f"Reconciling {pairs:,} changed pairs",
        [Listing(("on a fast stand-in", ""), rows)],
        [
            Check("reads at Stripe for each pair that agrees", stand_in.reads, pairs, "GETs", exact=True),
            Check("messages", len(messages), -(-pairs // PAIRS_A_PART), "messages", exact=True),
            Check("pairs settled", stand_in.settled, pairs, "pairs", exact=True),
            Check("pairs that differ", stand_in.differing, 0, "pairs", exact=True),
        ],
        ["Stripe's answers and DynamoDB's are instantaneous here: add 1 ms to 100 ms for each read of a deployed one."],
    )


class StandIn:
    """Every store, the sink and the queue, for accounts that are all alike."""

    def __init__(self, pairs: int) -> None:
        self.reads = self.settled = self.differing = 0
        row = AccountRow("a0", 1, "pro", 1, 0, Calendar.of("UTC"), (), ())
        row = replace(with_plan(row, _PLAN, {"ai_credits": _METER}, 0), stripe_customer_id="cus_a0")
        self._rules = compile_rules(row, _PLAN, {"ai_credits": _METER})
        self._shards: dict[int, list[Pair]] = {shard: [] for shard in range(SHARDS)}
        for at in range(pairs):
            name = f"account-{at:06d}"
            self._shards[shard_of(name)].append(Pair(name, "ai_credits", _DAY))
        self.deps = ReconcileDeps(
            rules=self,
            events=self,
            windows=self,
            markers=self,
            batches=_Batches(self),
            totals=self,
            invoices=_Unasked(),
            closes=_Unasked(),
            plans=_Unasked(),
            pairs=self,
            outbox=self,
            loose=self,
            audits=_Unasked(),
            clock=self.clock,
            stack="bench",
            seal_seconds=300,
            grace_seconds=60,
        )

    def clock(self) -> int:
        return _NOW * 1000

    # -- rules, rows, frozen windows -----------------------------------------------------------------------------------

    def fresh(self, account: str) -> Rules:
        return replace(self._rules, row=replace(self._rules.row, account=account, stripe_customer_id=f"cus_{account}"))

    def events_between(self, account: str, first_ms: int, last_ms: int) -> Iterator[Event]:
        if first_ms <= _WINDOW * 1000 <= last_ms:
            item = UsedItem("ai_credits", _UNITS, _UNITS)
            yield Event(OutcomeKey(account, _WINDOW * 1000, "k" * 16), {}, _WINDOW * 1000, (item,))

    def window(self, account: str) -> SealedWindow:
        total = MeterTotal(1, _UNITS, billable=_UNITS, event_name="credits_used")
        return SealedWindow(
            account, _WINDOW, 300, 0, PeriodTotal(*_PERIOD, 1, {"ai_credits": total}), (_WINDOW,), _WINDOW + 400
        )

    def between(self, account: str, start: int, end: int) -> Iterator[SealedWindow]:
        if start <= _WINDOW < end:
            yield self.window(account)

    def known_grid(self) -> Grid | None:
        return Grid.of(300)

    def of_account(self, account: str) -> Iterator[Any]:
        return iter(())

    def ensure(self, account: str, recorded_ms: int, origins_ms: Iterable[int], *, again: bool = False) -> None:
        raise AssertionError("nothing is to be sealed again")

    # -- pairs ---------------------------------------------------------------------------------------------------------

    def changed(self, shard: int, until: int) -> Iterator[Pair]:
        yield from self._shards[shard]

    def days_of(self, account: str, start: int, end: int) -> Iterator[Pair]:
        return iter(())

    def settle(self, pair: Pair, events: int) -> bool:
        self.settled += 1
        return True

    # -- the sink ------------------------------------------------------------------------------------------------------

    def total(self, customer: str, event_name: str, start: int, end: int) -> Decimal:
        self.reads += 1
        return _UNITS if start <= _WINDOW < end else Decimal(0)

    def meter(self, event_name: str) -> str:
        raise AssertionError("no invoice has a price of somebody else")

    def customer_exists(self, customer: str) -> bool:
        raise AssertionError("nothing is to be repaired")

    def cancel(self, event_name: str, identifier: str) -> bool:
        raise AssertionError("nothing is to be cancelled")

    def match(self, event_name: str, minute: int, account: str, units: Decimal, now: int) -> str | None:
        raise AssertionError("nothing is loose")

    # -- reports, alerts, reads ----------------------------------------------------------------------------------------

    def begin(self, run: str, parts: int, started_ms: int, audits: GateAudits) -> None:
        return None

    def add(self, run: str, part: int, sums: Any, now_ms: int) -> None:
        self.differing += sums.get("n#differing", 0)

    def put_pair(self, run: str, report: Any, now_ms: int) -> None:
        return None

    def put(self, alert: Any) -> bool:
        return True

    def spent(self, month: str) -> int:
        return 0

    def add_reads(self, month: str, reads: int) -> None:
        return None


class _Batches:
    def __init__(self, stand_in: StandIn) -> None:
        self._stand_in = stand_in

    def between(self, account: str, meter: str, period_start: int, start: int, end: int) -> Iterator[Batch]:
        if period_start == _PERIOD[0]:
            (made,) = batches_of(self._stand_in.window(account), f"cus_{account}", _WINDOW + 400, 0)
            yield made.into(FLUSHED, _WINDOW + 500, identifier="tg_bench")

    def parked(self) -> Iterator[Batch]:
        return iter(())

    def put_new(self, batch: Batch) -> Batch | None:
        raise AssertionError("nothing is to be put")

    def get(self, key: Any) -> Batch | None:
        return None

    def replace(self, before: Batch, after: Batch) -> Batch | None:
        raise AssertionError("nothing is to be repaired")


class _Unasked:
    """No invoice became final, and no gate was audited: days that agree ask for neither."""

    def between(self, first_ms: int, last_ms: int) -> GateAudits:
        return GateAudits()

    def final(self, shard: int, until: int) -> Iterator[CloseKey]:
        return iter(())

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name}: nothing is to be asked of invoices")


def _peak() -> int:
    """Peak memory of this process so far, in MB (macOS counts bytes, Linux KB)."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used // (1_000_000 if sys.platform == "darwin" else 1_000)


def _seconds(measured: float) -> Decimal:
    return Decimal(measured).quantize(Decimal("0.1"))
