"""`tollgate plans`: what is published, and what a catalogue would change."""

from __future__ import annotations

from pathlib import Path

import typer

from tollgate import wiring
from tollgate.catalog.changes import changes
from tollgate.quantities import plain
from tollgate_cli.catalog import CatalogFile, read
from tollgate_cli.output import fail, note, out, table
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


@app.command()
def diff(
    file: CatalogFile = Path("catalog.yaml"),
    stack: StackName = None,
    profile: Profile = None,
    region: Region = None,
) -> None:
    """Show what a catalogue would change, plan by plan and field by field. Changes nothing."""
    catalog = read(file)
    with connected(stack, profile, region) as target:
        published = wiring.catalog_table(target.env)
        current = published.current()
        numbers = {} if current is None else current.versions
        versions = {plan: published.version(plan, number) for plan, number in numbers.items()}
    rows = [
        (plan, _step(versions[plan].plan.version if plan in versions else None, plan in catalog.plans), *change)
        for plan in [*catalog.plans, *(plan for plan in versions if plan not in catalog.plans)]
        for change in changes(versions.get(plan), catalog.plans.get(plan), catalog.meters.values())
    ]
    if not rows:
        note(f"{file} changes no plan of {target.name}.")
        return
    out().print(table(f"{file} beside {target.name}", ("plan", "version", "field", "now", "then"), rows))
    note("Accounts keep their version until they move: POST /v1/accounts/{id}/plan. `tollgate catalog load` publishes.")


def _step(version: int | None, stays: bool) -> str:
    """The versions that a change leads from and to."""
    if version is None:
        return "new"
    return f"{version} → {version + 1}" if stays else f"{version}, closed to new accounts"
