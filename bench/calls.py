"""Requests and units of each call of the gate, one after another on real items."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from bench.ledger import Tally
from bench.report import Check, Listing, Section
from bench.stage import Stage
from tollgate.ids import uuid7, uuid_text

RESERVATIONS = "/v1/reservations"
UNDER_WAY_MS = 150


MONEY = (
    "reserve: included units",
    "reserve: overage under a cap",
    "refusal by the cap on spend",
    "reserve: from credits",
    "reserve: a seat's own units",
)
MONEY_COMMITS = (
    "commit of fewer included units",
    "commit of less overage",
    "commit of fewer credits",
    "commit of fewer own units",
)
"""In steady state: the container has seen where the account stands in its price."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What each scenario asked of AWS, by its name in the table."""

    tallies: dict[str, Tally]
    answer_bytes: dict[str, int]

    def __getitem__(self, name: str) -> Tally:
        return self.tallies[name]


class Scenarios:
    """Runs the calls and keeps their tallies."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.found = Counted({}, {})
        self._keys = 0

    def key(self) -> str:
        """A client's idempotency key: a UUIDv7, made a moment before the call arrives."""
        self._keys += 1
        return uuid_text(uuid7(self.stage.clock.ms - UNDER_WAY_MS, self._keys.to_bytes(10, "big")))

    def run(self, name: str, path: str, body: Any, *, key: str | None = None, expect: int = 200) -> dict[str, Any]:
        """One counted call of the gate function."""
        answer, tally = self.stage.counted("gate", "POST", path, body, key=key, expect=expect)
        self.found.tallies[name] = tally
        self.found.answer_bytes[name] = len(json.dumps(answer, separators=(",", ":")))
        return answer

    def quiet(self, path: str, body: Any, *, key: str | None = None, expect: int = 201) -> dict[str, Any]:
        """A call that only prepares another."""
        return self.stage.call("gate", "POST", path, body, key=key, expect=expect)


def count(stage: Stage) -> Counted:
    """All scenarios. Every account is warmed first: rules, key and the window's marker are known."""
    run = Scenarios(stage)
    _account_limits(run)
    _refusals(run)
    _money(run)
    _thresholds(run)
    _own_seats(run)
    _member_limits(run)
    _usage(run)
    return run.found


def asked(account: str, quantity: int = 3, **more: Any) -> dict[str, Any]:
    """A reservation as apps send it."""
    return {
        "account": account,
        "meter": "ai_credits",
        "quantity": quantity,
        "dimensions": {"operation": "chat", "model": "large"},
        **more,
    }


def _warm(run: Scenarios, account: str, plan: str, **more: Any) -> None:
    run.stage.account(account, plan)
    run.quiet(RESERVATIONS, asked(account, 1, commit=True, **more), key=run.key())


def _account_limits(run: Scenarios) -> None:
    run.stage.account("ws_acme", "five")
    first = run.run(
        "reserve: first of account and container", RESERVATIONS, asked("ws_acme"), key=run.key(), expect=201
    )
    run.run("commit: first of container and window", f"{RESERVATIONS}/{first['id']}/commit", {})
    key = run.key()
    held = run.run("reserve", RESERVATIONS, asked("ws_acme"), key=key, expect=201)
    run.run("reserve: retry, same key", RESERVATIONS, asked("ws_acme"), key=key, expect=201)
    run.run("commit", f"{RESERVATIONS}/{held['id']}/commit", {"quantity": 2})
    run.run("commit: retry", f"{RESERVATIONS}/{held['id']}/commit", {"quantity": 2})
    held = run.quiet(RESERVATIONS, asked("ws_acme"), key=run.key())
    run.run("extend: expiry and total", f"{RESERVATIONS}/{held['id']}/extend", {"ttl_seconds": 600, "quantity": 5})
    run.run("commit of an extended one", f"{RESERVATIONS}/{held['id']}/commit", {"quantity": 4})
    held = run.quiet(RESERVATIONS, asked("ws_acme"), key=run.key())
    run.run("commit above the reserved amount", f"{RESERVATIONS}/{held['id']}/commit", {"quantity": 9})
    held = run.quiet(RESERVATIONS, asked("ws_acme"), key="order-4711")
    run.run("commit: key is no UUIDv7", f"{RESERVATIONS}/{held['id']}/commit", {})
    held = run.quiet(RESERVATIONS, asked("ws_acme"), key=run.key())
    run.run("release", f"{RESERVATIONS}/{held['id']}/release", {})
    run.run("reserve and commit in one call", RESERVATIONS, asked("ws_acme", commit=True), key=run.key(), expect=201)
    run.run("reserve without a key", RESERVATIONS, asked("ws_acme"), expect=201)


