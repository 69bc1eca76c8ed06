"""`tollgate secrets`: a deployed stack's signing secret, Stripe key and webhook secrets, in SSM Parameter Store.

Values are asked for without echo, or read from standard input: so they stand neither in the shell's history nor in the
process list, and no command ever prints one.
"""

from __future__ import annotations

import getpass
import sys
from typing import Annotated, Any, Final, Literal

import boto3
import typer

from tollgate.errors import StripeUnavailable
from tollgate.stripe_api.client import client
from tollgate.stripe_api.key import mode_of
from tollgate.stripe_api.reading import called
from tollgate_cli import secret_store
from tollgate_cli.output import WRONG, fail, note, out, table
from tollgate_cli.secret_store import Which, WrongSecret
from tollgate_cli.target import Profile, Region, explained

app = typer.Typer(help="Store, check and rotate a deployed stack's secrets in SSM.", no_args_is_help=True)

LIVE_STACK: Final = "tollgate-prod"
Stack = Annotated[
    str, typer.Option("--stack", envvar="TOLLGATE_STACK", help="tollgate-dev, tollgate-staging or tollgate-prod.")
]
Mode = Annotated[
    Literal["test", "live"] | None, typer.Option(help="Stripe's mode; live by default for tollgate-prod only.")
]
Name = Annotated[Which, typer.Argument(metavar="signing|stripe|webhook")]


@app.command("set")
def set_secrets(
    stack: Stack,
    which: Annotated[
        Which | None,
        typer.Argument(metavar="[stripe|webhook]", help="Only this one; without it: what a new stack needs."),
    ] = None,
    mode: Mode = None,
    profile: Profile = None,
    region: Region = None,
) -> None:
    """Store what a stack needs before it is deployed: Stripe's key, and a signing secret unless there is one."""
    if which == "signing":
        fail("A signing secret is made by itself: `tollgate secrets set`. To replace it: `rotate signing`.", WRONG)
    with explained(stack):
        ssm = _ssm(profile, region)
        try:
            if which == "webhook":
                _accepted(secret_store.add_webhook(ssm, stack, *_listed("Webhook secrets, commas between")))
                return
            if secret_store.make_signing(ssm, stack):
                note(f"Made {secret_store.names(stack)['signing']}.")
            secret_store.put_stripe(ssm, stack, _asked("Stripe secret key"), mode or _mode(stack))
        except WrongSecret as wrong:
            fail(f"Nothing was stored: {wrong}.", WRONG)
    note(f"Stored {secret_store.names(stack)['stripe']}.")


@app.command()
def check(stack: Stack, mode: Mode = None, profile: Profile = None, region: Region = None) -> None:
    """Exit with 1, naming what is missing or of the wrong mode; `make deploy` asks before it deploys."""
    with explained(stack):
        problems = secret_store.problems(_ssm(profile, region), stack, mode or _mode(stack))
    for problem in problems:
        note(f"{problem}.")
    if problems:
        fail(f"Store them with: tollgate secrets set --stack {stack}")
    note(f"The secrets of {stack} are there and of {mode or _mode(stack)} mode.")


@app.command()
def rotate(
    which: Name,
    stack: Stack,
    drop: Annotated[
        str | None, typer.Option(metavar="ENDING", help="webhook: accept the secret that ends so no more.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="signing: give up the ids of all open reservations.")] = False,
    mode: Mode = None,
    profile: Profile = None,
    region: Region = None,
) -> None:
    """Replace a secret without an outage.

    stripe: the new key is tried first; functions take it up after their first 401, so expire the old one after.
    webhook: the new secret is accepted besides the old ones; --drop takes an old one out, once Stripe has stopped
    signing with it. signing: only with --force.
    """
    with explained(stack):
        ssm = _ssm(profile, region)
        try:
            if which == "stripe":
                _rotate_stripe(ssm, stack, mode or _mode(stack))
            elif which == "webhook" and drop is not None:
                _accepted(secret_store.drop_webhook(ssm, stack, drop))
            elif which == "webhook":
                _accepted(secret_store.add_webhook(ssm, stack, _asked("New webhook secret")))
            elif not force:
                fail(
                    "Ids of open reservations are signed with it: they could not be committed any more, and their "
                    "units come back when they expire (a day at most). If it leaked: --force.",
                    WRONG,
                )
            else:
                secret_store.make_signing(ssm, stack, again=True)
                note("Stored. Functions read it when they start: deploy the stack again, or wait for new ones.")
        except WrongSecret as wrong:
            fail(f"Nothing was stored: {wrong}.", WRONG)


def _rotate_stripe(ssm: Any, stack: str, mode: str) -> None:
    key = _asked("New Stripe secret key")
    if mode_of(key) == mode:
        try:
            called(lambda: client(key).v1.customers.list({"limit": 1}))
        except StripeUnavailable as trouble:
            if trouble.http_status == 401:
                fail(f"Nothing was stored: Stripe does not take this key ({trouble.message}).")
            note(f"Not tried: {trouble.message}.")
    secret_store.put_stripe(ssm, stack, key, mode)
    note("Stored. Functions read it after their first 401, or when they start: now expire the old key at Stripe.")


def _accepted(accepted: list[str]) -> None:
    """Shows the endings only."""
    out().print(table("Accepted webhook secrets", ("ends in",), [(one[-4:],) for one in accepted]))
    note("The webhook function reads them again within minutes.")


def _asked(prompt: str) -> str:
    return (getpass.getpass(f"{prompt}: ") if sys.stdin.isatty() else sys.stdin.readline()).strip()


def _listed(prompt: str) -> list[str]:
    return [one.strip() for one in _asked(prompt).split(",")]


def _mode(stack: str) -> str:
    return "live" if stack == LIVE_STACK else "test"


def _ssm(profile: str | None, region: str | None) -> Any:
    return boto3.session.Session(profile_name=profile, region_name=region).client("ssm")
