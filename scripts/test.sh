#!/bin/sh
# Every test, in two lanes side by side (one for each core of a small machine): the suites, whose progress is shown, and
# the proofs (interleavings, model, crashes), whose output follows at the end.
set -u
py="$1"
unset STRIPE_TEST_KEY # a sandbox is for `make test-stripe` only
proofs="$(mktemp)"
lane=""
trap 'exit 130' INT TERM
trap '[ -z "$lane" ] || { pkill -P "$lane"; kill "$lane" 2>/dev/null; }; rm -f "$proofs"' EXIT
# Crashes apart from the rest: their world replaces time and randomness in the whole process.
{ "$py" -m pytest tests/interleave tests/model; one=$?; "$py" -m pytest tests/crash; two=$?; exit $((one | two)); } >"$proofs" 2>&1 &
lane=$!
failed=0
"$py" -m pytest -m "not build" tests/unit tests/infra tests/bench tests/contract tests/sandbox tests/race tests/e2e || failed=1
"$py" -m pytest tests/killed || failed=1
echo "The suites have ended; the proofs (interleavings, model, crashes) may take some minutes more."
wait "$lane" || failed=1
lane=""
cat "$proofs"
exit "$failed"
