#!/bin/sh
# Every test, in three lanes side by side: what needs few processes, what talks to a running stack (and waits much), and
# the proofs (interleavings, model, crashes, budgets). Progress is shown of the first; the others' output follows at the end.
set -u
py="$1"
unset STRIPE_TEST_KEY # a sandbox is for `make test-stripe` only
kept="$(mktemp -d)"
lanes=""
trap 'exit 130' INT TERM
trap 'for lane in $lanes; do pkill -P "$lane"; kill "$lane" 2>/dev/null; done; rm -rf "$kept"' EXIT

# lane NAME SUITES...: these suites one after the other, each in a process of its own; `+` joins suites into one process.
lane() {
    name="$1"
    shift
    {
        failed=0
        for suites in "$@"; do
            # shellcheck disable=SC2046  # words are wanted
            "$py" -m pytest -m "not build" $(printf 'tests/%s ' $(printf '%s' "$suites" | tr '+' ' ')) || failed=1
        done
        exit "$failed"
    } >"$kept/$name" 2>&1 &
    lanes="$lanes $!"
}

# Crashes and kills apart from the rest: the crash world replaces time and randomness in the whole process.
lane stack contract race+e2e killed
lane proofs interleave+model crash bench
failed=0
"$py" -m pytest -m "not build" tests/unit tests/infra tests/sandbox || failed=1
echo "The first lane has ended; the running stack's and the proofs (interleavings, model, crashes, budgets) may take some minutes more."
for one in $lanes; do
    wait "$one" || failed=1
done
lanes=""
cat "$kept/stack" "$kept/proofs"
exit "$failed"
