"""Plan versions in the config table: immutable once loaded.

`pk` `plan#<id>`, `sk` `v#<version, 8 digits>`, `json` the plan with its meters frozen in, `hash` its content. The row
`pk` `catalog`, `sk` `current` says which version new accounts get, and the default plan; `sk` `breaker` how the circuit
breakers of all plans stand: settings from the catalogue, and `typical` days of the plans' accounts from their usage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import NamedTuple

from botocore.exceptions import ClientError

from tollgate import dynamo
from tollgate.catalog.frozen import PlanVersion, content_hash, plan_from_json, plan_to_json
from tollgate.catalog.model import THRESHOLDS, BreakerRule, Breakers, Catalog
from tollgate.clock import system_clock
from tollgate.errors import UnknownPlan


class Current(NamedTuple):
    """The catalogue in force: plan id -> version for accounts that join the plan from now on."""

    currency: str
    default_plan: str
    auto_create_accounts: bool
    versions: Mapping[str, int]
    grace_days: int = 7
    fallback_plan: str | None = None
    stripe_customers: str = "first_need"
    expected_volume: Mapping[str, Decimal] = {}
    thresholds: tuple[int, ...] = THRESHOLDS

    @property
    def fallback(self) -> str:
        """The plan of accounts whose subscription ended or stayed unpaid."""
        return self.fallback_plan or self.default_plan


class CatalogTable:
    """Plan versions and the current catalogue."""

    def __init__(self, table: str) -> None:
        self._table = table
        self._versions: dict[tuple[str, int], PlanVersion] = {}

    def version(self, plan: str, version: int) -> PlanVersion:
        """A plan version; read once per process, as it never changes. Raises UnknownPlan."""
        known = self._versions.get((plan, version))
        if known is None:
            raw = self._get(f"plan#{plan}", f"v#{version:08d}")
            if raw is None:
                raise UnknownPlan(plan)
            frozen = plan_from_json(raw["json"]["S"])
            known = frozen._replace(plan=replace(frozen.plan, version=version))
            self._versions[plan, version] = known
        return known

    def current(self) -> Current | None:
        raw = self._get("catalog", "current")
        if raw is None:
            return None
        row = dynamo.unitem(raw)
        versions = {plan: int(version) for plan, version in row["versions"].items()}
        return Current(
            row["currency"],
            row["default_plan"],
            row["auto_create"],
            versions,
            int(row.get("grace_days", 7)),
            row.get("fallback_plan"),
            row.get("stripe_customers", "first_need"),
            row.get("expected_volume", {}),
            tuple(int(percent) for percent in row.get("thresholds", THRESHOLDS)),
        )

    def current_version(self, plan: str) -> PlanVersion:
        """The version that an account joining `plan` now gets. Raises UnknownPlan."""
        current = self.current()
        if current is None or plan not in current.versions:
            raise UnknownPlan(plan)
        return self.version(plan, current.versions[plan])

    def publish(self, catalog: Catalog) -> dict[str, tuple[int, bool]]:
        """Load a catalogue: a plan whose content changed gets a new version. Returns plan -> (version, is new).

        Versions are put before the row that names them, and so are the breakers' settings and the price book: a crash
        between leaves versions that nobody uses yet and settings that bind already, and publishing again finds both.
        """
        published = {}
        for plan in catalog.plans.values():
            meters = tuple(catalog.meters.values())
            content = content_hash(plan, meters)
            version, newest = 0, None
            for raw in dynamo.query(
                self._table,
                KeyConditionExpression="pk = :pk",
                ExpressionAttributeValues={":pk": dynamo.s(f"plan#{plan.id}")},
                ConsistentRead=True,
            ):
                version, newest = int(raw["sk"]["S"][2:]), raw["hash"]["S"]
            if newest == content:
                published[plan.id] = (version, False)
                continue
            version = self._put_next(plan.id, version + 1, plan_to_json(plan, meters), content)
            published[plan.id] = (version, True)
        self._put_breakers(catalog)
        if catalog.book is not None:
            from tollgate.margins.book_store import BookTable  # for those who publish: not at the gate's start

            BookTable(self._table, system_clock).put(catalog.book)
        dynamo.client().put_item(
            TableName=self._table,
            Item=dynamo.item(
                {
                    "pk": "catalog",
                    "sk": "current",
                    "currency": catalog.currency,
                    "default_plan": catalog.default_plan,
                    "auto_create": catalog.auto_create_accounts,
                    "versions": {plan: version for plan, (version, _) in published.items()},
                    "grace_days": catalog.grace_days,
                    "fallback_plan": catalog.fallback_plan,
                    "stripe_customers": catalog.stripe_customers,
                    "expected_volume": dict(catalog.expected_volume) or None,
                    "thresholds": None if catalog.thresholds == THRESHOLDS else list(catalog.thresholds),
                }
            ),
        )
        return published

    def breakers(self) -> Breakers:
        """How the circuit breakers of the plans stand."""
        raw = self._get("catalog", "breaker")
        if raw is None:
            return Breakers()
        row = dynamo.unitem(raw)
        typical = row.get("typical", {})
        rules = {
            plan: BreakerRule(said["multiple"], said["floors"], said["had"], typical.get(plan, {}))
            for plan, said in row.get("plans", {}).items()
        }
        return Breakers(rules, row.get("cost_cap"))

    def _put_breakers(self, catalog: Catalog) -> None:
        """The settings alone: what is typical stays, and so do the settings of plans that the catalogue has no more, as
        accounts may still be on them."""
        before, cap = self.breakers().rules, catalog.breakers.cost_cap
        gone = {plan: rule for plan, rule in before.items() if plan not in catalog.plans}
        plans = {
            plan: {"multiple": rule.multiple, "floors": dict(rule.floors), "had": dict(rule.had)}
            for plan, rule in (gone | dict(catalog.breakers.rules)).items()
        }
        values = {":plans": dynamo.wire(plans)} | ({} if cap is None else {":cap": dynamo.n(cap)})
        changes = "SET plans = :plans" + (" REMOVE cost_cap" if cap is None else ", cost_cap = :cap")
        self._update_breakers(changes, values)

    def put_typical(self, typical: Mapping[str, Mapping[str, Decimal]]) -> None:
        """By plan and meter: the units of a typical day of the plan's accounts."""
        by_plan = {plan: dict(units) for plan, units in typical.items()}
        self._update_breakers("SET typical = :typical", {":typical": dynamo.wire(by_plan)})

    def _update_breakers(self, changes: str, values: dynamo.Item) -> None:
        dynamo.client().update_item(
            TableName=self._table,
            Key={"pk": dynamo.s("catalog"), "sk": dynamo.s("breaker")},
            UpdateExpression=changes,
            ExpressionAttributeValues=values,
        )

    def _put_next(self, plan: str, version: int, text: str, content: str) -> int:
        while True:
            try:
                dynamo.client().put_item(
                    TableName=self._table,
                    Item=dynamo.item({"pk": f"plan#{plan}", "sk": f"v#{version:08d}", "json": text, "hash": content}),
                    ConditionExpression="attribute_not_exists(pk)",
                )
            except ClientError as error:
                if not dynamo.failed_condition(error):
                    raise
                version += 1  # another publisher took this number
                continue
            return version

    def _get(self, pk: str, sk: str) -> dynamo.Item | None:
        key = {"pk": dynamo.s(pk), "sk": dynamo.s(sk)}
        found: dynamo.Item | None = (
            dynamo.client().get_item(TableName=self._table, Key=key, ConsistentRead=True).get("Item")
        )
        return found
