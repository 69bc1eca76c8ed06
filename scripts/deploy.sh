#!/bin/sh
# Usage: scripts/deploy.sh dev|staging|prod [more options of sam deploy]. Builds, checks the secrets, deploys: docs/deploy.md.
set -eu
cd "$(dirname "$0")/.."
stage=${1:-}
case "$stage" in
    dev | staging | prod) shift ;;
    *) echo "Which stage? make deploy STAGE=dev (or staging, prod)" >&2; exit 2 ;;
esac
sh scripts/build.sh
# A stack without its secrets deploys well and fails at its first request; say it before.
.venv/bin/tollgate secrets check --stack "tollgate-$stage"
sh scripts/sam.sh deploy --config-env "$stage" "$@"
