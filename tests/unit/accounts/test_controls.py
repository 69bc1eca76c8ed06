"""The customer's controls: the default soft limit, what may be set, and that nothing else changes."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from tests.unit.accounts.services import CATALOG, DECEMBER, Clock, audit, joined, services
from tollgate.accounts.audit import Change
from tollgate.accounts.controls import ControlsPatch, SoftLimit, default_soft_limit, set_controls, soft_limit
from tollgate.accounts.rules import Controls
from tollgate.accounts.service import AccountDeps
from tollgate.errors import FieldError, Invalid, UnknownAccount
from tollgate.gate.item import GateWrite, Money, MoneySet, Paid

pytestmark = pytest.mark.usefixtures("tables")


@pytest.mark.parametrize(
    ("past", "currency", "expected"),
    [
        ((), "usd", None),
        (("10",), "usd", "8"),
        (("10", "20"), "usd", "12"),
        (("10", "30", "20"), "usd", "16"),
        (("1000", "30", "20"), "usd", "24"),
        (("0", "30", "20"), "usd", "16"),
        (("0.0123",), "usd", "0.01"),
        (("0.006250",), "usd", "0.01"),
        (("0.006249",), "usd", None),
        (("0", "0", "5"), "usd", None),
        (("0",), "usd", None),
        (("101",), "jpy", "81"),
        (("0.0125",), "kwd", "0.01"),
        (("0.333333333333", "0.333333333334"), "usd", "0.27"),
    ],
)
def test_four_fifths_of_the_median_of_what_closed_periods_came_to(
    past: tuple[str, ...], currency: str, expected: str | None
) -> None:
    found = default_soft_limit([Decimal(amount) for amount in past], currency)
    assert found == (None if expected is None else Decimal(expected))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def deps(clock: Clock) -> AccountDeps:
    return services(clock)


def spent(deps: AccountDeps, account: str, images: int, past: tuple[str, ...]) -> None:
    """The gate after `images` of this period were paid for and closed periods came to `past`."""
    rules = deps.rules.fresh(account)
    start = rules.period_start(deps.gate.clock() // 1000)
    slot = rules.row.meters.index("images")
    gate = deps.gate.gates.read(account)
    assert gate is not None
    positions = {index: Paid(Decimal(images if index == slot else 0), Decimal(0)) for index in range(2)}
    money = Money(start, Decimal("0.02") * images, positions, tuple(Decimal(one) for one in past))
    assert deps.gate.gates.write(GateWrite(account, gate.rev, gate.rev, money=MoneySet(gate.money, money))).applied


def test_the_default_follows_what_the_gate_remembers(deps: AccountDeps, clock: Clock) -> None:
    rules = deps.rules.compiled(joined(deps, "usual", "pro"))
    assert soft_limit(deps.gate, rules) == SoftLimit(None, None)
    spent(deps, "usual", 500, ("10", "30", "20"))
    assert soft_limit(deps.gate, rules) == SoftLimit(Decimal(16), "default"), "this period is not closed"
    clock.ms = DECEMBER * 1000
    # The period that just ended came to $10, and nobody has come along to write that down: 10, 10, 30.
    assert soft_limit(deps.gate, rules) == SoftLimit(Decimal(8), "default")
    said = set_controls(deps, "usual", ControlsPatch(soft_limit=Decimal(5)))
    assert soft_limit(deps.gate, said) == SoftLimit(Decimal(5), "customer")
    cleared = set_controls(deps, "usual", ControlsPatch(soft_limit=None))
    assert soft_limit(deps.gate, cleared) == SoftLimit(Decimal(8), "default")


def test_nothing_is_usual_where_nothing_costs_anything(deps: AccountDeps) -> None:
    assert soft_limit(deps.gate, deps.rules.compiled(joined(deps, "free-rider", "free"))) == SoftLimit(None, None)


def test_absent_fields_stay_and_none_clears(deps: AccountDeps) -> None:
    joined(deps, "steps", "pro")
    steps = [
        (ControlsPatch(hard_limit=Decimal(20)), Controls(None, Decimal(20), None)),
        (
            ControlsPatch(soft_limit=Decimal("15.50"), block_overage=False),
            Controls(Decimal("15.5"), Decimal(20), False),
        ),
        (ControlsPatch(hard_limit=None), Controls(Decimal("15.5"), None, False)),
        (ControlsPatch(), Controls(Decimal("15.5"), None, False)),
        (ControlsPatch(soft_limit=None, block_overage=None), Controls()),
    ]
    for patch, expected in steps:
        found = set_controls(deps, "steps", patch, "key_1")
        assert (found.row.controls, deps.accounts.read("steps")) == (expected, found.row)
    changed = [entry.changes for entry in audit(deps, "steps")][:-1]
    assert len(changed) == 4, "what changes nothing leaves no entry"
    assert changed[-1] == (Change("controls", None, {"soft_limit": None, "hard_limit": "20", "block_overage": None}),)
    assert changed[0][0].after is None


def test_the_gate_knows_before_the_change_answers(deps: AccountDeps) -> None:
    joined(deps, "prompt", "pro")
    rules = set_controls(deps, "prompt", ControlsPatch(hard_limit=Decimal(20)))
    gate = deps.gate.gates.read("prompt")
    assert gate is not None
    assert gate.rev == rules.rev
    assert rules.terms is not None
    assert rules.terms.cap is not None
    assert (rules.terms.cap.amount, rules.terms.cap.source) == (Decimal(20), "customer")


def test_a_repeated_change_reaches_a_gate_that_the_first_one_missed(deps: AccountDeps) -> None:
    row = joined(deps, "missed", "pro")
    wanted = replace(row, rev=row.rev + 1, controls=Controls(hard_limit=Decimal(20)))
    assert deps.accounts.update(wanted, row), "and here the process dies"
    again = set_controls(deps, "missed", ControlsPatch(hard_limit=Decimal(20)))
    gate = deps.gate.gates.read("missed")
    assert gate is not None
    assert (again.rev, gate.rev) == (wanted.rev, wanted.rev)


@pytest.mark.parametrize(
    ("plan", "patch", "path"),
    [
        ("pro", ControlsPatch(hard_limit=Decimal("0.001")), "hard_limit"),
        ("pro", ControlsPatch(soft_limit=Decimal("19.999")), "soft_limit"),
        ("pro", ControlsPatch(soft_limit=Decimal(5), hard_limit=Decimal("5.005")), "hard_limit"),
    ],
)
def test_an_amount_that_the_currency_does_not_have(
    deps: AccountDeps, plan: str, patch: ControlsPatch, path: str
) -> None:
    before = joined(deps, "wrong", plan)
    entries = audit(deps, "wrong")
    with pytest.raises(Invalid) as refused:
        set_controls(deps, "wrong", patch)
    assert refused.value.errors == (FieldError(path, "too_precise"),)
    assert (deps.accounts.read("wrong"), audit(deps, "wrong")) == (before, entries)


def test_the_currency_is_the_plans(clock: Clock) -> None:
    yen = CATALOG.replace("currency: usd", "currency: jpy").replace('0.02"', '2"').replace('0.001"', '1"')
    deps = services(clock, yen)
    joined(deps, "tokyo", "pro")
    assert set_controls(deps, "tokyo", ControlsPatch(hard_limit=Decimal(2000))).row.controls.hard_limit == 2000
    with pytest.raises(Invalid):
        set_controls(deps, "tokyo", ControlsPatch(hard_limit=Decimal("0.5")))


def test_only_accounts_have_controls(deps: AccountDeps) -> None:
    with pytest.raises(UnknownAccount):
        set_controls(deps, "nobody", ControlsPatch(block_overage=True))
    assert deps.accounts.read("nobody") is None
