"""`tollgate stripe`: what is set up at Stripe, from the catalogue and the accounts."""

from __future__ import annotations

import typer

from tollgate_cli import stripe_backfill, stripe_connect, stripe_events, stripe_sync

app = typer.Typer(help="Set up Stripe from the catalogue: meters, products, prices, customers.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Commands read the key from STRIPE_SECRET_KEY, else from the stack; a key of the other mode is refused."""


app.command()(stripe_sync.sync)
app.command("backfill")(stripe_backfill.command)
app.command("connect")(stripe_connect.command)
app.add_typer(stripe_events.app, name="events")
