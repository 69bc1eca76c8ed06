"""The template as CloudFormation will see it: translated by the library that SAM's own transform runs, without AWS."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import boto3
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

ROOT = Path(__file__).resolve().parents[2]
SERVICE_ROLES = "arn:aws:iam::aws:policy/service-role/"

Json = dict[str, Any]


def name_of(value: Any) -> str:
    """The short name of what an intrinsic points at: `GatesTable`, `BillingTable/index/due`, `parameter/x`.

    Raises ValueError for anything that names no single thing of the stack, so that a new way of writing a resource
    is looked at and not taken for a match.
    """
    if isinstance(value, dict) and len(value) == 1:
        kind, argument = next(iter(value.items()))
        if kind == "Ref" and isinstance(argument, str):
            return argument
        if kind == "Fn::GetAtt" and argument[1] in ("Arn", "QueueName"):
            return str(argument[0])
        if kind == "Fn::Sub" and isinstance(argument, str):
            text = re.sub(r"\$\{(\w+)\.Arn\}", r"\1", argument)
            text = re.sub(r"^arn:.*:parameter/tollgate/\$\{AWS::StackName\}/", "parameter/", text)
            text = text.replace("/tollgate/${AWS::StackName}/", "parameter/")
            text = re.sub(r"^arn:.*:(identity|event-bus)/\$\{(\w+)\}$", r"\1/\2", text)
            if "$" not in text and "*" not in text:
                return text
    raise ValueError(f"names no single resource of the stack: {value!r}")


class Stack:
    """template.yaml and its translation, with the questions that tests ask."""

    def __init__(self, path: Path = ROOT / "template.yaml") -> None:
        self.source: Json = yaml_parse(path.read_text())
        translated_from: Json = yaml_parse(path.read_text())
        for resource in translated_from["Resources"].values():
            properties = resource.get("Properties", {})
            for key in ("CodeUri", "ContentUri"):
                if key in properties:  # the translator wants what `sam package` would have put there
                    properties[key] = f"s3://bucket/{properties[key]}"
        session = boto3.Session(region_name="us-east-1", aws_access_key_id="none", aws_secret_access_key="none")
        known = ("AWSLambdaBasicExecutionRole", "AWSLambdaSQSQueueExecutionRole")
        managed = {name: SERVICE_ROLES + name for name in known}
        translated: Json = Translator(managed, Parser(), boto_session=session).translate(translated_from, {})
        self.resources: dict[str, Json] = translated["Resources"]
        self.parameters: dict[str, Json] = translated["Parameters"]

    def of_type(self, kind: str) -> dict[str, Json]:
        """Properties of every resource of a CloudFormation type, by logical id."""
        return {name: r["Properties"] for name, r in self.resources.items() if r["Type"] == kind}

    @property
    def functions(self) -> dict[str, Json]:
        return self.of_type("AWS::Lambda::Function")

    def folder(self, function: str) -> Path:
        """The folder that a function's code comes from."""
        uri: str = self.source["Resources"][function]["Properties"]["CodeUri"]
        return ROOT / uri

    def environment(self, function: str) -> Json:
        """Environment variables of a function, unresolved."""
        variables: Json = self.functions[function]["Environment"]["Variables"]
        return variables

    def default(self, parameter: str) -> Any:
        return self.parameters[parameter]["Default"]

    def role(self, function: str) -> tuple[str, Json]:
        """Logical id and properties of the role that a function runs as."""
        role = name_of(self.functions[function]["Role"])
        return role, self.of_type("AWS::IAM::Role")[role]

    def statements(self, function: str) -> list[Json]:
        """The inline policy statements of a function's role."""
        return [
            statement
            for policy in self.role(function)[1].get("Policies", [])
            for statement in policy["PolicyDocument"]["Statement"]
        ]

    def managed(self, function: str) -> list[str]:
        """Names of the AWS managed policies on a function's role."""
        arns = self.role(function)[1].get("ManagedPolicyArns", [])
        texts = [arn["Fn::Sub"] if isinstance(arn, dict) else arn for arn in arns]
        return sorted(str(text).rsplit("/", 1)[-1] for text in texts)

    def allowed(self, function: str) -> dict[str, list[str]]:
        """What a function may do: resource -> sorted actions."""
        allowed: dict[str, set[str]] = {}
        for statement in self.statements(function):
            actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
            resources = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
            for resource in resources:
                allowed.setdefault(name_of(resource), set()).update(actions)
        return {resource: sorted(actions) for resource, actions in sorted(allowed.items())}

    def layers(self, function: str) -> set[str]:
        """Logical ids, as written in the template, of a function's layers."""
        return {layer["Ref"] for layer in self.source["Resources"][function]["Properties"]["Layers"]}
