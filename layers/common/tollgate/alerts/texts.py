"""What people read when a mark is passed: one message to the operator and, in other words, to the customer. Pure."""

from __future__ import annotations

from tollgate.accounts.rules import Rules
from tollgate.alerts.outbox import Alert, Words
from tollgate.alerts.thresholds import Crossing, Reading
from tollgate.catalog.model import Plan
from tollgate.catalog.wording import noun, number
from tollgate.clock import rfc3339
from tollgate.quantities import plain

_WINDOWS = {
    "minute": " this minute",
    "hour": " this hour",
    "day": " today",
    "week": " this week",
    "month": " this month",
    "period": " this billing period",
    "lifetime": "",
}


def alert_of(rules: Rules, crossing: Crossing, now_ms: int) -> Alert:
    """The message of a passed mark. Its id names the thing, its maximum, window and mark: that makes it one."""
    reading = crossing.reading
    used = _used(rules, reading)
    whose = "" if reading.member is None else f" of member {reading.member}"
    facts = {
        "limit": reading.id,
        "meter": ",".join(reading.meters),
        "threshold": str(crossing.percent),
        "used": plain(reading.used),
        "max": plain(reading.maximum),
        "passed": ",".join(map(str, crossing.passed)),
        "member": reading.member or "",
        "window": "" if reading.window is None else reading.window.text,
        "window_start": rfc3339(reading.start) if reading.start else "",
        "resets_at": "" if reading.ends is None else rfc3339(reading.ends),
    }
    return Alert(
        id=_id(rules, crossing),
        kind="threshold",
        account=rules.account,
        subject=f"{crossing.percent} %: {reading.id} of {rules.account}",
        text=f"Account {rules.account}{whose} has used {used} ({crossing.percent} % of {reading.kind} {reading.id}).",
        at_ms=now_ms,
        facts={name: value for name, value in facts.items() if value},
        audience="both",
        customer=Words(f"{crossing.percent} % used", f"{_you(reading)} used {used}."),
        guarded_until=reading.ends or now_ms // 1000,
    )


def _id(rules: Rules, crossing: Crossing) -> str:
    reading = crossing.reading
    thing = f"{reading.kind}:{reading.id}:{plain(reading.maximum)}:{reading.start}"
    return f"threshold#{rules.account}#{reading.member or ''}#{thing}#{crossing.percent}"


def _you(reading: Reading) -> str:
    return "You've" if reading.member is None else f"{reading.member} has"


def _used(rules: Rules, reading: Reading) -> str:
    """`80 out of 100 free messages this month`."""
    nouns = [noun(rules.meters[meter], rules.meters.values()) for meter in reading.meters]
    many = ", ".join(one.many for one in nouns)
    if len(nouns) == 1 and nouns[0].one is not None and reading.maximum == 1:
        many = nouns[0].one
    free = "free " if is_free(rules.plan) else ""
    return f"{number(reading.used)} out of {number(reading.maximum)} {free}{many}{_window(reading)}"


def _window(reading: Reading) -> str:
    if reading.window is None:
        return ""
    if reading.window.hours is not None:
        return f" within {reading.window.hours} hours"
    return _WINDOWS[reading.window.name]


def is_free(plan: Plan) -> bool:
    """Whether it asks for no money at all."""
    return not plan.base_fee and not plan.prices and plan.seats is None
