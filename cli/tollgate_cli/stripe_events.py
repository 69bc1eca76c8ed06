"""`tollgate stripe events`: what Stripe delivered, or should have."""

from __future__ import annotations

import json
import os
import re
import time
from collections import Counter
from datetime import timedelta
from typing import Annotated, Any, Final

import boto3
import typer

from tollgate.clock import parse_rfc3339, rfc3339
from tollgate.errors import StripeRefused, StripeUnavailable
from tollgate.stripe_api.events import StripeEvents
from tollgate.webhooks.dispatch import known
from tollgate.webhooks.inbox import DONE
from tollgate.webhooks.inbox_store import InboxTable
from tollgate_cli.output import WRONG, fail, note, out, table
from tollgate_cli.stripe_target import stripe_of
from tollgate_cli.target import DEFAULT_PORT, LOCAL_STACK, Profile, Region, StackName, Target, connected

app = typer.Typer(help="Events of Stripe: process those that were missed.", no_args_is_help=True)

KEPT_S: Final = 30 * 86_400
"""How long Stripe lists events [docs]."""
SHOWN: Final = 50
OUTPUT: Final = "StripeEventsQueueUrl"
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
    """Fetch events from Stripe's list and queue those that are not done for the worker, as if delivered again.

    Repeating is harmless: the worker's inbox lets an event be done once. A failed one is tried again.
    """
    begin = _begin(since)
    with connected(stack, profile, region) as target:
        stripe = stripe_of(target)
        inbox = InboxTable(target.env["TOLLGATE_BILLING_TABLE"])
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
        sqs, url = _queue(target, profile, region)
        for event, _, _ in waiting:
            sqs.send_message(QueueUrl=url, MessageBody=_body(event))
    note(f"{len(waiting)} are queued for the worker. The same command without --apply shows what is still not done.")


def _queue(target: Target, profile: str | None, region: str | None) -> tuple[Any, str]:
    """A client of SQS, and the worker's queue."""
    if target.local:
        endpoint = f"http://127.0.0.1:{int(os.environ.get('TOLLGATE_PORT', str(DEFAULT_PORT))) + 2}"
        sqs = boto3.session.Session().client("sqs", endpoint_url=endpoint)
        return sqs, sqs.get_queue_url(QueueName=f"{LOCAL_STACK}-stripe-events")["QueueUrl"]
    session = boto3.session.Session(profile_name=profile, region_name=region)
    described = session.client("cloudformation").describe_stacks(StackName=target.name)["Stacks"][0]
    found = {output["OutputKey"]: output["OutputValue"] for output in described.get("Outputs", ())}
    if OUTPUT not in found:
        fail(f"Stack {target.name} has no output {OUTPUT}: deploy it again.")
    return session.client("sqs"), found[OUTPUT]


def _body(event: dict[str, Any]) -> str:
    """A listed event as a delivery: what never changes of it, which is all that the worker reads, and small enough for
    the queue."""
    kept: dict[str, Any] = {
        name: event[name] for name in ("id", "object", "type", "livemode", "account") if name in event
    }
    obj = (event.get("data") or {}).get("object") or {}
    kept["data"] = {"object": {name: obj[name] for name in ("id", "customer", "payment_intent") if name in obj}}
    return json.dumps(kept, separators=(",", ":"), default=str)


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
