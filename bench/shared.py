"""Requests and units of calls on plans with limits that accounts share, beside those without."""

from __future__ import annotations

from typing import Any

from bench.calls import RESERVATIONS, Counted, Scenarios, usage_events
from bench.calls import asked as asked_of
from bench.report import Check, Listing, Section
from bench.stage import Stage
from tollgate.gate.shares import FRESH_MS, PLAN_SHARDS

IP = {"operation": "chat", "model": "large", "ip": "192.0.2.1"}


def section(stage: Stage, plain: Counted) -> Section:
    """The table. `plain`: what the same calls cost without such limits."""
    found = count(stage)
    rows = [(name, tally.requests, tally.write, tally.read, tally.named()) for name, tally in found.tallies.items()]

    def beyond(name: str, without: str, most: int, unit: str) -> Check:
        here, there = found[name], plain[without]
        more = here.requests - there.requests if unit == "requests" else here.write - there.write
        return Check(f"{name}, beyond the same without a shared limit", more, most, unit)

    refused = found["refusal at the shared limit"]
    checks = [
        beyond("reserve: shared limit", "reserve", 1, "requests"),
        beyond("reserve: shared limit", "reserve", 1, "write units"),
        beyond("commit: shared limit", "commit", 0, "requests"),
        beyond("commit of less: shared limit", "commit", 1, "requests"),
        beyond("release: shared limit", "release", 1, "requests"),
        beyond("reserve: shared limit, retry", "reserve: retry, same key", 2, "requests"),
        beyond("refusal by the own limit: shared limit", "refusal at a cap", 2, "requests"),
        beyond("usage of 100 events: shared limit", "usage: 100 events of one account", 1, "requests"),
        beyond("reserve: shared limit of a dimension", "reserve", 1, "requests"),
        Check("refusal at the shared limit, seen for the first time", refused.requests, 2, "requests"),
        Check("refusal at the shared limit, seen for the first time", refused.read, PLAN_SHARDS + 1, "read units"),
        Check("refusal at the shared limit, within a second", found["the next refusal"].requests, 1, "requests"),
    ]
    return Section(
        "Limits that accounts share",
        [Listing(("call", "requests", "write units", "read units", "in order"), rows)],
        checks,
        [
            "A reservation is counted by one write more for each shared limit; what was not used is given back by one "
            "more. Plans without such limits pay nothing (the table above).",
            f"A refusal reads all shards once, and the account's gate, which knows whether these are the newest rules. "
            f"For {FRESH_MS} ms the container then refuses without reading the shards again.",
        ],
    )


def count(stage: Stage) -> Counted:
    """All scenarios; every account is warmed first."""
    run = Scenarios(stage)
    for account, plan in (("ws_shared", "shared"), ("ws_full", "full"), ("ws_own", "refusing"), ("ws_ip", "address")):
        stage.account(account, plan)
    _granted(run)
    _refused(run)
    return run.found


def _warm(run: Scenarios, account: str, quantity: int, **more: Any) -> None:
    run.quiet(RESERVATIONS, asked_of(account, quantity, commit=True, **more), key=run.key())


def _granted(run: Scenarios) -> None:
    _warm(run, "ws_shared", 1)
    key = run.key()
    held = run.run("reserve: shared limit", RESERVATIONS, asked_of("ws_shared"), key=key, expect=201)
    run.run("reserve: shared limit, retry", RESERVATIONS, asked_of("ws_shared"), key=key, expect=201)
    run.run("commit: shared limit", f"{RESERVATIONS}/{held['id']}/commit", {})
    held = run.quiet(RESERVATIONS, asked_of("ws_shared"), key=run.key())
    run.run("commit of less: shared limit", f"{RESERVATIONS}/{held['id']}/commit", {"quantity": 1})
    held = run.quiet(RESERVATIONS, asked_of("ws_shared"), key=run.key())
    run.run("release: shared limit", f"{RESERVATIONS}/{held['id']}/release", {})
    held = run.quiet(RESERVATIONS, asked_of("ws_shared"), key=run.key())
    run.run("extend: shared limit", f"{RESERVATIONS}/{held['id']}/extend", {"ttl_seconds": 600, "quantity": 5})
    batch = {"events": usage_events(run, "ws_shared", 100)}
    run.run("usage of 100 events: shared limit", "/v1/usage", batch)
    _warm(run, "ws_ip", 1, dimensions=IP)
    body = asked_of("ws_ip", dimensions=IP)
    run.run("reserve: shared limit of a dimension", RESERVATIONS, body, key=run.key(), expect=201)


def _refused(run: Scenarios) -> None:
    _warm(run, "ws_own", 5)
    run.run("refusal by the own limit: shared limit", RESERVATIONS, asked_of("ws_own", 9), key=run.key())
    _warm(run, "ws_full", 2_000)
    run.stage.clock.advance(FRESH_MS)
    run.run("refusal at the shared limit", RESERVATIONS, asked_of("ws_full", 1), key=run.key())
    run.run("the next refusal", RESERVATIONS, asked_of("ws_full", 1), key=run.key())
