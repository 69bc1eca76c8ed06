"""template.yaml, read the way a deployment reads it: translated by samtranslator, with every reference resolved.

A mistake in the template stops the local stack here, with one message.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.intrinsics import Resolver, Unresolved
from local.settings import ACCOUNT_ID, REGION, STACK_NAME, Settings, StartupError

_FUNCTION_IN_URI = re.compile(r"functions/\$\{(\w+)\.(?:Arn|Alias)\}/invocations")
_RATE = re.compile(r"rate\((\d+) (minute|hour|day)s?\)")
_UNIT_SECONDS = {"minute": 60, "hour": 3600, "day": 86400}
_METHODS = {"get", "post", "put", "patch", "delete", "head", "options"}
_ANY = "x-amazon-apigateway-any-method"
_MAX_TIMEOUT = 900


@dataclass(frozen=True, slots=True)
class Function:
    """A Lambda function. `name` is its folder's name, the word that people and URLs use."""

    name: str
    logical_id: str
    folder: Path
    handler: str
    timeout_seconds: int
    memory_mb: int
    environment: Mapping[str, str]
    layers: tuple[Path, ...]

    @property
    def physical_name(self) -> str:
        return f"{STACK_NAME}-{self.name}"

    @property
    def arn(self) -> str:
        return f"arn:aws:lambda:{REGION}:{ACCOUNT_ID}:function:{self.physical_name}"


@dataclass(frozen=True, slots=True)
class Route:
    """An HTTP API route. Method "ANY" takes every method; path "$default" takes what no other route takes."""

    method: str
    path: str
    function: str

    @property
    def key(self) -> str:
        return "$default" if self.path == "$default" else f"{self.method} {self.path}"


@dataclass(frozen=True, slots=True)
class QueueMapping:
    """A queue that feeds a function."""

    queue: str
    function: str
    batch_size: int
    report_item_failures: bool
    concurrency: int
    """Most invocations at once."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A rule that runs a function every so often with a constant event."""

    logical_id: str
    function: str
    every_seconds: int
    event: Any
    """The rule's Input, or None: then the function gets EventBridge's own event."""


@dataclass(frozen=True, slots=True)
class Table:
    """A DynamoDB table; `properties` are CloudFormation's, resolved."""

    logical_id: str
    name: str
    properties: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Queue:
    """An SQS queue; `attributes` as SQS wants them."""

    logical_id: str
    name: str
    url: str
    arn: str
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Stack:
    """Everything of the template that runs or is stored."""

    functions: Mapping[str, Function]
    routes: tuple[Route, ...]
    mappings: tuple[QueueMapping, ...]
    schedules: tuple[Schedule, ...]
    tables: tuple[Table, ...]
    queues: tuple[Queue, ...]
    urls: frozenset[str] = frozenset()
    """Functions that have a URL of their own."""

    def environment(self, name: str) -> str | None:
        """The value of an environment variable that some function has; they agree, for it names one thing."""
        return next((f.environment[name] for f in self.functions.values() if name in f.environment), None)


class _NoManagedPolicies:
    """samtranslator asks AWS for managed policies' names; the local stack has no policies."""

    def load(self) -> dict[str, str]:
        return {}


