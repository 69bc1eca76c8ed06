#!/bin/sh
# Prints the Python to use: 3.13 (the Lambda runtime's) where it is found, else the newest from 3.11 on.
set -u
good() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2])' 2>/dev/null; }
for name in python3.13 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.13*/bin/python3 python3.14 python3.12 python3.11 python3; do
    if good "$name"; then
        echo "$name"
        exit 0
    fi
done
echo "Tollgate needs Python 3.11 or newer; none was found on this machine." >&2
exit 1
