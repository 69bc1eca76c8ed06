"""`tollgate smoke` on a stack of its own, where accounts get their Stripe customer as they are made."""

from __future__ import annotations

from pathlib import Path

import pytest

from local.testing import StackProcess, wait_until
from tests.unit.cli.conftest import ROOT
from tests.unit.cli.test_running_stack import tollgate
from tests.unit.cli.test_stripe_command import owners

pytestmark = pytest.mark.stack


def own(tmp_path: Path, **more: str) -> StackProcess:
    """A stack with the project's own catalogue, but for when customers are made."""
    text = (ROOT / "catalog.yaml").read_text(encoding="utf-8")
    (tmp_path / "catalog.yaml").write_text(f"stripe_customers: at_signup\n{text}", encoding="utf-8")
    return StackProcess(tmp_path / "state", {"TOLLGATE_CATALOG": str(tmp_path / "catalog.yaml"), **more})


def test_one_unit_goes_to_stripe_and_comes_back(tmp_path: Path) -> None:
    with own(tmp_path) as stack:
        shown = tollgate(stack, "smoke", "--timeout", "90")
        assert "back out" in shown
        (event,) = stack.double("GET", "/_double/meter_events")["data"]
        assert event["customer"] == stack.api("GET", "/v1/accounts/tollgate-smoke").json()["stripe_customer_id"]
        row = next(line for line in tollgate(stack, "keys", "list").splitlines() if " smoke " in line)
        assert "revoked" in row, "the key that was made for it still works"
        # Customers at sign-up: the worker makes one, and a second PUT makes no second.
        for _ in range(2):
            assert stack.api("PUT", "/v1/accounts/signed-up", {"name": "Ann"}).status_code == 200
        wait_until(lambda: owners(stack)["signed-up"] == 1)
        wait_until(lambda: stack.api("GET", "/v1/accounts/signed-up").json()["stripe_customer_id"])
        assert owners(stack) == {"signed-up": 1, "tollgate-smoke": 1}
        refused = stack.start_command("smoke", "--plan", "none-such")
        assert "nothing that would reach Stripe" in " ".join(refused.communicate(timeout=60)[1].split())
