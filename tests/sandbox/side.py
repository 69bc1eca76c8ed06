"""What the probes run against: the local Stripe double, or a real Stripe sandbox.

Everything that is made carries the run's id in its name or metadata, and is put away at the end. Calls go one after
the other, at most ten a second: a sandbox allows 25 [docs: rate limits].
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, Protocol, TypeVar
from uuid import uuid4

import stripe

from local.stripe_double.testing import NOON, Account, account
from tollgate.billing.sink import Accepted, Duplicate, NotSent, Refused, SendResult, SinkEvent, Unknown
from tollgate.billing.stripe_sink import StripeSink
from tollgate.errors import StripeRefused
from tollgate.stripe_api.catalog import StripeCatalog
from tollgate.stripe_api.client import client as stripe_client
from tollgate.stripe_api.key import mode_of
from tollgate.stripe_api.reading import Connection
from tollgate.stripe_api.totals import StripeTotals
from tollgate.sync.objects import STACK, Meter, Price, Product, Terms

T = TypeVar("T")
Probing = Callable[[], bool]

KEY: Final = "STRIPE_TEST_KEY"
_PACE_S: Final = 0.1
_SENDS: Final = 5
DOUBLE_LAG_S: Final = 90


class WrongKey(Exception):
    """A key that is not of a sandbox; the message tells what is wanted and never the key."""


class Time(Protocol):
    def now(self) -> int:
        """Epoch seconds."""

    def pass_by(self, seconds: int) -> None: ...


class RealTime:
    def now(self) -> int:
        return int(time.time())

    def pass_by(self, seconds: int) -> None:
        time.sleep(seconds)


@dataclass(frozen=True, slots=True)
class DoubleTime:
    double: Account

    def now(self) -> int:
        return self.double.now

    def pass_by(self, seconds: int) -> None:
        self.double.advance(seconds)


@dataclass(frozen=True, slots=True)
class MeterAt:
    id: str
    event_name: str


@dataclass
class Side:
    """A Stripe. `real`: a sandbox. `clock`: the test clock that its customers are bound to."""

    connect: Callable[[], stripe.StripeClient]
    time: Time
    real: bool
    run: str = field(default_factory=lambda: uuid4().hex[:12])
    clock: str | None = None
    tidy: list[tuple[str, Callable[[], object]]] = field(default_factory=list)
    _numbers: list[int] = field(default_factory=lambda: [0])
    _last: float = 0.0
    _archived: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.stripe = Connection(self.connect, before=self._pace)
        self.sink = StripeSink(self.connect)
        self.catalog = StripeCatalog(self.stripe, self.run)
        self.totals = StripeTotals(self.stripe, lambda reads: None)

    def now(self) -> int:
        return self.time.now()

    @property
    def stack(self) -> str:
        """The stack that this run's objects belong to."""
        return f"tollgate-probe-{self.run}"

    def name(self, what: str) -> str:
        """A name that no other run and nothing else in this run has."""
        self._numbers[0] += 1
        return f"tollgate_probe_{self.run}_{what}_{self._numbers[0]}"

    def asked(self, request: Callable[[stripe.StripeClient], T]) -> T:
        """A call that may be repeated. Raises StripeRefused, StripeUnavailable."""
        return self.stripe.patiently(request)

    def later(self, what: str, undo: Callable[[], object]) -> None:
        """To be put away at the end, the newest first."""
        self.tidy.append((what, undo))

    def meter(self, what: str, formula: str = "sum", window: str | None = None) -> MeterAt:
        name = self.name(what)
        if window is None:
            made = self.catalog.create_meter(Meter(name, name, formula))
        else:  # the product never makes one
            params: Any = {
                "display_name": name,
                "event_name": name,
                "default_aggregation": {"formula": formula},
                "event_time_window": window,
            }
            made = self.asked(lambda client: client.v1.billing.meters.create(params, {"idempotency_key": name})).id
        self.later(f"meter {made}", lambda: self.archive(made))
        return MeterAt(made, name)

    def archive(self, meter: str) -> None:
        if meter not in self._archived:
            self.asked(lambda client: client.v1.billing.meters.deactivate(meter))
            self._archived.add(meter)

    def customer(self) -> str:
        name = self.name("customer")
        params: Any = {"name": name, "metadata": {STACK: self.stack}}
        if self.clock is not None:
            params["test_clock"] = self.clock
        made = self.asked(lambda client: client.v1.customers.create(params, {"idempotency_key": name})).id
        self.later(f"customer {made}", lambda: self.asked(lambda client: client.v1.customers.delete(made)))
        return made

    def price(self, meter: MeterAt | None, interval: str | None = "month", **terms: Any) -> str:
        """A price of a product of its own, in dollars; with a meter a metered one, without interval paid once."""
        product, key = self.name("product"), self.name("price")
        self.catalog.create_product(Product(product, product, {}))
        self.later(f"product {product}", lambda: self.archive_product(product))
        wanted = Price(key, key, {}, Terms(product, "usd", interval, **terms))
        made = self.catalog.create_price(wanted, meter.id if meter else None, takes_key=False)
        self.later(f"price {made}", lambda: self.catalog.archive_price(made))
        return made

    def archive_product(self, product: str) -> object:
        return self.asked(lambda client: client.v1.products.update(product, {"active": False}))

    def subscribe(self, customer: str, price: str) -> stripe.Subscription:
        """It ends with its customer."""
        params: Any = {"customer": customer, "items": [{"price": price}]}
        key = self.name("subscription")
        return self.asked(lambda client: client.v1.subscriptions.create(params, {"idempotency_key": key}))

    def event(self, meter: MeterAt, customer: str, value: str, timestamp: int, identifier: str = "") -> SinkEvent:
        identifier = identifier or self.name("event")
        return SinkEvent(
            identifier, f"{identifier}:{uuid4().hex[:8]}", customer, meter.event_name, Decimal(value), timestamp
        )

    def arrived(self) -> bool:
        """Whether a clock of its own is where it was told to go."""
        return not isinstance(self.time, FrozenTime) or self.time.arrived()

    def send(self, meter: MeterAt, customer: str, value: str, timestamp: int, identifier: str = "") -> SendResult:
        """One event, by the product's sink; one that is refused for now is sent again. Raises ConnectionError where
        Stripe does not say what became of it."""
        for tried in range(_SENDS):
            self._pace()
            result = self.sink.send(self.event(meter, customer, value, timestamp, identifier))
            if not isinstance(result, Refused) or result.status not in (409, 429):
                break
            time.sleep(tried)
        if isinstance(result, NotSent | Unknown) or (isinstance(result, Refused) and result.retryable):
            raise ConnectionError(said(result))
        return result

    def count(self, meter: MeterAt, customer: str, value: str, timestamp: int) -> None:
        """One event that has to be taken. Raises AssertionError."""
        result = self.send(meter, customer, value, timestamp)
        assert result == Accepted(), said(result)

    def total(self, meter: MeterAt, customer: str, start: int, end: int) -> Decimal:
        return self.totals.total(customer, meter.event_name, start, end)

    def minute(self) -> int:
        """A whole minute, 20 minutes ago."""
        return self.now() // 60 * 60 - 1_200

    def on_clock(self) -> Side:
        """The same Stripe with a clock of its own, for customers that this side makes. The double has one clock for
        everything: this is another double."""
        if not self.real:
            opened = ExitStack()
            double = opened.enter_context(account())
            self.later("double", opened.close)
            return Side(lambda: double.client, DoubleTime(double), False, tidy=self.tidy, _numbers=self._numbers)
        begun, name = self.now(), self.name("clock")
        made = self.asked(
            lambda client: client.v1.test_helpers.test_clocks.create({"frozen_time": begun, "name": name})
        ).id
        self.later(
            f"test clock {made}", lambda: self.asked(lambda client: client.v1.test_helpers.test_clocks.delete(made))
        )
        return Side(self.connect, FrozenTime(self, made, begun), True, self.run, made, self.tidy, self._numbers)

    def _pace(self) -> None:
        if self.real:
            time.sleep(max(0.0, self._last + _PACE_S - time.monotonic()))
            self._last = time.monotonic()


