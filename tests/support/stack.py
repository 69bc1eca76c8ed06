"""The end-to-end suite's stack: one `python -m local` for the session."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from local.testing import StackProcess

MATRIX = Path(__file__).resolve().parents[1] / "infra" / "permissions.yaml"

# Real Stripe shows a meter event in its summaries after a while; code that cannot wait for it must fail here.
STRIPE_LAG_SECONDS = "90"
_PASSED_ON = ("TOLLGATE_SEAL_SECONDS", "TOLLGATE_SEAL_GRACE_SECONDS", "TOLLGATE_RUNTIME_LOOP", "TOLLGATE_CATALOG")


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackProcess]:
    """A running stack. At the end it is stopped, and no process of it may be left.

    TOLLGATE_STRIPE_LAG_SECONDS changes the double's lag; AWS_ENDPOINT_URL_DYNAMODB runs the suite on another DynamoDB.
    """
    yield from running(tmp_path_factory.mktemp("stack"), {})


def running(state: Path, own: Mapping[str, str]) -> Iterator[StackProcess]:
    """A stack that ends with the fixture; `own`: environment besides what is passed on."""
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | dict(own)
    environment["TOLLGATE_STRIPE_LAG_SECONDS"] = os.environ.get("TOLLGATE_STRIPE_LAG_SECONDS", STRIPE_LAG_SECONDS)
    stack = StackProcess(state, environment).wait_ready()
    try:
        yield stack
        if not os.environ.get("AWS_ENDPOINT_URL_DYNAMODB"):
            assert beyond_rights(stack.aws_calls()) == [], "calls that the template's policies do not allow"
    finally:
        stack.stop()


def beyond_rights(calls: Iterable[tuple[str, str, str]]) -> list[str]:
    """Calls that functions made on the stack without having the right to, by the committed matrix of policies."""
    allowed = {
        (_folder(function), action, resource)
        for function, rights in yaml.safe_load(MATRIX.read_text(encoding="utf-8")).items()
        for resource, actions in rights["allow"].items()
        for action in actions
    }
    functions = {function for function, _, _ in allowed}
    return [
        f"{function}: {action} on {resource}"
        for function, action, resource in sorted(calls)
        if function in functions and (function, action, _logical(resource)) not in allowed
    ]


def _folder(function: str) -> str:
    """The folder of a function, from its name in the template: the name that calls are made under."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", function.removesuffix("Function")).lower()


def _logical(resource: str) -> str:
    """The matrix's name of a local resource."""
    if resource.startswith("/"):
        return f"parameter/{resource.rpartition('/')[2]}"
    name = resource.removeprefix("tollgate-local-")
    queues = {"flush.fifo": "FlushQueue", "stripe-events": "StripeEventsQueue", "reconcile.fifo": "ReconcileQueue"}
    return queues.get(name, name)
