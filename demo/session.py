"""One demo from start to end: accounts and customers, the replay, the wait, the check."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from demo.answers import Answer
from demo.api import Stack, StackLost
from demo.expect import Difference, Expected, Reading, compare, due_in_stripe, expect
from demo.replay import Run, replay
from demo.report import Played, Stripes, table, verdict
from demo.settle import Pair, Watch, settle
from demo.stripe_api import Stripe, summary_range
from demo.trace import Request, plans_of

_READ_TOGETHER = 4
# A deployed stack seals after 300 s and a grace, and Stripe itself takes its time; a local one needs seconds.
_PATIENCE = 900
_LOCAL_PATIENCE = 60

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Options:
    """What a demo plays, and against what."""

    trace: Sequence[Request]
    reading: Reading
    base_url: str
    key: str
    stripe_url: str
    stripe_key: str
    threads: int = 4
    speed: Decimal | None = None
    patience_seconds: int | None = None
    """None: what suits a local or a deployed stack."""


@dataclass(frozen=True, slots=True)
class Session:
    """A replayed trace and what is needed to check it. Accounts are named as in the trace; `prefix` makes them the
    stack's.
    """

    options: Options
    prefix: str
    plans: Mapping[str, str | None]
    customers: Mapping[str, str]
    meters: Mapping[str, str]
    answers: Sequence[Answer]
    local: bool
    started: int
    """Epoch seconds of the stack's clock."""
    offset_seconds: int
    seconds: float
    calls_before: Counter[str] | None
    """Stripe calls before this run; None where Stripe is not the double."""


@dataclass(frozen=True, slots=True)
class Checked:
    """Stripe's totals beside those expected."""

    expected: Expected
    due: Mapping[Pair, Decimal]
    found: Mapping[Pair, Decimal]
    differences: Sequence[Difference]


def play(options: Options, console: Console) -> Session:
    """Create the accounts and replay the trace. Raises NoStack, StackLost."""
    stack, stripe = Stack(options.base_url, options.key), Stripe(options.stripe_url, options.stripe_key)
    try:
        stack.check()
        double = stripe.double_lag_seconds() is not None
        meters = stripe.meters()
        missing = sorted(set(options.reading.event_names.values()) - set(meters))
        if missing:
            raise StackLost(
                f"Stripe has no active meter for the event names {', '.join(missing)}; start the stack with the "
                "catalogue that --catalog names."
            )
        offset = stack.clock_offset_seconds()
        started = int(time.time()) + (offset or 0)
        calls = stripe.meter_event_calls() if double else None
        prefix = f"demo-{secrets.token_hex(4)}-"
        plans = plans_of(options.trace)
        with _progress(console) as progress:
            customers = _create_accounts(options, stripe, prefix, plans, progress)
            task = progress.add_task("replaying the trace", total=len(options.trace))
            run = Run(
                prefix=prefix,
                open_stack=lambda: Stack(options.base_url, options.key),
                progress=lambda _: progress.advance(task),
                threads=options.threads,
                speed=options.speed,
                clock_offset_seconds=offset or 0,
            )
            begun = time.monotonic()
            answers = replay(options.trace, run)
            seconds = time.monotonic() - begun
    finally:
        stack.close()
        stripe.close()
    return Session(
        options, prefix, plans, customers, meters, answers, offset is not None, started, offset or 0, seconds, calls
    )


def _create_accounts(
    options: Options, stripe: Stripe, prefix: str, plans: Mapping[str, str | None], progress: Progress
) -> dict[str, str]:
    """Every account with its plan, and a Stripe customer for each that pays; the customers by account."""
    task = progress.add_task("creating accounts", total=len(plans))
    stack = Stack(options.base_url, options.key)

    def create(account: str) -> str | None:
        name, plan = prefix + account, plans[account]
        customer = stripe.create_customer(f"Demo {account}", name) if options.reading.pays(plan) else None
        body = {"plan": options.reading.plan(plan), **({} if customer is None else {"stripe_customer_id": customer})}
        reply = stack.call("PUT", f"/v1/accounts/{name}", body)
        if not reply.ok:
            raise StackLost(f"Account {account} on plan {body['plan']} is refused: {reply.detail}")
        progress.advance(task)
        return customer

    try:
        made = _together(create, list(plans), options.threads)
    finally:
        stack.close()
    return {account: customer for account, customer in zip(plans, made, strict=True) if customer is not None}


