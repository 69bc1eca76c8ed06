"""Put bytecode into the artifacts of `sam build` and print what each of them weighs.

Run it with the Python version of the Lambda runtime: another version's bytecode is ignored there. `unchecked-hash`,
because the tools that zip an artifact rewrite modification times, which would make timestamped bytecode stale.
"""

from __future__ import annotations

import compileall
import sys
from pathlib import Path
from py_compile import PycInvalidationMode

RUNTIME = (3, 13)
LAMBDA_LIMIT_MB = 250
"""What a function and all its layers may weigh unzipped (Lambda quota)."""

MB = 1024 * 1024


def size(folder: Path) -> int:
    """Bytes in all files under a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def compile_artifact(artifact: Path) -> bool:
    """Compile one function's or layer's folder; False if a file did not compile.

    Tracebacks name the path on Lambda, not the one of the machine that built it.
    """
    is_layer = (artifact / "python").is_dir()
    return bool(
        compileall.compile_dir(
            str(artifact),
            maxlevels=50,
            quiet=1,
            force=True,
            stripdir=str(artifact),
            prependdir="/opt" if is_layer else "/var/task",
            invalidation_mode=PycInvalidationMode.UNCHECKED_HASH,
        )
    )


def main(build_folder: Path) -> int:
    """Compile every artifact under the folder and print the sizes.

    Returns 1 if a file did not compile or all together pass Lambda's limit, 2 if there is nothing to compile.
    """
    if sys.version_info[:2] != RUNTIME:
        print(f"compile_artifacts.py: run me with Python 3.13, not {sys.version.split()[0]}", file=sys.stderr)
        return 2
    artifacts = sorted(folder for folder in build_folder.iterdir() if folder.is_dir()) if build_folder.is_dir() else []
    if not artifacts:
        print(f"compile_artifacts.py: nothing was built in {build_folder}", file=sys.stderr)
        return 2
    failed = False
    total = 0
    for artifact in artifacts:
        before = size(artifact)
        failed = not compile_artifact(artifact) or failed
        after = size(artifact)
        total += after
        print(f"{artifact.name:<16} {before / MB:>6.1f} MB, with bytecode {after / MB:>6.1f} MB")
    print(f"{'all together':<16} {total / MB:>6.1f} MB of {LAMBDA_LIMIT_MB} MB")
    return 1 if failed or total > LAMBDA_LIMIT_MB * MB else 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1] if len(sys.argv) > 1 else ".aws-sam/build")))
