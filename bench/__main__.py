"""python -m bench [--counted | --only SECTION] [--json FILE]: prints the budgets; exit 1 past a counted one."""

from __future__ import annotations

import sys

from bench.cli import main

sys.exit(main(sys.argv[1:]))
