"""Unknown accounts start on the default plan: once, where the catalogue allows it, and only for a call that fits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tollgate.accounts.rules import Rules
from tollgate.accounts.store import AccountTable, RulesTable
from tollgate.catalog.schema import load_catalog
from tollgate.catalog.store import CatalogTable
from tollgate.errors import UnknownAccount, UnknownMeter

pytestmark = pytest.mark.usefixtures("tables")
CATALOG = Path(__file__).parents[3] / "catalog.yaml"


def rules_table(*, auto_create: bool = True) -> RulesTable:
    catalog = CatalogTable("catalog")
    catalog.publish(replace(load_catalog(CATALOG), auto_create_accounts=auto_create))
    return RulesTable(AccountTable("accounts"), catalog, lambda: 1_795_262_400_000)


def fits(rules: Rules) -> None:
    pass


def test_an_unknown_account_starts_on_the_default_plan() -> None:
    table = rules_table()
    rules = table.get("newcomer", fits)
    assert (rules.account, rules.rev, rules.plan.id) == ("newcomer", 1, "free")
    assert rules_table().fresh("newcomer").rev == 1


def test_what_a_call_cannot_use_creates_nothing() -> None:
    def refuse(rules: Rules) -> None:
        assert rules.plan.id == "free"
        raise UnknownMeter("nothing", "meter")

    table = rules_table()
    with pytest.raises(UnknownMeter):
        table.get("refused", refuse)
    with pytest.raises(UnknownAccount):
        table.fresh("refused")


def test_only_calls_that_bring_usage_create_accounts() -> None:
    with pytest.raises(UnknownAccount):
        rules_table().get("asked-for")


def test_a_catalogue_can_forbid_it() -> None:
    table = rules_table(auto_create=False)
    with pytest.raises(UnknownAccount):
        table.get("forbidden", fits)
    with pytest.raises(UnknownAccount):
        table.fresh("forbidden")
