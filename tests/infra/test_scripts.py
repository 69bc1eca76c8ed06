"""The scripts behind `make build` and `make deploy`, as far as they go without AWS."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import boto3
import pytest
from moto import mock_aws

from tests.infra.translated import ROOT, Stack, name_of

STACK = "tollgate-dev"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"scripts_{name}", ROOT / "scripts" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


stack_secrets = load("stack_secrets")
compile_artifacts = load("compile_artifacts")


@pytest.fixture
def ssm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        yield boto3.client("ssm")


def test_the_secrets_names_are_the_templates(stack: Stack) -> None:
    told = {
        name_of(value)
        for function in stack.functions
        for variable, value in stack.environment(function).items()
        if variable.endswith("_PARAMETER")
    }
    # The webhook's are stored by `tollgate stripe connect`, which makes them at Stripe: a stack deploys without.
    told -= {"parameter/webhook-secrets"}
    assert told == {name.replace(f"/tollgate/{STACK}/", "parameter/") for name in stack_secrets.names(STACK)}


def test_a_stack_without_secrets_is_told_both(ssm: Any) -> None:
    signing, stripe = stack_secrets.names(STACK)
    assert stack_secrets.check(ssm, STACK, "test") == [f"{signing} is missing", f"{stripe} is missing"]


def test_put_makes_what_check_wants_and_never_replaces_the_signing_secret(ssm: Any) -> None:
    signing, stripe = stack_secrets.names(STACK)
    assert stack_secrets.put(ssm, STACK, "sk_test_abc", "test") == [f"made {signing}", f"stored {stripe}"]
    first = stack_secrets.read(ssm, signing)
    assert first is not None
    assert len(first[1]) >= 64
    assert stack_secrets.put(ssm, STACK, "rk_test_def", "test") == [f"stored {stripe}"]
    assert stack_secrets.read(ssm, signing) == first
    assert stack_secrets.read(ssm, stripe) == ("SecureString", "rk_test_def")
    assert stack_secrets.check(ssm, STACK, "test") == []


def test_a_key_of_the_other_mode_is_refused_and_named_without_its_value(ssm: Any) -> None:
    with pytest.raises(ValueError, match="no live mode key"):
        stack_secrets.put(ssm, STACK, "sk_test_abc", "live")
    assert stack_secrets.read(ssm, stack_secrets.names(STACK)[0]) is None
    stack_secrets.put(ssm, STACK, "sk_test_abc", "test")
    (problem,) = stack_secrets.check(ssm, STACK, "live")
    assert "no live mode key" in problem
    assert "abc" not in problem


def test_a_plain_string_is_no_secret(ssm: Any) -> None:
    stack_secrets.put(ssm, STACK, "sk_test_abc", "test")
    name = stack_secrets.names(STACK)[1]
    ssm.delete_parameter(Name=name)
    ssm.put_parameter(Name=name, Type="String", Value="sk_test_abc")
    assert stack_secrets.check(ssm, STACK, "test") == [f"{name} is a String; it must be a SecureString"]


@pytest.mark.parametrize("key", ["", "pk_test_abc", "sk_abc", "sk_test_", "sk_test_a b", "whsec_abc"])
def test_what_is_no_secret_key_has_no_mode(key: str) -> None:
    assert stack_secrets.mode_of(key) is None


@pytest.mark.usefixtures("ssm")
def test_check_says_how_to_mend_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert stack_secrets.main(["check", STACK]) == 1
    assert f"stack_secrets.py put {STACK}" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["production"], ["local"]])
def test_deploy_refuses_a_stage_it_does_not_know_before_doing_anything(arguments: list[str]) -> None:
    command = ["sh", "scripts/deploy.sh", *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr == "Which stage? make deploy STAGE=dev (or staging, prod)\n"
    assert result.stdout == ""


def test_make_deploy_builds_once() -> None:
    command = ["make", "--no-print-directory", "-n", "deploy", "STAGE=dev"]
    planned = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    in_script = (ROOT / "scripts/deploy.sh").read_text().count("scripts/build.sh")
    assert planned.count("scripts/build.sh") + planned.count("scripts/deploy.sh") * in_script == 1


def test_a_changed_pin_or_installer_makes_the_environment_again() -> None:
    rules = (ROOT / "Makefile").read_text().replace("\\\n", " ").splitlines()
    (ready,) = (rule.partition(":")[2].split() for rule in rules if rule.startswith("$(READY):"))
    required = (ROOT / "requirements.txt").read_text().splitlines()
    included = {line.removeprefix("-r ") for line in required if line.startswith("-r ")}
    assert set(ready) == included | {
        "requirements.txt",
        "constraints.txt",
        "scripts/install.sh",
        "scripts/python.sh",
    }


def artifact(folder: Path, source: str) -> Path:
    file = folder / "SomeLayer" / "python" / "module.py"
    file.parent.mkdir(parents=True)
    file.write_text(source)
    return file


@pytest.mark.skipif(sys.version_info[:2] != (3, 13), reason="bytecode is made by Lambda's own Python version")
def test_compiling_reports_a_file_that_does_not_compile(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = artifact(tmp_path, "x = 1\n")
    assert compile_artifacts.main(tmp_path) == 0
    assert (file.parent / "__pycache__/module.cpython-313.pyc").is_file()
    file.write_text("x = = 1\n")
    assert compile_artifacts.main(tmp_path) == 1
    assert "SyntaxError" in capfd.readouterr().out


def test_compiling_nothing_or_with_another_python_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile_artifacts.sys, "version_info", (3, 13, 0))
    assert compile_artifacts.main(tmp_path) == 2
    artifact(tmp_path, "x = 1\n")
    monkeypatch.setattr(compile_artifacts.sys, "version_info", (3, 12, 9))
    assert compile_artifacts.main(tmp_path) == 2
