"""Makes the template's tables, queues and secrets in the doubles."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from local.settings import DEFAULT_STRIPE_KEY, LOCAL_WEBHOOK_SECRET, REGION, Settings, StartupError
from local.template import Queue, Stack, Table

_READY_SECONDS = 60

# CloudFormation's names that CreateTable knows too; the rest are settings of their own calls.
_CREATE_TABLE = (
    "AttributeDefinitions",
    "KeySchema",
    "GlobalSecondaryIndexes",
    "LocalSecondaryIndexes",
    "BillingMode",
    "ProvisionedThroughput",
    "StreamSpecification",
)

T = TypeVar("T")


def client(settings: Settings, service: str, read_timeout: int = 30) -> Any:
    """An SDK client of the local stack: its own endpoints, no retries, no proxy."""
    endpoint = settings.dynamodb_endpoint if service == "dynamodb" else settings.aws_url
    return boto3.session.Session().client(
        service,
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id="local",
        aws_secret_access_key="local",
        config=Config(
            retries={"total_max_attempts": 1},
            connect_timeout=2,
            read_timeout=read_timeout,
            proxies={},
            max_pool_connections=20,
        ),
    )


def _until_ready(what: str, call: Callable[[], T], stop: threading.Event) -> T:
    until = time.monotonic() + _READY_SECONDS
    while True:
        if stop.is_set():
            raise StartupError("stopped while starting")
        try:
            return call()
        except (BotoCoreError, ClientError) as problem:
            if isinstance(problem, ClientError) or time.monotonic() > until:
                raise StartupError(f"{what} does not answer: {problem}") from problem
            time.sleep(0.05)


def _create_table(dynamodb: Any, table: Table) -> None:
    arguments = {key: table.properties[key] for key in _CREATE_TABLE if key in table.properties}
    if "StreamSpecification" in arguments:
        arguments["StreamSpecification"] = {"StreamEnabled": True, **arguments["StreamSpecification"]}
    dynamodb.create_table(TableName=table.name, **arguments)
    dynamodb.get_waiter("table_exists").wait(TableName=table.name, WaiterConfig={"Delay": 1, "MaxAttempts": 30})
    ttl = table.properties.get("TimeToLiveSpecification")
    if ttl is not None:
        dynamodb.update_time_to_live(TableName=table.name, TimeToLiveSpecification=ttl)


def create_tables(dynamodb: Any, stack: Stack) -> None:
    """Create the template's tables with their indexes and TTL.

    Tables that a DynamoDB of the user's own already has are emptied by making them anew: every start is a fresh stack.
    """
    existing = set()
    for page in dynamodb.get_paginator("list_tables").paginate():
        existing.update(page["TableNames"])
    for table in stack.tables:
        if table.name in existing:
            dynamodb.delete_table(TableName=table.name)
            dynamodb.get_waiter("table_not_exists").wait(
                TableName=table.name, WaiterConfig={"Delay": 1, "MaxAttempts": 30}
            )
        _create_table(dynamodb, table)


def create_queues(sqs: Any, queues: tuple[Queue, ...]) -> None:
    """Create the template's queues, dead letter queues before the queues that name them."""
    for queue in sorted(queues, key=lambda one: "RedrivePolicy" in one.attributes):
        url = sqs.create_queue(QueueName=queue.name, Attributes=dict(queue.attributes))["QueueUrl"]
        if url != queue.url:
            raise StartupError(f"The AWS double calls {queue.name} {url}, functions would call it {queue.url}.")


def create_secrets(ssm: Any, stack: Stack, stripe_key: str) -> None:
    """Store the secrets under the names that the template gives functions."""
    values = {
        "TOLLGATE_SIGNING_SECRET_PARAMETER": secrets.token_urlsafe(32),
        "TOLLGATE_STRIPE_SECRET_PARAMETER": stripe_key,
        "TOLLGATE_WEBHOOK_SECRETS_PARAMETER": LOCAL_WEBHOOK_SECRET,
    }
    for variable, value in values.items():
        name = stack.environment(variable)
        if name is not None:
            ssm.put_parameter(Name=name, Value=value, Type="SecureString", Overwrite=True)


def provision(settings: Settings, stack: Stack, stop: threading.Event) -> None:
    """Make everything that functions expect to find; `stop` ends the wait for a double that is not up yet.

    Raises StartupError where a double or a DynamoDB does not answer, or refuses what the template asks for.
    """
    sqs = client(settings, "sqs")
    _until_ready("The AWS double", sqs.list_queues, stop)
    dynamodb = client(settings, "dynamodb")
    _until_ready(f"DynamoDB at {settings.dynamodb_endpoint}", dynamodb.list_tables, stop)
    try:
        create_tables(dynamodb, stack)
        create_queues(sqs, stack.queues)
        create_secrets(client(settings, "ssm"), stack, settings.stripe_key or DEFAULT_STRIPE_KEY)
    except (BotoCoreError, ClientError) as problem:
        raise StartupError(f"{settings.template.name} cannot be provisioned: {problem}") from problem