def _translate(path: Path, parameters: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str], dict[str, str]]:
    """The translated template, and the local folders of functions and of layers by logical id."""
    # samtranslator's partition and region come from the SDK's session; nothing is called.
    os.environ.setdefault("AWS_DEFAULT_REGION", REGION)
    # Its import takes half a second, which the AWS double's start overlaps.
    import yaml
    from samtranslator.public.exceptions import InvalidDocumentException
    from samtranslator.translator.transform import transform
    from samtranslator.yaml_helper import yaml_parse

    try:
        source = yaml_parse(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as problem:
        raise StartupError(f"{path.name} is not YAML: {problem}") from None
    if not isinstance(source, dict) or not isinstance(source.get("Resources"), dict):
        raise StartupError(f"{path.name} has no Resources.")
    default_folder = source.get("Globals", {}).get("Function", {}).get("CodeUri")
    folders: dict[str, str] = {}
    layers: dict[str, str] = {}
    for logical_id, resource in source["Resources"].items():
        properties = resource.get("Properties") or {}
        # The translator accepts only uploaded code; the folder is kept aside.
        if resource.get("Type") == "AWS::Serverless::Function":
            folder = properties.get("CodeUri", default_folder)
            if not isinstance(folder, str):
                raise StartupError(f"{path.name}: {logical_id} has no CodeUri.")
            folders[logical_id] = folder
            properties["CodeUri"] = f"s3://local/{logical_id}"
        elif resource.get("Type") == "AWS::Serverless::LayerVersion":
            layers[logical_id] = properties.get("ContentUri", "")
            properties["ContentUri"] = f"s3://local/{logical_id}"
    try:
        return transform(source, dict(parameters), _NoManagedPolicies()), folders, layers
    except InvalidDocumentException as problem:
        causes = "; ".join(sorted(cause.message for cause in problem.causes))
        raise StartupError(f"{path.name} is wrong: {causes}") from None


class _Reader:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._file = settings.template.name
        # Values for parameters that the template may or may not have.
        wanted = {
            "Stage": "local",
            "Mode": "test",
            "SealSeconds": str(settings.seal_seconds),
            "SealGraceSeconds": str(settings.seal_grace_seconds),
        }
        self._template, self._folders, self._layer_folders = _translate(settings.template, wanted)
        self._resources: dict[str, Any] = self._template["Resources"]
        declared = self._template.get("Parameters", {})
        values = {name: value for name, value in wanted.items() if name in declared} | {
            "AWS::Region": REGION,
            "AWS::AccountId": ACCOUNT_ID,
            "AWS::StackName": STACK_NAME,
            "AWS::StackId": f"arn:aws:cloudformation:{REGION}:{ACCOUNT_ID}:stack/{STACK_NAME}/local",
            "AWS::Partition": "aws",
            "AWS::URLSuffix": "amazonaws.com",
        }
        self._resolver = Resolver(self._template, values, self._attribute)

    # ---- names -------------------------------------------------------------------------------------------------------

    def _attribute(self, logical_id: str, name: str) -> str | None:
        resource = self._resources[logical_id]
        kind, properties = resource["Type"], resource.get("Properties", {})
        known: dict[str, str] = {}
        if kind == "AWS::DynamoDB::Table":
            table = self._resolver.text(properties.get("TableName", f"{STACK_NAME}-{logical_id}"))
            known = {"Ref": table, "Arn": f"arn:aws:dynamodb:{REGION}:{ACCOUNT_ID}:table/{table}"}
        elif kind == "AWS::SQS::Queue":
            suffix = ".fifo" if properties.get("FifoQueue") else ""
            queue = self._resolver.text(properties.get("QueueName", f"{STACK_NAME}-{logical_id}{suffix}"))
            url = f"{self._settings.aws_url}/{ACCOUNT_ID}/{queue}"
            arn = f"arn:aws:sqs:{REGION}:{ACCOUNT_ID}:{queue}"
            known = {"Ref": url, "QueueUrl": url, "QueueName": queue, "Arn": arn}
        elif kind == "AWS::Lambda::Function":
            function = f"{STACK_NAME}-{self._folder_name(logical_id)}"
            known = {"Ref": function, "Arn": f"arn:aws:lambda:{REGION}:{ACCOUNT_ID}:function:{function}"}
        elif kind == "AWS::ApiGatewayV2::Api":
            known = {"Ref": "local", "ApiEndpoint": self._settings.api_url}
        elif kind == "AWS::SNS::Topic":
            arn = f"arn:aws:sns:{REGION}:{ACCOUNT_ID}:{STACK_NAME}-{logical_id}"
            known = {"Ref": arn, "TopicArn": arn, "TopicName": f"{STACK_NAME}-{logical_id}"}
        elif name == "Ref":
            known = {"Ref": f"{STACK_NAME}-{logical_id}"}
        elif name == "Arn":
            known = {"Arn": f"arn:aws:local:{REGION}:{ACCOUNT_ID}:{STACK_NAME}-{logical_id}"}
        return known.get(name)

    def _folder_name(self, logical_id: str) -> str:
        return Path(self._folders[logical_id]).name

    def _of_type(self, *kinds: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for logical_id, resource in self._resources.items():
            if resource["Type"] not in kinds:
                continue
            condition = resource.get("Condition")
            if condition is None or self._resolver.condition(condition):
                yield logical_id, resource.get("Properties", {})

    def _wrong(self, place: str, reason: str) -> StartupError:
        return StartupError(f"{self._file}: {place}: {reason}")

    def _resolve(self, place: str, value: Any) -> Any:
        try:
            return self._resolver.resolve(value)
        except Unresolved as problem:
            raise self._wrong(place, str(problem)) from None

    def _function_at(self, place: str, reference: Any) -> str:
        """The name of the function that a Ref, GetAtt or ARN names."""
        text = str(self._resolve(place, reference))
        for logical_id in self._folders:
            if text in (self._attribute(logical_id, "Arn"), self._attribute(logical_id, "Ref")):
                return self._folder_name(logical_id)
        raise self._wrong(place, f"{text} is no function of this template")

    # ---- parts -------------------------------------------------------------------------------------------------------

    def functions(self) -> Iterator[Function]:
        for logical_id, properties in self._of_type("AWS::Lambda::Function"):
            if logical_id not in self._folders:
                raise self._wrong(logical_id, "is not an AWS::Serverless::Function, so it has no folder to run")
            folder = (self._settings.template.parent / self._folders[logical_id]).resolve()
            handler = str(properties.get("Handler", ""))
            module = handler.rpartition(".")[0]
            if not module or not (folder / f"{module.replace('.', '/')}.py").is_file():
                raise self._wrong(logical_id, f"handler {handler!r} is not in {self._folders[logical_id]}")
            timeout = int(self._resolve(logical_id, properties.get("Timeout", 3)))
            if not 1 <= timeout <= _MAX_TIMEOUT:
                raise self._wrong(logical_id, f"Timeout {timeout} is not from 1 to {_MAX_TIMEOUT} seconds")
            variables = properties.get("Environment", {}).get("Variables", {})
            environment: dict[str, str] = {}
            for name, value in variables.items():
                try:
                    environment[name] = self._resolver.text(value)
                except Unresolved as problem:
                    raise self._wrong(f"{logical_id}, environment {name}", str(problem)) from None
            yield Function(
                name=self._folder_name(logical_id),
                logical_id=logical_id,
                folder=folder,
                handler=handler,
                timeout_seconds=timeout,
                memory_mb=int(self._resolve(logical_id, properties.get("MemorySize", 128))),
                environment=environment,
                layers=tuple(self._layers(logical_id, properties.get("Layers", []))),
            )

    def _layers(self, logical_id: str, references: list[Any]) -> Iterator[Path]:
        for reference in references:
            name = reference.get("Ref", "") if isinstance(reference, dict) else ""
            # The translator appends a hash to a layer's logical id.
            source = next((own for own in self._layer_folders if name.startswith(own)), None)
            if source is None:
                raise self._wrong(logical_id, f"layer {reference} is not in this template")
            yield (self._settings.template.parent / self._layer_folders[source]).resolve()

    def routes(self) -> Iterator[Route]:
        for api, properties in self._of_type("AWS::ApiGatewayV2::Api"):
            for path, methods in properties.get("Body", {}).get("paths", {}).items():
                for method, operation in methods.items():
                    if method != _ANY and method not in _METHODS:
                        continue
                    uri = operation.get("x-amazon-apigateway-integration", {}).get("uri", {})
                    found = _FUNCTION_IN_URI.search(uri.get("Fn::Sub", "") if isinstance(uri, dict) else str(uri))
                    if found is None or found[1] not in self._folders:
                        raise self._wrong(
                            f"{api}, {method} {path}", "its integration names no function of this template"
                        )
                    yield Route(
                        method="ANY" if method == _ANY else method.upper(),
                        path="$default" if path in ("/$default", "$default") else path,
                        function=self._folder_name(found[1]),
                    )

    def urls(self) -> Iterator[str]:
        for logical_id, properties in self._of_type("AWS::Lambda::Url"):
            if properties.get("AuthType") != "NONE":
                raise self._wrong(logical_id, "the local stack serves function URLs of AuthType NONE only")
            yield self._function_at(logical_id, properties["TargetFunctionArn"])

    def queues(self) -> Iterator[Queue]:
        for logical_id, properties in self._of_type("AWS::SQS::Queue"):
            resolved = self._resolve(logical_id, properties)
            name = self._attribute(logical_id, "QueueName")
            url, arn = self._attribute(logical_id, "Ref"), self._attribute(logical_id, "Arn")
            assert name is not None
            assert url is not None
            assert arn is not None
            if bool(resolved.get("FifoQueue")) != name.endswith(".fifo"):
                raise self._wrong(logical_id, f"a FIFO queue's name ends in .fifo, and no other's does ({name})")
            attributes = {
                key: _attribute_text(value)
                for key, value in resolved.items()
                if key not in ("QueueName", "Tags", "RedrivePolicy", "SqsManagedSseEnabled")
            }
            if "RedrivePolicy" in resolved:
                attributes["RedrivePolicy"] = json.dumps(resolved["RedrivePolicy"])
            yield Queue(logical_id, name, url, arn, attributes)

    def tables(self) -> Iterator[Table]:
        for logical_id, properties in self._of_type("AWS::DynamoDB::Table"):
            name = self._attribute(logical_id, "Ref")
            assert name is not None
            yield Table(logical_id, name, self._resolve(logical_id, properties))

    def mappings(self, queues: tuple[Queue, ...]) -> Iterator[QueueMapping]:
        by_arn = {queue.arn: queue.name for queue in queues}
        for logical_id, properties in self._of_type("AWS::Lambda::EventSourceMapping"):
            resolved = self._resolve(logical_id, properties)
            if not resolved.get("Enabled", True):
                continue
            queue = by_arn.get(resolved["EventSourceArn"])
            if queue is None:
                raise self._wrong(logical_id, f"{resolved['EventSourceArn']} is no queue of this template")
            yield QueueMapping(
                queue=queue,
                function=self._function_at(logical_id, properties["FunctionName"]),
                batch_size=int(resolved.get("BatchSize", 10)),
                report_item_failures="ReportBatchItemFailures" in resolved.get("FunctionResponseTypes", []),
                concurrency=int(resolved.get("ScalingConfig", {}).get("MaximumConcurrency", 2)),
            )

    def schedules(self) -> Iterator[Schedule]:
        for logical_id, properties in self._of_type("AWS::Events::Rule", "AWS::Scheduler::Schedule"):
            expression = self._resolve(logical_id, properties.get("ScheduleExpression"))
            if expression is None:
                continue  # a rule on events, not on time
            rate = _RATE.fullmatch(str(expression))
            if rate is None:
                raise self._wrong(
                    logical_id, f"{expression}: the local stack runs rate(N minutes|hours|days) schedules"
                )
            targets = properties.get("Targets") or [properties.get("Target")]
            for target in targets:
                text = self._resolve(logical_id, target.get("Input"))
                try:
                    event = None if text is None else json.loads(text)
                except ValueError as problem:
                    raise self._wrong(logical_id, f"its Input is not JSON: {problem}") from None
                yield Schedule(
                    logical_id=logical_id,
                    function=self._function_at(logical_id, target["Arn"]),
                    every_seconds=int(rate[1]) * _UNIT_SECONDS[rate[2]],
                    event=event,
                )


def _attribute_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def read_template(settings: Settings) -> Stack:
    """The stack that template.yaml describes. Raises StartupError with one message for the first mistake."""
    reader = _Reader(settings)
    functions = {function.name: function for function in reader.functions()}
    if not functions:
        raise StartupError(f"{settings.template.name} has no functions.")
    queues = tuple(reader.queues())
    return Stack(
        functions=functions,
        routes=tuple(reader.routes()),
        mappings=tuple(reader.mappings(queues)),
        schedules=tuple(reader.schedules()),
        tables=tuple(reader.tables()),
        queues=queues,
        urls=frozenset(reader.urls()),
    )
