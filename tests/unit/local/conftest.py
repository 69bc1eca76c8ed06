"""A toy stack with every shape that the local stack runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from local.settings import Settings, read_settings
from local.testing import ROOT, StackProcess

TOY = Path(__file__).parent / "fixtures" / "toy"


@pytest.fixture(scope="session")
def toy_environment() -> dict[str, str]:
    """The environment that makes `python -m local` run the toy."""
    return {"TOLLGATE_TEMPLATE": str(TOY / "template.yaml"), "TOLLGATE_CATALOG": str(TOY / "catalog.yaml")}


@pytest.fixture(scope="session")
def toy(toy_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackProcess]:
    """The toy, running."""
    with StackProcess(tmp_path_factory.mktemp("toy"), toy_environment) as running:
        yield running


@pytest.fixture
def toy_settings(toy_environment: dict[str, str], tmp_path: Path) -> Settings:
    """Settings of a toy that is not started."""
    return read_settings({**toy_environment, "TOLLGATE_LOCAL_DIR": str(tmp_path), "TOLLGATE_PORT": "8950"}, ROOT)
