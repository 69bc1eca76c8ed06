"""What `make build` leaves in .aws-sam/build: complete, for the right machine, with bytecode, nothing unpinned."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
import yaml

from tests.infra.sources import normalized, pins
from tests.infra.test_template import FUNCTIONS
from tests.infra.translated import ROOT, Stack

pytestmark = pytest.mark.build

BUILD = ROOT / ".aws-sam/build"
ARTIFACTS = [*FUNCTIONS, "CommonLayer", "StripeLayer"]
PYTHON_313_MAGIC = 3571
UNCHECKED_HASH = 0b01
AARCH64 = 0xB7
MB = 1024 * 1024
LAMBDA_LIMIT_MB = 250


@pytest.fixture(scope="module", autouse=True)
def _built() -> None:
    assert (BUILD / "template.yaml").is_file(), "run `make build` first"


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@pytest.mark.parametrize("artifact", ARTIFACTS)
def test_every_source_file_has_bytecode_that_lambda_will_take(artifact: str) -> None:
    sources = list((BUILD / artifact).rglob("*.py"))
    assert sources
    for source in sources:
        compiled = source.parent / "__pycache__" / f"{source.stem}.cpython-313.pyc"
        assert compiled.is_file(), source
        magic, flags = struct.unpack("<H2xI", compiled.read_bytes()[:8])
        assert (magic, flags) == (PYTHON_313_MAGIC, UNCHECKED_HASH), source


def test_bytecode_names_lambdas_paths_and_not_the_builders() -> None:
    here = str(ROOT).encode()
    for artifact, place in [("CommonLayer", b"/opt/python/tollgate/ids.py"), ("GateFunction", b"/var/task/app.py")]:
        compiled = list((BUILD / artifact).rglob("*.pyc"))
        assert not [file for file in compiled if here in file.read_bytes()]
        assert any(place in file.read_bytes() for file in compiled)


@pytest.mark.parametrize("layer", ["common", "stripe"])
def test_a_layer_holds_exactly_what_is_pinned(layer: str) -> None:
    built = {}
    for info in (BUILD / f"{layer.capitalize()}Layer" / "python").glob("*.dist-info"):
        name, _, version = info.name.removesuffix(".dist-info").rpartition("-")
        built[normalized(name)] = version
    assert built == pins(layer)


def test_native_code_is_for_arm64() -> None:
    libraries = [file for layer in ("CommonLayer", "StripeLayer") for file in (BUILD / layer).rglob("*.so")]
    assert libraries
    for library in libraries:
        header = library.read_bytes()[:20]
        assert header[:4] == b"\x7fELF", library
        assert struct.unpack_from("<H", header, 18)[0] == AARCH64, library


def test_the_common_layer_has_our_package_where_lambda_looks() -> None:
    ours = {file.relative_to(ROOT / "layers/common") for file in (ROOT / "layers/common/tollgate").rglob("*.py")}
    python = BUILD / "CommonLayer/python"
    assert ours == {file.relative_to(python) for file in (python / "tollgate").rglob("*.py")}
    assert not (python / "python").exists()


def test_a_functions_artifact_is_its_folder_and_nothing_else(stack: Stack) -> None:
    resources = yaml.safe_load((BUILD / "template.yaml").read_text())["Resources"]
    for function in FUNCTIONS:
        assert resources[function]["Properties"]["CodeUri"] == function
        folder = stack.folder(function)
        assert {file.relative_to(BUILD / function) for file in (BUILD / function).rglob("*.py")} == {
            file.relative_to(folder) for file in folder.rglob("*.py")
        }


def test_everything_together_fits_into_lambda(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = {artifact: size(BUILD / artifact) for artifact in ARTIFACTS}
    with capsys.disabled():
        print("\n" + "  ".join(f"{artifact} {size / MB:.1f} MB" for artifact, size in sizes.items() if size > MB))
    assert sum(sizes.values()) < LAMBDA_LIMIT_MB * MB
