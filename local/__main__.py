"""`python -m local`: start the local stack and stay in the foreground."""

from __future__ import annotations

import os
import signal
import sys


def _leave(_number: int, _frame: object) -> None:
    # Nothing has been started yet, so there is nothing to end.
    os._exit(0)


if __name__ == "__main__":
    # The imports below take a second; a Ctrl-C in it is a stop like any other, and no traceback.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    from local.runner import main

    sys.exit(main())
