"""What people read when a mark is passed: the operator's words and the customer's. Pure; each sentence is tested."""

from __future__ import annotations

from decimal import Decimal

from tollgate.accounts.currency import charges
from tollgate.accounts.rules import Rules
from tollgate.alerts.outbox import Alert, Audience, Words
from tollgate.alerts.thresholds import UNITS, Crossing, Reading
from tollgate.catalog.wording import money, noun, number
from tollgate.clock import rfc3339
from tollgate.quantities import ZERO, plain
from tollgate.rating.currency import rounded

_NEVER = 253_402_300_799
"""The last second of 9999."""
_WINDOWS = {
    "minute": " this minute",
    "hour": " this hour",
    "day": " today",
    "week": " this week",
    "month": " this month",
    "period": " this billing period",
    "lifetime": "",
}
_THINGS = {
    "limit": "limit {id}",
    "included": "included {id}",
    "level": "limit {id}",
    "credits": "credits of {id}",
    "member_amount": "limit {id}",
    "spend_cap": "spending cap",
    "hard_limit": "hard limit",
    "soft_limit": "soft limit",
}
"""What the operator calls them."""


def alert_of(rules: Rules, crossing: Crossing, member: str | None, now_ms: int) -> Alert:
    """The message of a passed mark. Its id names the thing, what it holds, its window and the mark: so it is one,
    however often it is put, and a raised limit is told of anew."""
    reading = crossing.reading
    kind = "upgrade_nudge" if crossing.nudge else "threshold"
    window = f"{reading.start}" if reading.kind == "credits" else f"{reading.maximum.normalize():f}:{reading.start}"
    customer = _words(rules, crossing, "You've" if member is None else f"Member {member} has")
    account = f"Account {rules.account} has" if member is None else f"Member {member} of account {rules.account} has"
    operator = _words(rules, crossing, account)
    thing = _THINGS[reading.kind].format(id=reading.id)
    text = f"{operator.text} That is {crossing.percent} % of its {thing}."
    return Alert(
        id=f"{kind}#{rules.account}#{member or ''}#{reading.kind}:{reading.id}#{window}#{crossing.percent}",
        kind=kind,
        account=rules.account,
        subject=f"{rules.account}: {crossing.percent} % of {thing}",
        text=text,
        at_ms=now_ms,
        facts=_facts(reading, crossing, member),
        audience=_audience(crossing),
        customer=customer,
        guarded_until=_NEVER if reading.ends is None else reading.ends,
    )


def _audience(crossing: Crossing) -> Audience:
    if crossing.nudge or crossing.reading.kind == "soft_limit":
        return "customer"
    if not crossing.by_customer:
        return "operator"
    return "both" if crossing.by_plan else "customer"


def _facts(reading: Reading, crossing: Crossing, member: str | None) -> dict[str, str]:
    found = {
        "limit": reading.id,
        "of": reading.kind,
        "meter": ",".join(reading.meters),
        "member": member or "",
        "threshold": str(crossing.percent),
        "passed": ",".join(map(str, crossing.passed)),
        "used": plain(reading.used),
        "max": plain(reading.maximum),
        "window": "" if reading.window is None else reading.window.text,
        "window_start": rfc3339(reading.start) if reading.window is not None else "",
        "resets_at": "" if reading.ends is None else rfc3339(reading.ends),
    }
    return {name: value for name, value in found.items() if value}


def _words(rules: Rules, crossing: Crossing, who: str) -> Words:
    """`who`: the sentence's beginning, `You've` or `Account acme has`."""
    reading, you = crossing.reading, who == "You've"
    if reading.kind not in UNITS:
        return _money_words(rules, crossing, who)
    used = _used(rules, reading)
    what = _noun(rules, reading)
    if crossing.nudge:
        left = number(max(reading.maximum - reading.used, ZERO))
        return Words(
            f"{left} {what} left",
            f"{who} used {used}. {left} {'is' if left == '1' else 'are'} left; upgrade for more.",
        )
    subject = f"{crossing.percent} % of {'your ' if you else ''}{what} used"
    if reading.kind == "level":
        who = "You're using" if you else f"{who.removesuffix(' has')} is using"
        return Words(subject, f"{who} {used}.")
    if reading.kind == "credits":
        return Words(subject, f"{who} used {used}; {number(max(reading.maximum - reading.used, ZERO))} left.")
    return Words(subject, f"{who} used {used}.")


def _money_words(rules: Rules, crossing: Crossing, who: str) -> Words:
    reading, currency = crossing.reading, rules.plan.currency
    spent = money(rounded(reading.used, currency), currency)
    promised = money(reading.maximum, currency)
    your = "your" if who == "You've" else "its"
    if reading.kind == "soft_limit":
        said = "80 % of what it usually is" if reading.default else "where you asked to be told"
        return Words(
            f"{spent} used this billing period",
            f"{who} used {spent} this billing period, past {promised}, {said}.",
        )
    if reading.kind == "hard_limit" and who == "You've" and crossing.percent >= 100:
        # The very sentence that a refusal by it says.
        text = f"You've hit your set limit of {promised}. Raise it in settings to continue, or wait until next period."
        return Words(f"Your limit of {promised} is reached", text)
    name = {"hard_limit": f"{your} set limit", "spend_cap": f"{your} spending cap"}.get(reading.kind, "a limit")
    return Words(
        f"{crossing.percent} % of {name} used", f"{who} used {spent} of {name} of {promised} this billing period."
    )


def _used(rules: Rules, reading: Reading) -> str:
    """`80 out of 100 free messages this month`."""
    kind = {"included": "included "}.get(reading.kind, "")
    if reading.kind == "limit" and not charges(rules.plan):
        kind = "free "
    where = ", ".join(f"{name} {' or '.join(values)}" for name, values in reading.where)
    return (
        f"{number(reading.used)} out of {number(reading.maximum)} {kind}{_noun(rules, reading)}"
        f"{f' ({where})' if where else ''}{_window(reading)}"
    )


def _noun(rules: Rules, reading: Reading) -> str:
    known = [rules.meters[meter] for meter in reading.meters if meter in rules.meters]
    nouns = [noun(meter, rules.meters.values()) for meter in known]
    one = len(nouns) == 1 and reading.maximum == Decimal(1)
    return ", ".join(each.one if one and each.one else each.many for each in nouns) or "units"


def _window(reading: Reading) -> str:
    if reading.window is None:
        return ""
    if reading.window.hours is not None:
        return f" within {reading.window.hours} hours"
    return _WINDOWS[reading.window.name]
