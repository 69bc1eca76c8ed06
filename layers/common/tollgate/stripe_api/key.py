"""Stripe's secret keys: a stack uses only those of its own mode.

The one place that decides it: for the functions at their start, for the command line, for what is stored in SSM.
"""

from __future__ import annotations

import re
from typing import Final

from tollgate.errors import WrongStripeKey

KEY: Final = re.compile(r"^(sk|rk)_(test|live)_\w+$", re.ASCII)
"""Stripe's secret (sk) and restricted (rk) keys say which mode they belong to [docs: API keys]."""


def mode_of(key: str) -> str | None:
    """`test` or `live` for a secret or restricted key, None for anything else."""
    match = KEY.match(key)
    return match[2] if match else None


def of_mode(key: str, mode: str, where: str) -> str:
    """The key, if it is of the stack's mode. A live key in a test stack would bill people for tests; a test key in a
    live one would bill nobody. `where` it stands is told, the key never. Raises WrongStripeKey."""
    found = mode_of(key)
    if found != mode:
        raise WrongStripeKey(where, found, mode)
    return key
