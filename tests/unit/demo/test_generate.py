"""The generated trace: the same bytes for the same seed, and the shape of LLM traffic."""

from __future__ import annotations

import hashlib
from collections import Counter
from decimal import Decimal

import pytest

from demo.generate import DEFAULT_ACCOUNTS, DEFAULT_REQUESTS, generate
from demo.trace import OUTCOMES, OUTCOMES_OF, Request, plans_of
from demo.trace_file import to_csv

# Changes with every change of the generator; it must not change between machines and Python versions.
DEFAULT_SHA256 = "5d199fd7b77296afabfca21f976f27e804e0daf6e3462a91ffde2fabac265f07"


@pytest.fixture(scope="module")
def trace() -> list[Request]:
    return generate()


def test_the_default_trace_is_the_same_bytes_everywhere(trace: list[Request]) -> None:
    assert hashlib.sha256(to_csv(trace).encode()).hexdigest() == DEFAULT_SHA256


def test_seeds_decide() -> None:
    assert to_csv(generate(5, 20, 60)) == to_csv(generate(5, 20, 60))
    assert to_csv(generate(5, 20, 60)) != to_csv(generate(6, 20, 60))


def test_sizes_are_as_asked(trace: list[Request]) -> None:
    assert len(trace) == DEFAULT_REQUESTS
    assert len({request.account for request in trace}) == DEFAULT_ACCOUNTS
    small = generate(1, 3, 7)
    assert len(small) == 7
    assert {request.account for request in small} <= {"a0000", "a0001", "a0002"}


def test_every_call_is_one_that_the_replay_knows(trace: list[Request]) -> None:
    assert len({request.id for request in trace}) == len(trace)
    assert [request.at for request in trace] == sorted(request.at for request in trace)
    for request in trace:
        assert request.outcome in OUTCOMES_OF[request.call]
        for item in request.items:
            assert item.used == int(item.used)
            assert item.reserved == int(item.reserved)
            assert item.reserved > 0
            assert item.used > 0 or request.call == "reserve"


def test_everything_that_can_happen_happens(trace: list[Request]) -> None:
    assert {request.outcome for request in trace} == set(OUTCOMES)
    assert {request.call for request in trace} == set(OUTCOMES_OF)
    assert {request.plan for request in trace} == {"free", "pro", "team"}
    assert any(request.sends > 1 for request in trace)
    assert any(item.used > item.reserved for request in trace for item in request.items if request.call == "reserve")
    assert {len(request.items) for request in trace if request.call == "reserve"} == {1, 2, 3}


def test_few_accounts_make_most_calls(trace: list[Request]) -> None:
    counts = sorted(Counter(request.account for request in trace).values(), reverse=True)
    tenth = sum(counts[: len(counts) // 10])
    assert tenth > Decimal("0.4") * sum(counts)
    assert counts[len(counts) // 2] <= 4


def test_tokens_have_a_heavy_tail(trace: list[Request]) -> None:
    tokens = sorted(item.used for request in trace for item in request.items if item.dimensions["operation"] == "chat")
    median = tokens[len(tokens) // 2]
    assert tokens[len(tokens) * 99 // 100] > 5 * median
    assert tokens[-1] > 15 * median


def test_arrivals_come_in_bursts(trace: list[Request]) -> None:
    gaps = [after.at - before.at for before, after in zip(trace, trace[1:], strict=False)]
    mean = sum(gaps, Decimal(0)) / len(gaps)
    variance = sum(((gap - mean) ** 2 for gap in gaps), Decimal(0)) / len(gaps)
    # A Poisson process would have 1.
    assert variance / mean**2 > Decimal("1.3")


def test_an_account_has_one_plan(trace: list[Request]) -> None:
    plans = plans_of(trace)
    assert all(plans[request.account] == request.plan for request in trace)
