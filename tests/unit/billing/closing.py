"""A period close in memory: tables, a Stripe with invoices, and a clock that tests move."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

from tests.unit.billing.world import METERS, FakeRules
from tollgate.alerts.outbox import Alert
from tollgate.billing.batch import FLUSHED, SEALED, Batch, BatchKey
from tollgate.billing.close import CloseDeps, CloseSettings, begin, step
from tollgate.billing.close_due import CloseDueDeps, ask_for_due
from tollgate.billing.close_row import Close, CloseKey, due_shard
from tollgate.billing.flush import FlushDeps, flush
from tollgate.billing.invoice import Invoice, InvoiceLine, InvoicePrice
from tollgate.billing.sealed import Carried
from tollgate.billing.sink import Accepted, Duplicate, NotSent, SendResult, SinkEvent, SinkUnavailable
from tollgate.billing.trouble import tell
from tollgate.errors import StripeRefused, StripeUnavailable
from tollgate.usage.markers import SHARDS, Marker
from tollgate.usage.outcome import Event

DAY = 86_400
NOVEMBER = 1_793_491_200
DECEMBER = 1_796_083_200
"""2026-12-01 00:00:00 UTC."""
DEADLINE_S = 2 * DAY
REVIEW_S = DAY
CUSTOMER, INVOICE = "cus_1", "in_2"
KEY = CloseKey(CUSTOMER, INVOICE)
PRICES = {
    "price_base": InvoicePrice("price_base", None, None, "pro", 1),
    "price_credits": InvoicePrice("price_credits", "mtr_1", "ai_credits", "pro", 1),
    "price_tokens": InvoicePrice("price_tokens", "mtr_2", "llm_tokens", "pro", 1),
    "price_storage": InvoicePrice("price_storage", "mtr_3", "storage", "pro", 1),
}
EVENT_NAMES = {
    f"price_{one}": METERS[PRICES[f"price_{one}"].meter or ""].stripe_event_name
    for one in ("credits", "tokens", "storage")
}


class MemoryCloses:
    """CloseStore and DueCloses."""

    def __init__(self) -> None:
        self.rows: dict[CloseKey, Close] = {}

    def put_new(self, close: Close) -> Close | None:
        return None if self.rows.setdefault(close.key, close) is close else self.rows[close.key]

    def get(self, key: CloseKey) -> Close | None:
        return self.rows.get(key)

    def replace(self, before: Close, after: Close) -> Close | None:
        if self.rows[before.key].version != before.version:
            return None
        self.rows[before.key] = replace(after, version=before.version + 1)
        return self.rows[before.key]

    def of_customer(self, customer: str) -> Iterator[Close]:
        return iter([row for key, row in self.rows.items() if key.customer == customer])

    def due(self, shard: int, until: int) -> Iterator[CloseKey]:
        rows = [row for row in self.rows.values() if row.due_shard == due_shard(shard)]
        return iter([row.key for row in rows if row.due_at is not None and row.due_at <= until])


class MemoryBatches:
    """BatchStore with the close's reads."""

    def __init__(self) -> None:
        self.rows: dict[BatchKey, Batch] = {}

    def put_new(self, batch: Batch) -> Batch | None:
        return None if self.rows.setdefault(batch.key, batch) is batch else self.rows[batch.key]

    def get(self, key: BatchKey) -> Batch | None:
        return self.rows.get(key)

    def replace(self, before: Batch, after: Batch) -> Batch | None:
        if self.rows[before.key].version != before.version:
            return None
        self.rows[before.key] = replace(after, version=before.version + 1)
        return self.rows[before.key]

    def due(self, shard: int, *, waits_for_customer: bool = False, until: int | None = None) -> Iterator[Any]:
        raise AssertionError("nobody asks here")

    def of_account(self, account: str, state: str | None = None) -> Iterator[Batch]:
        return iter([row for row in self.rows.values() if row.account == account and state in (None, row.state)])

    def meters(self, account: str) -> Iterator[str]:
        return iter(sorted({row.meter for row in self.of_account(account)}))

    def booked(self, account: str, meter: str, start: int, end: int) -> Iterator[Batch]:
        rows = [row for row in self.of_account(account) if row.meter == meter and start <= row.timestamp < end]
        return iter(sorted(rows, key=lambda row: row.key.sk, reverse=True))


class MemoryOutbox:
    def __init__(self) -> None:
        self.alerts: dict[str, Alert] = {}

    def put(self, alert: Alert) -> bool:
        return self.alerts.setdefault(alert.id, alert) is alert


