"""`tollgate accounts`: one account's rules and counters, and what was changed of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from tollgate import wiring
from tollgate.accounts.audit import controls
from tollgate.accounts.rules import Rules
from tollgate.clock import rfc3339, rfc3339_ms
from tollgate.gate.limits import LimitState, states
from tollgate.gate.ports import GateDeps
from tollgate.gate.shown import member_states
from tollgate.quantities import plain
from tollgate_cli.output import note, out, table
from tollgate_cli.target import Profile, Region, StackName, connected

app = typer.Typer(help="Look at accounts.", no_args_is_help=True)


@app.command()
def show(
    account: Annotated[str, typer.Argument(metavar="ID", help="The app's own id of the account.")],
    member: Annotated[str | None, typer.Option(help="Show this member's limits, too.")] = None,
    stack: StackName = None,
    profile: Profile = None,
    region: Region = None,
) -> None:
    """Show what binds an account now, and where its limits stand."""
    with connected(stack, profile, region) as target:
        deps = wiring.account_deps(target.env)
        rules = deps.rules.fresh(account)
        found = list(_states(deps.gate, rules, member))
    out().print(table(f"Account {account} of {target.name}", ("", ""), _facts(rules)))
    rows = [
        (
            state.ruled.limit.id,
            state.ruled.limit.per if state.member is None else f"member {state.member}",
            "at once" if state.ruled.limit.window is None else state.ruled.limit.window.text,
            plain(state.used),
            plain(state.held),
            None if state.ruled.maximum is None else plain(state.ruled.maximum),
            None if state.resets_at is None else rfc3339(state.resets_at),
        )
        for state in found
    ]
    out().print(table("Limits", ("limit", "per", "window", "used", "held", "max", "resets"), rows))


@app.command()
def audit(
    account: Annotated[str, typer.Argument(metavar="ID", help="The app's own id of the account.")],
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many changes, from the newest.")] = 50,
    stack: StackName = None,
    profile: Profile = None,
    region: Region = None,
) -> None:
    """Show who changed an account's plan, overrides, controls or freeze, and when; newest first."""
    with connected(stack, profile, region) as target:
        deps = wiring.account_deps(target.env)
        deps.rules.fresh(account)
        entries, after = deps.accounts.audit(account, limit, None)
    rows = [
        (entry.rev, rfc3339_ms(entry.at_ms), entry.by, change.field, _shown(change.before), _shown(change.after))
        for entry in entries
        for change in entry.changes
    ]
    columns = ("revision", "at", "by", "what", "before", "after")
    out().print(table(f"Changes of account {account} of {target.name}", columns, rows))
    if not rows:
        note("Nothing was changed yet: it is on the plan that it was made on.")
    if after is not None:
        note(f"There are older changes; --limit shows up to 100, GET /v1/accounts/{account}/audit all of them.")


def _shown(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)


def _states(deps: GateDeps, rules: Rules, member: str | None) -> Iterator[LimitState]:
    limits = [ruled for ruled in rules.limits if ruled.limit.per == "account"]
    yield from states(rules, limits, deps.gates.read(rules.account), None, deps.clock() // 1000)
    if member is not None:
        yield from member_states(deps, rules, member)


def _facts(rules: Rules) -> list[tuple[str, object]]:
    row = rules.row
    frozen = None if row.frozen is None else f"{row.frozen.reason} (since {rfc3339(row.frozen.since)})"
    return [
        ("plan", f"{rules.plan.name} ({row.plan}, version {row.plan_version})"),
        ("next plan", _next_plan(rules)),
        ("timezone", row.calendar.timezone),
        ("Stripe customer", row.stripe_customer_id),
        ("name", row.name),
        ("email", row.email),
        ("frozen", frozen),
        ("overrides", row.overrides),
        ("controls", _shown(controls(row))),
        ("created", rfc3339(row.created_at)),
        ("revision", row.rev),
    ]


def _next_plan(rules: Rules) -> str | None:
    following = rules.row.next_plan
    if following is None:
        return None
    return f"{following.plan}, version {following.version}, from {rfc3339(following.at)}"
