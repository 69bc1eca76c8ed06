"""Accounts that move between plans in different currencies."""

from __future__ import annotations

from dataclasses import replace

from tollgate.accounts.overrides import without_money
from tollgate.accounts.rules import AccountRow
from tollgate.catalog.model import Plan
from tollgate.errors import CurrencyMismatch


def charges(plan: Plan) -> bool:
    """Whether accounts on the plan owe anything for a period."""
    return bool(plan.prices or plan.base_fee or plan.seats)


def check_same(before: Plan, after: Plan) -> None:
    """Raises CurrencyMismatch where a move in the middle of a period would put two currencies on one invoice."""
    if before.currency != after.currency and charges(before) and charges(after):
        raise CurrencyMismatch(after.id, after.currency, before.currency)


def in_currency(row: AccountRow, before: Plan, after: Plan) -> AccountRow:
    """`row`, same revision, without amounts that were said in the currency of the plan `before` where `after` has
    another: no rate here could turn them into a promise that somebody made. A hard limit leaves overage blocked behind
    until the customer sets one anew, so that the move lets nobody be charged past it."""
    if before.currency == after.currency:
        return row
    blocked = row.controls.block_overage if row.controls.hard_limit is None else True
    controls = row.controls._replace(soft_limit=None, hard_limit=None, block_overage=blocked)
    return replace(row, controls=controls, overrides=without_money(row.overrides))
