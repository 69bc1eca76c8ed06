"""The secrets of a deployed stack: stored, checked, rotated, and never shown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws
from typer.testing import CliRunner, Result

from tollgate_cli import secret_store
from tollgate_cli.app import app
from tollgate_cli.secret_store import WrongSecret

STACK = "tollgate-dev"
NAMES = secret_store.names(STACK)


@pytest.fixture
def ssm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        yield boto3.client("ssm")


def run(*arguments: str, given: str = "") -> Result:
    found = CliRunner().invoke(app, ["secrets", *arguments, "--stack", STACK], input=given, env={"COLUMNS": "200"})
    for secret in ("sk_test_abc", "rk_test_def", "whsec_one11", "whsec_two22"):
        assert secret not in found.output, "a secret is shown"
    return found


def test_what_a_new_stack_needs_is_stored_and_checked(ssm: Any) -> None:
    missing = run("check")
    assert missing.exit_code == 1
    assert f"{NAMES['signing']} is missing" in missing.stderr
    assert f"{NAMES['stripe']} is missing" in missing.stderr
    assert f"tollgate secrets set --stack {STACK}" in missing.stderr
    assert run("set", given="sk_test_abc\n").exit_code == 0
    signing = secret_store.read(ssm, NAMES["signing"])
    assert signing is not None
    assert len(signing[1]) >= 64
    assert run("set", "stripe", given="rk_test_def\n").exit_code == 0
    assert secret_store.read(ssm, NAMES["signing"]) == signing, "ids of open reservations are signed with it"
    assert secret_store.read(ssm, NAMES["stripe"]) == ("SecureString", "rk_test_def")
    assert run("check").exit_code == 0


def test_a_key_of_the_other_mode_is_refused_before_anything_is_stored(ssm: Any) -> None:
    refused = run("set", "--mode", "live", "stripe", given="sk_test_abc\n")
    assert refused.exit_code == 2
    assert "holds a test mode key of Stripe, but this stack takes only live mode keys" in refused.stderr
    assert secret_store.read(ssm, NAMES["stripe"]) is None
    assert run("set", given="sk_test_abc\n").exit_code == 0
    found = run("check", "--mode", "live")
    assert found.exit_code == 1
    assert "holds a test mode key of Stripe, but this stack takes only live mode keys" in found.stderr


def test_prod_is_live_unless_told_otherwise(ssm: Any) -> None:
    found = CliRunner().invoke(app, ["secrets", "set", "--stack", "tollgate-prod"], input="sk_test_abc\n")
    assert found.exit_code == 2
    assert "holds a test mode key of Stripe, but this stack takes only live mode keys" in found.stderr


def test_a_plain_string_is_no_secret(ssm: Any) -> None:
    run("set", given="sk_test_abc\n")
    ssm.delete_parameter(Name=NAMES["stripe"])
    ssm.put_parameter(Name=NAMES["stripe"], Type="String", Value="sk_test_abc")
    ssm.put_parameter(Name=NAMES["webhook"], Type="SecureString", Value="whsec_ok1,not one")
    found = run("check").stderr
    assert f"{NAMES['stripe']} is a String; it must be a SecureString" in found
    assert f"{NAMES['webhook']} holds something that is no webhook secret" in found


def test_webhook_secrets_overlap_while_they_are_rotated(ssm: Any) -> None:
    assert run("set", "webhook", given="whsec_one11, whsec_two22\n").exit_code == 0
    assert run("rotate", "webhook", given="whsec_three33\n").exit_code == 0
    assert secret_store.webhook_secrets(ssm, STACK) == ["whsec_three33", "whsec_one11", "whsec_two22"]
    shown = run("rotate", "webhook", "--drop", "ne11")
    assert shown.exit_code == 0
    assert "ee33" in shown.stdout
    assert secret_store.webhook_secrets(ssm, STACK) == ["whsec_three33", "whsec_two22"]
    assert run("rotate", "webhook", "--drop", "zz").exit_code == 2
    run("rotate", "webhook", "--drop", "22")
    last = run("rotate", "webhook", "--drop", "33")
    assert (last.exit_code, "every delivery would be refused" in last.stderr) == (2, True)
    assert run("rotate", "webhook", given="sk_test_abc\n").exit_code == 2


def test_a_list_written_by_hand_is_read(ssm: Any) -> None:
    ssm.put_parameter(Name=NAMES["webhook"], Type="SecureString", Value="whsec_one11, whsec_two22")
    assert secret_store.webhook_secrets(ssm, STACK) == ["whsec_one11", "whsec_two22"]
    assert secret_store.add_webhook(ssm, STACK, "whsec_two22") == ["whsec_two22", "whsec_one11"]
    with pytest.raises(WrongSecret, match="drop old ones first"):
        secret_store.add_webhook(ssm, STACK, *(f"whsec_n{number}" for number in range(8)))


def test_the_signing_secret_is_replaced_only_by_force(ssm: Any) -> None:
    run("set", given="sk_test_abc\n")
    before = secret_store.read(ssm, NAMES["signing"])
    refused = run("rotate", "signing")
    assert (refused.exit_code, "open reservations" in refused.stderr) == (2, True)
    assert secret_store.read(ssm, NAMES["signing"]) == before
    assert run("rotate", "signing", "--force").exit_code == 0
    assert secret_store.read(ssm, NAMES["signing"]) != before
