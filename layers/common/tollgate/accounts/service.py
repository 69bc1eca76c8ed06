"""Changes to accounts. Each writes the rules row under its revision, then applies it to the gate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from tollgate.accounts.rules import AccountRow, Frozen, Rules, with_plan
from tollgate.accounts.store import AccountTable, RulesTable, new_row, renewed
from tollgate.catalog.store import CatalogTable
from tollgate.errors import Busy, UnknownAccount
from tollgate.gate.apply_rules import apply_rules
from tollgate.gate.ports import GateDeps
from tollgate.windows import zone

TRIES = 10
ABSENT = object()
"""A field that the request left out: it stays as it is (None clears it)."""


@dataclass(frozen=True, slots=True)
class AccountDeps:
    accounts: AccountTable
    catalog: CatalogTable
    rules: RulesTable
    gate: GateDeps


@dataclass(frozen=True, slots=True)
class AccountPatch:
    """What a PUT changes: ABSENT fields stay, None clears."""

    plan: object = ABSENT
    timezone: object = ABSENT
    stripe_customer_id: object = ABSENT
    email: object = ABSENT
    name: object = ABSENT
    overrides: object = ABSENT


def put_account(deps: AccountDeps, account: str, patch: AccountPatch) -> tuple[Rules, bool]:
    """Create or merge; returns the rules now and whether the account is new.

    Raises UnknownPlan, UnknownTimezone, CustomerInUse, Busy.
    """
    now = deps.gate.clock() // 1000
    for tried in range(TRIES):
        if tried:
            deps.gate.pause(tried)
        row = deps.accounts.read(account)
        if row is not None:
            changed = patched(deps, row, patch, now)
            # Unchanged is applied, too: an earlier try may have written the row and died before it reached the gate.
            if changed == row or deps.accounts.update(renewed(changed), row):
                return _applied(deps, account), False
            continue
        plan = patch.plan if isinstance(patch.plan, str) else _default_plan(deps)
        fresh = patched(deps, new_row(account, deps.catalog, plan, now), replace(patch, plan=ABSENT), 0)
        if deps.accounts.create(fresh):
            return _applied(deps, account), True
    raise Busy


def patched(deps: AccountDeps, row: AccountRow, patch: AccountPatch, now: int) -> AccountRow:
    """`row` with the patch applied, same revision. `now`: epoch seconds from which new counters are kept."""
    if patch.plan is not ABSENT:
        plan = patch.plan if isinstance(patch.plan, str) else _default_plan(deps)
        if plan != row.plan:
            version = deps.catalog.current_version(plan)
            row = with_plan(row, version.plan, version.meters, now)
    if patch.timezone is not ABSENT:
        timezone = patch.timezone if isinstance(patch.timezone, str) else "UTC"
        zone(timezone)
        row = replace(row, calendar=row.calendar.moved(now, timezone) if now else type(row.calendar).of(timezone))
    simple = {
        field: value
        for field in ("stripe_customer_id", "email", "name", "overrides")
        if (value := getattr(patch, field)) is not ABSENT
    }
    return replace(row, **simple)


def freeze(deps: AccountDeps, account: str, reason: str) -> Rules:
    """Refuse every new reservation from the very next one on; commits and usage are still recorded."""
    since = deps.gate.clock() // 1000
    return _change(deps, account, lambda row: row if row.frozen else replace(row, frozen=Frozen(reason, since)))


def unfreeze(deps: AccountDeps, account: str) -> Rules:
    return _change(deps, account, lambda row: replace(row, frozen=None))


def _change(deps: AccountDeps, account: str, change: Callable[[AccountRow], AccountRow]) -> Rules:
    for tried in range(TRIES):
        if tried:
            deps.gate.pause(tried)
        row = deps.accounts.read(account)
        if row is None:
            raise UnknownAccount(account)
        changed = change(row)
        if changed == row or deps.accounts.update(renewed(changed), row):
            return _applied(deps, account)
    raise Busy


def _applied(deps: AccountDeps, account: str) -> Rules:
    rules = deps.rules.fresh(account)
    apply_rules(deps.gate, rules)
    return rules


def _default_plan(deps: AccountDeps) -> str:
    current = deps.catalog.current()
    if current is None:
        raise Busy  # the catalogue is being loaded for the first time
    return current.default_plan
