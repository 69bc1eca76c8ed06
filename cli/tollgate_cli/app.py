"""The commands together."""

from __future__ import annotations

import typer

from tollgate_cli import (
    accounts,
    batches,
    breaker,
    catalog,
    dlq,
    doctor,
    keys,
    margins,
    notify,
    plans,
    reconcile,
    secrets,
    shadow,
    smoke,
    stripe,
)

app = typer.Typer(
    name="tollgate",
    help=(
        "Operate Tollgate: its catalogue, keys, plans, accounts and batches.\n\n"
        "Commands talk to the local stack (make run) unless --stack names a deployed one. "
        "Exit codes: 0 done, 1 it did not work, 2 the command or the catalogue is wrong."
    ),
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(catalog.app, name="catalog")
app.add_typer(keys.app, name="keys")
app.add_typer(plans.app, name="plans")
app.add_typer(accounts.app, name="accounts")
app.add_typer(batches.app, name="batches")
app.add_typer(breaker.app, name="breaker")
app.add_typer(stripe.app, name="stripe")
app.add_typer(secrets.app, name="secrets")
app.command()(smoke.smoke)
app.add_typer(dlq.app, name="dlq")
app.add_typer(notify.app, name="notify")
app.command("reconcile")(reconcile.reconcile)
app.add_typer(shadow.app, name="shadow")
app.command("margins")(margins.margins)
app.command()(doctor.doctor)
