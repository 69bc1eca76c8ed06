"""Makes a trace with the shape of LLM traffic. The same seed makes the same trace on every machine.

- Accounts: Zipf with exponent 1.05 over all accounts, and over the members of an account: few heavy users, many light
  ones. The heaviest fifth pays more often.
- Arrivals: sessions as a Poisson process, within one log-normal pauses (median 4 s). The bursts make gaps vary far more
  than a Poisson process does, as in BurstGPT (Wang et al., arXiv 2401.17644).
- Calls in a session: Pareto, alpha 1.3. Most sessions are short, agents run on.
- Chat: prompt tokens log-normal, median 1020, sigma 1.0; answer tokens 45 % log-normal with median 90, 53 % with median
  400, 2 % Pareto from 1500 with alpha 1.2. Median of the prompts and two modes of the answers as in the Azure LLM
  inference trace 2023, conversation (Patel et al., Splitwise, ISCA 2024); the tail is that of long documents.
- Code: prompt and answer log-normal with medians 1500 and 13, as in the same paper's coding trace.
- Agent steps, images, audio minutes, video clips: Pareto with alphas 1.1 to 2.2.
- Failed calls: 18 of 1000, the share in BurstGPT's first release (1429.7 k lines, 1404.3 k without failures).
- Crashes 10, late commits 4, resends 30 and answers from the app's cache 60 of 1000: assumed; each must still be exact.

The numbers of the papers give medians and modes; sigmas, alphas and the mix of operations are ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

from demo.draws import Draws, Zipf
from demo.trace import Item, Outcome, Request

DEFAULT_SEED = 20261128
DEFAULT_ACCOUNTS = 300
DEFAULT_REQUESTS = 2500

_HORIZON = Decimal(3600)
"""Seconds in which the sessions of a trace begin."""
_MILLI = Decimal("0.001")
_MEAN_CALLS = 4
_MAX_CALLS = 60
_MAX_TOKENS = 200_000
# The heaviest fifth of the accounts pays more often than the others.
_HEAVY_PLANS = (("free", 20), ("pro", 45), ("team", 35))
_LIGHT_PLANS = (("free", 65), ("pro", 23), ("team", 12))
_SMALL = (("small-1", 6), ("small-2", 3), ("small-vision", 1))
_SEATS = {"free": 1, "pro": 3, "team": 12}
# Operations by plan: what an account of it does, and how often.
_MIX: dict[str, tuple[tuple[str, int], ...]] = {
    "free": (("chat", 70), ("image", 18), ("audio", 6), ("llm", 2), ("once", 4)),
    "pro": (("chat", 58), ("image", 12), ("agent", 14), ("audio", 5), ("video", 2), ("once", 4), ("batch", 5)),
    "team": (("chat", 30), ("llm", 38), ("agent", 8), ("image", 8), ("video", 3), ("once", 4), ("batch", 9)),
}


@dataclass(frozen=True, slots=True)
class _Account:
    id: str
    plan: str
    members: int
    zipf: Zipf


def generate(
    seed: int = DEFAULT_SEED, accounts: int = DEFAULT_ACCOUNTS, requests: int = DEFAULT_REQUESTS
) -> list[Request]:
    """A trace in the order of its times. `requests` is the number of calls, `accounts` of those that exist; where there
    are few calls, some accounts make none.
    """
    draws = Draws(seed)
    people = [_account(draws, rank, _HEAVY_PLANS if rank * 5 < accounts else _LIGHT_PLANS) for rank in range(accounts)]
    which = Zipf(accounts, Decimal("1.05"))
    gap = _HORIZON * _MEAN_CALLS / requests
    begin = Decimal(0)
    calls: list[tuple[Decimal, int, Request]] = []
    # Every account's first call comes before anyone's second, so that a short trace still has many accounts.
    order = [people[rank] for rank in range(accounts)]
    while len(calls) < requests:
        begin += draws.exponential(gap)
        person = order.pop(draws.below(len(order))) if order and draws.chance(600) else people[which.draw(draws)]
        left = requests - len(calls)
        for at, request in _session(draws, person, begin, min(left, _MAX_CALLS), len(calls)):
            calls.append((at, len(calls), request))
    return [request for _, _, request in sorted(calls, key=lambda call: call[:2])]


def _account(draws: Draws, rank: int, plans: Sequence[tuple[str, int]]) -> _Account:
    plan = draws.pick(plans)
    members = 1 + draws.below(_SEATS[plan])
    return _Account(f"a{rank:04d}", plan, members, Zipf(members, Decimal("1.05")))


def _session(
    draws: Draws, person: _Account, begin: Decimal, most: int, first: int
) -> Iterator[tuple[Decimal, Request]]:
    member = f"m{person.zipf.draw(draws):02d}"
    count = min(most, int(draws.pareto(Decimal(1), Decimal("1.3"))))
    at = begin
    for index in range(count):
        at = at.quantize(_MILLI, ROUND_HALF_UP)
        yield at, _request(draws, person, member, at, f"r{first + index:06d}")
        at += draws.lognormal(Decimal(4), Decimal("1.2"))


def _request(draws: Draws, person: _Account, member: str, at: Decimal, name: str) -> Request:
    kind = draws.pick(_MIX[person.plan])
    if kind == "batch":
        items = tuple(_chat(draws) for _ in range(2 + min(28, int(draws.pareto(Decimal(1), Decimal("1.1"))))))
        outcome: Outcome = "cached" if draws.chance(60) else "ok"
        sends = 2 if draws.chance(100) else 1
        return Request(name, at, Decimal(0), person.id, person.plan, member, "usage", outcome, sends, items)
    if kind == "once":
        item = _whole("image", draws, Decimal(1), Decimal("2.2"))
        item = Item(item.meter, item.used, item.used, item.dimensions)
        sends = 2 if draws.chance(100) else 1
        return Request(name, at, Decimal(0), person.id, person.plan, member, "once", "ok", sends, (item,))
    items, seconds = _reserved(draws, kind)
    outcome = draws.pick((("failed", 18), ("no_commit", 10), ("late", 4), ("cached", 60), ("ok", 908)))
    sends = 2 if outcome in ("ok", "cached") and draws.chance(30) else 1
    return Request(name, at, seconds, person.id, person.plan, member, "reserve", outcome, sends, items)


def _reserved(draws: Draws, kind: str) -> tuple[tuple[Item, ...], Decimal]:
    """Items of a call and the seconds that it runs."""
    if kind == "chat":
        item = _chat(draws)
        return (item,), (1 + item.used / 400).quantize(_MILLI)
    if kind == "llm":
        return _llm(draws)
    if kind == "agent":
        item = _whole("agent", draws, Decimal(2), Decimal("1.1"), model="premium", most=40)
        return (item,), 6 * item.used
    alphas = {"image": Decimal("2.2"), "audio": Decimal("1.3"), "video": Decimal("1.8")}
    item = _whole(kind, draws, Decimal(1), alphas[kind])
    return (item,), 5 * item.used


def _tokens(draws: Draws, median: int, sigma: str) -> int:
    drawn = draws.lognormal(Decimal(median), Decimal(sigma))
    return max(1, min(_MAX_TOKENS, int(drawn)))


def _answer(draws: Draws) -> int:
    shape = draws.pick((("short", 45), ("long", 53), ("tail", 2)))
    if shape == "tail":
        return min(_MAX_TOKENS, int(draws.pareto(Decimal(1500), Decimal("1.2"))))
    return _tokens(draws, 90, "0.5") if shape == "short" else _tokens(draws, 400, "0.25")


def _chat(draws: Draws) -> Item:
    """Tokens of prompt and answer together. The app reserves the prompt and its `max_tokens`, and uses less or,
    rarely, more (a tokenizer that was estimated).
    """
    prompt, answer = _tokens(draws, 1020, "1.0"), _answer(draws)
    most = max(512, -(-answer // 512) * 512)
    reserved = prompt + (answer // 2 + 1 if draws.chance(10) else most)
    dimensions = {"operation": "chat", "model": draws.pick(_SMALL)}
    return Item("ai_credits", Decimal(reserved), Decimal(prompt + answer), dimensions)


def _llm(draws: Draws) -> tuple[tuple[Item, ...], Decimal]:
    """A call that counts raw tokens: input, a part of it from the provider's cache, and output."""
    code = draws.chance(400)
    prompt = _tokens(draws, 1500 if code else 1020, "1.0")
    answer = _tokens(draws, 13, "0.9") if code else _answer(draws)
    cached = prompt * draws.below(10) // 10 if draws.chance(500) else 0
    model = draws.pick(_SMALL)

    def item(direction: str, reserved: int, used: int) -> Item:
        dimensions = {"operation": "code" if code else "chat", "model": model, "direction": direction}
        return Item("llm_tokens", Decimal(reserved), Decimal(used), dimensions)

    items = [item("input", prompt, prompt - cached), item("output", max(256, answer), answer)]
    if cached:
        items.append(item("cached_input", cached, cached))
    return tuple(items), (1 + Decimal(answer) / 80).quantize(_MILLI)


def _whole(operation: str, draws: Draws, least: Decimal, alpha: Decimal, model: str = "", most: int = 20) -> Item:
    """A count: images, minutes, clips, steps. Some calls use less than they reserved."""
    used = min(most, int(draws.pareto(least, alpha)))
    reserved = used + (draws.below(3) if draws.chance(200) else 0)
    dimensions = {"operation": operation}
    if model:
        dimensions["model"] = model
    if operation == "image" and draws.chance(250):
        dimensions["quality"] = "hd"
    return Item("ai_credits", Decimal(reserved), Decimal(used), dimensions)
