"""The probes' side: the local double, or a sandbox where STRIPE_TEST_KEY is set; their table at the end of a sandbox's
run."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping

import pytest
from rich.console import Console

from tests.sandbox.points import POINTS, Result
from tests.sandbox.probes import carry_out, show
from tests.sandbox.side import Side, WrongKey, double, sandbox, sandbox_key
from tollgate.errors import StripeRefused, StripeUnavailable

_RESULTS = pytest.StashKey[Mapping[str, Result]]()


@pytest.fixture(scope="session")
def stripe_side() -> Iterator[Side]:
    try:
        key = sandbox_key(os.environ)
    except WrongKey as wrong:
        pytest.exit(str(wrong), 2)
    with double() if key is None else sandbox(key) as side:
        try:
            side.asked(lambda client: client.v1.customers.list({"limit": 1}))
        except (StripeRefused, StripeUnavailable) as trouble:
            pytest.exit(f"Stripe does not answer to this key: {trouble}", 2)
        yield side


@pytest.fixture(scope="session")
def results(stripe_side: Side, request: pytest.FixtureRequest) -> Mapping[str, Result]:
    """Of every point; the probes share one wait."""

    def tell(line: str) -> None:
        if stripe_side.real:
            print(line, file=sys.stderr, flush=True)

    found: dict[str, Result] = {}
    if stripe_side.real:
        request.config.stash[_RESULTS] = found
    return carry_out(stripe_side, [point.id for point in POINTS], tell, found)


def pytest_terminal_summary(config: pytest.Config) -> None:
    if _RESULTS in config.stash:
        show(config.stash[_RESULTS], "a Stripe sandbox", Console(width=None if sys.stdout.isatty() else 160))
