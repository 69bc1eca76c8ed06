"""No process of the stack outlives the runner, even when the runner is killed with SIGKILL.

`python -m local.lifeline MODULE ARGS...` runs a module that knows nothing of the runner under this guard.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time

PARENT_VARIABLE = "TOLLGATE_LOCAL_PARENT"
_PR_SET_PDEATHSIG = 1


def _arm_linux() -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)


def die_with_parent() -> None:
    """Arrange that this process is killed when the runner that started it goes. Does nothing outside a runner.

    Linux does it in the kernel; elsewhere a thread looks twice a second.
    """
    parent = int(os.environ.pop(PARENT_VARIABLE, "0"))
    if not parent:
        return
    if sys.platform == "linux":
        _arm_linux()
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:  # it went while this process was starting
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    die_with_parent()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
