"""The probes themselves, always against the double: they say `contradicted` where Stripe does otherwise, and the suite
says what it leaves out, leaves behind and is refused."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
import stripe
from rich.console import Console

from local.stripe_double import (
    app,
    checkout_sessions,
    customers,
    event_summaries,
    invoices,
    meter_events,
    meters,
    subscriptions,
    usage,
    webhook_endpoints,
)
from local.stripe_double.error_reports import ErrorReports, Failure
from local.stripe_double.errors import rate_limited
from local.stripe_double.event_summaries import _visible as visible
from local.stripe_double.idempotency import SavedAnswers
from local.stripe_double.invoices import _apply as applied
from local.stripe_double.meter_events import MeterEvent, MeterEvents
from local.stripe_double.periods import next_anchor
from local.stripe_double.state import Double
from local.stripe_double.testing import Account, account
from tests.sandbox import probes
from tests.sandbox.points import POINTS, NotProbed, Probe, Result, Seen
from tests.sandbox.probes import PROBES, carry_out, show
from tests.sandbox.side import KEY, DoubleTime, Side, WrongKey, double, sandbox_key, tidied
from tollgate.stripe_api.client import STRIPE_VERSION

ROOT = Path(__file__).parents[2]
DAY = 86_400
OPEN = {
    "identifier-scope",
    "identifier-later",
    "timestamp-ahead",
    "meter-archived",
    "customer-unknown",
    "customer-deleted",
    "report-request",
    "summary-freshness",
    "summary-edge",
    "pre-aggregated-customer",
    "pre-aggregated-order",
    "last-same-second",
    "tier-lines",
    "concurrency",
    "clock-timestamps",
    "finalizes-at",
}
"""What no documentation settles, as of 2026-11."""

Patch = pytest.MonkeyPatch
Turn = Callable[[Patch], object]
"""Makes the double do something otherwise for the length of a test."""


def late(code: str) -> Turn:
    return setting(late_checks=frozenset({code}))


def setting(**settings: Any) -> Turn:
    """Every double that is made from now on has these."""
    made = Double.__init__

    def init(self: Double, *arguments: Any, **given: Any) -> None:
        made(self, *arguments, **{**given, **settings})

    return lambda patch: patch.setattr(Double, "__init__", init)


def other(place: Any, name: str, value: Any) -> Turn:
    return lambda patch: patch.setattr(place, name, value)


def scope_is_the_meter(state: Double, identifier: str, event_name: str, payload: Any) -> bool:
    return any(e.identifier == identifier and e.event_name == event_name for e in state.meter_events.received)


def report_names_another(self: ErrorReports, failure: Failure, add: Any = ErrorReports.add) -> None:
    add(self, replace(failure, request_identifier="req_1"))


def end_is_in(state: Double, meter: meters.Meter, customer: str, start: int, end: int) -> list[MeterEvent]:
    return visible(state, meter, customer, start, end + 1)


def cancelled_counts(self: MeterEvents, *asked: Any, of: Any = MeterEvents.between) -> Any:
    return [replace(event, cancelled_ms=None) for event in of(self, *asked)]


def latest_timestamp_wins(events: list[MeterEvent], window: str | None) -> list[MeterEvent]:
    hours = {event.timestamp // 3_600: event for event in sorted(events, key=lambda event: event.timestamp)}
    return list(hours.values()) if window else events


def one_for_all_customers(self: MeterEvents, meter: str, customer: str, start: int, end: int) -> Any:
    """Of a pre-aggregated meter the last event of all: another customer's overwrites this one's."""
    events = [event for event in self.received if event.meter_id == meter and start <= event.timestamp < end]
    return [event for event in events[-1:] if event.customer == customer]


def first_of_a_second(formula: str, events: list[MeterEvent]) -> Decimal:
    latest = max(event.timestamp for event in events)
    return next(event.value for event in events if event.timestamp == latest) or Decimal(0)


def received_last(formula: str, events: list[MeterEvent]) -> Decimal:
    return max(events, key=lambda event: event.sequence).value or Decimal(0)


def rounds(formula: str, events: list[MeterEvent]) -> Decimal:
    return sum((event.value or Decimal(0) for event in events), Decimal(0)).quantize(Decimal("0.01"))


def never_negative(formula: str, events: list[MeterEvent]) -> Decimal:
    return sum((max(Decimal(0), event.value or Decimal(0)) for event in events), Decimal(0))


def deadline_is_ignored(state: Double, invoice: Any, params: Any) -> None:
    applied(state, invoice, {name: value for name, value in params.items() if name != "automatically_finalizes_at"})


def a_second_late(config: Any, now: int) -> int:
    return next_anchor(config, now) + 1


def renamed(self: meters.Meter, view: Any = meters.Meter.view) -> Any:
    return {**view(self), "display_name": "another"}


def fewer_events(endpoint: Any, view: Any = webhook_endpoints.view) -> Any:
    return {**view(endpoint), "enabled_events": ["invoice.paid"]}


TURNED: dict[str, Turn] = {
    "identifier-scope": other(meter_events, "taken", scope_is_the_meter),
    "identifier-later": other(meter_events, "UNIQUE_MS", 2 * DAY * 1_000),
    "timestamp-ahead": late("timestamp_in_future"),
    "meter-archived": late("archived_meter"),
    "customer-unknown": other(customers.Customers, "is_live", lambda self, customer: True),
    "customer-deleted": other(customers.Customers, "is_live", lambda self, customer: True),
    "report-request": other(ErrorReports, "add", report_names_another),
    "summary-freshness": setting(lag_seconds=1_000),
    "summary-edge": other(event_summaries, "_visible", end_is_in),
    "pre-aggregated-customer": other(MeterEvents, "between", one_for_all_customers),
    "pre-aggregated-order": other(event_summaries, "winners", latest_timestamp_wins),
    "last-same-second": other(event_summaries, "aggregate", first_of_a_second),
    "tier-lines": setting(tier_lines=True),
    "concurrency": other(app, "rate_limited", lambda reason: rate_limited("resource-specific")),
    "clock-timestamps": other(meter_events, "AHEAD_SECONDS", -5 * DAY),
    "finalizes-at": other(invoices, "_apply", deadline_is_ignored),
    "duplicate": other(meter_events, "taken", lambda *asked: False),
    "timestamp-old": other(meter_events, "OLDEST_SECONDS", 50 * DAY),
    "digits": other(meter_events, "MAX_DIGITS", 20),
    "no-meter": late("no_meter"),
    "decimals": other(event_summaries, "aggregate", rounds),
    "negative": other(event_summaries, "aggregate", never_negative),
    "cancel": other(MeterEvents, "between", cancelled_counts),
    "last": other(event_summaries, "aggregate", received_last),
    "lines": other(usage, "rounded", int),
    "subscription": other(subscriptions, "next_anchor", a_second_late),
    "catalogue": other(meters.Meter, "view", renamed),
    "unique": other(meters, "_refuse_second_active", lambda *asked: None),
    "customer-list": other(customers.Customers, "live", lambda self: []),
    "customer-search": setting(lag_seconds=2_000),
    "idempotency": other(SavedAnswers, "begin", lambda *asked: None),
    "events": other(customers, "emit", lambda *told: None),
    "checkout": other(checkout_sessions, "_expired", lambda *session: None),
    "destinations": other(webhook_endpoints, "view", fewer_events),
}
"""For each point the double turned around."""


@pytest.mark.parametrize("point", TURNED)
def test_a_stripe_that_does_otherwise_is_seen(point: str, monkeypatch: Patch) -> None:
    TURNED[point](monkeypatch)
    with double() as side:
        found = carry_out(side, [point])[point]
    assert found.verdict == "contradicted", found.seen


def test_the_dedupe_scope_is_told_in_words(monkeypatch: Patch) -> None:
    TURNED["identifier-scope"](monkeypatch)
    with double() as side:
        results = carry_out(side, ["identifier-scope"])
    assert results["identifier-scope"].seen == "unique in a meter, whatever the customer"
    table = shown(results)
    assert "contradicted" in table
    assert "If not: harmless: ours name customer and meter" in table


def test_every_point_has_a_probe_and_can_be_contradicted() -> None:
    points = [point.id for point in POINTS]
    assert len(set(points)) == len(points)
    assert set(PROBES) == set(TURNED) == set(points)
    assert {point.id for point in POINTS if point.open} == OPEN


def shown(results: dict[str, Result]) -> str:
    console = Console(file=io.StringIO(), width=300)
    show(results, "a Stripe", console)
    written = console.file
    assert isinstance(written, io.StringIO)
    return written.getvalue()


def test_the_table_has_every_point_once() -> None:
    table = shown({"digits": Result("confirmed", "[start, end) and [bold]")})
    for point in POINTS:
        assert sum(line.split()[1:2] == [point.id] for line in table.splitlines()) == 1, point.id
    assert "[start, end) and [bold]" in table
    assert f"1 confirmed, 0 contradicted, {len(POINTS) - 1} not probed" in table


def test_nothing_is_left_behind(capfd: pytest.CaptureFixture[str]) -> None:
    with double() as side:
        carry_out(side, [point.id for point in POINTS if point.id not in ("lines", "concurrency")])
        assert len(side.tidy) > 50
        with tidied(side):
            pass
        side.tidy.clear()
        left = {
            "customers": side.asked(lambda client: client.v1.customers.list({"limit": 100})).data,
            "meters": [found for found in side.catalog.meters() if found.active],
            "products": side.asked(lambda client: client.v1.products.list({"active": True, "limit": 100})).data,
            "prices": side.asked(lambda client: client.v1.prices.list({"active": True, "limit": 100})).data,
            "webhooks": side.asked(lambda client: client.v1.webhook_endpoints.list()).data,
        }
    assert {what: found for what, found in left.items() if found} == {}
    assert "left behind" not in capfd.readouterr().err


def test_what_will_not_go_is_named_and_the_rest_goes(capfd: pytest.CaptureFixture[str]) -> None:
    def stuck() -> None:
        raise OSError("no")

    gone: list[str] = []

    def interrupted() -> None:
        with double() as side:
            side.later("first", lambda: gone.append("first"))
            side.later("second", stuck)
            side.later("third", lambda: gone.append("third"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert gone == ["third", "first"]
    assert "left behind: second: no" in capfd.readouterr().err


def never(side: Side) -> Probe:
    came = yield lambda: False
    raise NotProbed("it did not come" if not came else "it came")


def broken(side: Side) -> Seen:
    raise ConnectionError("the line is dead")


def test_a_probe_that_gets_no_answer_is_not_probed(monkeypatch: Patch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(probes, "PROBES", {"digits": never, "negative": broken})
    told: list[str] = []
    with double() as side:
        found = carry_out(side, ["digits", "negative"], told.append)
    assert found["digits"] == Result("not probed", "it did not come")
    assert found["negative"] == Result("not probed", "broke: ConnectionError: the line is dead", broke=True)
    assert told[0] == "    0 s  points seen: 1, waiting for digits"
    assert "the line is dead" in capfd.readouterr().err


def test_an_interrupted_run_keeps_what_was_seen() -> None:
    def interrupted(line: str) -> None:
        raise KeyboardInterrupt

    results: dict[str, Result] = {}
    with double() as side, pytest.raises(KeyboardInterrupt):
        carry_out(side, ["digits", "negative"], interrupted, results)
    assert {point: found.verdict for point, found in results.items()} == {"digits": "confirmed"}


def test_a_day_is_not_waited_for_in_a_sandbox() -> None:
    with double() as side:
        side.real = True
        found = carry_out(side, ["identifier-later"])["identifier-later"]
    assert found == Result("not probed", "takes more than a day")


class Clocks(stripe.RequestsClient):
    """Stripe's test clocks in front of a double: a clock is the double's own time, and takes a moment to move."""

    def __init__(self, opened: Account) -> None:
        super().__init__()
        self.opened, self.looks, self.gone = opened, 0, False

    def request(self, method: str, url: str, headers: Any, post_data: Any = None, *, _usage: Any = None) -> Any:
        path, form = urlsplit(url).path, dict(parse_qsl(post_data or ""))
        if not path.startswith("/v1/test_helpers/test_clocks"):
            if (method, path) == ("post", "/v1/customers"):
                assert form.pop("test_clock") == "clock_1"
            return super().request(method, url, headers, urlencode(form) if post_data else post_data)
        if path.endswith("/advance"):
            self.opened.advance(int(form["frozen_time"]) - self.opened.now)
            self.looks = 0
        self.looks += method == "get"
        self.gone = method == "delete"
        status = "ready" if self.looks > 1 else "advancing"
        clock = {"id": "clock_1", "object": "test_helpers.test_clock", "status": status}
        return json.dumps(clock).encode(), 200, {}


@pytest.mark.parametrize("point", ["clock-timestamps", "finalizes-at"])
def test_a_sandboxs_test_clock_moves_its_customers(point: str) -> None:
    with account(lag_seconds=0) as opened:
        clocks = Clocks(opened)
        client = stripe.StripeClient(
            "sk_test_1", base_addresses={"api": opened.url}, http_client=clocks, stripe_version=STRIPE_VERSION
        )
        with tidied(Side(lambda: client, DoubleTime(opened), real=True)) as side:
            found = carry_out(side, [point])[point]
        assert (found.verdict, clocks.gone) == ("confirmed", True), found.seen


@pytest.mark.parametrize("key", ["sk_live_1", "rk_live_1", "pk_test_1", "sk_test_", "whsec_1"])
def test_other_keys_than_a_sandboxs_are_refused(key: str) -> None:
    with pytest.raises(WrongKey) as refused:
        sandbox_key({KEY: key})
    assert key not in str(refused.value).replace("sk_test_…", "").replace("rk_test_…", "")


def test_a_sandboxs_key_is_taken() -> None:
    assert [sandbox_key(found) for found in ({}, {KEY: ""}, {KEY: "sk_test_1"}, {KEY: "rk_test_1\n"})] == [
        None,
        None,
        "sk_test_1",
        "rk_test_1",
    ]


@pytest.mark.parametrize(("key", "says"), [("", f"Set {KEY}"), ("sk_live_secret", "nothing was called")])
def test_the_command_without_a_sandboxs_key_ends_at_once(key: str, says: str) -> None:
    environment = {**os.environ, KEY: key, "PYTHONPATH": os.pathsep.join(("layers/common", "functions", "cli", "."))}
    ended = subprocess.run(
        [sys.executable, "-m", "tests.sandbox"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 2
    assert says in ended.stderr
    assert "secret" not in ended.stderr.replace("secret or restricted", "")
    assert len(ended.stderr.splitlines()) == 1
