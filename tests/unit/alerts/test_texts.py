"""The exact sentences, to the customer and to the operator, and the facts beside them."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from tests.support.gate import NOON, limit, plan, world
from tests.support.levels import STORAGE, level_plan
from tests.unit.gate.test_money import PER_UNIT, TIERED, priced
from tollgate.accounts.rules import Rules
from tollgate.alerts.texts import alert_of
from tollgate.alerts.thresholds import Crossing, Reading
from tollgate.catalog.model import Meter, Plan, condition
from tollgate.windows import DAY, LIFETIME, MONTH, PERIOD, WindowKind

MESSAGES = Meter("ai_credits", "Messages", "message")
START = NOON // 1000 - 43_200
FREE = Plan("free", 1, "Free", limits=(limit("monthly", 100, MONTH),))
PAID_FOR = replace(FREE, base_fee=Decimal(5))


def rules(of: Plan, *meters: Meter) -> Rules:
    return world(of, *(meters or (MESSAGES,))).rules("acme")


def reading(
    kind: str, used: str, most: str, window: WindowKind | None = PERIOD, name: str = "monthly", **more: object
) -> Reading:
    meters = () if kind in ("spend_cap", "hard_limit", "soft_limit", "member_amount") else ("ai_credits",)
    made = Reading(kind, name, meters, Decimal(most), Decimal(used), None, window, START, START + 86_400)
    return made._replace(**more)  # type: ignore[arg-type]


CASES = [
    (
        FREE,
        Crossing(reading("limit", "80", "100", MONTH), 80),
        None,
        "You've used 80 out of 100 free messages this month.",
        "Account acme has used 80 out of 100 free messages this month. That is 80 % of its limit monthly.",
    ),
    (
        FREE,
        Crossing(reading("limit", "80", "100", MONTH), 80, nudge=True),
        None,
        "You've used 80 out of 100 free messages this month. 20 are left; upgrade for more.",
        "Account acme has used 80 out of 100 free messages this month. 20 are left; upgrade for more. "
        "That is 80 % of its limit monthly.",
    ),
    (
        FREE,
        Crossing(reading("limit", "99", "100", MONTH), 80, nudge=True),
        None,
        "You've used 99 out of 100 free messages this month. 1 is left; upgrade for more.",
        None,
    ),
    (
        PAID_FOR,
        Crossing(reading("limit", "5000", "10000", DAY), 50),
        None,
        "You've used 5,000 out of 10,000 messages today.",
        None,
    ),
    (
        PAID_FOR,
        Crossing(reading("limit", "1", "1", WindowKind.first_use(5)), 100),
        None,
        "You've used 1 out of 1 message within 5 hours.",
        None,
    ),
    (
        PAID_FOR,
        Crossing(reading("limit", "9", "10", LIFETIME, where=condition({"model": ["large", "huge"]})), 90),
        "ann",
        "Member ann has used 9 out of 10 messages (model huge or large).",
        "Member ann of account acme has used 9 out of 10 messages (model huge or large). "
        "That is 90 % of its limit monthly.",
    ),
    (
        priced(TIERED),
        Crossing(reading("included", "80", "100", name="ai_credits"), 80),
        None,
        "You've used 80 out of 100 included messages this billing period.",
        "Account acme has used 80 out of 100 included messages this billing period. "
        "That is 80 % of its included ai_credits.",
    ),
    (
        PAID_FOR,
        Crossing(reading("credits", "92.5", "100", None, name="ai_credits"), 90),
        None,
        "You've used 92.5 out of 100 messages; 7.5 left.",
        "Account acme has used 92.5 out of 100 messages; 7.5 left. That is 90 % of its credits of ai_credits.",
    ),
    (
        priced(PER_UNIT),
        Crossing(reading("spend_cap", "16.0049", "20", name="spend_cap"), 80),
        None,
        "You've used $16 of your spending cap of $20 this billing period.",
        "Account acme has used $16 of its spending cap of $20 this billing period. That is 80 % of its spending cap.",
    ),
    (
        priced(PER_UNIT),
        Crossing(reading("hard_limit", "18", "20", name="hard_limit"), 90),
        None,
        "You've used $18 of your set limit of $20 this billing period.",
        None,
    ),
    (
        priced(PER_UNIT),
        Crossing(reading("hard_limit", "20", "20", name="hard_limit"), 100),
        None,
        "You've hit your set limit of $20. Raise it in settings to continue, or wait until next period.",
        "Account acme has used $20 of its set limit of $20 this billing period. That is 100 % of its hard limit.",
    ),
    (
        priced(PER_UNIT),
        Crossing(reading("member_amount", "0.5", "1", name="each"), 50),
        "ann",
        "Member ann has used $0.50 of a limit of $1 this billing period.",
        "Member ann of account acme has used $0.50 of a limit of $1 this billing period. "
        "That is 50 % of its limit each.",
    ),
    (
        priced(PER_UNIT),
        Crossing(reading("soft_limit", "16.40", "16", name="soft_limit"), 100),
        None,
        "You've used $16.40 this billing period, past $16, where you asked to be told.",
        None,
    ),
    (
        priced(PER_UNIT),
        Crossing(reading("soft_limit", "16.40", "16", name="soft_limit", default=True), 100),
        None,
        "You've used $16.40 this billing period, past $16, 80 % of what it usually is.",
        None,
    ),
]


@pytest.mark.parametrize(("of", "crossing", "member", "customer", "operator"), CASES)
def test_a_sentence(of: Plan, crossing: Crossing, member: str | None, customer: str, operator: str | None) -> None:
    alert = alert_of(rules(of), crossing, member, NOON)
    assert alert.customer is not None
    assert alert.customer.text == customer
    if operator is not None:
        assert alert.text == operator


def test_a_level_is_being_used() -> None:
    crossing = Crossing(
        Reading("level", "disk", ("storage",), Decimal(100), Decimal(90), None, None, START, START + 86_400), 90
    )
    alert = alert_of(rules(level_plan(), STORAGE), crossing, None, NOON)
    assert alert.customer is not None
    assert alert.customer.text == "You're using 90 out of 100 gigabytes."
    assert alert.text == "Account acme is using 90 out of 100 gigabytes. That is 90 % of its limit disk."


def test_what_a_program_finds_beside_the_words() -> None:
    crossing = Crossing(reading("limit", "95", "100", MONTH), 90, (50, 80))
    alert = alert_of(rules(PAID_FOR), crossing, "ann", NOON)
    assert alert.facts == {
        "limit": "monthly",
        "of": "limit",
        "meter": "ai_credits",
        "member": "ann",
        "threshold": "90",
        "passed": "50,80",
        "used": "95",
        "max": "100",
        "window": "month",
        "window_start": "2026-11-21T00:00:00Z",
        "resets_at": "2026-11-22T00:00:00Z",
    }
    assert (alert.kind, alert.account, alert.at_ms, alert.subject) == (
        "threshold",
        "acme",
        NOON,
        "acme: 90 % of limit monthly",
    )


def test_the_id_is_of_the_thing_its_maximum_its_window_and_the_mark() -> None:
    of, first = rules(PAID_FOR), reading("limit", "95", "100", MONTH)
    same = [
        Crossing(first, 90, (80,)),
        Crossing(first._replace(used=Decimal(99)), 90),
        Crossing(first._replace(maximum=Decimal("100.000")), 90),
    ]
    assert len({alert_of(of, crossing, None, NOON + index).id for index, crossing in enumerate(same)}) == 1
    others = [
        alert_of(of, Crossing(first, 100), None, NOON),
        alert_of(of, Crossing(first, 90), "ann", NOON),
        alert_of(of, Crossing(first, 90, nudge=True), None, NOON),
        alert_of(of, Crossing(first._replace(id="daily"), 90), None, NOON),
        alert_of(of, Crossing(first._replace(kind="included"), 90), None, NOON),
        alert_of(of, Crossing(first._replace(start=START + 1), 90), None, NOON),
        alert_of(of, Crossing(first._replace(maximum=Decimal(200)), 90), None, NOON),
        alert_of(rules(PAID_FOR), same[0], None, NOON),
    ]
    assert len({alert.id for alert in others}) == len(others)


def test_what_never_ends_is_guarded_for_good() -> None:
    endless = reading("limit", "80", "100", LIFETIME, ends=None)
    assert alert_of(rules(PAID_FOR), Crossing(endless, 80), None, NOON).guarded_until > 10**11
    assert alert_of(rules(plan()), Crossing(reading("limit", "8", "9"), 80), None, NOON).guarded_until == START + 86_400
