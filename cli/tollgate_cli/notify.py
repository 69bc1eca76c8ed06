"""`tollgate notify`: channels, and what became of messages."""

from __future__ import annotations

import getpass
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from typing import Annotated, Any, Final, Literal, NoReturn

import boto3
import typer
from rich.text import Text

from tollgate.alerts.outbox import Alert
from tollgate.alerts.outbox_store import OutboxTable
from tollgate.clock import rfc3339
from tollgate.notify.channel_store import ChannelTable
from tollgate.notify.channels import (
    CUSTOMERS,
    EMAIL,
    Channel,
    Quiet,
    Settings,
    Smtp,
    WrongChannel,
    check_channel,
)
from tollgate.notify.letter import FAILED, Delivery, Letter
from tollgate.notify.letter_store import LetterTable
from tollgate.notify.sending import SLACK_SECRET, SMTP_SECRET, sender_of
from tollgate.notify.templates import addressed, for_operator
from tollgate_cli.output import WRONG, fail, note, out, table
from tollgate_cli.secret_store import read
from tollgate_cli.target import Profile, Region, StackName, Target, connected

app = typer.Typer(help="Channels that messages go to, and messages that did not arrive.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="email|slack|bus|customers")]
SHOWN: Final = 50
_SECRETS: Final = {"slack": SLACK_SECRET, "smtp": SMTP_SECRET}


@app.command("set")
def set_channel(
    name: Name,
    to: Annotated[list[str] | None, typer.Option(help="email: an address; repeat for several.")] = None,
    kinds: Annotated[list[str] | None, typer.Option("--kind", help="Only these kinds, such as breaker*.")] = None,
    quiet: Annotated[str | None, typer.Option(help="Quiet hours, 22:00-07:00; `none` ends them.")] = None,
    timezone: Annotated[str | None, typer.Option(help="Of the quiet hours; UTC unless it was set before.")] = None,
    per_hour: Annotated[int | None, typer.Option(help="Messages an hour; the rest follow in a digest. 0: all.")] = None,
    off: Annotated[bool, typer.Option("--off", help="Send nothing there any more.")] = False,
    stack: StackName = None,
    profile: Profile = None,
    region: Region = None,
) -> None:
    """Make a channel or change it; what is not named stays. Binds within a minute."""

    def change(settings: Settings) -> Settings:
        channels = dict(settings.channels)
        if off:
            channels.pop(name, None)
            return replace(settings, channels=channels)
        one = channels.get(name, Channel(name))
        if to:
            one = replace(one, to=tuple(to))
        if kinds:
            one = replace(one, events=tuple(kinds))
        if quiet is not None or timezone is not None:
            one = replace(one, quiet=_quiet(one.quiet, quiet, timezone))
        if per_hour is not None:
            one = replace(one, per_hour=per_hour or None)
        channels[name] = check_channel(one)
        return replace(settings, channels=channels)

    with connected(stack, profile, region) as target:
        settings = _change(target, change)
    note(f"{name} of {target.name} is {'off' if off else 'on'}.")
    if not off and name in (EMAIL, CUSTOMERS) and settings.sender is None:
        note("No mail is sent before it has a sender: tollgate notify mail --from 'Name <address>'.")


@app.command()
def mail(
    sender: Annotated[str | None, typer.Option("--from", help="'Acme <billing@acme.com>'; of SES's identity.")] = None,
    product: Annotated[str | None, typer.Option(help="What customers know the product as.")] = None,
    smtp: Annotated[str | None, typer.Option(help="HOST:PORT of a mail server; `none`: by SES.")] = None,
    security: Annotated[
        Literal["tls", "starttls", "none"] | None, typer.Option(help="Of the mail server; starttls unless it is named.")
    ] = None,
    user: Annotated[str | None, typer.Option(help="At the mail server; its password: tollgate notify secret.")] = None,
    stack: StackName = None,
    profile: Profile = None,
    region: Region = None,
) -> None:
    """Where mail comes from, and by which server it goes."""

    def change(settings: Settings) -> Settings:
        if sender is not None:
            found = sender_of(sender)
            if found is None:
                raise WrongChannel(f"{sender!r} is no sender; write 'Acme <billing@acme.com>'")
            settings = replace(settings, sender=found)
        if product is not None:
            settings = replace(settings, product=product)
        if smtp is not None:
            settings = replace(settings, smtp=None if smtp == "none" else _server(smtp, security or "starttls", user))
        elif security is not None or user is not None:
            raise WrongChannel("--security and --user are of a mail server; name it, too, with --smtp HOST:PORT")
        return settings

    with connected(stack, profile, region) as target:
        settings = _change(target, change)
    note(f"Mail of {target.name} comes from {settings.sender} by {settings.smtp.host if settings.smtp else 'SES'}.")


@app.command()
def secret(
    which: Annotated[Literal["slack", "smtp"], typer.Argument(metavar="slack|smtp")],
    stack: StackName = None,
    profile: Profile = None,
    region: Region = None,
) -> None:
    """Store the URL of Slack's incoming webhook, or the mail server's password, in SSM. Asked for without echo."""
    prompt = "URL of the incoming webhook" if which == "slack" else "Password of the mail server"
    given = (getpass.getpass(f"{prompt}: ") if sys.stdin.isatty() else sys.stdin.readline()).strip()
    if not given or (which == "slack" and not given.startswith("https://") and stack is not None):
        fail("Nothing was stored: that is no such secret.", WRONG)
    with connected(stack, profile, region) as target:
        ssm = _ssm(target, profile, region)
        name = f"/tollgate/{target.name}/notify-secrets"
        there = read(ssm, name)
        kept = {} if there is None else json.loads(there[1])
        value = json.dumps({**kept, _SECRETS[which]: given})
        ssm.put_parameter(Name=name, Type="SecureString", Value=value, Overwrite=True)
    note(f"Stored in {name}; the next run reads it.")


@app.command()
def show(stack: StackName = None, profile: Profile = None, region: Region = None) -> None:
    """The channels there are."""
    with connected(stack, profile, region) as target:
        store = ChannelTable(target.env["TOLLGATE_CONFIG_TABLE"])
        settings, _ = store.settings()
        endpoints = store.endpoints()
    rows: list[tuple[object, ...]] = [
        (
            one.name,
            ", ".join(one.to) or None,
            " ".join(one.events),
            f"{one.quiet.text} {one.quiet.timezone}" if one.quiet else None,
            one.per_hour,
            "on",
        )
        for one in settings.channels.values()
    ]
    rows += [
        (one.id, one.url, " ".join(one.events), None, None, "on" if one.disabled is None else f"off: {one.disabled}")
        for one in endpoints
    ]
    out().print(table(f"Channels of {target.name}", ("channel", "to", "kinds", "quiet", "an hour", "state"), rows))
    note(f"Mail comes from {settings.sender or 'nowhere yet'}. Always at once: {', '.join(settings.critical)}.")


@app.command("list")
def list_messages(
    failed: Annotated[bool, typer.Option("--failed", help="Only what was given up on some channel.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Also what reached every channel: the newest 50.")] = False,
    stack: StackName = None,
    profile: Profile = None,
    region: Region = None,
) -> None:
    """Messages that have not reached every channel: given up, or still on their way."""
    with connected(stack, profile, region) as target:
        letters = _letters(target)
        found = list(islice(letters.newest(), SHOWN)) if everything else list(letters.open())
    found = [one for one in found if one.failed or not failed]
    rows = [
        (one.id, one.kind, one.account or None, name, way.state, way.attempts, rfc3339(way.at), way.reason or None)
        for one in found[:SHOWN]
        for name, way in _ways(one).items()
        if way.state == FAILED or not failed
    ]
    columns = ("message", "kind", "account", "channel", "state", "tries", "at", "why")
    out().print(table(f"Messages of {target.name}", columns, rows))
    note(f"{len(found)} messages{', the first 50 shown' if len(found) > SHOWN else ''}.")


@app.command("read")
def read_message(
    message: Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it: msg_…")],
    stack: StackName = None,
    profile: Profile = None,
    region: Region = None,
) -> None:
    """Show what a message says to the operator, sent or not."""
    with connected(stack, profile, region) as target:
        found = _letters(target).find(message)
        if found is None:
            fail(f"No message {message}; `tollgate notify list --all` shows the newest.")
        mail = for_operator(addressed(found, target.api), target.name)
    out().print(Text(f"{mail.subject}\n\n{mail.text}"), soft_wrap=True)


@app.command()
def replay(
    message: Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it: msg_…")],
    channel: Annotated[
        str | None, typer.Option(help="Only there, also where it was sent before. Without it: where it was given up.")
    ] = None,
    stack: StackName = None,
    profile: Profile = None,
    region: Region = None,
) -> None:
    """Send a message again, under the same id: the next run takes it."""
    with connected(stack, profile, region) as target:
        letters, now = _letters(target), time.time_ns() // 1_000_000_000
        before = letters.find(message)
        if before is None:
            fail(f"No message {message}; `tollgate notify list` shows what did not arrive.")
        after = before.replayed(channel, now)
        if after is None:
            fail(f"There is nothing to send again{'' if channel is None else f' on {channel}'}.")
        # There it would be skipped, and no longer be listed as failed.
        off = sorted(set(after.ready(now)) - _on(target))
        if off:
            fail(f"{', '.join(off)} is off: turn it on first, or name another channel with --channel.")
        if letters.replace(before, after, now) is None:
            fail("A run has it in its hands just now; the same command again in a minute.")
    note(f"{message} is due again.")


@app.command("test")
def try_out(stack: StackName = None, profile: Profile = None, region: Region = None) -> None:
    """Put a test message for the operator in the outbox."""
    with connected(stack, profile, region) as target:
        now_ms = time.time_ns() // 1_000_000
        outbox = OutboxTable(target.env["TOLLGATE_BILLING_TABLE"], lambda: now_ms)
        outbox.put(Alert(f"test#{now_ms}", "test", "", "This is a test", "Messages arrive here.", now_ms))
    note("Put; the next run delivers it, within a minute.")


def _change(target: Target, change: Callable[[Settings], Settings]) -> Settings:
    store = ChannelTable(target.env["TOLLGATE_CONFIG_TABLE"])
    settings, rev = store.settings()
    try:
        after = change(settings)
    except WrongChannel as wrong:
        _refuse(f"Nothing was changed: {wrong}.")
    if not store.put_settings(after, rev):
        fail("Somebody else changed the channels meanwhile; the same command again.")
    return after


def _ways(letter: Letter) -> dict[str, Delivery]:
    """By channel; one row, too, of a message that nobody has looked at yet, or that no channel wanted."""
    if letter.deliveries is None:
        return {"": Delivery("new", letter.put_at)}
    return dict(letter.deliveries) or {"": Delivery("no channel", letter.put_at)}


def _on(target: Target) -> set[str]:
    """The channels that something is sent to."""
    store = ChannelTable(target.env["TOLLGATE_CONFIG_TABLE"])
    return {*store.settings()[0].channels, *(one.id for one in store.endpoints() if one.disabled is None)}


def _quiet(there: Quiet | None, hours: str | None, timezone: str | None) -> Quiet | None:
    """Quiet hours after a change; what is not named stays. Raises WrongChannel."""
    if hours == "none":
        return None
    if there is not None:
        return Quiet.parse(there.text if hours is None else hours, timezone or there.timezone)
    if hours is None:
        raise WrongChannel("a timezone is of quiet hours, and there are none: name them, too, with --quiet")
    return Quiet.parse(hours, timezone or "UTC")


def _refuse(text: str) -> NoReturn:
    fail(text, WRONG)


def _server(text: str, security: str, user: str | None) -> Smtp:
    host, _, port = text.rpartition(":")
    if not host or not (port.isascii() and port.isdecimal() and 1 <= int(port) <= 65_535):
        raise WrongChannel(f"{text!r} is no mail server; write HOST:PORT")
    return Smtp(host, int(port), security, user)


def _letters(target: Target) -> LetterTable:
    return LetterTable(target.env["TOLLGATE_BILLING_TABLE"])


def _ssm(target: Target, profile: str | None, region: str | None) -> Any:
    if target.local:
        return boto3.client("ssm", endpoint_url=target.sqs)
    return boto3.session.Session(profile_name=profile, region_name=region).client("ssm")