def _refusals(run: Scenarios) -> None:
    _warm(run, "ws_tiny", "tiny")
    answer = run.run("refusal at a cap", RESERVATIONS, asked("ws_tiny", 9), key=run.key())
    if answer["allowed"]:
        raise AssertionError("the refusal was granted")


def _money(run: Scenarios) -> None:
    """A cap on spend and credits are decided in the same write, wherever the account stands in its price."""
    _warm(run, "ws_money", "capped")
    held = run.run("reserve: included units", RESERVATIONS, asked("ws_money"), key=run.key(), expect=201)
    run.run("commit of fewer included units", f"{RESERVATIONS}/{held['id']}/commit", {"quantity": 2})
    run.run("reserve: across a tier's edge", RESERVATIONS, asked("ws_money", 150), key=run.key(), expect=201)
    held = run.run("reserve: overage under a cap", RESERVATIONS, asked("ws_money"), key=run.key(), expect=201)
    run.run("commit of less overage", f"{RESERVATIONS}/{held['id']}/commit", {"quantity": 2})
    refused = run.run("refusal by the cap on spend", RESERVATIONS, asked("ws_money", 9_000), key=run.key())
    if refused["allowed"]:
        raise AssertionError("the refusal was granted")
    credits = {"meter": "ai_credits", "units": "500"}
    run.stage.call("manage", "POST", "/v1/accounts/ws_money/credits", credits, key="credits", expect=201)
    run.quiet(RESERVATIONS, asked("ws_money"), key=run.key())
    held = run.run("reserve: from credits", RESERVATIONS, asked("ws_money"), key=run.key(), expect=201)
    run.run("commit of fewer credits", f"{RESERVATIONS}/{held['id']}/commit", {"quantity": 2})


def _thresholds(run: Scenarios) -> None:
    """A commit that passes a mark puts one message; those before and after it ask for nothing more."""
    _warm(run, "ws_told", "capped")
    for name, units in (
        ("commit below a mark", 40),
        ("commit that passes a mark", 20),
        ("commit above a mark", 10),
    ):
        held = run.quiet(RESERVATIONS, asked("ws_told", units), key=run.key())
        run.run(name, f"{RESERVATIONS}/{held['id']}/commit", {})


def _own_seats(run: Scenarios) -> None:
    """A member's own units are burned in the same write, once its first request has brought them."""
    _warm(run, "ws_crew", "own", member="user_1")
    run.run(
        "reserve: a member's first of a period",
        RESERVATIONS,
        asked("ws_crew", member="user_2"),
        key=run.key(),
        expect=201,
    )
    held = run.run(
        "reserve: a seat's own units", RESERVATIONS, asked("ws_crew", member="user_1"), key=run.key(), expect=201
    )
    run.run("commit of fewer own units", f"{RESERVATIONS}/{held['id']}/commit", {"quantity": 2})


def _member_limits(run: Scenarios) -> None:
    _warm(run, "ws_seats", "seats", member="user_1")
    held = run.run("reserve: member limit", RESERVATIONS, asked("ws_seats", member="user_1"), key=run.key(), expect=201)
    run.run("commit: member limit", f"{RESERVATIONS}/{held['id']}/commit", {})
    run.run("refusal by the member's limit", RESERVATIONS, asked("ws_seats", 2_000_000, member="user_1"), key=run.key())


def usage_events(run: Scenarios, account: str, many: int, *, plain_ids: bool = False) -> list[dict[str, Any]]:
    """A usage batch of one account."""
    return [
        {
            "id": f"order-{index}" if plain_ids else run.key(),
            "account": account,
            "meter": "ai_credits",
            "quantity": index % 7 + 1,
            "dimensions": {"operation": "chat", "model": "large"},
        }
        for index in range(many)
    ]


def _usage(run: Scenarios) -> None:
    _warm(run, "ws_usage", "five")
    run.run("usage: 1 event", "/v1/usage", {"events": usage_events(run, "ws_usage", 1)})
    run.run("usage: 100 events of one account", "/v1/usage", {"events": usage_events(run, "ws_usage", 100)})
    plain = usage_events(run, "ws_usage", 100, plain_ids=True)
    run.run("usage: 100 events, ids no UUIDv7", "/v1/usage", {"events": plain})


@dataclass(frozen=True, slots=True)
class Minutes:
    """What a container asks beside the calls' own writes while an account is busy for some minutes."""

    minutes: int
    calls: int
    rules: int
    keys: int
    markers: int
    extra: int
    """Further requests: windows that were rolled over."""


