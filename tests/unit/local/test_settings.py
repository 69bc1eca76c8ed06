"""What the local stack takes from its environment."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from local.settings import StartupError, read_settings
from local.stack import NoDouble, RunningStack
from local.testing import ROOT

TOY = Path(__file__).parent / "fixtures" / "toy"
FILES = {"TOLLGATE_TEMPLATE": str(TOY / "template.yaml"), "TOLLGATE_CATALOG": str(TOY / "catalog.yaml")}


def test_defaults() -> None:
    settings = read_settings(FILES, ROOT)
    assert (settings.port, settings.stripe_port, settings.aws_port) == (8787, 8788, 8789)
    assert (settings.seal_seconds, settings.seal_grace_seconds, settings.stripe_lag_seconds) == (5, 6, 0)
    assert settings.state == ROOT / ".local"
    assert settings.stripe_key == "sk_test_local"
    assert settings.stripe_environment() == {"TOLLGATE_STRIPE_API_BASE": "http://127.0.0.1:8788"}


def test_no_endpoint_of_any_service_leaves_the_machine() -> None:
    environment = read_settings({**FILES, "AWS_ENDPOINT_URL_DYNAMODB": "http://127.0.0.1:4567"}, ROOT).aws_environment()
    endpoints = {name: value for name, value in environment.items() if name.startswith("AWS_ENDPOINT_URL")}
    assert endpoints.pop("AWS_ENDPOINT_URL_DYNAMODB") == "http://127.0.0.1:4567"
    assert set(endpoints.values()) == {"http://127.0.0.1:8789"}
    assert "AWS_ENDPOINT_URL" in endpoints


def test_nobodys_credentials_are_passed_on() -> None:
    secrets = {"AWS_PROFILE": "prod", "AWS_ACCESS_KEY_ID": "AKIA", "GITHUB_TOKEN": "x", "HTTPS_PROXY": "http://proxy"}
    settings = read_settings({**FILES, **secrets, "PATH": "/bin"}, ROOT)
    assert dict(settings.inherited) == {"PATH": "/bin"}
    assert dict(settings.network) == {}
    assert settings.aws_environment()["AWS_ACCESS_KEY_ID"] == "local"


def test_a_test_key_means_the_real_sandbox_and_the_machines_way_out() -> None:
    environment = {
        **FILES,
        "STRIPE_SECRET_KEY": "sk_test_51abc",
        "https_proxy": "http://proxy:1",
        "NO_PROXY": "intranet",
    }
    settings = read_settings(environment, ROOT)
    assert settings.real_stripe
    assert settings.stripe_url is None
    assert settings.stripe_environment() == {
        "HTTPS_PROXY": "http://proxy:1",
        "NO_PROXY": "intranet,127.0.0.1,localhost",
    }


def test_the_real_sandbox_has_no_faults_to_inject() -> None:
    settings = read_settings({**FILES, "STRIPE_SECRET_KEY": "sk_test_51abc"}, ROOT)
    nothing = cast(Any, None)
    stack = RunningStack(settings, nothing, nothing, {}, nothing, nothing, nothing)
    with pytest.raises(NoDouble, match="real Stripe sandbox"):
        asyncio.run(stack.double("/_double/faults", {}))


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"STRIPE_SECRET_KEY": "sk_live_x"}, "never runs against live Stripe"),
        ({"STRIPE_SECRET_KEY": "rk_live_x"}, "never runs against live Stripe"),
        ({"STRIPE_SECRET_KEY": "whatever"}, "is not a test key"),
        ({"TOLLGATE_PORT": "80"}, "TOLLGATE_PORT='80'"),
        ({"TOLLGATE_PORT": "65534"}, "TOLLGATE_PORT='65534'"),
        ({"TOLLGATE_PORT": "-1"}, "TOLLGATE_PORT='-1'"),
        ({"TOLLGATE_SEAL_SECONDS": "0"}, "TOLLGATE_SEAL_SECONDS='0'"),
        ({"TOLLGATE_SEAL_GRACE_SECONDS": "1.5"}, "TOLLGATE_SEAL_GRACE_SECONDS='1.5'"),
        ({"TOLLGATE_CATALOG": "no-such.yaml"}, "TOLLGATE_CATALOG names it"),
    ],
)
def test_what_makes_no_sense_is_refused(environment: dict[str, str], message: str) -> None:
    with pytest.raises(StartupError) as refused:
        read_settings({**FILES, **environment}, ROOT)
    assert message in str(refused.value)
