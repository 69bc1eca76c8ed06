"""The members of an account: who they are, what each has used in this billing period, and removing one.

Removing changes no counter: the account's totals stay, and a member that comes back finds its own as it left them. So
nothing is refilled by leaving and coming back.
"""

from __future__ import annotations

import re
from typing import Any, Protocol

from tollgate.accounts.rules import Counter, Rules
from tollgate.accounts.service import AccountDeps
from tollgate.clock import rfc3339_ms
from tollgate.errors import NotFound
from tollgate.gate import steps
from tollgate.gate.hold import incarnation_of
from tollgate.gate.item import Gate
from tollgate.gate.ports import subject_of
from tollgate.http.pages import cursor, page
from tollgate.http.requests import account_id, idempotency_key
from tollgate.http.routing import Request, Response, Route
from tollgate.ids import uuid7_ms
from tollgate.quantities import ZERO, plain
from tollgate.usage.member_store import MemberRow, MemberTable
from tollgate.usage.outcome import MEMBER

_PLACE = re.compile(r"\d{13}#[A-Za-z0-9._:@|+-]{1,64}", re.ASCII)


class MemberDeps(Protocol):
    """The part of the manage function's dependencies that these routes need."""

    @property
    def accounts(self) -> AccountDeps: ...
    @property
    def members(self) -> MemberTable: ...


def list_members(deps: MemberDeps, request: Request) -> Response:
    """Everyone whose use was ever limited here, the latest to begin first."""
    limit, before = page(request, _PLACE)
    rules = deps.accounts.rules.fresh(account_id(request.params["id"], "id"))
    rows, after = deps.members.page(rules.account, limit, before)
    gates = deps.accounts.gate.gates.read_all([subject_of(rules.account, MEMBER, row.member) for row in rows])
    now = deps.accounts.gate.clock() // 1000
    data = [_shown(rules, row, gates.get(subject_of(rules.account, MEMBER, row.member)), now) for row in rows]
    return Response(200, {"data": data, "next_cursor": None if after is None else cursor(after)})


def delete_member(deps: MemberDeps, request: Request) -> Response:
    """Mark a member as removed; open reservations of it end as they would have."""
    idempotency_key(request.headers, None)  # accepted, and not needed: removing twice is removing once
    rules = deps.accounts.rules.fresh(account_id(request.params["id"], "id"))
    member = account_id(request.params["member"], "member")
    row = deps.members.get(rules.account, member)
    if row is None:
        raise NotFound("No such member; GET …/members lists them.")
    gate = deps.accounts.gate.gates.read(subject_of(rules.account, MEMBER, member))
    if _is_gone(row, gate):
        return Response(200, _removed(row))
    counts = {} if gate is None else gate.counts
    left = {slot: (count.window, count.taken - count.held) for slot, count in counts.items()}
    return Response(200, _removed(deps.members.remove(rules.account, row, left)))


def _removed(row: MemberRow) -> dict[str, Any]:
    assert row.removed_ms is not None
    return {"id": row.member, "removed_at": rfc3339_ms(row.removed_ms)}


def _is_gone(row: MemberRow, gate: Gate | None) -> bool:
    """Whether a member was removed and has taken nothing since."""
    if row.removed_ms is None:
        return False
    if gate is None:
        return True
    if any(uuid7_ms(incarnation_of(raw)) > row.removed_ms for raw in gate.holds.values()):
        return False
    for slot, count in gate.counts.items():
        window, before = row.left.get(slot, (0, ZERO))
        if count.taken - count.held > (before if count.window == window else ZERO):
            return False
    return True


def _shown(rules: Rules, row: MemberRow, gate: Gate | None, now: int) -> dict[str, Any]:
    meters = []
    for meter in rules.meters:
        counter = rules.period_counter(meter, MEMBER)
        if counter is not None:
            meters.append({"id": meter, **_used(rules, counter, gate, now)})
    gone = row.removed_ms if _is_gone(row, gate) else None
    return {
        "id": row.member,
        "since": rfc3339_ms(row.since_ms),
        "removed_at": None if gone is None else rfc3339_ms(gone),
        "meters": meters,
    }


def _used(rules: Rules, counter: Counter, gate: Gate | None, now: int) -> dict[str, Any]:
    """Null: the plan began to count members in this period, and this one has not called since."""
    if gate is not None and steps.unseeded(rules, gate, {counter.slot: ZERO}, now):
        return {"used": None, "held": None}
    count = None if gate is None else gate.counts.get(counter.slot)
    if count is None:
        return {"used": plain(ZERO), "held": plain(ZERO)}
    used = ZERO if steps.is_over(rules, counter, count, now) else count.taken - count.held
    return {"used": plain(used), "held": plain(count.held)}


ROUTES = (
    Route("GET", "/v1/accounts/{id}/members", ("read",), list_members, "listMembers"),
    Route("DELETE", "/v1/accounts/{id}/members/{member}", ("admin",), delete_member, "removeMember"),
)
