"""Identify: an anonymous account becomes a known one.

One transaction on the two rules rows says so. From then on the anonymous id is another name of the known account: rules
and gates are that one's, rows stay where they were written and are counted with its own. The gates follow, the known
account's before the answer, each member's when somebody asks for it (`gate/joining.py`).

What a crash leaves: before the transaction, nothing; after it, gates that are behind, which whoever comes along brings
up, as does the same call repeated.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from tollgate.accounts.audit import entry
from tollgate.accounts.rules import AccountRow, Rules
from tollgate.accounts.service import AccountDeps
from tollgate.accounts.store import renewed
from tollgate.errors import (
    AccountBilled,
    AccountFrozen,
    AlreadyIdentified,
    Busy,
    FieldError,
    Invalid,
    TooManyIdentified,
    UnknownAccount,
)
from tollgate.gate.apply_rules import apply_rules
from tollgate.gate.item import Gate
from tollgate.gate.ports import subject_of
from tollgate.gate.shown import with_counters
from tollgate.usage.outcome import MEMBER

TRIES = 20
MOST = 100
"""Accounts that may become one: its audits read the rows of each."""


def identify(deps: AccountDeps, account: str, into: str, by: str | None = None) -> Rules:
    """Make `account` a part of `into`; returns the rules of both. Repeating it changes nothing.

    Raises UnknownAccount, Invalid (into itself), AlreadyIdentified, AccountBilled, AccountFrozen, TooManyIdentified,
    Busy. None of them changes anything.
    """
    for tried in range(TRIES):
        if tried:
            deps.gate.pause(tried)
        theirs, mine = deps.accounts.read(account), deps.rules.row(into)
        if theirs is None or mine is None:
            raise UnknownAccount(account if theirs is None else into)
        if mine.account == account:
            raise Invalid("An account cannot become itself.", (FieldError("into", "itself"),))
        if theirs.merged_into is not None:
            if theirs.merged_into != mine.account:
                raise AlreadyIdentified(account)
            return _brought_up(deps, mine.account)
        gate = _gate(deps, theirs)
        check(theirs, mine, gate)
        became, grown = joined(theirs, mine)
        now = deps.gate.clock()
        entries = ((became, entry(theirs, became, by, now)), (grown, entry(mine, grown, by, now)))
        # Where usage can be paid for, the gate is closed in the same transaction, provided that none was.
        closing = gate if _priced(deps, theirs) or (gate is not None and gate.money is not None) else None
        if deps.accounts.merge((theirs, became), (mine, grown), entries, closing):
            return _brought_up(deps, mine.account)
    raise Busy


def check(theirs: AccountRow, mine: AccountRow, gate: Gate | None) -> None:
    """Refuse what cannot become another account; `gate` is its account gate. Raises as `identify` does."""
    if theirs.merged:
        raise AlreadyIdentified(theirs.account)
    if theirs.stripe_customer_id is not None or billed(gate):
        raise AccountBilled(theirs.account)
    if theirs.frozen is not None:
        raise AccountFrozen(theirs.account)
    if len(mine.merged) >= MOST:
        raise TooManyIdentified(mine.account, MOST)


def billed(gate: Gate | None) -> bool:
    """Whether anything is, or may come to be, paid for by the account: its usage must not be charged under another
    one's promises."""
    money = None if gate is None else gate.money
    if gate is not None and any(level.priced and level.units for level in gate.levels.values()):
        return True
    return money is not None and any((*money.past, money.spend, *(paid.taken for paid in money.paid.values())))


def bring_members(deps: AccountDeps, rules: Rules, members: Iterable[str]) -> None:
    """The gates of members of the account that became this one, now and not when somebody asks for them."""
    for member in members:
        gate = deps.gate.gates.read(subject_of(rules.account, MEMBER, member))
        with_counters(deps.gate, rules, gate, member, ())


def joined(theirs: AccountRow, mine: AccountRow) -> tuple[AccountRow, AccountRow]:
    """Both rows once `theirs` became `mine`, each with its next revision."""
    meters = tuple(meter for meter in theirs.meters if meter not in mine.meters)
    became = renewed(theirs, merged_into=mine.account, next_plan=None)
    return became, renewed(replace(mine, meters=mine.meters + meters), merged=(*mine.merged, theirs.account))


def _priced(deps: AccountDeps, row: AccountRow) -> bool:
    return bool(deps.catalog.version(row.plan, row.plan_version).plan.prices)


def _gate(deps: AccountDeps, row: AccountRow) -> Gate | None:
    """The account gate; made where a call under way might make it with paid usage."""
    gate = deps.gate.gates.read(row.account)
    if gate is None and _priced(deps, row):
        rules = deps.rules.fresh(row.account)
        if rules.account == row.account:
            apply_rules(deps.gate, rules)
        gate = deps.gate.gates.read(row.account)
    return gate


def _brought_up(deps: AccountDeps, account: str) -> Rules:
    rules = deps.rules.fresh(account)
    apply_rules(deps.gate, rules)
    return rules
