#!/bin/sh
# Validates the template, builds the arm64 artifacts without docker and adds bytecode: /var/task and /opt are read-only on
# Lambda, so without it each cold start compiles every module again, in twice the time (docs/decisions/0003-layers.md).
set -eu
cd "$(dirname "$0")/.."
# Linting needs a region and no credentials; which one does not matter.
sh scripts/sam.sh validate --lint --region "${AWS_REGION:-us-east-1}"
sh scripts/sam.sh build
"$(sh scripts/python313.sh)" scripts/compile_artifacts.py .aws-sam/build
