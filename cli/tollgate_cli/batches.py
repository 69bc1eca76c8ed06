"""`tollgate batches`: what is on its way to Stripe, and what is parked."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from tollgate.billing.batch import FLUSHED, REPAIRABLE, UNCONFIRMED, BatchKey, NotRepairable
from tollgate.billing.batch_store import BatchTable
from tollgate.billing.repair import repair as repaired
from tollgate.clock import rfc3339
from tollgate.quantities import plain
from tollgate_cli.output import fail, note, out, table
from tollgate_cli.target import Profile, Region, StackName, connected

app = typer.Typer(help="Look at an account's batches and repair parked ones.", no_args_is_help=True)

Account = Annotated[str, typer.Argument(metavar="ACCOUNT", help="The app's own id of the account.")]


@app.command("list")
def list_batches(
    account: Account,
    state: Annotated[str | None, typer.Option(help="Only this state; without it: all but flushed ones.")] = None,
    stack: StackName = None,
    profile: Profile = None,
    region: Region = None,
) -> None:
    """List batches of an account, oldest first."""
    with connected(stack, profile, region) as target:
        batches = BatchTable(target.env["TOLLGATE_BILLING_TABLE"])
        found = [batch for batch in batches.of_account(account, state) if state or batch.state != FLUSHED]
    rows = [
        (
            batch.key.sk,
            plain(batch.units),
            rfc3339(batch.window_start),
            batch.customer,
            batch.state if batch.repaired_by is None else f"{batch.state}, repaired",
            batch.reason,
            batch.detail,
        )
        for batch in found
    ]
    columns = ("batch", "units", "window", "customer", "state", "reason", "last answer")
    out().print(table(f"Batches of {account} in {target.name}", columns, rows))
    if any(batch.state in REPAIRABLE and batch.repaired_by is None for batch in found):
        note(f"Once the cause is gone: tollgate batches repair {account} BATCH")


@app.command()
def repair(
    account: Account,
    batch: Annotated[str, typer.Argument(metavar="BATCH", help="As `tollgate batches list` shows it.")],
    customer: Annotated[str | None, typer.Option(help="Bill another Stripe customer (cus_…).")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    stack: StackName = None,
    profile: Profile = None,
    region: Region = None,
) -> None:
    """Send a parked batch again, as its one successor. Repeating is harmless."""
    with connected(stack, profile, region) as target:
        batches = BatchTable(target.env["TOLLGATE_BILLING_TABLE"])
        parked = batches.get(BatchKey(f"batch#{account}", batch))
        if parked is None:
            fail(f"{account} has no batch `{batch}`; `tollgate batches list {account}` shows them.")
        if parked.state == UNCONFIRMED and not yes:
            typer.confirm(
                "Stripe may have this usage. Do its totals show that it did not arrive?", abort=True, err=True
            )
        try:
            found = repaired(batches, parked, int(time.time()), customer)
        except NotRepairable as error:
            fail(f"Nothing to repair: {error}.")
    note(f"Batch {found.key.sk} takes over {plain(found.units)} units; seal queues it within a minute.")
    print(found.key.sk)
