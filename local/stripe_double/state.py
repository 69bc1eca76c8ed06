"""Everything the double knows, in memory, behind one lock."""

from __future__ import annotations

import threading
from collections.abc import Hashable

from local.stripe_double.charges import Charges
from local.stripe_double.checkout_sessions import Session
from local.stripe_double.clock import SECOND_MS, Clock, DoubleClock, system_clock
from local.stripe_double.credit_notes import CreditNotes
from local.stripe_double.customers import Customers
from local.stripe_double.deliveries import Deliveries
from local.stripe_double.endpoints import Endpoints
from local.stripe_double.error_reports import ErrorReports
from local.stripe_double.faults import Faults
from local.stripe_double.idempotency import SavedAnswers
from local.stripe_double.invoice_objects import Invoices
from local.stripe_double.meter_events import LATE_CHECKS, MeterEvents
from local.stripe_double.meters import Meters
from local.stripe_double.payments import Payments
from local.stripe_double.prices import Prices
from local.stripe_double.products import Products
from local.stripe_double.request_log import RequestLog
from local.stripe_double.schedule import Schedule
from local.stripe_double.subscription_objects import Subscriptions
from local.stripe_double.wire import JsonObject


class Double:
    """The state of one pretended Stripe account. Hold `lock` to read or change it from a thread of your own.

    `lag_seconds`: how long after receipt an event shows in summaries. `latency_seconds`: real time that a meter event
    call takes, which is what lets two calls overlap. `late_checks`: report codes that are told later in place of a
    400 (see `meter_events`). `tier_lines`: an invoice has a line for each tier (see `usage`).
    """

    def __init__(
        self,
        clock: Clock = system_clock,
        *,
        lag_seconds: int = 0,
        latency_seconds: float = 0.005,
        late_checks: frozenset[str] = frozenset(),
        tier_lines: bool = False,
    ) -> None:
        self.lock = threading.RLock()
        self.clock = DoubleClock(clock)
        self.endpoints = Endpoints()
        self.configure(
            lag_seconds=lag_seconds, latency_seconds=latency_seconds, late_checks=late_checks, tier_lines=tier_lines
        )
        self.reset()

    def configure(
        self,
        *,
        lag_seconds: int | None = None,
        latency_seconds: float | None = None,
        late_checks: frozenset[str] | None = None,
        tier_lines: bool | None = None,
    ) -> None:
        """Change settings; None leaves one as it is. Raises ValueError for a value that makes no sense."""
        if lag_seconds is not None and lag_seconds < 0:
            raise ValueError("lag_seconds must be at least 0")
        if latency_seconds is not None and not 0 <= latency_seconds <= 60:
            raise ValueError("latency_seconds must lie in 0..60")
        if late_checks is not None and late_checks - LATE_CHECKS:
            raise ValueError(f"late_checks may hold {', '.join(sorted(LATE_CHECKS))}")
        if lag_seconds is not None:
            self.lag_ms = lag_seconds * SECOND_MS
        if latency_seconds is not None:
            self.latency_seconds = latency_seconds
        if late_checks is not None:
            self.late_checks = late_checks
        if tier_lines is not None:
            self.tier_lines = tier_lines

    def reset(self) -> None:
        """Forget everything but the clock, whose time never goes back, the settings and standing endpoints."""
        with self.lock:
            self.customers = Customers()
            self.meters = Meters()
            self.meter_events = MeterEvents()
            self.products = Products()
            self.prices = Prices()
            self.subscriptions = Subscriptions()
            self.invoices = Invoices()
            self.credit_notes = CreditNotes()
            self.payments = Payments()
            self.balances: dict[str, int] = {}
            self.schedule = Schedule()
            self.error_reports = ErrorReports()
            self.events: list[JsonObject] = []
            self.endpoints = Endpoints(self.endpoints.standing())
            self.deliveries = Deliveries()
            self.checkout_sessions: dict[str, Session] = {}
            self.charges = Charges()
            self.saved_answers = SavedAnswers()
            self.faults = Faults()
            self.requests = RequestLog()
            self.in_work: set[Hashable] = set()
