"""`tollgate stripe connect`: the two webhook destinations of a deployed stack, and their secrets."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Final

import boto3
import typer
from botocore.exceptions import ClientError

from tollgate.errors import StripeRefused, StripeUnavailable
from tollgate.stripe_api.client import STRIPE_VERSION
from tollgate.stripe_api.endpoints import StripeDestinations
from tollgate.webhooks.connect import Step, apply, plan, wanted
from tollgate.webhooks.dispatch import TYPES
from tollgate.webhooks.keyring import NoSecrets, secrets_in
from tollgate_cli.output import fail, note, out, table
from tollgate_cli.stripe_target import stripe_of
from tollgate_cli.target import Profile, Region, StackName, connected

CHANGES: Final = ("create", "update", "replace", "remove")
OUTPUT: Final = "StripeWebhookUrl"


def command(
    do: Annotated[bool, typer.Option("--apply", help="Make the changes. Without it they are only shown.")] = False,
    stack: StackName = None,
    profile: Profile = None,
    region: Region = None,
) -> None:
    """Show, or with --apply make, what Stripe lacks to deliver its events to a deployed stack.

    Two destinations, snapshots with the pinned API version and thin events, of exactly the types that are handled;
    their secrets go to the stack's parameter. Repeating is harmless, also after a crash.
    """
    with connected(stack, profile, region) as target:
        if target.local:
            note("The local stack connects its Stripe double by itself; name a deployed stack with --stack.")
            return
        stripe = stripe_of(target)
        session = boto3.session.Session(profile_name=profile, region_name=region)
        url = _webhook_url(session, target.name)
        store = ParameterSecrets(session.client("ssm"), secrets_parameter(target.name))
        port = StripeDestinations(stripe.connection)
        steps = plan(wanted(url, TYPES, STRIPE_VERSION), port.all(), target.name, store.read())
        _show(f"{target.name} at {stripe.where}", steps)
        counted = Counter(step.kind for step in steps)
        changes = sum(counted[kind] for kind in CHANGES)
        if not changes:
            note("Both destinations are as they should be.")
            return
        if not do:
            note(f"{changes} would change. Nothing was changed: --apply does it.")
            return
        done: list[Step] = []
        try:
            apply(port, store, steps, target.name, done.append)
        except (StripeRefused, StripeUnavailable) as trouble:
            fail(f"{trouble.detail} {len(done)} of {changes} changes are made; run the command again for the rest.")
        note(f"Done: {changes} changed. Deliveries are verified with the new secrets within minutes.")


def secrets_parameter(stack: str) -> str:
    """The SSM parameter of a stack's webhook secrets, as template.yaml has it."""
    return f"/tollgate/{stack}/webhook-secrets"


class ParameterSecrets:
    """`Secrets` in an SSM SecureString: a JSON list."""

    def __init__(self, ssm: Any, name: str) -> None:
        self._ssm, self._name = ssm, name

    def read(self) -> tuple[str, ...]:
        """Those that are stored; none where there is no parameter yet, or one that holds none."""
        try:
            text = self._ssm.get_parameter(Name=self._name, WithDecryption=True)["Parameter"]["Value"]
        except ClientError as error:
            if error.response["Error"]["Code"] == "ParameterNotFound":
                return ()
            raise
        try:
            return secrets_in(text)
        except NoSecrets:
            return ()

    def write(self, secrets: Sequence[str]) -> None:
        self._ssm.put_parameter(Name=self._name, Value=json.dumps(list(secrets)), Type="SecureString", Overwrite=True)


def _webhook_url(session: Any, stack: str) -> str:
    described = session.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in described.get("Outputs", ())}
    if OUTPUT not in outputs:
        fail(f"Stack {stack} has no output {OUTPUT}: deploy this release first.")
    return str(outputs[OUTPUT])


def _show(title: str, steps: Iterable[Step]) -> None:
    rows = [
        (step.kind, step.wanted.payload, step.found.id if step.found else step.wanted.url, step.why) for step in steps
    ]
    out().print(table(title, ("", "events", "destination", "detail"), rows))
