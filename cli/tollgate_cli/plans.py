"""`tollgate plans`: what is published."""

from __future__ import annotations

import typer

from tollgate import wiring
from tollgate.quantities import plain
from tollgate_cli.output import fail, out, table
from tollgate_cli.target import Profile, Region, StackName, connected

app = typer.Typer(help="Show the published plans.", no_args_is_help=True)


@app.command("list")
def list_plans(stack: StackName = None, profile: Profile = None, region: Region = None) -> None:
    """List the plan versions that new accounts get."""
    with connected(stack, profile, region) as target:
        catalog = wiring.catalog_table(target.env)
        current = catalog.current()
        if current is None:
            fail(f"{target.name} has no catalogue yet: `tollgate catalog load` publishes one.")
        versions = [catalog.version(plan, version) for plan, version in current.versions.items()]
    rows = [
        (
            found.plan.id + (" (default)" if found.plan.id == current.default_plan else ""),
            found.plan.version,
            found.plan.name,
            f"{plain(found.plan.base_fee)} {current.currency.upper()}",
            len(found.plan.limits),
            "yes" if found.plan.public else "no",
        )
        for found in versions
    ]
    columns = ("plan", "version", "name", "base fee", "limits", "public")
    out().print(table(f"Plans of {target.name}", columns, rows))
