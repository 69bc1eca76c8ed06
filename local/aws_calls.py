"""Who called what: the rights that each caller of the AWS double would have needed."""

from __future__ import annotations

import json
import re
from typing import Any

from local.wire import Request

_CREDENTIAL = re.compile(r"Credential=([^/]+)/")
_PARTS = {"Put": "PutItem", "Update": "UpdateItem", "Delete": "DeleteItem", "ConditionCheck": "ConditionCheckItem"}
_SQS = {"SendMessageBatch": "SendMessage", "DeleteMessageBatch": "DeleteMessage"}


class Calls:
    """The distinct (caller, action, resource) seen. A transaction needs the rights of its parts, as AWS documents."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, str, str]] = set()

    def note(self, request: Request) -> None:
        """Remember a call; one without a target or a readable body is no call of the SDK's JSON protocols."""
        service, _, operation = request.headers.get("x-amz-target", "").partition(".")
        caller = _CREDENTIAL.search(request.headers.get("authorization", ""))
        if not operation or caller is None:
            return
        body = json.loads(request.body or b"{}")
        for action, resource in _needs(service, operation, body):
            self._seen.add((caller.group(1), action, resource))

    def listed(self) -> list[list[str]]:
        return [list(call) for call in sorted(self._seen)]


def _needs(service: str, operation: str, body: dict[str, Any]) -> list[tuple[str, str]]:
    if service.startswith("DynamoDB"):
        if operation == "TransactWriteItems":
            parts = [(kind, part["TableName"]) for item in body["TransactItems"] for kind, part in item.items()]
            return [(f"dynamodb:{_PARTS[kind]}", table) for kind, table in parts]
        if operation == "BatchGetItem":
            return [(f"dynamodb:{operation}", table) for table in body["RequestItems"]]
        table = body.get("TableName", "")
        index = body.get("IndexName")
        return [(f"dynamodb:{operation}", f"{table}/index/{index}" if index else table)]
    if service == "AmazonSQS":
        return [(f"sqs:{_SQS.get(operation, operation)}", body.get("QueueUrl", "").rpartition("/")[2])]
    return [(f"ssm:{operation}", body.get("Name", ""))]
