"""Model-based test of the gate: 1,500 runs of 40 steps against the reference, every row of the design's tables met."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.machine import GateMachine
from tests.model.rows import ROWS

RUNS = int(os.environ.get("TOLLGATE_MODEL_RUNS", "1500"))
STEPS = 40

PROFILE = settings(
    max_examples=RUNS,
    stateful_step_count=STEPS,
    deadline=None,
    derandomize="TOLLGATE_MODEL_RANDOM" not in os.environ,
    database=None,
    print_blob=True,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate, Phase.shrink),
)


def test_the_gate_answers_as_the_reference_does() -> None:
    run_state_machine_as_test(GateMachine, settings=PROFILE)


def test_every_row_of_the_tables_was_met() -> None:
    """Runs after the test above and reads what it counted."""
    assert not ROWS.missing()
