#!/bin/sh
# Every test, in two lanes side by side (one for each core of a small machine): the suites, whose progress is shown, and
# the proofs of interleavings, whose output follows at the end.
set -u
py="$1"
proofs="$(mktemp)"
lane=""
trap 'exit 130' INT TERM
trap '[ -z "$lane" ] || kill "$lane" 2>/dev/null; rm -f "$proofs"' EXIT
"$py" -m pytest tests/interleave tests/model >"$proofs" 2>&1 &
lane=$!
failed=0
"$py" -m pytest -m "not build" tests/unit tests/infra tests/bench tests/contract tests/race tests/e2e || failed=1
"$py" -m pytest tests/killed || failed=1
"$py" -m pytest tests/crash || failed=1  # apart: its world replaces time and randomness in the whole process
echo "The suites have ended; the proofs (interleavings, model) may take some minutes more."
wait "$lane" || failed=1
lane=""
cat "$proofs"
exit "$failed"
