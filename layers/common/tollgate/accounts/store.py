"""The accounts table: rules rows, the list of accounts, and which Stripe customer belongs to which account.

Rules row: `pk` account, `sk` `rules`; beside it the audit of its changes (`audit_store.py`). List row: `pk`
`#accounts`, `sk` `<created ms>#<account>`, put in the same transaction. Customer row: `pk` `customer#<Stripe id>`, `sk`
`customer`: unique both ways, changed with the rules row.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from tollgate import dynamo
from tollgate.accounts.currency import in_currency
from tollgate.accounts.overrides import without
from tollgate.accounts.rules import (
    AccountRow,
    Controls,
    CounterKey,
    Frozen,
    NextPlan,
    Rules,
    compile_rules,
    moved_on,
    period_rule,
    with_plan,
)
from tollgate.catalog.store import CatalogTable
from tollgate.clock import Clock
from tollgate.errors import Busy, CustomerInUse, UnknownAccount
from tollgate.periods import CALENDAR_MONTH, PeriodRule
from tollgate.windows import Calendar, Segment

if TYPE_CHECKING:
    from tollgate.accounts.audit import Entry
    from tollgate.gate.item import Gate

LIST = "#accounts"
"""Partition of the list rows: no account can have this id."""
CACHE_MS = 60_000
_CACHED_ACCOUNTS = 5_000
_DUE_TRIES = 20
"""An account has at most two things due, a plan and ended overrides; the rest is for others that come along, too."""


class AccountTable:
    """Rules rows and the uniqueness of Stripe customers."""

    def __init__(self, table: str, closing_part: Callable[[Gate], dict[str, Any]] | None = None) -> None:
        """`closing_part` renders the closing of a gate for a transaction (`gate.store.closing_part`)."""
        self._table = table
        self._closing_part = closing_part

    def read(self, account: str) -> AccountRow | None:
        answer = dynamo.client().get_item(TableName=self._table, Key=_rules_key(account), ConsistentRead=True)
        found = answer.get("Item")
        return row_of(found) if found else None

    def holder(self, customer: str) -> str | None:
        """The account that has a Stripe customer (consistent read)."""
        key = {"pk": dynamo.s(f"customer#{customer}"), "sk": dynamo.s("customer")}
        found = dynamo.client().get_item(TableName=self._table, Key=key, ConsistentRead=True).get("Item")
        return str(found["account"]["S"]) if found else None

    def create(self, row: AccountRow, entry: Entry | None = None) -> bool:
        """Put a new account, its list row, audit entry and customer row in one transaction; False where it exists.
        Raises CustomerInUse."""
        listed = {"pk": LIST, "sk": _listed_at(row), "account": row.account}
        parts = [self._put(row_item(row), "attribute_not_exists(pk)"), self._put(dynamo.item(listed), None)]
        parts += self._entry(row, entry)
        if row.stripe_customer_id is not None:
            parts.append(self._customer(row.stripe_customer_id, row.account))
        return self._transact(parts, row.stripe_customer_id)

    def update(self, row: AccountRow, before: AccountRow, entry: Entry | None = None) -> bool:
        """Replace the rules row, guarded by `before.rev`, with the audit entry in the same transaction; False where
        another change came first. Raises CustomerInUse."""
        parts = [self._put(row_item(row), "rev = :rev", {":rev": dynamo.n(before.rev)}), *self._entry(row, entry)]
        if row.stripe_customer_id == before.stripe_customer_id:
            return self._put_alone(parts[0]) if len(parts) == 1 else self._transact(parts, None)
        if before.stripe_customer_id is not None:
            key = {"pk": dynamo.s(f"customer#{before.stripe_customer_id}"), "sk": dynamo.s("customer")}
            parts.append({"Delete": {"TableName": self._table, "Key": key}})
        if row.stripe_customer_id is not None:
            parts.append(self._customer(row.stripe_customer_id, row.account))
        return self._transact(parts, row.stripe_customer_id)

    def merge(
        self,
        became: tuple[AccountRow, AccountRow],
        into: tuple[AccountRow, AccountRow],
        entries: Iterable[tuple[AccountRow, Entry | None]],
        closing: Gate | None = None,
    ) -> bool:
        """Replace two rules rows (each before and after), guarded by their revisions, in one transaction, with their
        audit entries; the account that became the other is listed no more. `closing`: its gate, closed in the same
        transaction if nothing was paid for on it since. False where another change came first."""
        parts = []
        for before, after in (became, into):
            parts.append(self._put(row_item(after), "rev = :rev", {":rev": dynamo.n(before.rev)}))
        for row, said in entries:
            parts += self._entry(row, said)
        listed = {"pk": dynamo.s(LIST), "sk": dynamo.s(_listed_at(became[0]))}
        parts.append({"Delete": {"TableName": self._table, "Key": listed}})
        if closing is not None:
            assert self._closing_part is not None
            parts.append(self._closing_part(closing))
        return self._transact(parts, None)

    def page(self, limit: int, before: str | None) -> tuple[list[str], str | None]:
        """Account ids, newest first, below list key `before`; and the key to go on from."""
        answer = dynamo.client().query(
            TableName=self._table,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": dynamo.s(LIST)},
            ScanIndexForward=False,
            Limit=limit,
            **({"ExclusiveStartKey": {"pk": dynamo.s(LIST), "sk": dynamo.s(before)}} if before else {}),
        )
        after = answer.get("LastEvaluatedKey")
        return [raw["account"]["S"] for raw in answer["Items"]], after["sk"]["S"] if after else None

    def ids(self) -> Iterator[str]:
        """All account ids, newest first, without those that became another account."""
        before: str | None = None
        while True:
            page, before = self.page(100, before)
            yield from page
            if before is None:
                return

    def audit(self, account: str, limit: int, before: int | None) -> tuple[list[Entry], int | None]:
        """What was changed, newest first, in revisions below `before`; and the revision to go on from."""
        from tollgate.accounts.audit_store import entry_page

        return entry_page(self._table, account, limit, before)

    def _entry(self, row: AccountRow, entry: Entry | None) -> list[dict[str, Any]]:
        if entry is None:
            return []
        from tollgate.accounts.audit_store import entry_item  # with the first change: the gate makes hardly any

        return [self._put(entry_item(row.account, entry), "attribute_not_exists(pk)")]

    def _put_alone(self, part: dict[str, Any]) -> bool:
        try:
            dynamo.client().put_item(**part["Put"])
        except ClientError as error:
            if dynamo.failed_condition(error):
                return False
            raise
        return True

    def _customer(self, customer: str, account: str) -> dict[str, Any]:
        return self._put(
            dynamo.item({"pk": f"customer#{customer}", "sk": "customer", "account": account}),
            "attribute_not_exists(pk) OR account = :account",
            {":account": dynamo.s(account)},
        )

    def _put(
        self, item: dynamo.Item, condition: str | None, values: dict[str, dynamo.Attr] | None = None
    ) -> dict[str, Any]:
        put: dict[str, Any] = {"TableName": self._table, "Item": item}
        if condition is not None:
            put["ConditionExpression"] = condition
        if values:
            put["ExpressionAttributeValues"] = values
        return {"Put": put}

    def _transact(self, parts: list[dict[str, Any]], customer: str | None) -> bool:
        try:
            dynamo.client().transact_write_items(TransactItems=parts)
        except ClientError as error:
            if dynamo.code_of(error) != "TransactionCanceledException":
                raise
            reasons = [reason.get("Code") for reason in error.response.get("CancellationReasons", ())]
            if customer is not None and reasons[-1] == "ConditionalCheckFailed":
                raise CustomerInUse(customer) from error
            return False
        return True


class RulesTable:
    """RulesSource: compiled rules, cached for at most 60 s; unknown accounts start on the default plan."""

    def __init__(self, accounts: AccountTable, catalog: CatalogTable, clock: Clock) -> None:
        self._accounts, self._catalog, self._clock = accounts, catalog, clock
        self._cache: dict[str, tuple[int, Rules]] = {}
        self._became: dict[str, str] = {}
        """Accounts that became another one; they stay it, so this is never stale."""

    def get(self, account: str, accept: Callable[[Rules], object] | None = None) -> Rules:
        cached = self._cache.get(self._became.get(account, account))
        if cached is not None and account in cached[1].homes:
            now, changes_at = self._clock(), cached[1].row.changes_at
            if 0 <= now - cached[0] < CACHE_MS and (changes_at is None or now < changes_at * 1000):
                return cached[1]
        row = self.row(account)
        if row is None:
            row = self._created(account, accept)
        return self.compiled(row)

    def row(self, account: str) -> AccountRow | None:
        """The rules row as it stands now (consistent read). A plan that is due, or an override that has ended, is
        written first, by whoever comes along: one conditional write each, so that it happens once. The row's next
        revision makes the gate notice. Of an account that became another one: that one's. Raises Busy."""
        row = self._accounts.read(account)
        if row is not None and row.merged_into is not None:
            if len(self._became) >= _CACHED_ACCOUNTS:
                self._became.clear()
            account = self._became[account] = row.merged_into
            row = self._accounts.read(account)
        for _ in range(_DUE_TRIES):
            if row is None or row.changes_at is None or row.changes_at * 1000 > self._clock():
                return row
            due = renewed(self._due(row))
            from tollgate.accounts.audit import SCHEDULE, entry

            written = self._accounts.update(due, row, entry(row, due, SCHEDULE, self._clock()))
            row = due if written else self._accounts.read(account)
        raise Busy

    def _due(self, row: AccountRow) -> AccountRow:
        """`row`, same revision, with what is due: a plan if that comes first, else all overrides that have ended."""
        following = row.next_plan
        if following is None or following.at != row.changes_at:
            return replace(row, overrides=without(row.overrides, self._clock() // 1000))
        before = self._catalog.version(row.plan, row.plan_version)
        version = self._catalog.version(following.plan, following.version)
        return moved_on(in_currency(row, before.plan, version.plan), version.plan, version.meters)

    def stored(self, account: str) -> AccountRow:
        row = self._accounts.read(account)
        if row is None:
            raise UnknownAccount(account)
        return row

    def fresh(self, account: str) -> Rules:
        row = self.row(account)
        if row is None:
            raise UnknownAccount(account)
        return self.compiled(row)

    def compiled(self, row: AccountRow) -> Rules:
        cached = self._cache.get(row.account)
        if cached is not None and cached[1].rev > row.rev:
            return cached[1]
        if cached is not None and cached[1].rev == row.rev:
            rules = cached[1]  # the same revision keeps its window caches
        else:
            version = self._catalog.version(row.plan, row.plan_version)
            rules = compile_rules(row, version.plan, version.meters)
        if len(self._cache) >= _CACHED_ACCOUNTS:
            self._cache.clear()
        self._cache[row.account] = (self._clock(), rules)
        return rules

    def _created(self, account: str, accept: Callable[[Rules], object] | None) -> AccountRow:
        current = self._catalog.current()
        if accept is None or current is None or not current.auto_create_accounts:
            raise UnknownAccount(account)
        row = new_row(account, self._catalog, current.default_plan, self._clock() // 1000)
        version = self._catalog.version(row.plan, row.plan_version)
        accept(compile_rules(row, version.plan, version.meters))
        self._accounts.create(row)
        there = self._accounts.read(account)  # by this call or by another one
        if there is None:
            raise UnknownAccount(account)
        return there


def _listed_at(row: AccountRow) -> str:
    """The sort key of its row in the list of accounts."""
    return f"{row.created_at * 1000:013d}#{row.account}"


def new_row(account: str, catalog: CatalogTable, plan: str, now: int) -> AccountRow:
    """A new account's first rules row. Raises UnknownPlan. Its counters are kept from its beginning: `since` is 0."""
    version = catalog.current_version(plan)
    calendar = Calendar.of("UTC", period_rule(version.plan.period, now))
    empty = AccountRow(account, 1, plan, version.plan.version, now, calendar, (), ())
    return with_plan(empty, version.plan, version.meters, 0)


def row_item(row: AccountRow) -> dynamo.Item:
    frozen = row.frozen
    return dynamo.item(
        {
            "pk": row.account,
            "sk": "rules",
            "rev": row.rev,
            "plan": row.plan,
            "pv": row.plan_version,
            "created": row.created_at,
            "calendar": [_segment_json(segment) for segment in row.calendar.segments],
            "counters": [_counter_json(key, since) for key, since in row.counters],
            "meters": list(row.meters),
            "frozen": None if frozen is None else {"reason": frozen.reason, "since": frozen.since},
            "customer": row.stripe_customer_id,
            "email": row.email,
            "name": row.name,
            "overrides": row.overrides,
            "next": None if row.next_plan is None else list(row.next_plan),
            "anchor": row.subscription_anchor,
            "since": row.plan_since,
            "controls": None if row.controls == Controls() else list(row.controls),
            "merged": list(row.merged) or None,
            "into": row.merged_into,
        }
    )


def row_of(raw: dynamo.Item) -> AccountRow:
    row = dynamo.unitem(raw)
    frozen = row.get("frozen")
    return AccountRow(
        account=row["pk"],
        rev=int(row["rev"]),
        plan=row["plan"],
        plan_version=int(row["pv"]),
        created_at=int(row["created"]),
        calendar=Calendar(tuple(_segment_of(stored) for stored in row["calendar"])),
        counters=tuple(_counter_of(text) for text in row["counters"]),
        meters=tuple(row["meters"]),
        frozen=None if frozen is None else Frozen(frozen["reason"], int(frozen["since"])),
        stripe_customer_id=row.get("customer"),
        email=row.get("email"),
        name=row.get("name"),
        overrides=row.get("overrides"),
        next_plan=_next_plan_of(row["next"]) if "next" in row else None,
        subscription_anchor=int(row["anchor"]) if "anchor" in row else None,
        plan_since=int(row.get("since", 0)),
        controls=Controls(*row.get("controls", ())),
        merged=tuple(row.get("merged", ())),
        merged_into=row.get("into"),
    )


def renewed(row: AccountRow, **changes: Any) -> AccountRow:
    """`row` with changes and the next revision."""
    return replace(row, rev=row.rev + 1, **changes)


def _next_plan_of(stored: list[Any]) -> NextPlan:
    plan, version, at = stored
    return NextPlan(plan, int(version), int(at))


def _segment_json(segment: Segment) -> list[Any]:
    """`[since, timezone]` for calendar months, which is what rows held before they knew other periods; else with the
    rule: interval, count, anchor, and the anchor's instant if it has one. Where a period was begun: with all of these
    (the instant 0 where the anchor has none), and where it begins."""
    stored: list[Any] = [segment.since, segment.timezone]
    rule = segment.period
    if segment.begins is not None:
        return [*stored, rule.interval, rule.count, rule.anchor, rule.at or 0, segment.begins]
    if rule != CALENDAR_MONTH:
        stored += [rule.interval, rule.count, rule.anchor]
        if rule.at is not None:
            stored.append(rule.at)
    return stored


def _segment_of(stored: list[Any]) -> Segment:
    since, timezone, *rule = stored
    if not rule:
        return Segment(int(since), timezone)
    interval, count, anchor, *at = rule
    instant = int(at[0]) if at and anchor != "calendar" else None
    begins = int(at[1]) if len(at) > 1 else None
    return Segment(int(since), timezone, PeriodRule(interval, int(count), anchor, instant), begins)


def _counter_json(key: CounterKey, since: int) -> str:
    where = [[dimension, list(patterns)] for dimension, patterns in key.where]
    return json.dumps([key.per, list(key.meters), key.window, where, since], separators=(",", ":"))


def _counter_of(text: str) -> tuple[CounterKey, int]:
    per, meters, window, where, since = json.loads(text)
    condition = tuple((dimension, tuple(patterns)) for dimension, patterns in where)
    return CounterKey(per, tuple(meters), window, condition), since


def _rules_key(account: str) -> dynamo.Item:
    return {"pk": dynamo.s(account), "sk": dynamo.s("rules")}
