"""The scripts behind `make build` and `make deploy`, as far as they go without AWS."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.infra.translated import ROOT, Stack, name_of
from tollgate_cli.secret_store import names

STACK = "tollgate-dev"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"scripts_{name}", ROOT / "scripts" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


compile_artifacts = load("compile_artifacts")


def test_the_secrets_names_are_the_templates(stack: Stack) -> None:
    told = {
        name_of(value)
        for function in stack.functions
        for variable, value in stack.environment(function).items()
        if variable.endswith("_PARAMETER")
    }
    known = {which: name.replace(f"/tollgate/{STACK}/", "parameter/") for which, name in names(STACK).items()}
    assert told == set(known.values())


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
