"""Changed rules, applied to the account gate before the change answers: the very next reservation meets them.

The rules row is written first (`rev + 1`), then the gate. A crash between leaves a gate with the older revision: a
process that loads the new row applies it with its first write; one with cached rules goes on under the old ones for at
most 60 s, which is why the caller, who got no answer, repeats the change.
"""

from __future__ import annotations

from decimal import Decimal

from tollgate.accounts.rules import Rules
from tollgate.errors import Busy
from tollgate.gate import steps
from tollgate.gate.item import GateWrite
from tollgate.gate.money import restated
from tollgate.gate.ports import GateDeps
from tollgate.gate.recount import recount

TRIES = 40


def apply_rules(deps: GateDeps, rules: Rules) -> None:
    """Bring the account gate to the revision of `rules`, seeding counters that begin in mid-window. Raises Busy."""
    needed = {counter.slot: Decimal(0) for counter in rules.counters if counter.key.per == "account"}
    gate = deps.gates.read(rules.account)
    for tried in range(TRIES):
        if tried > 2:
            deps.pause(tried - 2)
        if gate is not None and gate.rev >= rules.rev and not steps.behind(rules, gate):
            return
        now = deps.clock() // 1000
        if gate is not None and (gate.rev < 0 or steps.unseeded(rules, gate, needed, now)):
            recount(deps, rules, rules.account, None, needed)
            gate = deps.gates.read(rules.account)
            continue
        rev = None if gate is None else gate.rev
        priced = restated(rules, "account", gate, now)
        gate = deps.gates.write(GateWrite(rules.account, rev, rules.rev, money=priced)).gate
    raise Busy
