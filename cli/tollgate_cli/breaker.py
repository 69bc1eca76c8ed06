"""`tollgate breaker`: what the circuit breaker stopped, and going on."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Annotated

import typer

from tollgate import wiring
from tollgate.breaker.platform import resume_all
from tollgate.breaker.platform_store import PlatformTable
from tollgate.breaker.resume import MOST, resume
from tollgate.breaker.trip_store import TripTable
from tollgate.clock import rfc3339, system_clock
from tollgate.quantities import plain
from tollgate_cli.output import fail, note, out, table
from tollgate_cli.target import Profile, Region, StackName, connected

app = typer.Typer(help="What the circuit breaker stopped, and going on.", no_args_is_help=True)
BY = "command line"


@app.command("list")
def list_trips(
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many trips, from the newest.")] = 20,
    stack: StackName = None,
    profile: Profile = None,
    region: Region = None,
) -> None:
    """List the trips of the last 90 days, newest first, and whether everything is stopped."""
    with connected(stack, profile, region) as target:
        accounts, billing = wiring.account_deps(target.env), target.env["TOLLGATE_BILLING_TABLE"]
        stop, trips, rows = PlatformTable(billing).stopped(), TripTable(billing).newest(limit), []
        for trip, allowed in trips:
            frozen = accounts.rules.stored(trip.account).frozen
            now = "stopped" if frozen is not None and frozen.trip == trip.name else "goes on"
            rows.append((rfc3339(trip.hour), trip.account, trip.meter, plain(allowed), now))
    if stop is not None:
        note(f"Everything is stopped since {rfc3339(stop.since)}: an hour cost {plain(stop.cost)} USD.")
    out().print(table(f"Trips of {target.name}", ("hour", "account", "meter", "allowed", "now"), rows))


@app.command("resume")
def resume_account(
    account: Annotated[str | None, typer.Argument(metavar="ID", help="The app's own id of the account.")] = None,
    grace: Annotated[
        str | None,
        typer.Option(help=f"How many more hourly allowances in this hour, 1 to {MOST}; 1 after a trip if left out."),
    ] = None,
    platform: Annotated[bool, typer.Option("--platform", help="Go on after everything was stopped.")] = False,
    stack: StackName = None,
    profile: Profile = None,
    region: Region = None,
) -> None:
    """Resume one account, or the platform."""
    multiple = None if grace is None else _grace(grace)
    if platform == (account is not None):
        fail("Name one account, or say --platform.", 2)
    with connected(stack, profile, region) as target:
        if account is not None:
            rules = resume(wiring.account_deps(target.env), account, multiple, BY)
            until = "" if rules.row.grace is None else f", with its grace until {rfc3339(rules.row.grace.until)}"
            note(f"{rules.account} goes on{until}.")
            return
        was = resume_all(PlatformTable(target.env["TOLLGATE_BILLING_TABLE"]), system_clock() // 1000)
    note("Nothing was stopped." if was is None else "Everything goes on, within a minute.")


def _grace(text: str) -> Decimal:
    try:
        found = Decimal(text)
        fits = 1 <= found <= MOST
    except InvalidOperation:  # NaN is a number to Decimal, and larger or smaller than none
        fits = False
    if not fits:
        fail(f"--grace is 1 to {MOST} allowances.", 2)
    return found
