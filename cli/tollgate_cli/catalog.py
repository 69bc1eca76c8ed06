"""`tollgate catalog`: plans as code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import typer

from tollgate import wiring
from tollgate.catalog.model import Catalog, Condition, Limit, Plan, Price
from tollgate.catalog.schema import CatalogError, json_schema, load_catalog, notices
from tollgate.quantities import plain
from tollgate_cli.output import WRONG, err, note, out, table
from tollgate_cli.target import Profile, Region, StackName, connected

app = typer.Typer(help="Check and load catalog.yaml: meters, plans, prices and limits.", no_args_is_help=True)

CatalogFile = Annotated[
    Path,
    typer.Argument(metavar="[FILE]", envvar="TOLLGATE_CATALOG", help="The catalogue.", show_default="catalog.yaml"),
]


Day = Annotated[
    datetime | None,
    typer.Option("--on", formats=["%Y-%m-%d"], help="The day whose rates are shown; today's (UTC) if absent."),
]


@app.command()
def check(file: CatalogFile = Path("catalog.yaml"), on: Day = None) -> None:
    """Read a catalogue and say every mistake in it, or what it holds. Changes nothing."""
    catalog = read(file, None if on is None else on.date())
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
    for day in sorted({change.on for change in catalog.rate_changes}):
        count = sum(change.on == day for change in catalog.rate_changes)
        what = "rate changes" if count == 1 else "rates change"
        note(f"From {day} on {count} {what}: load the catalogue again then. `tollgate catalog check` shows them.")
    note(f"New accounts start on `{catalog.default_plan}`; the functions see it within seconds.")


@app.command()
def schema() -> None:
    """Print the JSON Schema of the file, for editors."""
    print(json.dumps(json_schema(), indent=2, ensure_ascii=False))


def read(file: Path, today: date | None = None) -> Catalog:
    """The catalogue with the rates of a day (without it: of today), or its mistakes and exit code 2."""
    try:
        return load_catalog(file, today)
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
    rows = [row for plan in catalog.plans.values() for row in _limits(plan, catalog)]
    out().print(table("Limits", ("plan", "limit", "per", "meters", "window", "where", "max"), rows))
    packs = [
        (
            plan.id,
            pack.id,
            f"{plain(pack.units)} {pack.meter}",
            f"{plain(pack.price)} {currency}",
            None if pack.expires_days is None else f"{pack.expires_days} days",
        )
        for plan in catalog.plans.values()
        for pack in plan.packs
    ]
    if packs:
        out().print(table("Packs", ("plan", "pack", "units", "price", "expires after"), packs))
    rates = [
        (change.meter, change.on, _condition(change.when), _rate(change.before), _rate(change.after))
        for change in catalog.rate_changes
    ]
    if rates:
        out().print(table("Rates that change", ("meter", "from", "for", "now", "then"), rates))
        note("They change nothing by themselves: `tollgate catalog load` takes the rates of the day on which it runs.")
    _notices(catalog)


def _limits(plan: Plan, catalog: Catalog) -> Iterator[tuple[object, ...]]:
    if not plan.limits and not plan.shared_limits:
        yield (plan.id, None, None, None, None, None, "unlimited" if plan.unlimited else None)
    for limit in plan.limits:
        yield (
            plan.id,
            limit.id,
            limit.per,
            ", ".join(limit.meters) or "any",
            _window(limit, catalog),
            _condition(limit.where),
            _max(limit, catalog.currency),
        )
    for shared in plan.shared_limits:
        yield (
            plan.id,
            shared.id,
            shared.per,
            ", ".join(shared.meters),
            f"{shared.window.text}, UTC",
            _condition(shared.where),
            plain(shared.max),
        )


def _window(limit: Limit, catalog: Catalog) -> str:
    if limit.amount is not None:
        return "period"
    if limit.window is None or any(catalog.meters[meter].kind == "level" for meter in limit.meters):
        return "at once"
    return limit.window.text if limit.window.hours is None else f"{limit.window.hours} h from first use"


def _condition(when: Condition) -> str | None:
    return ", ".join(f"{dimension}={'|'.join(values)}" for dimension, values in when) or None


def _max(limit: Limit, currency: str) -> str:
    if limit.amount is not None:
        return f"{plain(limit.amount)} {currency.upper()}"
    return f"{limit.concurrent} open" if limit.max is None else plain(limit.max)


def _rate(weight: Decimal | None) -> str | None:
    return None if weight is None else plain(weight)


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
