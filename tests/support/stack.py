"""The end-to-end suite's stack: one `python -m local` for the session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.testing import StackProcess

# Real Stripe shows a meter event in its summaries after a while; code that cannot wait for it must fail here.
STRIPE_LAG_SECONDS = "90"
_PASSED_ON = ("TOLLGATE_SEAL_SECONDS", "TOLLGATE_SEAL_GRACE_SECONDS", "TOLLGATE_RUNTIME_LOOP", "TOLLGATE_CATALOG")


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackProcess]:
    """A running stack. At the end it is stopped, and no process of it may be left.

    TOLLGATE_STRIPE_LAG_SECONDS changes the double's lag; AWS_ENDPOINT_URL_DYNAMODB runs the suite on another DynamoDB.
    """
    state: Path = tmp_path_factory.mktemp("stack")
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    environment["TOLLGATE_STRIPE_LAG_SECONDS"] = os.environ.get("TOLLGATE_STRIPE_LAG_SECONDS", STRIPE_LAG_SECONDS)
    running = StackProcess(state, environment).wait_ready()
    try:
        yield running
    finally:
        running.stop()
