#!/bin/sh
# Makes the virtual environment, installs the pinned packages, and puts the project and its command into it.
set -eu
venv=$1
here=$(cd "$(dirname "$0")/.." && pwd)
python=$(sh "$here/scripts/python.sh")
echo "Installing into $venv with $("$python" --version) (once, about a minute)…"
if ! [ -x "$venv/bin/python" ]; then "$python" -m venv "$venv"; fi
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    -r "$here/requirements.txt" -c "$here/constraints.txt"
# The sources themselves on the path, instead of a build: what is edited is what runs.
"$venv/bin/python" - "$here" <<'PYTHON'
import pathlib, sys, sysconfig

here = pathlib.Path(sys.argv[1])
lines = [str(here / part) for part in ("layers/common", "cli", ".")]
pathlib.Path(sysconfig.get_path("purelib"), "tollgate.pth").write_text("\n".join(lines) + "\n")
PYTHON
printf '#!/bin/sh\nexec "%s/bin/python" -m tollgate_cli "$@"\n' "$(cd "$venv" && pwd)" > "$venv/bin/tollgate"
chmod +x "$venv/bin/tollgate"
