"""The Stripe double in this process, driven by the official SDK, its clock in the test's hands."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from local.stripe_double.testing import Account, account, sdk


@pytest.fixture(scope="session")
def served() -> Iterator[Account]:
    """One server for all tests: starting one takes longer than most of them."""
    with account() as opened:
        yield opened


@pytest.fixture
def stripe_account(served: Account) -> Account:
    """An empty account at noon, with default settings."""
    with served.double.lock:
        served.double.reset()
        served.double.clock.offset_ms = 0
        served.double.configure(lag_seconds=0, latency_seconds=0, late_checks=frozenset(), tier_lines=False)
    return Account(served.double, served.url, sdk(served.url))
