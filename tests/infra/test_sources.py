"""What the functions' code needs against what the template gives them."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.infra.sources import COMMON, environment_names, imports, normalized, pins, reach
from tests.infra.test_template import FUNCTIONS
from tests.infra.translated import ROOT, Stack

LAYER_FOLDERS = {"CommonLayer": "common", "StripeLayer": "stripe"}
LOCAL_ONLY = {
    "TOLLGATE_STRIPE_API_BASE",  # the local stack's double; a deployed stack talks to Stripe
    "TOLLGATE_CATALOG",  # read by the command line, not by a function
}


def shipped_files() -> list[Path]:
    return [*COMMON.rglob("*.py"), *(ROOT / "functions").rglob("*.py")]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_imports_only_what_its_layers_pin(stack: Stack, function: str) -> None:
    """Anything else would be the runtime's own copy (boto3), or missing."""
    pinned = {name for layer in stack.layers(function) for name in pins(LAYER_FOLDERS[layer])}
    distributions = metadata.packages_distributions()
    for module in reach(stack.folder(function) / "app.py").third_party:
        assert {normalized(name) for name in distributions.get(module, [module])} & pinned, module


NO_IMPORT = {"tzdata"}
"""Data that `zoneinfo` finds by itself; Lambda's own may be older."""


def test_a_layer_ships_nothing_that_nobody_needs(stack: Stack) -> None:
    """Pinned is what a function or the package in the layer imports, and what that needs in turn."""
    package = {name.partition(".")[0] for file in COMMON.rglob("*.py") for name in imports(file)}
    distributions = metadata.packages_distributions()
    for layer, folder in LAYER_FOLDERS.items():
        users = [function for function in FUNCTIONS if layer in stack.layers(function)]
        modules = {name for user in users for name in reach(stack.folder(user) / "app.py").third_party}
        modules |= package if folder == "common" else set()
        needed = {normalized(name) for module in modules for name in distributions.get(module, [])} | NO_IMPORT
        pending = list(needed)
        while pending:
            for line in metadata.requires(pending.pop()) or []:
                requirement = Requirement(line)
                name = normalized(requirement.name)
                if name not in needed and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
                    needed.add(name)
                    pending.append(name)
        assert set(pins(folder)) <= needed, layer


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_functions_own_files_read_only_names_it_is_given(stack: Stack, function: str) -> None:
    names = {name for file in stack.folder(function).rglob("*.py") for name in environment_names(file)}
    assert names - LOCAL_ONLY <= set(stack.environment(function))


def test_every_environment_name_in_the_code_is_in_the_template(stack: Stack) -> None:
    given = {name for function in stack.functions for name in stack.environment(function)}
    read = {name for file in shipped_files() for name in environment_names(file)}
    assert read - LOCAL_ONLY <= given


def test_every_environment_name_in_the_template_is_in_the_code(stack: Stack) -> None:
    given = {name for function in stack.functions for name in stack.environment(function)}
    read = {name for file in shipped_files() for name in environment_names(file)}
    assert {name for name in given if name.startswith("TOLLGATE_")} <= read


@pytest.mark.parametrize("layer", sorted(LAYER_FOLDERS.values()))
def test_the_tests_run_on_the_versions_that_are_shipped(layer: str) -> None:
    for name, version in pins(layer).items():
        assert metadata.version(name) == version, name


def test_two_layers_never_bring_two_versions_of_one_package() -> None:
    common, stripe = pins("common"), pins("stripe")
    both = set(common) & set(stripe)
    assert both
    assert {name: common[name] for name in both} == {name: stripe[name] for name in both}


def test_imports_see_lazy_ones_and_not_those_for_types(tmp_path: Path) -> None:
    file = tmp_path / "sample.py"
    file.write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import boto3\n"
        "def late():\n    import stripe.error\n    from pydantic import BaseModel\n"
    )
    assert imports(file) == {"typing", "typing.TYPE_CHECKING", "stripe.error", "pydantic", "pydantic.BaseModel"}


def test_reach_follows_our_own_modules(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("import helper\nimport os\n")
    (tmp_path / "helper.py").write_text("from tollgate import ids\nimport stripe\n")
    result = reach(tmp_path / "app.py")
    assert "stripe" in result.third_party
    assert {COMMON / "tollgate/__init__.py", COMMON / "tollgate/ids.py", tmp_path / "helper.py"} <= result.files
