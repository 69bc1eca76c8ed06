"""Batches as values: parts, timestamps, identifiers, successors."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.billing.world import NOON
from tollgate.billing.batch import (
    EXPIRED,
    FLUSHED,
    NO_CUSTOMER,
    REJECTED,
    SEALED,
    SENDING,
    UNCONFIRMED,
    Batch,
    NotRepairable,
    identifier_of,
    split,
    successor,
    timestamp_of,
)
from tollgate.quantities import EXACT, ZERO, plain

BATCH = Batch(
    account="acme",
    meter="ai_credits",
    period_start=NOON - 86_400,
    period_end=NOON + 86_400,
    window_start=NOON,
    window_end=NOON + 300,
    supplement=0,
    part=0,
    event_name="credits_used",
    units=Decimal(5),
    timestamp=NOON,
    created_at=NOON + 400,
    state=SEALED,
    state_at=NOON + 400,
    customer="cus_1",
)


def digits_as_written(value: Decimal) -> int:
    return len(plain(value).replace(".", "").lstrip("0"))


@given(st.decimals(min_value=Decimal("1e-12"), max_value=Decimal("9e16"), places=12))
@example(Decimal("123456789012345"))
@example(Decimal("1234567890123456"))
@example(Decimal("999999999999999.999999999999"))
@example(Decimal("0.000000000001"))
def test_parts_sum_exactly_and_fit(units: Decimal) -> None:
    parts = split(units)
    total = ZERO
    for part in parts:
        total = EXACT.add(total, part)
        assert part > 0
        assert digits_as_written(part) <= 15
    assert total == units
    assert (len(parts) == 1) == (digits_as_written(units) <= 15)


def test_a_total_that_needs_over_a_hundred_parts_is_refused() -> None:
    assert len(split(Decimal(10**17 - 100))) == 100
    with pytest.raises(ValueError, match="100 values"):
        split(Decimal(10**18))


@pytest.mark.parametrize(
    ("window", "period", "expected"),
    [
        (NOON, NOON - 86_400, NOON),
        (NOON + 35, NOON - 86_400, NOON),  # windows shorter than a minute
        (NOON + 60, NOON - 86_400, NOON + 60),
        (NOON, NOON + 100, NOON + 100),  # the period begins inside the window
        (NOON + 35, NOON + 20, NOON + 20),  # the whole minute would lie in the last period
    ],
)
def test_the_timestamp_is_the_first_whole_minute_inside_the_period(window: int, period: int, expected: int) -> None:
    assert timestamp_of(window, period) == expected


@pytest.mark.parametrize(
    "change",
    [
        {"account": "other"},
        {"customer": "cus_2"},
        {"meter": "llm_tokens"},
        {"event_name": "tokens_used"},
        {"period_start": NOON - 1},
        {"window_start": NOON + 300},
        {"supplement": 1},
        {"part": 1},
        {"revision": 1},
    ],
)
def test_whatever_tells_two_batches_apart_is_in_the_identifier(change: dict[str, object]) -> None:
    assert identifier_of("s", replace(BATCH, **change)) != identifier_of("s", BATCH)  # type: ignore[arg-type]


def test_the_identifier_is_fixed_short_and_of_one_stack() -> None:
    later = replace(BATCH, attempts=7, state=SENDING, version=9, units=Decimal(6), created_at=1)
    assert identifier_of("s", later) == identifier_of("s", BATCH)
    assert identifier_of("t", BATCH) != identifier_of("s", BATCH)
    assert len(identifier_of("s" * 128, BATCH)) + len(":9999") <= 100


def test_the_group_is_customer_and_meter_in_characters_that_sqs_takes() -> None:
    assert BATCH.group == "cus_1#credits_used"
    assert replace(BATCH, account="other").group == BATCH.group
    odd = {replace(BATCH, event_name=name).group for name in ("x" * 100 + "y" * 30, "with space", "näme")}
    assert len(odd) == 3
    for group in odd:
        assert len(group) == 64
        assert group.isalnum()


@pytest.mark.parametrize("state", [REJECTED, EXPIRED, UNCONFIRMED])
def test_a_successor_is_a_new_batch_of_the_same_units(state: str) -> None:
    parked = replace(
        BATCH, state=state, reason="r", detail="d", identifier="tg_x", attempts=4, sent_at=1, doubt_since=1, version=8
    )
    repaired = successor(parked, NOON + 9_000)
    assert (repaired.state, repaired.revision, repaired.units, repaired.timestamp) == (SEALED, 1, Decimal(5), NOON)
    assert repaired.key != parked.key
    assert (repaired.identifier, repaired.attempts, repaired.doubt_since, repaired.reason) == (None, 0, None, None)
    assert repaired.sent_at is None
    assert repaired.due_at == NOON + 9_000
    assert identifier_of("s", repaired) != identifier_of("s", parked)
    assert successor(parked, NOON, customer="cus_2").customer == "cus_2"


def test_a_successor_without_customer_waits_for_one() -> None:
    repaired = successor(replace(BATCH, state=EXPIRED, customer=None), NOON)
    assert (repaired.state, repaired.untold) == (NO_CUSTOMER, True)


@pytest.mark.parametrize("state", [SEALED, SENDING, FLUSHED, NO_CUSTOMER])
def test_what_is_not_parked_has_no_successor(state: str) -> None:
    with pytest.raises(NotRepairable):
        successor(replace(BATCH, state=state), NOON)


def test_a_batch_is_repaired_once() -> None:
    with pytest.raises(NotRepairable):
        successor(replace(BATCH, state=REJECTED, repaired_by="x.r1"), NOON)
