"""Start of a function's process: guard, stack time, then the runtime client.

Run by path, `python -P bootstrap.py HANDLER`: nothing of `local` stays importable for the function, whose sys.path is
its own folder, the layers and the installed packages.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
import types
from pathlib import Path

ROOT = str(Path(__file__).resolve().parent.parent)


def function_path() -> list[str]:
    """The sys.path of a function: its folder, its layers, the interpreter and installed packages.

    A development install of the checkout adds the checkout's folders to every process; a function must not find them.
    """
    layers = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    kept = [path for path in sys.path if path in layers or path.startswith(sys.prefix) or not path.startswith(ROOT)]
    return [os.environ["LAMBDA_TASK_ROOT"], *kept]


def main(handler: str) -> None:
    """Run `handler` (`module.function`) for ever, as the Lambda runtime does."""
    final_path = function_path()
    sys.path.append(ROOT)
    from local.clock import StackClock
    from local.lifeline import die_with_parent

    die_with_parent()
    clock_file = os.environ.pop("TOLLGATE_LOCAL_CLOCK")
    use_loop = os.environ.pop("TOLLGATE_LOCAL_RUNTIME_LOOP", "") == "1"
    real = types.SimpleNamespace(time=time.time)
    StackClock(Path(clock_file)).patch_process()
    # Without its compiled half (no wheel for this machine) the runtime client cannot run either.
    if use_loop or not all(map(importlib.util.find_spec, ("awslambdaric", "runtime_client"))):
        from local import runtime_loop

        sys.path[:] = final_path
        runtime_loop.run(handler, os.environ["AWS_LAMBDA_RUNTIME_API"], real.time)
        return
    sys.path[:] = final_path
    import awslambdaric.lambda_context
    from awslambdaric.__main__ import main as run

    # An invocation's deadline is in the machine's time: moving the stack's time uses up none of a function's seconds.
    awslambdaric.lambda_context.time = real
    run(["bootstrap", handler])


if __name__ == "__main__":
    main(sys.argv[1])
