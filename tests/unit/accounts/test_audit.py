"""What was changed of an account's terms: one entry for each revision, in the transaction that makes it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.unit.accounts.services import DECEMBER, Clock, audit, joined, services
from tollgate import dynamo
from tollgate.accounts.audit import Change, Entry, entry
from tollgate.accounts.rules import Frozen
from tollgate.accounts.service import AccountDeps, AccountPatch, change_plan, freeze, put_account
from tollgate.accounts.store import renewed
from tollgate.breaker.resume import resume
from tollgate.errors import CustomerInUse

pytestmark = pytest.mark.usefixtures("tables")
PLAN = {"id": "pro", "version": 1}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def deps(clock: Clock) -> AccountDeps:
    return services(clock)


def fields(found: list[Entry]) -> list[tuple[int, str | None, list[str]]]:
    return [(entry.rev, entry.by, [change.field for change in entry.changes]) for entry in found]


def test_every_change_of_terms_leaves_one_entry(deps: AccountDeps, clock: Clock) -> None:
    put_account(deps, "life", AccountPatch(plan="pro", overrides='{"spend_cap":null}', by="key_a"))
    clock.ms += 1234
    freeze(deps, "life", "unpaid", "key_b")
    freeze(deps, "life", "still unpaid", "key_b")
    put_account(deps, "life", AccountPatch(name="Named", timezone="Europe/Berlin", by="key_c"))
    resume(deps, "life", by="key_d")
    change_plan(deps, "life", "free", at_period_end=True, by="key_e")
    put_account(deps, "life", AccountPatch(plan="asked", overrides=None, by="key_f"))
    found = audit(deps, "life")
    assert fields(found) == [
        (6, "key_f", ["plan", "next_plan", "overrides"]),
        (5, "key_e", ["next_plan"]),
        (4, "key_d", ["frozen"]),
        (2, "key_b", ["frozen"]),
        (1, "key_a", ["plan", "overrides"]),
    ]
    since = "2026-11-21T12:00:01Z"
    assert found[3] == Entry(2, clock.ms, "key_b", (Change("frozen", None, {"reason": "unpaid", "since": since}),))
    assert found[4].changes == (Change("plan", None, PLAN), Change("overrides", None, {"spend_cap": None}))
    assert found[0].changes[1] == Change("next_plan", {"id": "free", "version": 1, "at": "2026-12-01T00:00:00Z"}, None)


def test_what_is_due_is_the_schedules_doing(deps: AccountDeps, clock: Clock) -> None:
    until = '{"limits":{"daily":{"max":"1","until":"2026-11-30T00:00:00Z"}}}'
    put_account(deps, "due", AccountPatch(plan="pro", overrides=until))
    change_plan(deps, "due", "free", at_period_end=True)
    clock.ms = DECEMBER * 1000 + 77
    assert deps.rules.fresh("due").plan.id == "free"
    found = audit(deps, "due")[:2]
    assert fields(found) == [(4, "schedule", ["plan", "next_plan"]), (3, "schedule", ["overrides"])]
    assert {one.at_ms for one in found} == {clock.ms}


def test_pages_from_the_newest(deps: AccountDeps) -> None:
    joined(deps, "paged", "pro")
    for _ in range(6):
        freeze(deps, "paged", "r")
        resume(deps, "paged")
    joined(deps, "paged-neighbour", "pro")
    seen: list[int] = []
    after: int | None = None
    while True:
        found, after = deps.accounts.audit("paged", 5, after)
        seen += [one.rev for one in found]
        assert len(found) <= 5
        if after is None:
            break
    assert seen == list(range(13, 0, -1))
    assert deps.accounts.audit("nobody", 5, None) == ([], None)


def test_a_change_and_its_entry_are_one_write(deps: AccountDeps, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut anywhere, there is neither or there are both: only one request writes."""
    row = joined(deps, "cut", "pro")
    sent: list[str] = []

    def refuse(model: Any, params: Any, **more: Any) -> None:
        sent.append(model.name)
        if model.name in ("PutItem", "TransactWriteItems", "UpdateItem"):
            raise ClientError({"Error": {"Code": "Cut", "Message": "cut"}}, model.name)

    events = dynamo.client().meta.events
    events.register_first("before-call.dynamodb", refuse)
    try:
        with pytest.raises(ClientError):
            freeze(deps, "cut", "r")
    finally:
        events.unregister("before-call.dynamodb", refuse)
    assert [name for name in sent if name != "GetItem"] == ["TransactWriteItems"]
    assert (deps.accounts.read("cut"), len(audit(deps, "cut"))) == (row, 1)


def test_of_two_changes_of_one_revision_one_counts_with_its_entry(deps: AccountDeps) -> None:
    row = joined(deps, "raced", "pro")
    first = renewed(row, frozen=Frozen("first", 1))
    second = renewed(row, frozen=Frozen("second", 2))
    assert deps.accounts.update(first, row, entry(row, first, "one", 1))
    assert not deps.accounts.update(second, row, entry(row, second, "two", 2))
    assert (deps.accounts.read("raced"), [one.by for one in audit(deps, "raced")]) == (first, ["one", None])


def test_a_customer_in_use_leaves_no_entry(deps: AccountDeps) -> None:
    put_account(deps, "owner", AccountPatch(plan="pro", stripe_customer_id="cus_audit"))
    row = joined(deps, "late", "pro")
    taken, free = (renewed(row, stripe_customer_id=one, plan="free") for one in ("cus_audit", "cus_other"))
    with pytest.raises(CustomerInUse):
        deps.accounts.update(taken, row, entry(row, taken, "one", 1))
    assert (deps.accounts.read("late"), len(audit(deps, "late"))) == (row, 1)
    assert deps.accounts.update(free, row, entry(row, free, "one", 1))
    assert (deps.accounts.read("late"), len(audit(deps, "late"))) == (free, 2)


def test_what_is_not_of_the_terms_is_not_kept_account_of(deps: AccountDeps) -> None:
    row = joined(deps, "quiet", "pro")
    assert entry(row, replace(row, rev=9, name="N", email="e", stripe_customer_id="cus_1"), "key", 1) is None
