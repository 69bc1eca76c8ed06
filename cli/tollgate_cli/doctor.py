"""`tollgate doctor`: looks a stack over and says what is wrong with it, and what mends it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any, Final

import boto3
import httpx
import typer

from tollgate.clock import system_clock
from tollgate_cli.checks import Finding, Patient, examine
from tollgate_cli.output import FAILED, note, out, table
from tollgate_cli.target import Profile, Region, StackName, Target, connected

ANSWER_S: Final = 10


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Findings as JSON, for machines.")] = False,
    stack: StackName = None,
    profile: Profile = None,
    region: Region = None,
) -> None:
    """Check settings, secrets, webhooks, meters, clocks, schedules, dead letters and the outbox. Changes nothing.

    Exits with 1 if something is wrong. docs/operations.md explains each check.
    """
    with connected(stack, profile, region) as target, httpx.Client(timeout=ANSWER_S) as http:
        found = examine(patient_of(target, http))
    if as_json:
        print(json.dumps({"stack": target.name, "findings": [asdict(one) for one in found]}, indent=2))
    else:
        _show(target, found)
    if any(one.state == "problem" for one in found):
        raise typer.Exit(FAILED)


def patient_of(target: Target, http: httpx.Client) -> Patient:
    session = boto3.session.Session()

    def client(service: str) -> Any:
        return session.client(service, endpoint_url=target.sqs)  # None, deployed: AWS's own

    described = {}
    if not target.local:
        described = client("cloudformation").describe_stacks(StackName=target.name)["Stacks"][0]
    return Patient(target, client, http, system_clock, described)


def _show(target: Target, found: list[Finding]) -> None:
    rows = [(one.check, one.state, one.says, one.fix or None) for one in found]
    out().print(table(f"Examination of {target.name}", ("check", "", "what is so", "what mends it"), rows))
    wrong = sum(one.state == "problem" for one in found)
    note("Nothing is wrong." if not wrong else f"{wrong} problems; docs/operations.md explains each check.")
