#!/bin/sh
# Runs the SAM command line from a virtualenv of its own (.venv-sam), made on first use: its pins for pydantic and boto3
# are not ours, and in one environment the tests would silently run against another pydantic than the one we ship.
set -eu
cd "$(dirname "$0")/.."
version=1.170.0
python=$(sh scripts/python313.sh)

if [ ! -f ".venv-sam/.aws-sam-cli-$version" ]; then
    echo "Installing aws-sam-cli $version into .venv-sam (once)" >&2
    rm -rf .venv-sam
    "$python" -m venv .venv-sam
    .venv-sam/bin/python -m pip install --quiet --disable-pip-version-check "aws-sam-cli==$version" >&2
    touch ".venv-sam/.aws-sam-cli-$version"
fi

PATH="$(dirname "$python"):$PATH"
SAM_CLI_TELEMETRY=0
export PATH SAM_CLI_TELEMETRY
exec .venv-sam/bin/sam "$@"
