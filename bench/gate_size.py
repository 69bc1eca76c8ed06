"""How large a gate gets: a write costs one unit for each started KB of it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from bench.calls import RESERVATIONS, Scenarios, asked
from bench.report import Check, Listing, Section
from bench.sizing import item_size, write_units
from bench.stage import Stage
from tollgate.gate.hold import Hold, unpack

BUDGETS = {0: 1, 8: 1, 64: 4, 200: 12}
"""Open holds -> the most write units (design section 10)."""
SEATED = (1, 15, 50, 100)
LONG_QUANTITY = Decimal("1234.567891")
LONGEST = "workspace_" + "x" * 54
"""An account id of 64 characters, the most that the contract allows."""


def section(stage: Stage) -> Section:
    rows, checks = [], []
    for holds, budget in BUDGETS.items():
        item, cost = _filled(stage, f"ws_{holds:03d}_holds", holds)
        size = item_size(item)
        largest = _largest(item)
        rows.append((f"{holds} open holds", size, cost, budget, item_size(largest), write_units(None, largest)))
        checks.append(Check(f"a write with {holds} open holds", cost, budget, "write units"))
    parts = _parts(item)
    columns = ("5 limits, 3 grants", "bytes", "write units", "budget", "bytes, long", "write units")
    return Section(
        "Size of a gate",
        [
            Listing(columns, rows),
            Listing(("where the bytes go, 200 open holds", "bytes", "entries", "bytes each"), parts),
            _seats(stage),
        ],
        checks,
        [
            "Five limits on one meter, and the billing period's counter: six counters, all used.",
            f"Long: an account id of 64 characters, and {LONG_QUANTITY} units in each hold.",
            "The grants are bought ones, burned in turn: holds name them, or say that their units are paid for.",
        ],
    )


def _filled(stage: Stage, account: str, holds: int) -> tuple[dict[str, Any], int]:
    """A gate with that many open holds and three grants, and the units of a write that is counted on it."""
    run = Scenarios(stage)
    stage.account(account, "five")
    run.quiet(RESERVATIONS, asked(account, 12_345, commit=True), key=run.key())
    _grant(stage, account)
    for index in range(holds):
        run.quiet(RESERVATIONS, asked(account, 10 + index % 90), key=run.key())
    item = stage.gate_item(account)
    if len(item["h"]["M"]) != holds:
        raise AssertionError(f"{len(item['h']['M'])} holds instead of {holds}")
    return item, write_units(None, item)


def _seats(stage: Stage) -> Listing:
    """What members with units of their own add to a gate."""
    run, rows, plain = Scenarios(stage), [], 0
    stage.account("ws_members", "own")
    run.quiet(RESERVATIONS, asked("ws_members", commit=True), key=run.key())
    plain, seated = item_size(stage.gate_item("ws_members")), 0
    for members in SEATED:
        for number in range(seated, members):
            run.quiet(RESERVATIONS, asked("ws_members", commit=True, member=f"user_{number}"), key=run.key())
        item, seated = stage.gate_item("ws_members"), members
        rows.append(
            (f"{members} members", item_size(item), write_units(None, item), (item_size(item) - plain) // members)
        )
    return Listing(("a seat's own units, no open holds", "bytes", "write units", "bytes each"), rows)


def _largest(item: dict[str, Any]) -> dict[str, Any]:
    """The same gate with a long id and many digits in each hold."""
    holds = {key: {"B": _with_units(unpack(bytes(attr["B"]))).pack()} for key, attr in item["h"]["M"].items()}
    return {**item, "pk": {"S": LONGEST}, "h": {"M": holds}}


def _with_units(hold: Hold) -> Hold:
    return hold._replace(groups=tuple(group._replace(units=LONG_QUANTITY) for group in hold.groups))


def _grant(stage: Stage, account: str) -> None:
    """Three grants as a customer would have them: a plan's, a pack's and a gift."""
    for number, (units, priority) in enumerate((("1500.5", 10), ("2987", 20), ("500", 50))):
        body = {
            "meter": "ai_credits",
            "units": units,
            "priority": priority,
            "expires_at": "2027-12-21T13:47:23Z",
            "source": "bench",
        }
        path = f"/v1/accounts/{account}/credits"
        stage.call("manage", "POST", path, body, key=f"bench-{number}", expect=201)


def _parts(item: dict[str, Any]) -> list[tuple[str, int, int, int]]:
    names = {"w": "counters", "h": "holds", "g": "grants", "p": "money"}
    rows = []
    for name, what in names.items():
        entries, size = len(item[name]["M"]), item_size({name: item[name]})
        rows.append((what, size, entries, round(size / entries) if entries else 0))
    rest = item_size({name: value for name, value in item.items() if name not in names})
    return [*rows, ("key, revision, empty maps", rest, 1, rest)]
