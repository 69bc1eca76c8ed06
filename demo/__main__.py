"""`python -m demo`: the command line. `make demo ARGS="--accounts 50"` passes options on."""

from __future__ import annotations

import os
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from demo.api import NoStack, StackLost
from demo.expect import CatalogUnreadable, read_catalog
from demo.generate import DEFAULT_ACCOUNTS, DEFAULT_REQUESTS, DEFAULT_SEED, generate
from demo.session import Options, Session, busiest, check, finish, play
from demo.trace import Request
from demo.trace_file import TraceError, load, to_csv

_LOCAL_KEY = "tg_test_local"
_LOCAL_STRIPE_KEY = "sk_test_local"
_LIVE_STRIPE = "https://api.stripe.com"
_WRITTEN = Path(".local/demo-trace.csv")

_COLUMNS = """
A trace of your own has one line for each item of a call, as CSV with a header or as JSONL:

\b
  offset_seconds  when the call starts (needed)
  account         who is billed (needed)
  meter           what is counted (needed)
  reserved, used  quantities; one of them is needed, the other defaults to it
  request         lines of equal value are items of one call; without it every line is a call
  seconds         how long the call runs (0)
  plan            the account's plan (the catalogue's default plan)
  member          who inside the account
  call            reserve (default), once (reserve and commit in one call), usage (recorded, nothing reserved)
  outcome         ok (default), failed (released), cached (0 units), no_commit (crash), late (after the hold's expiry)
  sends           how often the last write is sent, 1 (default) to 5
  operation, model, dimension.<name>   dimensions; empty is not sent

The generated trace is written as such a CSV.
"""

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(epilog=_COLUMNS)
def demo(
    trace: Annotated[
        Path | None,
        typer.Option(help="A trace of your own, .csv or .jsonl.", metavar="FILE"),
    ] = None,
    accounts: Annotated[int, typer.Option(min=1, max=5000, help="Accounts of the generated trace.")] = DEFAULT_ACCOUNTS,
    requests: Annotated[int, typer.Option(min=1, max=1_000_000, help="Its calls.")] = DEFAULT_REQUESTS,
    seed: Annotated[int, typer.Option(help="Its seed: the same seed makes the same trace.")] = DEFAULT_SEED,
    write: Annotated[Path, typer.Option(help="Where the generated trace is written.", metavar="FILE")] = _WRITTEN,
    base_url: Annotated[
        str, typer.Option(help="The stack; without it http://127.0.0.1 at TOLLGATE_PORT (8787).", show_default=False)
    ] = "",
    key: Annotated[
        str, typer.Option(envvar="TOLLGATE_KEY", help="A secret key of the stack with the scopes usage and admin.")
    ] = _LOCAL_KEY,
    stripe_url: Annotated[
        str,
        typer.Option(
            help="Stripe's API; without it the stack's double (the next port), or Stripe's sandbox where "
            "STRIPE_SECRET_KEY is a test key.",
            show_default=False,
        ),
    ] = "",
    stripe_key: Annotated[
        str,
        typer.Option(envvar="STRIPE_SECRET_KEY", help="Stripe's test key; live keys are refused."),
    ] = _LOCAL_STRIPE_KEY,
    catalog: Annotated[
        Path, typer.Option(envvar="TOLLGATE_CATALOG", help="The catalogue that the stack was started with.")
    ] = Path("catalog.yaml"),
    threads: Annotated[int, typer.Option(min=1, max=64, help="Calls at the same time.")] = 4,
    speed: Annotated[
        str | None,
        typer.Option(help="Seconds of the trace in one second, such as 60; without it as fast as the stack answers."),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            min=1, help="Seconds without any change after which a difference is final; without it 60, or 900 deployed."
        ),
    ] = None,
) -> None:
    """Replay a trace of LLM usage against a running stack, and check that Stripe holds exactly what was committed.

    The expected units are computed from the trace and the stack's answers by the demo's own reading of the catalogue.
    Exit code: 0 all agree, 1 a difference or a stack that fails, 2 nothing to run against or a wrong option or trace.
    """
    console = Console()
    stripe_url = stripe_url or (_LIVE_STRIPE if stripe_key != _LOCAL_STRIPE_KEY else "")
    base_url = base_url or f"http://127.0.0.1:{os.environ.get('TOLLGATE_PORT') or '8787'}"
    try:
        if not stripe_key.startswith(("sk_test_", "rk_test_")):
            raise typer.BadParameter("it is no test key (sk_test_...)", param_hint="--stripe-key")
        options = Options(
            trace=_trace(console, trace, write, seed, accounts, requests),
            reading=read_catalog(catalog),
            base_url=base_url,
            key=key,
            stripe_url=stripe_url or _next_port(base_url),
            stripe_key=stripe_key,
            threads=threads,
            speed=_speed(speed),
            patience_seconds=patience,
        )
        session = play(options, console)
        checked = check(session, console)
        passed = finish(session, checked, console)
    except (NoStack, TraceError, CatalogUnreadable) as problem:
        console.print(Text(str(problem), "red"))
        raise typer.Exit(2) from None
    except StackLost as problem:
        console.print(Text(str(problem), "red"))
        raise typer.Exit(1) from None
    _next_commands(console, session)
    raise typer.Exit(0 if passed else 1)


def _trace(console: Console, given: Path | None, write: Path, seed: int, accounts: int, requests: int) -> list[Request]:
    if given is not None:
        return load(given)
    made = generate(seed, accounts, requests)
    write.parent.mkdir(parents=True, exist_ok=True)
    write.write_text(to_csv(made), encoding="utf-8")
    console.print(Text(f"trace of seed {seed} written to {write}"))
    return made


def _speed(text: str | None) -> Decimal | None:
    if text is None:
        return None
    try:
        speed = Decimal(text)
    except InvalidOperation:
        speed = Decimal(0)
    if not speed.is_finite() or speed <= 0:
        raise typer.BadParameter(f"{text!r} is no number above 0", param_hint="--speed")
    return speed


def _next_port(base_url: str) -> str:
    head, _, port = base_url.rstrip("/").rpartition(":")
    if not port.isdigit():
        raise typer.BadParameter("name Stripe's API for a stack that is not local", param_hint="--stripe-url")
    return f"{head}:{int(port) + 1}"


def _next_commands(console: Console, session: Session) -> None:
    base, account = session.options.base_url, busiest(session)
    key = session.options.key if session.options.key == _LOCAL_KEY else "$TOLLGATE_KEY"
    console.print(Text("\nNext, one account's usage and its events:"))
    for path in ("usage", "events?limit=5"):
        line = f"  curl -s '{base}/v1/accounts/{account}/{path}' -H 'Authorization: Bearer {key}'"
        console.print(Text(line), soft_wrap=True)


if __name__ == "__main__":
    app(prog_name="python -m demo")
