"""`tollgate stripe events`: what Stripe delivered, or should have."""

from __future__ import annotations

import re
import time
from collections import Counter
from datetime import timedelta
from typing import Annotated, Any, Final

import typer

from tollgate.clock import parse_rfc3339, rfc3339
from tollgate.errors import StripeRefused, StripeUnavailable, TollgateError
from tollgate.settings import StripeEventsSettings
from tollgate.stripe_api.events import StripeEvents
from tollgate.webhooks.dispatch import NotAnEvent, handle, known
from tollgate.webhooks.inbox import DONE, DUPLICATE, FAILED, InHand
from tollgate.webhooks.inbox_store import InboxTable
from tollgate.webhooks.wiring import event_deps
from tollgate_cli.output import WRONG, fail, note, out, table
from tollgate_cli.stripe_target import stripe_of
from tollgate_cli.target import Profile, Region, StackName, connected

app = typer.Typer(help="Events of Stripe: process those that were missed.", no_args_is_help=True)

KEPT_S: Final = 30 * 86_400
"""How long Stripe lists events [docs]."""
SHOWN: Final = 50
_AGO: Final = re.compile(r"(\d{1,4})([mhd])")
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days"}


@app.callback()
def _group() -> None:
    """A group, also with one command."""


@app.command()
def replay(
    since: Annotated[str, typer.Option(help="From when on: 2h, 3d, or 2026-11-20T12:00:00Z. At most 30 days ago.")],
    do: Annotated[bool, typer.Option("--apply", help="Process them. Without it they are only shown.")] = False,
    stack: StackName = None,
    profile: Profile = None,
    region: Region = None,
) -> None:
    """Fetch events from Stripe's list and process those that are not done, through the same inbox as deliveries.

    Repeating is harmless: an event is processed once. A failed one is tried again.
    """
    begin = _begin(since)
    with connected(stack, profile, region) as target:
        stripe = stripe_of(target)
        settings = StripeEventsSettings(
            billing_table=target.env["TOLLGATE_BILLING_TABLE"],
            stack=target.name,
            live=target.mode == "live",
            stripe_secret_parameter="",
            stripe_api_base=stripe.api_base,
        )
        deps = event_deps(target.env, settings, stripe.connection)
        inbox = InboxTable(settings.billing_table)
        try:
            listed = list(StripeEvents(stripe.connection).since(begin))
        except (StripeRefused, StripeUnavailable) as trouble:
            fail(f"Stripe's events cannot be listed: {trouble.detail}")
        waiting, states = [], Counter[str]()
        # Oldest first: the order changes nothing about the end, but people read it so.
        for event in reversed(listed):
            letter = inbox.get(event["id"])
            state = "not handled here" if not known(event["type"]) else "missed" if letter is None else letter.state
            states[state] += 1
            if state not in ("not handled here", DONE):
                waiting.append((event, state, letter.reason if letter is not None else None))
        _show(f"Events of {target.name} at {stripe.where} since {rfc3339(begin)}", waiting)
        counted = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        note(f"{len(listed)} events: {counted or 'none'}.")
        if not waiting:
            return
        if not do:
            note(f"{len(waiting)} would be processed. Nothing was done: --apply does it.")
            return
        outcomes = Counter[str]()
        for event, _, _ in waiting:
            outcomes[_processed(deps, event)] += 1
    note(f"Processed: {', '.join(f'{count} {outcome}' for outcome, count in sorted(outcomes.items()))}.")
    if outcomes["failed"] or outcomes["in other hands"]:
        fail("Some were not: `--apply` again, once what stands above is mended.")


def _processed(deps: Any, event: dict[str, Any]) -> str:
    """What became of an event, in words."""
    try:
        done = handle(deps, event)
    except InHand:
        return "in other hands"
    except (TollgateError, NotAnEvent) as trouble:
        note(f"{event['id']} ({event['type']}): {trouble}")
        return "failed"
    return "failed" if done.outcome == FAILED else "done before" if done.outcome == DUPLICATE else "done"


def _show(title: str, waiting: list[tuple[dict[str, Any], str, str | None]]) -> None:
    if not waiting:
        return
    rows = [(event["id"], event["type"], _created(event), state, reason) for event, state, reason in waiting[:SHOWN]]
    out().print(table(title, ("event", "type", "created", "state", "reason"), rows))
    if len(waiting) > SHOWN:
        note(f"… and {len(waiting) - SHOWN} more.")


def _created(event: dict[str, Any]) -> str:
    """Epoch seconds in a snapshot event, a text or a time in a thin one."""
    created = event["created"]
    if isinstance(created, int):
        return rfc3339(created)
    return created if isinstance(created, str) else rfc3339(int(created.timestamp()))


def _begin(since: str) -> int:
    """The epoch second that the option names. Ends the command (exit code 2) where it names none."""
    now = int(time.time())
    ago = _AGO.fullmatch(since)
    if ago is not None:
        begin = now - int(timedelta(**{_UNITS[ago[2]]: int(ago[1])}).total_seconds())
    else:
        try:
            begin = parse_rfc3339(since) // 1000
        except ValueError:
            fail(f"--since {since!r} is neither like 2h or 3d nor a time like 2026-11-20T12:00:00Z.", WRONG)
    if begin < now - KEPT_S:
        fail("Stripe lists events for 30 days: name a later time.", WRONG)
    return begin
