"""The OpenAPI document: committed as it is made, complete, valid, and never loaded by the gate."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from tollgate.errors import TollgateError
from tollgate.http import billing_routes, gate_routes, manage_routes
from tollgate.http.openapi import document_text
from tollgate.http.openapi_operations import OPERATIONS

ROOT = Path(__file__).parents[3]
ROUTES = (*gate_routes.ROUTES, *manage_routes.ROUTES, *billing_routes.ROUTES)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(document_text())
    return found


def operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in document["paths"].values():
        yield from path.values()


def test_the_committed_files_are_what_the_code_makes() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/openapi.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_it_is_valid_openapi(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    assert [str(error) for error in OpenAPIV31SpecValidator(document).iter_errors()] == []


def test_every_route_is_there_and_nothing_else(document: dict[str, Any]) -> None:
    found = {
        (method.upper(), path, operation["operationId"])
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert found == {(route.method, route.path, route.name) for route in ROUTES}
    assert set(OPERATIONS) == {route.name for route in ROUTES}, "openapi_operations describes what no route serves"


def test_scopes_and_public_operations(document: dict[str, Any]) -> None:
    by_name = {operation["operationId"]: operation for operation in operations(document)}
    for route in ROUTES:
        operation = by_name[route.name]
        if not route.scopes:
            assert operation["security"] == []
            assert not {"401", "403"} & set(operation["responses"])
            continue
        assert operation["security"] == [{"bearer": [scope]} for scope in route.scopes]
        assert {"401", "429"} <= set(operation["responses"])
        every_key_opens_it = {"usage", "read"} <= set(route.scopes)
        assert ("403" in operation["responses"]) != every_key_opens_it
        for scope in route.scopes:
            assert f"`{scope}`" in operation["description"]


def test_every_write_takes_an_idempotency_key(document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            names = {parameter["$ref"].rpartition("/")[2] for parameter in operation.get("parameters", ())}
            assert ("IdempotencyKey" in names) == (method != "get"), (method, path)


def test_examples_fit_their_schemas(document: dict[str, Any]) -> None:
    seen = 0
    for operation in operations(document):
        body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        for name, example in body.get("examples", {}).items():
            schema = {**body["schema"], "components": document["components"]}
            errors = [error.message for error in Draft202012Validator(schema).iter_errors(example["value"])]
            assert not errors, (operation["operationId"], name, errors)
            seen += 1
    assert seen > 10
    problem = {"$ref": "#/components/schemas/Problem", "components": document["components"]}
    for code, example in document["components"]["examples"].items():
        Draft202012Validator(problem).validate(example["value"])
        assert example["value"]["code"] == code
        assert example["value"]["detail"]


def test_links_lead_to_operations(document: dict[str, Any]) -> None:
    names = {operation["operationId"] for operation in operations(document)}
    links = {
        (operation["operationId"], link["operationId"])
        for operation in operations(document)
        for response in operation["responses"].values()
        for link in response.get("links", {}).values()
    }
    assert {target for _, target in links} <= names
    for action in ("commitReservation", "releaseReservation", "extendReservation", "getReservation"):
        assert ("createReservation", action) in links
    for action in ("getAccount", "getUsage", "listEvents", "freezeAccount"):
        assert ("putAccount", action) in links


def test_one_code_is_one_class_and_one_status() -> None:
    """Codes are stable names: no two kinds of problem share one, unless one refines the other."""
    found: dict[str, type[TollgateError]] = {}
    pending: list[type[TollgateError]] = [TollgateError]
    while pending:
        kind = pending.pop()
        pending += kind.__subclasses__()
        if "code" in vars(kind):
            assert kind.code not in found, f"{kind} and {found[kind.code]} are both `{kind.code}`"
            found[kind.code] = kind


def test_the_gate_never_loads_it() -> None:
    """Answer models and the document cost import time that the gate's cold start does not have."""
    listed = subprocess.run(
        [sys.executable, "-c", "import sys, tollgate.http.gate_routes; print(*sys.modules)"],
        env={"PYTHONPATH": str(ROOT / "layers/common")},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    loaded = {name for name in listed if name.startswith("tollgate.http")}
    assert "tollgate.http.gate_routes" in loaded
    assert not loaded & {
        "tollgate.http.schemas",
        "tollgate.http.openapi",
        "tollgate.http.openapi_document",
        "tollgate.http.openapi_operations",
        "tollgate.http.manage_routes",
    }
    assert not {"yaml", "stripe", "boto3", "jsonschema", "pydantic.json_schema.models_json_schema"} & set(listed)


def test_the_manage_function_makes_it_only_when_asked() -> None:
    code = "import sys, tollgate.http.manage_routes, tollgate.http.openapi as o"
    code += "; a = 'tollgate.http.schemas' in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; o.document_text(); print(a, 'tollgate.http.schemas' in sys.modules)"],
        env={"PYTHONPATH": str(ROOT / "layers/common")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["False", "True"]
