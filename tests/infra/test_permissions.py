"""Least privilege: the policies equal a committed matrix, and the secrets have one reader each."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.infra.test_template import CALL_STRIPE
from tests.infra.translated import ROOT, Stack, name_of

MATRIX: dict[str, Any] = yaml.safe_load((ROOT / "tests/infra/permissions.yaml").read_text())
TABLE_VARIABLE = re.compile(r"^TOLLGATE_(\w+)_TABLE$")


def test_the_matrix_names_exactly_the_templates_functions(stack: Stack) -> None:
    assert set(MATRIX) == set(stack.functions)


@pytest.mark.parametrize("function", sorted(MATRIX))
def test_a_function_may_do_exactly_what_the_matrix_says(stack: Stack, function: str) -> None:
    expected = {resource: sorted(actions) for resource, actions in sorted(MATRIX[function]["allow"].items())}
    assert stack.allowed(function) == expected
    assert stack.managed(function) == sorted(MATRIX[function]["managed"])


def test_no_statement_is_wide_or_says_more_than_allow(stack: Stack) -> None:
    for function in stack.functions:
        for statement in stack.statements(function):
            assert statement["Effect"] == "Allow", function
            assert set(statement) <= {"Sid", "Effect", "Action", "Resource"}, function
            assert "*" not in str(statement["Action"]), function
            assert "*" not in str(statement["Resource"]), function


def test_no_two_functions_share_a_role_and_only_lambda_may_take_it(stack: Stack) -> None:
    roles = [stack.role(function) for function in stack.functions]
    assert len({name for name, _ in roles}) == len(stack.functions)
    for _, role in roles:
        (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
        assert statement["Principal"] == {"Service": ["lambda.amazonaws.com"]}


def test_each_secret_is_read_by_those_who_need_it(stack: Stack) -> None:
    readers: dict[str, set[str]] = {}
    for function in stack.functions:
        for resource, actions in stack.allowed(function).items():
            if any(action.startswith(("ssm:", "secretsmanager:", "kms:")) for action in actions):
                readers.setdefault(resource, set()).add(function)
    assert readers == {
        "parameter/stripe-secret-key": CALL_STRIPE,
        "parameter/signing-secret": {"GateFunction"},
        "parameter/webhook-secrets": {"StripeWebhookFunction"},
    }


@pytest.mark.parametrize("function", sorted(MATRIX))
def test_a_function_is_told_of_exactly_the_things_it_may_touch(stack: Stack, function: str) -> None:
    """A right without the name is a right too many; a name without the right fails at run time."""
    told = {
        name_of(value)
        for variable, value in stack.environment(function).items()
        if variable.endswith(("_TABLE", "_QUEUE_URL", "_PARAMETER"))
    }
    consumed = {
        name_of(mapping["EventSourceArn"])
        for mapping in stack.of_type("AWS::Lambda::EventSourceMapping").values()
        if name_of(mapping["FunctionName"]) == function
    }
    touched = {resource.split("/index/")[0] for resource in stack.allowed(function)}
    assert told | consumed == touched


def test_each_table_variable_names_its_own_table(stack: Stack) -> None:
    seen = set()
    for function in stack.functions:
        for variable, value in stack.environment(function).items():
            match = TABLE_VARIABLE.match(variable)
            if match:
                assert name_of(value) == f"{match[1].capitalize()}Table", (function, variable)
                seen.add(name_of(value))
    assert seen == set(stack.of_type("AWS::DynamoDB::Table"))


@pytest.mark.parametrize(
    "resource",
    [
        "*",
        {"Fn::Sub": "${EventsTable.Arn}/*"},
        {"Fn::GetAtt": ["FlushRole", "RoleId"]},
        {"Fn::Sub": "arn:aws:sqs:${AWS::Region}:x"},
    ],
)
def test_a_resource_that_is_not_understood_is_refused(resource: object) -> None:
    with pytest.raises(ValueError, match="names no single resource"):
        name_of(resource)
