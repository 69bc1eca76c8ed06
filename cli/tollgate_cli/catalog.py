"""`tollgate catalog`: plans as code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from tollgate import wiring
from tollgate.catalog.model import Catalog, Limit, Plan, Price
from tollgate.catalog.schema import CatalogError, json_schema, load_catalog, notices
from tollgate.quantities import plain
from tollgate_cli.output import WRONG, err, note, out, table
from tollgate_cli.target import Profile, Region, StackName, connected

app = typer.Typer(help="Check and load catalog.yaml: meters, plans, prices and limits.", no_args_is_help=True)

CatalogFile = Annotated[
    Path,
    typer.Argument(metavar="[FILE]", envvar="TOLLGATE_CATALOG", help="The catalogue.", show_default="catalog.yaml"),
]


@app.command()
def check(file: CatalogFile = Path("catalog.yaml")) -> None:
    """Read a catalogue and say every mistake in it, or what it holds. Changes nothing."""
    catalog = read(file)
    _show(catalog)
    note(f"{file} is fine. `tollgate catalog load` publishes it.")


@app.command()
def load(
    file: CatalogFile = Path("catalog.yaml"),
    stack: StackName = None,
    profile: Profile = None,
    region: Region = None,
) -> None:
    """Publish a catalogue. A plan whose content changed gets a new version; accounts keep theirs until they move."""
    catalog = read(file)
    with connected(stack, profile, region) as target, err().status(f"Publishing {file} to {target.name}…"):
        published = wiring.catalog_table(target.env).publish(catalog)
    rows = [
        (plan, catalog.plans[plan].name, version, "new" if new else "unchanged")
        for plan, (version, new) in published.items()
    ]
    out().print(table(f"Plans of {target.name}", ("plan", "name", "version", ""), rows))
    _notices(catalog)
    note(f"New accounts start on `{catalog.default_plan}`; the functions see it within seconds.")


@app.command()
def schema() -> None:
    """Print the JSON Schema of the file, for editors."""
    print(json.dumps(json_schema(), indent=2, ensure_ascii=False))


def read(file: Path) -> Catalog:
    """The catalogue, or its mistakes and exit code 2."""
    try:
        return load_catalog(file)
    except CatalogError as error:
        rows = [
            (problem.file if problem.line is None else f"{problem.file}:{problem.line}", problem.path, problem.reason)
            for problem in error.problems
        ]
        title = "1 mistake" if len(rows) == 1 else f"{len(rows)} mistakes"
        err().print(table(title, ("file", "path", "reason"), rows))
        note("Nothing was changed. Correct the file and run the command again.")
        raise typer.Exit(WRONG) from None


def _show(catalog: Catalog) -> None:
    currency = catalog.currency.upper()
    plans = [
        (
            plan.id + (" (default)" if plan.id == catalog.default_plan else ""),
            plan.name,
            f"{plain(plan.base_fee)} {currency}" if plan.base_fee else None,
            "\n".join(_price(price, currency) for price in plan.prices) or None,
        )
        for plan in catalog.plans.values()
    ]
    out().print(table("Plans", ("plan", "name", "base fee", "prices"), plans))
    rows = [row for plan in catalog.plans.values() for row in _limits(plan)]
    out().print(table("Limits", ("plan", "limit", "per", "meters", "window", "where", "max"), rows))
    _notices(catalog)


def _limits(plan: Plan) -> Iterator[tuple[object, ...]]:
    if not plan.limits:
        yield (plan.id, None, None, None, None, None, "unlimited" if plan.unlimited else None)
    for limit in plan.limits:
        yield (
            plan.id,
            limit.id,
            limit.per,
            ", ".join(limit.meters) or "any",
            _window(limit),
            _where(limit),
            _max(limit),
        )


def _window(limit: Limit) -> str:
    if limit.window is None:
        return "at once"
    return limit.window.text if limit.window.hours is None else f"{limit.window.hours} h from first use"


def _where(limit: Limit) -> str | None:
    return ", ".join(f"{dimension}={'|'.join(values)}" for dimension, values in limit.where) or None


def _max(limit: Limit) -> str:
    return f"{limit.concurrent} open" if limit.max is None else plain(limit.max)


def _price(price: Price, currency: str) -> str:
    if price.unit_price is not None:
        return f"{price.meter}: {plain(price.unit_price)} {currency} a unit"
    if price.package_size is not None and price.package_price is not None:
        return f"{price.meter}: {plain(price.package_price)} {currency} for {plain(price.package_size)}"
    first = "0"
    steps = []
    for tier in price.tiers:
        end = "∞" if tier.up_to is None else plain(tier.up_to)
        flat = f" + {plain(tier.flat)}" if tier.flat else ""
        steps.append(f"{first} to {end}: {plain(tier.unit_price)}{flat}")
        first = end
    return f"{price.meter}, {price.scheme}: {'; '.join(steps)} {currency}"


def _notices(catalog: Catalog) -> None:
    for sentence in notices(catalog):
        note(f"Note: {sentence}")
