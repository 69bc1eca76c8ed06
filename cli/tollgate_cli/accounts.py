"""`tollgate accounts`: one account's rules and counters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from tollgate import wiring
from tollgate.accounts.rules import Rules
from tollgate.clock import rfc3339
from tollgate.gate.limits import LimitState, states
from tollgate.gate.ports import GateDeps
from tollgate.gate.shown import member_states
from tollgate.quantities import plain
from tollgate_cli.output import out, table
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
        ("timezone", row.calendar.timezone),
        ("Stripe customer", row.stripe_customer_id),
        ("name", row.name),
        ("email", row.email),
        ("frozen", frozen),
        ("overrides", row.overrides),
        ("created", rfc3339(row.created_at)),
        ("revision", row.rev),
    ]
