"""`tollgate breaker`: the trips there were, and going on."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from tests.unit.cli.conftest import Cli
from tollgate import wiring
from tollgate.accounts.rules import BREAKER, Frozen
from tollgate.accounts.service import AccountPatch, change, freeze, put_account
from tollgate.breaker.platform import Stop
from tollgate.breaker.platform_store import PlatformTable
from tollgate.breaker.trip import Trip
from tollgate.breaker.trip_store import TripTable
from tollgate_cli.target import LOCAL_STACK, TABLES

CATALOG = str(Path(__file__).parents[3] / "catalog.yaml")
LOCAL = {variable: f"{LOCAL_STACK}-{table}" for variable, table in TABLES.items()}
HOUR = 1_795_262_400


def test_trips_are_listed_and_an_account_resumed_once(cli: Cli) -> None:
    cli.done("catalog", "load", CATALOG)
    deps, trips = wiring.account_deps(LOCAL), TripTable(LOCAL["TOLLGATE_BILLING_TABLE"])
    for number, account in enumerate(("hot", "hotter")):
        put_account(deps, account, AccountPatch(plan="free"))
        trip = Trip(account, "ai_credits", HOUR + number * 3600, 0)
        assert trips.claim(trip, Decimal(300), HOUR)
        frozen = Frozen(BREAKER, HOUR, trip.name)
        change(deps, account, lambda row, frozen=frozen: replace(row, frozen=frozen), None)  # type: ignore[misc]
    assert "hot goes on, with its grace until" in cli.done("breaker", "resume", "hot", "--grace", "2.5").stderr
    shown = [line.split("│")[2:6] for line in cli.done("breaker", "list").stdout.splitlines() if line.startswith("│")]
    cells = [[cell.strip() for cell in line] for line in shown]
    assert cells == [["hotter", "ai_credits", "300", "stopped"], ["hot", "ai_credits", "300", "goes on"]]


def test_what_the_operator_froze_gets_no_grace_unasked(cli: Cli) -> None:
    cli.done("catalog", "load", CATALOG)
    deps = wiring.account_deps(LOCAL)
    put_account(deps, "unpaid", AccountPatch(plan="free"))
    freeze(deps, "unpaid", "unpaid")
    assert cli.done("breaker", "resume", "unpaid").stderr.strip() == "unpaid goes on."
    assert deps.rules.stored("unpaid").grace is None


def test_the_platform_goes_on(cli: Cli) -> None:
    cli.done("catalog", "load", CATALOG)
    platform = PlatformTable(LOCAL["TOLLGATE_BILLING_TABLE"])
    platform.stop(Stop(HOUR, HOUR, Decimal("512.5"), Decimal(500)))
    assert "an hour cost 512.5 USD" in cli.done("breaker", "list").stderr
    assert "within a minute" in cli.done("breaker", "resume", "--platform").stderr
    assert platform.stopped() is None
    assert "Nothing was stopped" in cli.done("breaker", "resume", "--platform").stderr


def test_what_is_meant_must_be_clear(cli: Cli) -> None:
    for arguments in (
        (),
        ("acme", "--platform"),
        ("acme", "--grace", "11"),
        ("acme", "--grace", "much"),
        ("acme", "--grace", "nan"),
    ):
        assert cli("breaker", "resume", *arguments).exit_code == 2