@dataclass
class FrozenTime:
    """A test clock at Stripe: moves when told, in its own good time."""

    side: Side
    id: str
    frozen: int

    def now(self) -> int:
        return self.frozen

    def pass_by(self, seconds: int) -> None:
        to = self.frozen = self.frozen + seconds
        self.side.asked(lambda client: client.v1.test_helpers.test_clocks.advance(self.id, {"frozen_time": to}))

    def arrived(self) -> bool:
        found = self.side.asked(lambda client: client.v1.test_helpers.test_clocks.retrieve(self.id))
        assert found.status != "internal_failure", "Stripe failed to advance a test clock"
        return found.status == "ready"


def said(result: SendResult) -> str:
    match result:
        case Accepted():
            return "taken"
        case Duplicate():
            return "refused as a duplicate"
        case Refused():
            return f"refused at once, {result.status} {result.code} ({result.message})"
    return f"no answer ({result.detail})"


def sandbox_key(environment: Mapping[str, str]) -> str | None:
    """The key of a sandbox, None where none is given. Raises WrongKey for any other, before anything is called."""
    key = environment.get(KEY, "").strip()
    if not key:
        return None
    if mode_of(key) != "test":
        raise WrongKey(
            f"{KEY} is not a sandbox's secret or restricted key (sk_test_… or rk_test_…); nothing was called."
        )
    return key


@contextmanager
def tidied(side: Side) -> Iterator[Side]:
    """Puts everything away at the end, whatever happens; what would not go is said."""
    try:
        yield side
    finally:
        for what, undo in reversed(side.tidy):
            try:
                undo()
            except StripeRefused as refused:
                if not refused.missing:  # deleted by its probe, or along with its test clock
                    print(f"left behind: {what}: {refused}", file=sys.stderr)
            except Exception as trouble:  # noqa: BLE001 - the rest has to be put away all the same
                print(f"left behind: {what}: {trouble}", file=sys.stderr)


@contextmanager
def double(lag_seconds: int = DOUBLE_LAG_S) -> Iterator[Side]:
    """The local double, whose time passes when a probe waits."""
    with (
        account(NOON, lag_seconds=lag_seconds, latency_seconds=0.05) as opened,
        tidied(Side(lambda: opened.client, DoubleTime(opened), False)) as side,
    ):
        yield side


@contextmanager
def sandbox(key: str) -> Iterator[Side]:
    with tidied(Side(lambda: stripe_client(key), RealTime(), True)) as side:
        yield side
