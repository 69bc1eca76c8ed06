"""`python -m local`: start the local stack and stay in the foreground."""

from __future__ import annotations

import sys

from local.runner import main

if __name__ == "__main__":
    sys.exit(main())
