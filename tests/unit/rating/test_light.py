"""The gate imports the rating: it must stay light."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LAYER = Path(__file__).parents[3] / "layers" / "common"
MODULES = sorted(path.stem for path in (LAYER / "tollgate" / "rating").glob("*.py") if path.stem != "__init__")
FOR_PAGES = ("catalog.page", "catalog.examples", "catalog.wording", "http.plans_routes", "http.schemas")
HEAVY = ("pydantic", "yaml", "boto3", "botocore", "stripe", "tollgate.http", "tollgate.catalog.document")


@pytest.mark.parametrize("module", MODULES)
def test_a_module_loads_alone_and_loads_nothing_heavy(module: str) -> None:
    script = f"import sys, tollgate.rating.{module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=LAYER, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_gate_loads_nothing_of_the_pricing_page() -> None:
    script = (
        "import sys, tollgate.http.gate_routes; "
        f"print([name for name in {FOR_PAGES!r} if 'tollgate.' + name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=LAYER, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
