"""`make test-stripe`: every point against a Stripe sandbox, one after the other, and a table at the end."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.sandbox.side import KEY, WrongKey, sandbox_key


def main() -> int:
    try:
        key = sandbox_key(os.environ)
    except WrongKey as wrong:
        print(wrong, file=sys.stderr)
        return 2
    if key is None:
        print(f"Set {KEY} to a key of a Stripe sandbox (sk_test_… or rk_test_…); see docs/testing.md.", file=sys.stderr)
        return 2
    quiet = ["-s", "-rN", "--tb=no", "-p", "no:warnings"]  # the table says it all
    return int(pytest.main([*quiet, str(Path(__file__).with_name("test_points.py"))]))


if __name__ == "__main__":
    sys.exit(main())
