"""Model-based test of money and credits: splits, spend, refusals and what is left of grants equal the reference's."""

from __future__ import annotations

import os

from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.money_machine import MET, WANTED, MoneyMachine
from tests.model.test_machine import PROFILE

RUNS = int(os.environ.get("TOLLGATE_MODEL_RUNS", "1000"))


def test_money_and_credits_are_as_the_reference_says() -> None:
    run_state_machine_as_test(MoneyMachine, settings=settings(PROFILE, max_examples=RUNS))


def test_every_case_of_money_was_met() -> None:
    """Runs after the test above and reads what it counted."""
    assert not [case for case in WANTED if not MET[case]]
