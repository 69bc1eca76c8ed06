"""What is parked, counted for the operator once a week: nothing that waits for a person is forgotten."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Protocol

from tollgate.alerts.outbox import Alert, Outbox
from tollgate.billing.batch import Batch
from tollgate.clock import rfc3339


class ParkedBatches(Protocol):
    def parked(self) -> Iterator[Batch]:
        """Every batch that is parked and not repaired."""


def tell_weekly(batches: ParkedBatches, outbox: Outbox, now_ms: int) -> int:
    """Put the week's count of parked batches into the outbox, once a week; returns the count. Nothing is said where
    nothing is parked."""
    found = Counter(batch.state for batch in batches.parked())
    count = sum(found.values())
    if count:
        week = now_ms // (7 * 86_400_000)
        said = ", ".join(f"{number} {state}" for state, number in sorted(found.items()))
        outbox.put(
            Alert(
                id=f"parked#{week}",
                kind="parked",
                account="",
                subject=f"{count} batches are parked",
                text=(
                    f"As of {rfc3339(now_ms // 1000)}: {said}. None of them is billed without a proof or a person. "
                    "`tollgate dlq list` shows them, `tollgate reconcile --account ID --apply` repairs what can be."
                ),
                at_ms=now_ms,
                facts={state: str(number) for state, number in found.items()},
            )
        )
    return count
