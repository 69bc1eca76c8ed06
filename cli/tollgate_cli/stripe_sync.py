"""`tollgate stripe sync`: meters, products and prices at Stripe as the published catalogue has them."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Annotated, Final

import typer
from rich.table import Table
from rich.text import Text

from tollgate import wiring
from tollgate.catalog.frozen import PlanVersion
from tollgate.catalog.store import CatalogTable
from tollgate.errors import StripeRefused, StripeUnavailable
from tollgate.stripe_api.catalog import StripeCatalog
from tollgate.sync.apply import apply, look
from tollgate.sync.desired import desired
from tollgate.sync.diff import CHANGES, Step, diff
from tollgate_cli.output import FAILED, WRONG, err, fail, note, out, table
from tollgate_cli.stripe_target import stripe_of
from tollgate_cli.target import Profile, Region, StackName, connected

_STYLES: Final = {"create": "green", "update": "yellow", "replace": "magenta", "archive": "dim", "refuse": "bold red"}


def sync(
    do: Annotated[bool, typer.Option("--apply", help="Make the changes. Without it they are only shown.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 if Stripe differs from the catalogue.")] = False,
    all_versions: Annotated[
        bool, typer.Option("--all-versions", help="Older plan versions too, for accounts that stayed on them.")
    ] = False,
    reactivate: Annotated[
        bool, typer.Option("--reactivate", help="Take meters that were deactivated into use again.")
    ] = False,
    show_all: Annotated[bool, typer.Option("--all", help="Show what matches, too.")] = False,
    stack: StackName = None,
    profile: Profile = None,
    region: Region = None,
) -> None:
    """Show, or with --apply make, what Stripe lacks of the published catalogue: meters, products and prices.

    Nothing is deleted; an amount that changed makes a new price, and the old one is archived. If anything is refused,
    nothing is changed (exit code 2). Repeating is harmless, also after a crash.
    """
    with connected(stack, profile, region) as target:
        stripe = stripe_of(target)
        versions = published(wiring.catalog_table(target.env), all_versions)
        if versions is None:
            fail(f"{target.name} has no catalogue yet: `tollgate catalog load` publishes one.")
        port = StripeCatalog(stripe.connection, uuid.uuid4().hex)
        wanted = desired(versions, target.name)
        with err().status(f"Looking at {stripe.where}…"):
            steps = diff(wanted, look(port, wanted), live=target.mode == "live", reactivate=reactivate)
        out().print(_table(f"{target.name} at {stripe.where}", steps if show_all else _shown(steps)))
        counted = Counter(step.kind for step in steps)
        _folded(wanted.folded)
        if counted["refuse"]:
            fail(f"{counted['refuse']} refused, nothing was changed: see the table.", WRONG)
        changes = sum(counted[kind] for kind in CHANGES)
        if not changes:
            note(f"All {counted['match']} match.")
            return
        if not do:
            note(f"{counted['match']} match, {changes} would change. Nothing was changed: --apply does it.")
            if check:
                raise typer.Exit(FAILED)
            return
        _apply(port, steps, changes)
        note(f"Done: {changes} changed, {counted['match']} matched already.")


def published(catalog: CatalogTable, all_versions: bool) -> list[PlanVersion] | None:
    """The plan versions of a stack, each plan's in their order; None without a catalogue."""
    current = catalog.current()
    if current is None:
        return None
    return [
        catalog.version(plan, version)
        for plan, newest in current.versions.items()
        for version in range(1 if all_versions else newest, newest + 1)
    ]


def _apply(port: StripeCatalog, steps: list[Step], changes: int) -> None:
    done = 0

    def told(step: Step) -> None:
        nonlocal done
        done += 1

    try:
        with err().status(f"Making {changes} changes…"):
            apply(port, steps, told)
    except (StripeRefused, StripeUnavailable) as trouble:
        fail(f"{trouble.detail} {done} of {changes} changes are made; run the command again for the rest.")


def _shown(steps: Iterable[Step]) -> Iterator[Step]:
    return (step for step in steps if step.kind != "match")


def _table(title: str, steps: Iterable[Step]) -> Table:
    found = table(title, ("", "what", "name", "detail"), ())
    for step in steps:
        style = _STYLES.get(step.kind, "")
        found.add_row(Text(step.kind, style=style), Text(step.what), Text(step.name), Text(step.detail))
    return found


def _folded(folded: dict[str, tuple[str, ...]]) -> None:
    for key, said in folded.items():
        note(f"{key}: {', '.join(said)}.")
