"""docs/deployer-policy.json covers every kind of resource in the stack, and only the stack."""

from __future__ import annotations

import json
from typing import Any

from tests.infra.translated import ROOT, Stack

STATEMENTS: list[dict[str, Any]] = json.loads((ROOT / "docs/deployer-policy.json").read_text())["Statement"]
PREFIXES = {
    "ApiGatewayV2": "apigateway",
    "CloudWatch": "cloudwatch",
    "DynamoDB": "dynamodb",
    "Events": "events",
    "IAM": "iam",
    "Lambda": "lambda",
    "Logs": "logs",
    "SNS": "sns",
    "SQS": "sqs",
}
"""CloudFormation's name of a service -> IAM's."""

LISTING_ONLY = {"TemplateSummary", "LogGroupsAreListedAsAWhole", "EventSources"}
"""Actions that AWS cannot restrict to a name of ours."""


def actions() -> list[str]:
    return [action for statement in STATEMENTS for action in statement["Action"]]


def test_the_deployer_may_manage_every_service_of_the_stack(stack: Stack) -> None:
    services = {PREFIXES[resource["Type"].split("::")[1]] for resource in stack.resources.values()}
    assert services == set(PREFIXES.values())
    assert services <= {action.partition(":")[0] for action in actions()}


def test_the_deployer_cannot_delete_or_read_a_table() -> None:
    tables = {action for action in actions() if action.startswith("dynamodb:")}
    assert not tables & {
        f"dynamodb:{verb}" for verb in ("DeleteTable", "GetItem", "Query", "Scan", "PutItem", "UpdateItem")
    }


def test_nothing_is_wider_than_it_must_be() -> None:
    assert not [action for action in actions() if "*" in action]
    for statement in STATEMENTS:
        if statement["Resource"] == "*":
            assert statement["Sid"] in LISTING_ONLY


def test_roles_are_passed_only_to_lambda_and_get_only_the_logging_policy(stack: Stack) -> None:
    conditions: dict[str, Any] = {action: s.get("Condition") for s in STATEMENTS for action in s["Action"]}
    assert conditions["iam:PassRole"] == {"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}}
    attached = {name for function in stack.functions for name in stack.managed(function)}
    (allowed,) = conditions["iam:AttachRolePolicy"]["ArnEquals"].values()
    assert {allowed.rsplit("/", 1)[-1]} == attached


NAMES = {
    "AWS::CloudWatch::Alarm": "AlarmName",
    "AWS::DynamoDB::Table": "TableName",
    "AWS::Events::Rule": "Name",
    "AWS::IAM::Role": "RoleName",
    "AWS::Lambda::Function": "FunctionName",
    "AWS::Lambda::LayerVersion": "LayerName",
    "AWS::SNS::Topic": "TopicName",
    "AWS::SQS::Queue": "QueueName",
}


def test_everything_the_policy_names_begins_with_the_stacks_name(stack: Stack) -> None:
    """The policy says `tollgate-*`. A generated name begins so by itself, but a layer's does not."""
    for kind, key in NAMES.items():
        for name, properties in stack.of_type(kind).items():
            given: Any = properties.get(key)
            if given is not None or kind == "AWS::Lambda::LayerVersion":
                assert given["Fn::Sub"].startswith("${AWS::StackName}-"), name
