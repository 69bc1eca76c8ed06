"""A stack uses only keys of its own mode: every function that has one refuses another at its start."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from local.stripe_double.testing import Account, account
from tests.unit.billing.test_handlers import Context
from tollgate import dynamo, secrets
from tollgate.errors import WrongStripeKey
from tollgate.stripe_api.key import mode_of, of_mode

ROOT = Path(__file__).resolve().parents[3]
WITH_KEY = ("billing", "flush", "reconcile", "stripe_events")


@pytest.fixture
def stripe() -> Iterator[Account]:
    with account() as found:
        yield found


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, stripe: Account) -> Iterator[pytest.MonkeyPatch]:
    """What the four functions read, for a stack in test mode."""
    names = ("GATES", "EVENTS", "BILLING", "ACCOUNTS", "CONFIG")
    queue = "https://sqs.us-east-1.amazonaws.com/1/queue"
    values = {
        **{f"TOLLGATE_{name}_TABLE": name.lower() for name in names},
        "TOLLGATE_STACK": "tollgate-dev",
        "TOLLGATE_MODE": "test",
        "TOLLGATE_STRIPE_SECRET_PARAMETER": "/tollgate/tollgate-dev/stripe-secret-key",
        "TOLLGATE_STRIPE_API_BASE": stripe.url,
        "TOLLGATE_RECONCILE_QUEUE_URL": queue,
        "TOLLGATE_STRIPE_READS_MONTHLY": "100",
        "TOLLGATE_SEAL_SECONDS": "300",
        "TOLLGATE_SEAL_GRACE_SECONDS": "60",
        "POWERTOOLS_SERVICE_NAME": "tollgate-test-seal",  # the first one in a process stays, for all tests
        "POWERTOOLS_METRICS_NAMESPACE": "Tollgate",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    _forget()
    with mock_aws():
        yield monkeypatch
    _forget()


def _forget() -> None:
    for cached in (dynamo.client, dynamo.session, secrets.read):
        cached.cache_clear()


def store(key: str) -> None:
    boto3.client("ssm").put_parameter(
        Name="/tollgate/tollgate-dev/stripe-secret-key", Value=key, Type="SecureString", Overwrite=True
    )


def cold_start(function: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The function's first invocation, with a sample of its events."""
    monkeypatch.delitem(sys.modules, f"{function}.app", raising=False)
    module = importlib.import_module(f"{function}.app")
    sample = ROOT / "events" / f"{function}.json"
    return module.handler(json.loads(sample.read_text()), Context())


def test_every_function_that_has_the_key_is_started_here() -> None:
    # tests/unit/local/test_template.py has the same names for the template, which gives them the parameter.
    apps = ROOT.glob("functions/*/app.py")
    assert {app.parent.name for app in apps if "tollgate.stripe_api.client" in app.read_text()} == set(WITH_KEY)


@pytest.mark.parametrize("function", WITH_KEY)
@pytest.mark.parametrize(
    ("mode", "key", "says"),
    [
        ("test", "sk_live_abc", "a live mode key of Stripe, but this stack takes only test mode keys"),
        ("test", "rk_live_abc", "a live mode key of Stripe, but this stack takes only test mode keys"),
        ("live", "sk_test_abc", "a test mode key of Stripe, but this stack takes only live mode keys"),
        ("test", "pk_test_abc", "no secret or restricted key of Stripe"),
    ],
)
def test_a_key_of_the_other_mode_is_refused_at_the_start(
    function: str, mode: str, key: str, says: str, environment: pytest.MonkeyPatch, stripe: Account
) -> None:
    environment.setenv("TOLLGATE_MODE", mode)
    store(key)
    with pytest.raises(WrongStripeKey) as refused:
        cold_start(function, environment)
    assert refused.value.code == "stripe_key_mode"
    assert str(refused.value).startswith("stripe_key_mode: /tollgate/tollgate-dev/stripe-secret-key holds " + says)
    assert "tollgate secrets set stripe" in str(refused.value)
    assert key not in str(refused.value)
    assert stripe.look("requests")["count"] == 0, "Stripe was called"


@pytest.mark.parametrize("mode", ["test", "live"])
@pytest.mark.parametrize("kind", ["sk", "rk"])
def test_a_key_of_the_stacks_own_mode_is_taken(kind: str, mode: str) -> None:
    assert of_mode(f"{kind}_{mode}_abc", mode, "here") == f"{kind}_{mode}_abc"


@pytest.mark.parametrize("key", ["", "pk_test_abc", "sk_abc", "sk_test_", "sk_test_a b", "whsec_abc"])
def test_what_is_no_secret_key_has_no_mode(key: str) -> None:
    assert mode_of(key) is None
