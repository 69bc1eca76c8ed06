"""The secrets of a stack in SSM Parameter Store: what they are called, what is wrong with them, how they change."""

from __future__ import annotations

import json
import re
import secrets
from typing import Any, Final, Literal

from tollgate.errors import WrongStripeKey
from tollgate.stripe_api.key import of_mode
from tollgate.webhooks.keyring import NoSecrets, secrets_in
from tollgate_cli.stripe_connect import secrets_parameter
from tollgate_cli.stripe_target import key_parameter

Which = Literal["signing", "stripe", "webhook"]
WEBHOOK: Final = re.compile(r"^whsec_\w+$", re.ASCII)
MOST_WEBHOOK: Final = 8
"""Two destinations, each in the middle of a rotation, and some to spare; each one costs a hash for each delivery."""


class WrongSecret(Exception):
    """What was given is no such secret; the text says what is wanted, never the value."""


def names(stack: str) -> dict[Which, str]:
    """Parameter names, as template.yaml has them."""
    return {
        "signing": f"/tollgate/{stack}/signing-secret",
        "stripe": key_parameter(stack),
        "webhook": secrets_parameter(stack),
    }


def read(ssm: Any, name: str) -> tuple[str, str] | None:
    """Type and value of a parameter, None if there is none. Raises ClientError for other trouble."""
    try:
        parameter = ssm.get_parameter(Name=name, WithDecryption=True)["Parameter"]
    except ssm.exceptions.ParameterNotFound:
        return None
    return str(parameter["Type"]), str(parameter["Value"])


def problems(ssm: Any, stack: str, mode: str) -> list[str]:
    """What keeps a stack from working, one sentence each; never a secret's value. Webhook secrets may be missing: they
    come from Stripe once the stack has an address."""
    found = []
    for which, name in names(stack).items():
        there = read(ssm, name)
        if there is None:
            if which != "webhook":
                found.append(f"{name} is missing")
        elif there[0] != "SecureString":
            found.append(f"{name} is a {there[0]}; it must be a SecureString")
        elif which == "stripe" and (trouble := _of_other_mode(there[1], mode, name)):
            found.append(trouble)
        elif which == "webhook" and not _readable(there[1]):
            found.append(f"{name} holds something that is no webhook secret (whsec_…)")
    return found


def make_signing(ssm: Any, stack: str, *, again: bool = False) -> bool:
    """Make the signing secret unless there is one; `again`: in place of the one there is. Whether one was made."""
    name = names(stack)["signing"]
    if not again and read(ssm, name) is not None:
        return False
    _put(ssm, name, secrets.token_urlsafe(48))
    return True


def put_stripe(ssm: Any, stack: str, key: str, mode: str) -> None:
    """Store Stripe's key. Raises WrongSecret for one that is not of this mode, before anything is stored."""
    if trouble := _of_other_mode(key, mode, "what was given"):
        raise WrongSecret(trouble)
    _put(ssm, names(stack)["stripe"], key)


def webhook_secrets(ssm: Any, stack: str) -> list[str]:
    """Those that deliveries may be signed with, newest first."""
    there = read(ssm, names(stack)["webhook"])
    return [] if there is None or not _readable(there[1]) else list(secrets_in(there[1]))


def add_webhook(ssm: Any, stack: str, *added: str) -> list[str]:
    """Accept more webhook secrets besides those there are; what is accepted now. Repeating it is harmless. Raises
    WrongSecret."""
    if not added or not all(WEBHOOK.match(one) for one in added):
        raise WrongSecret("that is no webhook secret of Stripe (whsec_…)")
    accepted = list(dict.fromkeys((*added, *webhook_secrets(ssm, stack))))
    if len(accepted) > MOST_WEBHOOK:
        raise WrongSecret(f"{MOST_WEBHOOK} webhook secrets are accepted at most: drop old ones first")
    _put(ssm, names(stack)["webhook"], json.dumps(accepted))
    return accepted


def drop_webhook(ssm: Any, stack: str, ending: str) -> list[str]:
    """Accept a webhook secret no more, the one that ends so; what is accepted now. Raises WrongSecret where not
    exactly one does, or it is the last."""
    accepted = webhook_secrets(ssm, stack)
    meant = [one for one in accepted if ending and one.endswith(ending)]
    if len(meant) != 1:
        raise WrongSecret(f"{len(meant)} of {len(accepted)} accepted webhook secrets end so: name one")
    left = [one for one in accepted if one not in meant]
    if not left:
        raise WrongSecret("it is the last one: every delivery would be refused")
    _put(ssm, names(stack)["webhook"], json.dumps(left))
    return left


def _of_other_mode(key: str, mode: str, where: str) -> str | None:
    try:
        of_mode(key, mode, where)
    except WrongStripeKey as wrong:
        return wrong.message
    return None


def _put(ssm: Any, name: str, value: str) -> None:
    ssm.put_parameter(Name=name, Type="SecureString", Value=value, Overwrite=True)


def _readable(text: str) -> bool:
    try:
        secrets_in(text)
    except NoSecrets:
        return False
    return True