def _together(act: Callable[[str], T], names: Sequence[str], threads: int) -> list[T]:
    with ThreadPoolExecutor(threads) as pool:
        try:
            return list(pool.map(act, names))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def check(session: Session, console: Console) -> Checked:
    """Wait for Stripe's summaries and compare. Raises StackLost."""
    options = session.options
    expected = expect(options.reading, session.plans, session.answers)
    due = due_in_stripe(options.reading, session.plans, expected.billable)
    stack, stripe = Stack(options.base_url, options.key), Stripe(options.stripe_url, options.stripe_key)
    try:
        with _progress(console) as progress:
            task = progress.add_task("waiting for the seal window and Stripe's summaries", total=len(due))
            watch = Watch(
                read=lambda pairs: _totals(session, stripe, pairs),
                busy=lambda: session.local and _busy(stack),
                agreed=lambda agreed, _: progress.update(task, completed=agreed),
                patience_seconds=options.patience_seconds or (_LOCAL_PATIENCE if session.local else _PATIENCE),
                lag_seconds=stripe.double_lag_seconds() or 0,
            )
            found = settle(due, watch)
    finally:
        stack.close()
        stripe.close()
    return Checked(expected, due, found, compare(due, found))


def _busy(stack: Stack) -> bool:
    sealing = stack.seal_now()
    return any(count for name, count in stack.queued().items() if "DeadLetter" not in name) or sealing


def _totals(session: Session, stripe: Stripe, pairs: Iterable[Pair]) -> dict[Pair, Decimal]:
    start, end = summary_range(session.started, int(time.time()) + session.offset_seconds)
    listed = list(pairs)

    def total(pair: Pair) -> Decimal:
        account, event_name = pair
        return stripe.total(session.meters[event_name], session.customers[account], start, end)

    with ThreadPoolExecutor(_READ_TOGETHER) as pool:
        return dict(zip(listed, pool.map(total, listed), strict=True))


def finish(session: Session, checked: Checked, console: Console) -> bool:
    """Print the table and the verdict. Whether the check passed. Raises StackLost."""
    options = session.options
    units: dict[str, Decimal] = {}
    for (_, event_name), total in checked.found.items():
        units[event_name] = units.get(event_name, Decimal(0)) + total
    sent, calls = None, None
    if session.calls_before is not None:
        stripe = Stripe(options.stripe_url, options.stripe_key)
        try:
            sent = stripe.sent(set(session.customers.values()))
            calls = stripe.meter_event_calls() - session.calls_before
        finally:
            stripe.close()
    stripes = Stripes(len(checked.due), units, sent, calls)
    played = Played(session.answers, len(session.plans), len(session.customers), session.seconds)
    console.print(table(played, checked.expected, stripes))
    passed = verdict(console, checked.expected, checked.differences, stripes, len(session.customers))
    if not passed and session.local:
        _explain(session, console)
    return passed


def _explain(session: Session, console: Console) -> None:
    """What the stack itself says about units that are not in Stripe. Raises StackLost."""
    stack = Stack(session.options.base_url, session.options.key)
    try:
        for alert in stack.alerts():
            if str(alert.get("account", "")).startswith(session.prefix):
                console.print(Text(f"  alert {alert['kind']}, {alert['account']}: {alert['text']}", "yellow"))
        for name, count in stack.queued().items():
            if count:
                console.print(Text(f"  queue {name}: {count} messages left", "yellow"))
    finally:
        stack.close()


def busiest(session: Session) -> str:
    """The stack's name of the account with most calls, a paying one where there is one."""
    counts = Counter(answer.request.account for answer in session.answers)
    account = max(counts, key=lambda name: (name in session.customers, counts[name]))
    return session.prefix + account


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )
