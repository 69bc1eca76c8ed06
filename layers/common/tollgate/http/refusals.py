"""Refusals as JSON values: one reason, who set it, what is left, when it resets, what resolves it, and a sentence."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from tollgate.accounts.rules import BREAKER, NO_SLOT
from tollgate.gate.limits import SharedState
from tollgate.gate.reserve import Denied
from tollgate.http.answers import limit_states, shared_state, time_or_null
from tollgate.quantities import ZERO, plain
from tollgate.usage.outcome import MEMBER


def denied(found: Denied, now: int) -> dict[str, Any]:
    """A refusal is an answer, not an error: 200 with the one reason (HTTP clients retry 429 by themselves)."""
    limits = limit_states(found.limits) + [shared_state(state) for state in found.shared]
    return {"allowed": False, "denial": denial(found, now), "limits": limits}


def denial(found: Denied, now: int) -> dict[str, Any]:
    wait = None if found.resets_at is None else max(found.resets_at - now, 0)
    return {
        "code": found.code,
        "limit": _limit(found),
        "source": _source(found),
        "requested": plain(found.requested),
        "remaining": plain(found.remaining),
        "resets_at": time_or_null(found.resets_at),
        "retry_after_seconds": wait,
        "resolve": _resolve(found),
        "message": _message(found),
    }


def _limit(found: Denied) -> str | None:
    """The limit's id; money promises have the names of their codes, a member's the id of its limit."""
    if found.state is not None:
        return found.state.ruled.limit.id
    if found.shared_limit is not None:
        return found.shared_limit.limit.id
    if found.short is None or found.code not in ("spend_cap", "hard_limit"):
        return None
    if found.per == MEMBER:
        return next(limit.id for limit in found.rules.plan.limits if limit.amount is not None)
    return found.code


def _source(found: Denied) -> str:
    if BREAKER in (found.code, found.reason):  # the reason is that of a freeze
        return BREAKER
    if found.code == "frozen":
        return "operator"
    if found.short is not None:
        return found.short.source
    return "plan" if found.state is None else found.state.ruled.source


def _resolve(found: Denied) -> str:
    if found.code in ("frozen", BREAKER):
        return "contact"
    if found.code == "too_many_open":
        return "wait"
    if found.code == "credits_exhausted":
        return "buy_credits"
    if found.shared_limit is not None and found.resets_at is not None:
        return "wait" if found.requested <= found.shared_limit.limit.max else "upgrade"
    state, source = found.state, _source(found)
    if found.short is not None:
        return {"customer": "raise_limit", "operator": "contact"}.get(source, "upgrade")
    if state is None or found.resets_at is None:
        return "upgrade"
    if state.ruled.maximum is not None and found.requested > state.ruled.maximum:
        # Waiting never helps: it is more than a whole window allows.
        return "contact" if source == "operator" else "upgrade"
    return "wait"


def _message(found: Denied) -> str:
    if found.code == "frozen":
        return f"This account is frozen: {found.reason}"
    if found.code == BREAKER:
        return _breaker_message(found)
    if found.code == "not_in_plan":
        return f"The plan {found.rules.plan.name} does not include this."
    if found.code == "too_many_open":
        return "Too many reservations are open; commit or release some."
    if found.short is not None:
        return _money_message(found)
    if found.shared_limit is not None:
        return _shared_message(found, found.shared_limit)
    assert found.state is not None
    limit, maximum = found.state.ruled.limit, found.state.ruled.maximum
    assert maximum is not None
    if found.state.ruled.counter.slot == NO_SLOT:
        name = found.rules.meters[limit.meters[0]].name
        return f"{name}: {plain(found.requested)} is more than the {plain(maximum)} allowed."
    if limit.concurrent is not None:
        return f"{plain(maximum)} reservations are open, which is the most allowed at once."
    used = plain(maximum - found.remaining)
    unit = ", ".join(found.rules.meters[meter].name for meter in limit.meters)
    window = "" if limit.window is None else _WINDOWS.get(limit.window.name, "")
    return f"You've used {used} out of {plain(maximum)} {unit}{window}; this needs {plain(found.requested)} more."


_WINDOWS = {
    "minute": " this minute",
    "hour": " this hour",
    "day": " today",
    "week": " this week",
    "month": " this month",
    "period": " this billing period",
}


def _breaker_message(found: Denied) -> str:
    if found.state is None:
        return "All usage is paused for now: together it cost too much within one hour."
    (meter,), most = found.state.ruled.limit.meters, found.state.ruled.maximum
    assert most is not None
    name = found.rules.meters[meter].name if meter in found.rules.meters else meter
    return f"This account is paused: it reached {plain(most)} {name} in one hour, far above what it usually uses."


def _shared_message(found: Denied, state: SharedState) -> str:
    limit = state.limit
    who = f"All accounts on {found.rules.plan.name} together"
    if limit.dimension is not None:
        who = f"All requests with this {limit.dimension} together"
    used = plain(max(limit.max - found.remaining, ZERO))
    unit = ", ".join(found.rules.meters[meter].name for meter in limit.meters)
    window = _WINDOWS.get(limit.window.name, "")
    return f"{who} have used {used} out of {plain(limit.max)} {unit}{window}; this needs {plain(found.requested)} more."


def _money_message(found: Denied) -> str:
    """The sentence that a customer reads; the hard limit's is part of the contract."""
    plan = found.rules.plan
    if found.code == "hard_limit":
        limit = _money(found)
        return f"You've hit your set limit of {limit}. Raise it in settings to continue, or wait until next period."
    if found.code == "spend_cap" and found.per == MEMBER:
        return f"This member's limit of {_money(found)} for the billing period is reached."
    if found.code == "spend_cap":
        return f"This would go past the spending cap of {_money(found)} for the billing period."
    if found.code == "credits_exhausted":
        return (
            f"{plain(found.remaining)} credits are left, and this needs {plain(found.requested)}. Buy more to continue."
        )
    if found.short is not None and found.short.source == "customer":
        return "Your included usage is used up and overage is blocked. Allow it in settings, or wait until next period."
    return f"The usage included in {plan.name} is used up. Upgrade to continue, or wait until next period."


def _money(found: Denied) -> str:
    from tollgate.catalog.wording import money  # with the first such refusal: the gate starts without it

    terms = found.rules.terms_of(found.per)
    assert terms is not None
    assert terms.cap is not None
    amount: Decimal = terms.cap.amount
    return money(amount, found.rules.plan.currency)