def steady(stage: Stage, minutes: int = 10, every_s: int = 5) -> Minutes:
    """An account that reserves every few seconds for ten minutes, and commits."""
    run = Scenarios(stage)
    _warm(run, "ws_steady", "five")
    calls = 0
    with stage.ledger.counting() as tally:
        for _ in range(minutes * 60 // every_s):
            held = run.quiet(RESERVATIONS, asked("ws_steady"), key=run.key())
            stage.call("gate", "POST", f"{RESERVATIONS}/{held['id']}/commit", {})
            stage.clock.advance(every_s * 1000)
            calls += 1
    rules, keys, markers = tally.to("accounts"), tally.to("config"), tally.to("billing")
    return Minutes(minutes, calls, rules, keys, markers, tally.requests - rules - keys - markers - 3 * calls)


def logged_by_a_pair(stage: Stage) -> int:
    """Bytes that a reserve and its commit log."""
    run = Scenarios(stage)
    _warm(run, "ws_logs", "five")
    before = len(stage.logs.lines)
    held = run.quiet(RESERVATIONS, asked("ws_logs"), key=run.key())
    stage.call("gate", "POST", f"{RESERVATIONS}/{held['id']}/commit", {})
    return sum(len(line.encode()) + 26 for line in stage.logs.lines[before:])


def section(stage: Stage) -> tuple[Section, Counted, Minutes]:
    """The table, held against the budgets of design section 10."""
    found, minutes = count(stage), steady(stage)
    rows = [
        (name, tally.requests, tally.write, tally.read, max((c.bytes for c in tally.calls), default=0), tally.named())
        for name, tally in found.tallies.items()
    ]
    listing = Listing(("call", "requests", "write units", "read units", "largest item", "in order"), rows)
    return (
        Section(
            "DynamoDB requests and units per call",
            [listing, _steady_listing(minutes)],
            _checks(found, minutes),
            [
                "Counted on the real functions over moto; units from exact item sizes (bench/sizing.py).",
                "Steady state: key, rules and the seal window's marker are known to the container. A marker is one "
                "write per container, seal window and id range: see the first calls.",
            ],
        ),
        found,
        minutes,
    )


def _steady_listing(minutes: Minutes) -> Listing:
    return Listing(
        ("ten minutes of one account on one container", "requests", "a minute"),
        [
            ("reserve + commit", minutes.calls, _each(minutes.calls, minutes)),
            ("rules reads", minutes.rules, _each(minutes.rules, minutes)),
            ("key reads", minutes.keys, _each(minutes.keys, minutes)),
            ("markers (seal windows of 5 min)", minutes.markers, _each(minutes.markers, minutes)),
            ("again, because a window was rolled over", minutes.extra, _each(minutes.extra, minutes)),
        ],
    )


def _each(requests: int, minutes: Minutes) -> Decimal:
    return Decimal(requests) / minutes.minutes


def _checks(found: Counted, minutes: Minutes) -> list[Check]:
    reserve, member = found["reserve"], found["reserve: member limit"]
    commit, plain = found["commit"], found["commit: key is no UUIDv7"]
    batch = found["usage: 100 events of one account"]

    def requests(name: str, most: int) -> Check:
        return Check(name, found[name].requests, most, "requests")

    def units(name: str, most: int) -> Check:
        return Check(name, found[name].write, most, "write units")

    return [
        requests("reserve", 1),
        units("reserve", 1),
        Check("reserve", reserve.read, 0, "read units"),
        requests("refusal at a cap", 1),
        units("refusal at a cap", 1),
        requests("reserve: retry, same key", 1),
        *(check for name in MONEY for check in (requests(name, 1), units(name, 1))),
        *(check for name in MONEY_COMMITS for check in (requests(name, 2), units(name, 2))),
        requests("reserve: across a tier's edge", 2),
        requests("reserve: member limit", 2),
        Check("reserve: member limit, beyond an account's", member.write - reserve.write, 1, "write units"),
        requests("commit", 2),
        units("commit", 2),
        Check("commit: key is no UUIDv7, beyond a UUIDv7's", plain.requests - commit.requests, 1, "requests"),
        Check(
            "commit: member limit, beyond an account's",
            found["commit: member limit"].requests - commit.requests,
            1,
            "requests",
        ),
        requests("commit below a mark", 2),
        requests("commit that passes a mark", 3),
        requests("commit above a mark", 2),
        requests("reserve and commit in one call", 3),
        units("reserve and commit in one call", 3),
        Check("usage: 100 events of one account, beside their rows", batch.requests - 100, 2, "requests"),
        Check("rules reads of a busy account", _each(minutes.rules, minutes), 1, "a minute"),
    ]
