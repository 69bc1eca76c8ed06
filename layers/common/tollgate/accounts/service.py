"""Changes to accounts. Each writes the rules row under its revision, then applies it to the gate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from tollgate.accounts.audit import entry
from tollgate.accounts.currency import check_same, in_currency
from tollgate.accounts.overrides import read
from tollgate.accounts.rules import BREAKER, AccountRow, Frozen, NextPlan, Rules, with_plan
from tollgate.accounts.store import AccountTable, RulesTable, new_row, renewed
from tollgate.catalog.frozen import PlanVersion
from tollgate.catalog.model import Meter, Plan
from tollgate.catalog.store import CatalogTable
from tollgate.errors import Busy, UnknownAccount, UnknownLimit
from tollgate.gate.apply_rules import apply_rules
from tollgate.gate.levels import price_levels
from tollgate.gate.ports import GateDeps
from tollgate.gate.recurring import give_due
from tollgate.windows import PERIOD, Calendar, window_at, zone

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
    """Their canonical text."""
    fits: Callable[[Plan, Mapping[str, Meter]], None] | None = None
    """Checks the overrides against the plan that the account will be on, and its meters. Raises Invalid."""
    by: str | None = None
    """Who asks for it, for the audit."""


def put_account(deps: AccountDeps, account: str, patch: AccountPatch) -> tuple[Rules, bool]:
    """Create or merge; returns the rules now and whether the account is new.

    Raises UnknownPlan, CurrencyMismatch, UnknownTimezone, UnknownLimit, CustomerInUse, Busy, and what `patch.fits`
    raises.
    """
    now = deps.gate.clock() // 1000
    for tried in range(TRIES):
        if tried:
            deps.gate.pause(tried)
        row = deps.rules.row(account)
        if row is not None:
            changed = patched(deps, row, patch, now)
            # Unchanged is applied, too: an earlier try may have written the row and died before it reached the gate.
            if changed == row or _written(deps, changed, row, patch.by):
                return _applied(deps, account), False
            continue
        plan = patch.plan if isinstance(patch.plan, str) else _default_plan(deps)
        fresh = patched(deps, new_row(account, deps.catalog, plan, now), replace(patch, plan=ABSENT), 0)
        if deps.accounts.create(fresh, entry(None, fresh, patch.by, deps.gate.clock())):
            return _applied(deps, account), True
    raise Busy


def patched(deps: AccountDeps, row: AccountRow, patch: AccountPatch, now: int) -> AccountRow:
    """`row` with the patch applied, same revision. `now`: epoch seconds from which new counters are kept."""
    if patch.plan is not ABSENT:
        plan = patch.plan if isinstance(patch.plan, str) else _default_plan(deps)
        if plan != row.plan:
            row = _moved_now(deps, row, deps.catalog.current_version(plan), now)
    if patch.timezone is not ABSENT:
        timezone = patch.timezone if isinstance(patch.timezone, str) else "UTC"
        zone(timezone)
        calendar = row.calendar.moved(now, timezone) if now else Calendar.of(timezone, row.calendar.period)
        row = replace(row, calendar=calendar)
    simple = {
        field: value
        for field in ("stripe_customer_id", "email", "name", "overrides")
        if (value := getattr(patch, field)) is not ABSENT
    }
    row = replace(row, **simple)
    if row.overrides is not None and patch.overrides is not ABSENT:
        version = deps.catalog.version(row.plan, row.plan_version)
        said = read(row.overrides)
        unknown = sorted({*said.maxima, *said.amounts} - {limit.id for limit in version.plan.limits})
        if unknown:
            raise UnknownLimit(unknown[0], row.plan)
        if patch.fits is not None:
            patch.fits(version.plan, version.meters)
    return row


def _moved_now(deps: AccountDeps, row: AccountRow, to: PlanVersion, now: int) -> AccountRow:
    """`row` on another plan version from `now` on, same revision. Raises CurrencyMismatch."""
    before = deps.catalog.version(row.plan, row.plan_version).plan
    check_same(before, to.plan)
    stays = in_currency(replace(row, next_plan=None), before, to.plan)
    if before.grants or before.seats is not None:
        # What the plan gave until now, rollover included, is the account's: the next plan does not know of it.
        give_due(deps.gate, deps.rules.compiled(row), deps.gate.gates.read(row.account))
    return with_plan(stays, to.plan, to.meters, now)


def anchored(row: AccountRow, anchor_s: int, now: int) -> AccountRow:
    """`row` once Stripe has told its subscription's `billing_cycle_anchor` (epoch seconds), same revision; `row` itself
    where that is known. Billing periods follow it from the end of the period that contains `now`, but for those of the
    calendar, which only remember it for the next plan. Raises ValueError for an instant outside 1970 to 9998.
    """
    if row.subscription_anchor == anchor_s:
        return row
    told = replace(row.calendar.period, anchor="subscription", at=anchor_s)
    follows = row.calendar.period.anchor != "calendar"
    calendar = row.calendar.moved(now, period=told) if follows else row.calendar
    return replace(row, calendar=calendar, subscription_anchor=anchor_s)


def begun(row: AccountRow, started: int, period_start: int, now: int) -> AccountRow:
    """`row` with the billing period that began at Stripe, same revision: the one before ends there, though it is told
    later. `started`: when the subscription began; `period_start`: its running period. All epoch seconds.

    Periods that follow the subscription's anchor have Stripe's boundaries, so a running period that is none of ours was
    begun anew. Periods of the calendar are those of the account's timezone: only the subscription's start divides one,
    and not one that is over.
    """
    at = period_start
    if row.calendar.period.anchor == "calendar":
        at = started
        if at < window_at(PERIOD, row.calendar, now).start:
            return row
    return replace(row, calendar=row.calendar.begun(now, at))


def change_plan(
    deps: AccountDeps, account: str, plan: str | None, *, at_period_end: bool = False, by: str | None = None
) -> Rules:
    """Move an account to the current version of `plan`, its own plan included: now, or with the next billing period.
    None cancels: it falls back to the catalogue's default plan. Counters stay as they are. The last word counts: it
    takes the place of a move that was to come. Raises UnknownPlan, UnknownAccount, CurrencyMismatch."""
    version = deps.catalog.current_version(_default_plan(deps) if plan is None else plan)
    now = deps.gate.clock() // 1000
    there = (version.plan.id, version.plan.version)

    def moved(row: AccountRow) -> AccountRow:
        stays = replace(row, next_plan=None)
        if (row.plan, row.plan_version) == there:
            return stays
        if not at_period_end:
            return _moved_now(deps, row, version, now)
        end = window_at(PERIOD, row.calendar, now).end
        assert end is not None, "billing periods end"
        return replace(row, next_plan=NextPlan(*there, end))

    return change(deps, account, moved, by)


@dataclass(frozen=True, slots=True)
class Follow:
    """What Stripe's subscription means for a rules row.

    `anchor`: its billing_cycle_anchor in epoch seconds, None where none is told. `began`: when the subscription and its
    running period did, None where it gives no plan. `falls_to`: the plan version that the account is moved to at a
    later second, once the grace of a failed payment ends. `told_before`: such seconds that were told before and hold no
    more.
    """

    plan: str
    version: int
    anchor: int | None = None
    began: tuple[int, int] | None = None
    falls_to: NextPlan | None = None
    told_before: tuple[int, ...] = ()


def follow(deps: AccountDeps, account: str, told: Callable[[], Follow | None], by: str) -> Rules:
    """Bring an account to what its subscription means; counters stay as they are.

    `told` is asked after each read of the rules row, which is then written under the revision read: whoever was told
    something older loses the write and asks again. None: there is nothing to follow. Raises UnknownPlan,
    UnknownAccount, CurrencyMismatch, Busy.
    """

    def moved(row: AccountRow) -> AccountRow:
        said = told()
        if said is None:
            return row
        # By the clock of this try: a window that ended before it may be sealed by what was known until then.
        now = deps.gate.clock() // 1000
        if (row.plan, row.plan_version) != (said.plan, said.version):
            row = _moved_now(deps, row, deps.catalog.version(said.plan, said.version), now)
        if said.anchor is not None:
            row = anchored(row, said.anchor, now)
        if said.began is not None:
            row = begun(row, *said.began, now)
        if said.falls_to is not None:
            return replace(row, next_plan=said.falls_to)
        ours = row.next_plan is not None and row.next_plan.at in said.told_before
        return replace(row, next_plan=None) if ours else row

    return change(deps, account, moved, by)


def freeze(deps: AccountDeps, account: str, reason: str, by: str | None = None) -> Rules:
    """Refuse every new reservation from the very next one on; commits and usage are still recorded. An account that the
    operator froze keeps its reason."""
    since = deps.gate.clock() // 1000

    def frozen(row: AccountRow) -> AccountRow:
        if row.frozen is None:
            return replace(row, frozen=Frozen(reason, since))
        if row.frozen.reason == BREAKER:
            # From here on it is the operator's: the link of the breaker's message does not lift it.
            return replace(row, frozen=row.frozen._replace(reason=reason))
        return row

    return change(deps, account, frozen, by)


def change(deps: AccountDeps, account: str, changed: Callable[[AccountRow], AccountRow], by: str | None) -> Rules:
    """Write what `changed` makes of the rules row, with its audit entry, and bring the gate to it before answering.
    What `changed` raises changes nothing. Raises UnknownAccount, Busy."""
    for tried in range(TRIES):
        if tried:
            deps.gate.pause(tried)
        row = deps.rules.row(account)
        if row is None:
            raise UnknownAccount(account)
        wanted = changed(row)
        # Unchanged is applied, too: an earlier try may have written the row and died before it reached the gate.
        if wanted == row or _written(deps, wanted, row, by):
            return _applied(deps, account)
    raise Busy


def _written(deps: AccountDeps, changed: AccountRow, row: AccountRow, by: str | None) -> bool:
    after = renewed(changed)
    return deps.accounts.update(after, row, entry(row, after, by, deps.gate.clock()))


def _applied(deps: AccountDeps, account: str) -> Rules:
    rules = deps.rules.fresh(account)
    apply_rules(deps.gate, rules)
    price_levels(deps.gate, rules)
    return rules


def _default_plan(deps: AccountDeps) -> str:
    current = deps.catalog.current()
    if current is None:
        raise Busy  # the catalogue is being loaded for the first time
    return current.default_plan
