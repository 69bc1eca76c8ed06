"""Which stack a command talks to: the local one, or a deployed one by its CloudFormation name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated

import boto3
import typer
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
    ProfileNotFound,
)

from tollgate import dynamo
from tollgate.errors import TollgateError
from tollgate_cli.output import fail

LOCAL_STACK = "tollgate-local"
DEFAULT_PORT = 8787
TABLES = {
    "TOLLGATE_GATES_TABLE": "GatesTable",
    "TOLLGATE_EVENTS_TABLE": "EventsTable",
    "TOLLGATE_BILLING_TABLE": "BillingTable",
    "TOLLGATE_ACCOUNTS_TABLE": "AccountsTable",
    "TOLLGATE_CONFIG_TABLE": "ConfigTable",
}
"""Functions' variables and the template's tables; a deployed stack's outputs are called like these, plus `Name`."""

StackName = Annotated[
    str | None,
    typer.Option(
        "--stack",
        envvar="TOLLGATE_STACK",
        metavar="NAME",
        help="A deployed stack, such as tollgate-dev. Without it: the local stack (make run).",
        rich_help_panel="Target",
    ),
]
Profile = Annotated[
    str | None, typer.Option(help="AWS profile for --stack; else the environment decides.", rich_help_panel="Target")
]
Region = Annotated[
    str | None, typer.Option(help="AWS region for --stack; else the environment decides.", rich_help_panel="Target")
]


@dataclass(frozen=True, slots=True)
class Target:
    """A stack within reach. `env`: the environment its functions read; `mode`: test or live."""

    name: str
    env: Mapping[str, str]
    mode: str
    local: bool
    where: str
    outputs: Mapping[str, str] = field(default_factory=dict)
    """A deployed stack's outputs."""
    sqs: str | None = None
    """Where a local stack's queues are."""
    api: str = ""
    """Where its HTTP API answers."""


@contextmanager
def connected(stack: str | None, profile: str | None, region: str | None) -> Iterator[Target]:
    """The target of a command, with the process's AWS environment set for it; as `explained`."""
    with explained(stack):
        yield _local() if stack is None else _deployed(stack, profile, region)


@contextmanager
def explained(stack: str | None) -> Iterator[None]:
    """What goes wrong inside ends the command with a sentence that says what to do (exit code 1)."""
    local = stack is None
    try:
        yield
    except TollgateError as error:
        fail(error.detail)
    except (EndpointConnectionError, ConnectTimeoutError) as error:
        hint = "Start it with `make run`" if local else "Check the network and the region"
        fail(f"No DynamoDB answers ({error}). {hint}{', or name a deployed stack with --stack' if local else ''}.")
    except NoCredentialsError:
        fail("No AWS credentials found. Sign in, or name a profile with --profile.")
    except NoRegionError:
        fail("No AWS region is set. Name one with --region, or set AWS_REGION.")
    except ProfileNotFound as error:
        fail(f"{error}. `aws configure list-profiles` shows what there is.")
    except ClientError as error:
        fail(_sentence(error, stack))
    except BotoCoreError as error:
        fail(f"AWS did not answer: {error}")


def _local() -> Target:
    text = os.environ.get("TOLLGATE_PORT", str(DEFAULT_PORT))
    if not text.isdecimal() or not 1024 <= int(text) <= 65533:
        fail(f"TOLLGATE_PORT={text!r} is not a port from 1024 to 65533.", 2)
    endpoint = os.environ.get("AWS_ENDPOINT_URL_DYNAMODB") or f"http://127.0.0.1:{int(text) + 2}"
    # The doubles take any credentials; none of the user's own is ever sent to them.
    _point_sdk(
        {
            "AWS_ENDPOINT_URL_DYNAMODB": endpoint,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_SESSION_TOKEN": "local",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_PROFILE": None,
        }
    )
    env = {variable: f"{LOCAL_STACK}-{table}" for variable, table in TABLES.items()}
    there = f"http://127.0.0.1:{int(text)}"
    return Target(LOCAL_STACK, env, "test", True, endpoint, sqs=f"http://127.0.0.1:{int(text) + 2}", api=there)


def _deployed(stack: str, profile: str | None, region: str | None) -> Target:
    session = boto3.session.Session(profile_name=profile, region_name=region)
    described = session.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in described.get("Outputs", ())}
    missing = [f"{table}Name" for table in TABLES.values() if f"{table}Name" not in outputs]
    if missing:
        fail(f"Stack {stack} has no output {', '.join(missing)}: it is no Tollgate stack, or not deployed to its end.")
    mode = next((one["ParameterValue"] for one in described.get("Parameters", ()) if one["ParameterKey"] == "Mode"), "")
    if mode not in ("test", "live"):
        fail(f"Stack {stack} has no parameter Mode of test or live: it is no Tollgate stack.")
    found = {"AWS_DEFAULT_REGION": session.region_name, "AWS_REGION": session.region_name}
    _point_sdk({**found, "AWS_PROFILE": profile} if profile else found)
    env = {variable: outputs[f"{table}Name"] for variable, table in TABLES.items()}
    return Target(stack, env, mode, False, session.region_name, outputs, api=outputs.get("ApiUrl", ""))


def _point_sdk(environment: Mapping[str, str | None]) -> None:
    """Set the variables that the product's own SDK session reads; this process serves one command."""
    for name, value in environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    dynamo.session.cache_clear()
    dynamo.client.cache_clear()


def _sentence(error: ClientError, stack: str | None) -> str:
    code, message = error.response["Error"]["Code"], error.response["Error"]["Message"]
    if code == "ResourceNotFoundException":
        hint = "Is it a Tollgate stack that started to its end?" if stack is None else f"Deploy {stack} again."
        return f"A table is missing ({message}). {hint}"
    if code == "ValidationError" and "does not exist" in message:
        return f"{message}. `aws cloudformation list-stacks` shows what there is; check --region and --profile, too."
    if code in ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation"):
        return f"AWS refuses this ({message}). The operator needs to read the stack and to use its tables."
    if code in ("ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException"):
        return f"AWS does not take these credentials ({message}). Sign in again."
    return f"AWS answered {code}: {message}"
