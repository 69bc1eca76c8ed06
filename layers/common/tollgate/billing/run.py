"""One run of seal over some shards."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tollgate.billing.close_due import CloseDueDeps, ask_for_due
from tollgate.billing.requeue import requeue_shard
from tollgate.billing.seal import Counts, SealDeps, seal_shard


def run_seal(
    deps: SealDeps,
    shards: Iterable[int],
    in_time: Callable[[], bool] = lambda: True,
    closes: CloseDueDeps | None = None,
) -> Counts:
    """Seal what ended, look at what is due, ask for the closes that are due. `in_time` says whether to take on more
    work.

    Failures of single accounts and batches are in the answer's `failures`; the caller must raise them.
    """
    counts = Counts()
    grid = deps.seals.grid(deps.seal_seconds, deps.clock() // 1000)
    for shard in shards:
        seal_shard(deps, grid, shard, counts, in_time)
        requeue_shard(deps, shard, counts, in_time)
        if closes is not None:
            try:
                counts.closes += ask_for_due(closes, [shard], in_time)
            except Exception as error:  # noqa: BLE001 - kept, and raised by the caller once the others are done
                counts.failures.append(error)
    return counts
