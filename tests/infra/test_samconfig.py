"""Each stage deploys a stack of its own, with parameters that the template knows and times that hold."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from local.intrinsics import Resolver
from tests.infra.test_template import CLOCK_SKEW_SECONDS, SDK_RETRIES_SECONDS
from tests.infra.translated import ROOT, Stack

CONFIG: dict[str, Any] = tomllib.loads((ROOT / "samconfig.toml").read_text())
STAGES = ["dev", "staging", "prod"]


def deploy(stage: str) -> dict[str, Any]:
    parameters: dict[str, Any] = CONFIG[stage]["deploy"]["parameters"]
    return parameters


def overrides(stage: str) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in deploy(stage)["parameter_overrides"].split())


def test_there_are_three_stages_and_what_all_share() -> None:
    assert set(CONFIG) == {"version", "default", *STAGES}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_overrides_only_parameters_that_exist_with_values_they_allow(stack: Stack, stage: str) -> None:
    for name, value in overrides(stage).items():
        parameter = stack.parameters[name]
        allowed = [str(choice) for choice in parameter.get("AllowedValues", [value])]
        assert value in allowed, name
        assert int(value) >= parameter.get("MinValue", 0) if parameter["Type"] == "Number" else True, name


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_a_stack_of_its_own(stage: str) -> None:
    assert overrides(stage)["Stage"] == stage
    assert deploy(stage)["stack_name"] == f"tollgate-{stage}"
    assert deploy(stage)["capabilities"] == "CAPABILITY_IAM"


def test_only_prod_is_live_and_only_after_a_person_has_looked() -> None:
    assert [stage for stage in STAGES if overrides(stage)["Mode"] == "live"] == ["prod"]
    assert deploy("prod")["confirm_changeset"] is True


def refused(stack: Stack, **parameters: str) -> list[str]:
    """What CloudFormation says to these parameters, by the template's rules."""
    resolver = Resolver(stack.source, parameters, lambda resource, name: None)
    return [
        assertion["AssertDescription"]
        for rule in stack.source["Rules"].values()
        if resolver.resolve(rule["RuleCondition"])
        for assertion in rule["Assertions"]
        if not resolver.resolve(assertion["Assert"])
    ]


def test_a_live_key_belongs_to_prod_and_prod_to_a_live_key(stack: Stack) -> None:
    for stage in STAGES:
        assert refused(stack, **overrides(stage)) == []
    for stage in stack.parameters["Stage"]["AllowedValues"]:
        wrong = "test" if stage == "prod" else "live"
        (reason,) = refused(stack, Stage=stage, Mode=wrong)
        assert "billed" in reason


@pytest.mark.parametrize("stage", STAGES)
def test_no_deployed_stage_seals_too_early(stack: Stack, stage: str) -> None:
    grace = int(overrides(stage).get("SealGraceSeconds", stack.default("SealGraceSeconds")))
    assert grace > stack.functions["GateFunction"]["Timeout"] + SDK_RETRIES_SECONDS + CLOCK_SKEW_SECONDS


def test_no_secret_is_in_the_deployments_files() -> None:
    for name in ("template.yaml", "samconfig.toml"):
        text = (ROOT / name).read_text()
        assert not [mark for mark in ("sk_test_", "sk_live_", "rk_test_", "rk_live_", "whsec_") if mark in text], name
