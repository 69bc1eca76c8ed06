"""What a customer controls: where to be told (soft limit), where to be stopped (hard limit), and whether to run over.

Controls never loosen the plan: of two caps the lower one binds (`terms.lowest_cap`), and overage that the plan does not
allow stays so (`terms.overage_stopped`). Money is in the plan's currency.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import NamedTuple

from tollgate.accounts.rules import AccountRow, Rules
from tollgate.accounts.service import ABSENT, AccountDeps, change
from tollgate.errors import FieldError, Invalid
from tollgate.gate.money import state_of
from tollgate.gate.ports import GateDeps
from tollgate.rating.currency import EXACT, is_chargeable, minor_places, rounded
from tollgate.usage.outcome import ACCOUNT

_SHARE = Decimal("0.8")
_HALF = Decimal("0.5")


@dataclass(frozen=True, slots=True)
class ControlsPatch:
    """What a PUT changes: ABSENT fields stay, None clears."""

    soft_limit: object = ABSENT
    hard_limit: object = ABSENT
    block_overage: object = ABSENT
    thresholds: object = ABSENT


class SoftLimit(NamedTuple):
    """`source`: `customer`, or `default` where it follows what the account usually spends. None: there is none."""

    amount: Decimal | None
    source: str | None


def set_controls(deps: AccountDeps, account: str, patch: ControlsPatch, by: str | None = None) -> Rules:
    """Change controls, binding the very next reservation. Raises UnknownAccount, Busy, and Invalid for an amount that
    the currency of the account's plan does not have."""
    said = {name: value for name in patch.__slots__ if (value := getattr(patch, name)) is not ABSENT}

    def changed(row: AccountRow) -> AccountRow:
        currency = deps.catalog.version(row.plan, row.plan_version).plan.currency
        for name in ("soft_limit", "hard_limit"):
            amount = said.get(name)
            if isinstance(amount, Decimal):
                check_chargeable(amount, currency, name)
        listed = said.get("thresholds")
        thresholds = {"thresholds": tuple(sorted(set(listed)))} if isinstance(listed, list | tuple) else {}
        return replace(row, controls=row.controls._replace(**{**said, **thresholds}))

    return change(deps, account, changed, by)


def check_chargeable(amount: Decimal, currency: str, path: str) -> None:
    """Raises Invalid, naming the field at `path`, where an amount is no whole number of the currency's smallest unit:
    nobody could be charged exactly that."""
    if not is_chargeable(amount, currency):
        places = minor_places(currency)
        raise Invalid(f"`{path}`: {currency} has {places} decimal places.", (FieldError(path, "too_precise"),))


def soft_limit(gate: GateDeps, rules: Rules) -> SoftLimit:
    """Where the customer is told of the period's spend: at the amount set, else at the default."""
    said = rules.row.controls.soft_limit
    if said is not None:
        return SoftLimit(said, "customer")
    amount = default_soft_limit(_closed(gate, rules), rules.plan.currency)
    return SoftLimit(amount, None if amount is None else "default")


def default_soft_limit(past: Sequence[Decimal], currency: str) -> Decimal | None:
    """80 % of the median of what the last closed periods came to, at the currency's smallest unit; None where there was
    none, or nothing was usually spent: nobody wants to be told of the first cent."""
    if not past:
        return None
    ordered, middle = sorted(past), len(past) // 2
    median = ordered[middle]
    if len(ordered) % 2 == 0:
        median = EXACT.multiply(EXACT.add(ordered[middle - 1], median), _HALF)
    return rounded(EXACT.multiply(median, _SHARE), currency) or None


def _closed(deps: GateDeps, rules: Rules) -> tuple[Decimal, ...]:
    """What up to three closed periods came to, the latest first; also of one that ended while nobody came along."""
    if rules.terms is None:
        return ()
    gate = deps.gates.read(rules.account)
    if gate is None or gate.money is None:
        return ()
    return state_of(rules, rules.terms, ACCOUNT, gate, deps.clock() // 1000).money.past
