"""Store and check the two secrets that a stack reads from SSM.

    put STACK      ask for Stripe's secret key (or read it from standard input); make a missing signing secret
    check STACK    exit 1, naming what is missing or of the wrong mode

A script and not `aws ssm put-parameter`, so that the key stands neither in the shell's history nor in the process list.
Needs boto3, which the SAM virtualenv has: `.venv-sam/bin/python scripts/stack_secrets.py put tollgate-dev`.
"""

from __future__ import annotations

import argparse
import getpass
import re
import secrets
import sys
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

STRIPE_KEY = re.compile(r"^(sk|rk)_(test|live)_\w+$", re.ASCII)
"""Stripe's secret (sk) and restricted (rk) keys say which mode they belong to."""


def names(stack: str) -> tuple[str, str]:
    """Parameter names of a stack's signing secret and Stripe key, as template.yaml has them."""
    return f"/tollgate/{stack}/signing-secret", f"/tollgate/{stack}/stripe-secret-key"


def read(ssm: Any, name: str) -> tuple[str, str] | None:
    """Type and value of a parameter, None if there is none. Raises ClientError for other trouble."""
    try:
        parameter = ssm.get_parameter(Name=name, WithDecryption=True)["Parameter"]
    except ssm.exceptions.ParameterNotFound:
        return None
    return str(parameter["Type"]), str(parameter["Value"])


def mode_of(key: str) -> str | None:
    """`test` or `live` for a secret or restricted Stripe key, None for anything else."""
    match = STRIPE_KEY.match(key)
    return match[2] if match else None


def check(ssm: Any, stack: str, mode: str) -> list[str]:
    """What keeps the stack from working, one sentence each; never a secret's value."""
    problems = []
    for name in names(stack):
        found = read(ssm, name)
        if found is None:
            problems.append(f"{name} is missing")
        elif found[0] != "SecureString":
            problems.append(f"{name} is a {found[0]}; it must be a SecureString")
        elif name.endswith("stripe-secret-key") and mode_of(found[1]) != mode:
            problems.append(f"{name} holds no {mode} mode key of Stripe (sk_{mode}_… or rk_{mode}_…)")
    return problems


def put(ssm: Any, stack: str, key: str, mode: str) -> list[str]:
    """Store the key, and a signing secret unless there is one; returns what was done.

    Raises ValueError for a key that is not one of this mode, before anything is stored. A signing secret is never
    replaced: every open reservation's id is signed with it.
    """
    if mode_of(key) != mode:
        raise ValueError(f"that is no {mode} mode key of Stripe (sk_{mode}_… or rk_{mode}_…)")
    signing_name, stripe_name = names(stack)
    done = []
    if read(ssm, signing_name) is None:
        ssm.put_parameter(Name=signing_name, Type="SecureString", Value=secrets.token_urlsafe(48))
        done.append(f"made {signing_name}")
    ssm.put_parameter(Name=stripe_name, Type="SecureString", Value=key, Overwrite=True)
    done.append(f"stored {stripe_name}")
    return done


def main(arguments: list[str]) -> int:
    """0 done, 1 a problem with the secrets or with AWS (printed in one line each)."""
    parser = argparse.ArgumentParser(description="The secrets of a Tollgate stack in SSM.")
    parser.add_argument("action", choices=["put", "check"])
    parser.add_argument("stack", help="tollgate-dev, tollgate-staging or tollgate-prod")
    parser.add_argument(
        "--mode", choices=["test", "live"], help="Stripe's mode; live by default for tollgate-prod only"
    )
    options = parser.parse_args(arguments)
    mode = options.mode or ("live" if options.stack == "tollgate-prod" else "test")
    try:
        ssm = boto3.client("ssm")
        if options.action == "put":
            key = getpass.getpass("Stripe secret key: ") if sys.stdin.isatty() else sys.stdin.readline()
            for line in put(ssm, options.stack, key.strip(), mode):
                print(line)
            return 0
        problems = check(ssm, options.stack, mode)
    except (BotoCoreError, ClientError, ValueError) as error:
        problems = [str(error)]
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems and options.action == "check":
        print(f"Store them with: .venv-sam/bin/python scripts/stack_secrets.py put {options.stack}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
