#!/bin/sh
# Prints the path of a Python 3.13 that really starts: the Lambda runtime's own minor version, which `sam build` insists on.
# A pyenv shim on PATH fails unless that version is selected, so its installations are looked at too.
set -u
here=$(cd "$(dirname "$0")/.." && pwd)
{
    command -v python3.13
    for root in "${PYENV_ROOT:-}" "$HOME/.pyenv" "$(pyenv root 2>/dev/null)"; do
        [ -n "$root" ] && ls -d "$root"/versions/3.13*/bin/python3.13 2>/dev/null | sort -rV
    done
    ls -d "$HOME"/.local/share/uv/python/cpython-3.13*/bin/python3.13 2>/dev/null | sort -rV
    echo "$here/.venv/bin/python"
} | while read -r candidate; do
    base=$("$candidate" -c 'import os, sys
if sys.version_info[:2] != (3, 13): sys.exit(1)
print(os.path.realpath(os.path.join(sys.base_prefix, "bin", "python3.13")))' 2>/dev/null) || continue
    [ -x "$base" ] && echo "$base" && break
done | grep . || {
    echo "No working python3.13 found. The functions run on python3.13, and sam build needs the same version:" >&2
    echo "install it (pyenv install 3.13, uv python install 3.13, brew install python@3.13) and try again." >&2
    exit 1
}