class FakeStripe:
    """Sink and Invoices: counts events by identifier, and bills on a final invoice what was there when it got final."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self.clock = clock
        self.invoices: dict[str, Invoice] = {}
        self.counted: dict[str, SinkEvent] = {}
        self.hidden: set[str] = set()
        """Identifiers that totals do not show yet."""
        self.billed: dict[str, dict[str, Decimal]] = {}
        self.down = False
        self.reads: list[str] = []
        self.writes: list[str] = []

    # -- the sink ----------------------------------------------------------------------------------------------------

    def send(self, event: SinkEvent) -> SendResult:
        if self.down:
            return NotSent("down")
        if event.identifier in self.counted:
            return Duplicate()
        self.counted[event.identifier] = event
        return Accepted()

    def customer_exists(self, customer: str) -> bool:
        return True

    def total(self, customer: str, event_name: str, start: int, end: int) -> Decimal:
        assert start % 60 == end % 60 == 0
        self._read(f"total {event_name}", SinkUnavailable("down"))
        if event_name not in EVENT_NAMES.values():
            raise LookupError(event_name)
        found = [
            one
            for one in self.counted.values()
            if one.customer == customer and one.event_name == event_name and start <= one.timestamp < end
        ]
        found = [one for one in found if one.identifier not in self.hidden]
        if event_name == "gigabytes":
            return max(found, key=lambda one: one.timestamp).value if found else Decimal(0)
        return sum((one.value for one in found), Decimal(0))

    # -- invoices ----------------------------------------------------------------------------------------------------

    def read(self, invoice: str) -> Invoice | None:
        self._read("invoice", StripeUnavailable(None, "down"))
        self.pass_time()
        return self.invoices.get(invoice)

    def before(self, invoice: Invoice) -> Invoice | None:
        self._read("before", StripeUnavailable(None, "down"))
        earlier = [one for one in self.invoices.values() if one.created < invoice.created and not one.draft]
        return max(earlier, key=lambda one: one.created) if earlier else None

    def price(self, price: str) -> InvoicePrice:
        return PRICES[price]

    def hold(self, invoice: str, finalizes_at: int) -> None:
        self._write(f"hold {finalizes_at}")
        self.invoices[invoice] = self._draft(invoice)._replace(finalizes_at=finalizes_at)

    def finalize(self, invoice: str) -> None:
        self._write("finalize")
        self._finalized(self._draft(invoice))

    def pass_time(self) -> None:
        for invoice in list(self.invoices.values()):
            if invoice.draft and invoice.finalizes_at is not None and invoice.finalizes_at <= self.clock() // 1000:
                self._finalized(invoice)

    def _draft(self, invoice: str) -> Invoice:
        self.pass_time()
        found = self.invoices.get(invoice)
        if found is None or not found.draft:
            raise StripeRefused(400, "", "it is no draft")
        return found

    def _finalized(self, invoice: Invoice) -> None:
        billed: dict[str, Decimal] = {}
        for line in invoice.lines:
            for event in self.counted.values():
                mine = event.customer == invoice.customer and event.event_name == EVENT_NAMES.get(line.price or "")
                if mine and line.period_start <= event.timestamp < line.period_end:
                    billed[event.event_name] = billed.get(event.event_name, Decimal(0)) + event.value
        self.billed[invoice.id] = billed
        self.invoices[invoice.id] = invoice._replace(status="open", finalizes_at=None)

    def _read(self, what: str, trouble: Exception) -> None:
        self.reads.append(what)
        if self.down:
            raise trouble

    def _write(self, what: str) -> None:
        if self.down:
            raise StripeUnavailable(None, "down")
        self.writes.append(what)


class Markers:
    def __init__(self) -> None:
        self.left: list[Marker] = []

    def of_account(self, account: str) -> Iterator[Marker]:
        return iter([marker for marker in self.left if marker.account == account])


class Levels:
    def __init__(self) -> None:
        self.left: list[Carried] = []

    def carried(self, shard: int, until: int) -> Iterator[Carried]:
        return iter([one for one in self.left if one.start <= until])


class Events:
    def __init__(self) -> None:
        self.rows: list[Event] = []

    def newest(self, account: str, first_ms: int, last: str) -> Iterator[Event]:
        rows = [row for row in self.rows if row.at.account == account]
        return iter([row for row in rows if first_ms <= row.at.origin_ms and f"{row.at.origin_ms:012x}" < last])


class Tasks:
    def __init__(self) -> None:
        self.queued: list[CloseKey] = []

    def task(self, name: str, fields: Any) -> None:
        assert name == "close"
        self.queued.append(CloseKey(fields["customer"], fields["invoice"]))


class Seen:
    def seen(self, customer: str) -> bool:
        return True

    def put(self, customer: str, now: int) -> None:
        raise AssertionError("every customer is known here")


class Mapped:
    def holder(self, customer: str) -> str | None:
        return {"cus_1": "acme"}.get(customer)


def same(watched: Any) -> Any:
    return watched


class Closing:
    """Everything together; `now` is the time in epoch seconds. `around` wraps whatever the close calls."""

    def __init__(self, around: Callable[[Any], Any] = same) -> None:
        self.now = DECEMBER + 60
        self.closes, self.batches, self.outbox = MemoryCloses(), MemoryBatches(), MemoryOutbox()
        self.markers, self.levels, self.events, self.tasks = Markers(), Levels(), Events(), Tasks()
        self.stripe = FakeStripe(self.clock)
        self.rules = FakeRules()
        self.rules.add("acme", customer=CUSTOMER)
        self.settings = CloseSettings(60, DEADLINE_S, REVIEW_S)
        self.around = around
        self.flush_around: Callable[[Any], Any] = same

    def clock(self) -> int:
        return self.now * 1000

    def deps(self, **changes: Any) -> CloseDeps:
        stripe = self.around(self.stripe)
        made = CloseDeps(
            closes=self.around(self.closes),
            batches=self.around(self.batches),
            markers=self.around(self.markers),
            levels=self.around(self.levels),
            rules=self.rules,
            accounts=Mapped(),
            events=self.events,
            invoices=stripe,
            totals=stripe,
            outbox=self.around(self.outbox),
            clock=self.clock,
            settings=self.settings,
        )
        return replace(made, **changes)

    # -- what is there -------------------------------------------------------------------------------------------------

    def draft(
        self,
        subtotal: str = "10",
        start: int = NOVEMBER,
        end: int = DECEMBER,
        prices: Iterable[str] = ("credits",),
        invoice: str = INVOICE,
        status: str = "draft",
    ) -> Invoice:
        """The invoice of a period, as Stripe makes it a minute after the period's end."""
        lines = [InvoiceLine("il_base", Decimal(29), Decimal(1), "price_base", end, end + 30 * DAY, "si_0")]
        for one in prices:
            lines.append(
                InvoiceLine(f"il_{one}", Decimal(subtotal) - 29, None, f"price_{one}", start, end, f"si_{one}")
            )
        made = Invoice(invoice, CUSTOMER, "sub_1", status, "usd", end + 60, Decimal(subtotal), Decimal(subtotal),
                       tuple(lines))  # fmt: skip
        self.stripe.invoices[invoice] = made
        return made

    def batch(self, units: str, at: int = DECEMBER - 600, meter: str = "ai_credits", **changes: Any) -> Batch:
        """A sealed batch of the period that ends on 1 December."""
        name = METERS[meter].stripe_event_name
        assert name is not None
        made = Batch("acme", meter, NOVEMBER, DECEMBER, at, at + 300, 0, 0, name, Decimal(units), at, at + 360,
                     SEALED, at + 360, customer=CUSTOMER, due_at=at + 400)  # fmt: skip
        made = replace(made, **changes)
        assert self.batches.put_new(made) is None
        return made

    def flushed(self, units: str, **changes: Any) -> Batch:
        made = self.batch(units, **changes)
        assert self.flush(made.key) == FLUSHED
        return made

    # -- what happens --------------------------------------------------------------------------------------------------

    def flush(self, key: BatchKey) -> str:
        deps = FlushDeps(
            batches=self.flush_around(self.batches),
            sink=self.flush_around(self.stripe),
            customers=Seen(),
            closes=self.flush_around(self.closes),
            outbox=self.flush_around(self.outbox),
            clock=self.clock,
            stack="test",
            jitter=lambda seconds: seconds,
        )
        return flush(deps, key)

    def begin(self) -> str:
        return begin(self.deps(), INVOICE)

    def step(self) -> str:
        return step(self.deps(), KEY)

    def minute(self, *, flushing: bool = True) -> None:
        """The schedule once: seal asks for what is due and tells what is untold, the worker and flush do the rest."""
        self.stripe.pass_time()
        for batch in list(self.batches.rows.values()):
            if batch.untold:
                tell(self.outbox, self.batches, batch)
        if flushing:
            for key, batch in list(self.batches.rows.items()):
                if not batch.final:
                    self.flush(key)
        ask_for_due(CloseDueDeps(self.closes, self.tasks, self.clock), range(SHARDS))
        queued, self.tasks.queued = self.tasks.queued, []
        for close in queued:
            step(self.deps(), close)

    def run_until(self, end: int, *, flushing: bool = True) -> None:
        """Let time pass by minutes; those in which nothing comes due are left out."""
        while self.now < end:
            due = min((row.due_at for row in self.closes.rows.values() if row.due_at is not None), default=end)
            sending = flushing and any(not batch.final for batch in self.batches.rows.values())
            telling = any(batch.untold for batch in self.batches.rows.values())
            self.now = min(self.now + 60 if sending or telling else max(due, self.now + 60), end)
            self.minute(flushing=flushing)

    @property
    def row(self) -> Close:
        return self.closes.rows[KEY]

    @property
    def kinds(self) -> list[str]:
        return sorted(alert.kind for alert in self.outbox.alerts.values())

    def states(self) -> list[str]:
        return [batch.state for _, batch in sorted(self.batches.rows.items())]

    def check_loud(self) -> None:
        """Nothing is lost in silence: what Stripe has by flush's word is on the final invoice, the rest is told of."""
        assert not self.stripe.invoices[INVOICE].draft
        billed = sum(self.stripe.billed[INVOICE].values(), Decimal(0))
        assert billed == sum((one.units for one in self.batches.rows.values() if one.state == FLUSHED), Decimal(0))
        for one in self.batches.rows.values():
            assert one.final
            assert not one.untold
            assert one.state == FLUSHED or one.state in self.kinds
