"""`make bench`: the budgets, counted on the product itself. Never shipped; the product imports nothing of it."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# `python -m bench` starts with the checkout alone on the path; the product's folders are layers when deployed.
for _folder in ("functions", "layers/common"):
    if str(ROOT / _folder) not in sys.path:
        sys.path.insert(0, str(ROOT / _folder))
