"""The tasks of the scheduled alert function, by name: each looks for trouble that nothing tells by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from tollgate import wiring
from tollgate.accounts.store import AccountTable
from tollgate.alerts.backstop import BackstopDeps, look
from tollgate.alerts.outbox_store import OutboxTable
from tollgate.alerts.platform import PlatformDeps, look_at_shared, look_at_volume
from tollgate.anomalies.memory_store import AnomalyTable
from tollgate.anomalies.run import AnomalyDeps
from tollgate.anomalies.run import look as look_for_anomalies
from tollgate.billing.rollup_store import RollupTable
from tollgate.breaker.learn import LearnDeps, learn
from tollgate.breaker.learn_store import LearnTable
from tollgate.breaker.platform_store import PlatformTable
from tollgate.clock import system_clock
from tollgate.gate.shared_store import SharedTable
from tollgate.gate.store import GateTable
from tollgate.margins.book_store import BookTable
from tollgate.margins.margin_store import MarginTable
from tollgate.margins.run import MarginDeps
from tollgate.margins.run import look as look_at_margins
from tollgate.settings import seconds, text
from tollgate.usage.marker_store import MarkerTable

InTime = Callable[[], bool]
"""Whether there is time to take on more."""


class Done(NamedTuple):
    """What a task answers: counts by name, and the failures that the function raises once all tasks are done."""

    counts: Mapping[str, int]
    failures: Sequence[Exception] = ()
    trips: int = 0
    """How often the breaker of all accounts together stopped everything."""


Task = Callable[[InTime], Done]


def tasks(env: Mapping[str, str]) -> dict[str, Task]:
    """All tasks, by the name in `{"task": name}`; `env` names the tables. Raises BadSetting, KeyError."""
    return {
        "thresholds": _thresholds(env),
        "volume": _volume(env),
        "anomalies": _anomalies(env),
        "breaker": _breaker(env),
        "margins": _margins(env),
    }


def _platform(env: Mapping[str, str]) -> PlatformDeps:
    billing = text(env, "TOLLGATE_BILLING_TABLE")
    return PlatformDeps(
        plans=wiring.catalog_table(env),
        shared=SharedTable(env["TOLLGATE_GATES_TABLE"]),
        days=RollupTable(billing),
        outbox=OutboxTable(billing, system_clock),
        clock=system_clock,
    )


def _volume(env: Mapping[str, str]) -> Task:
    deps = _platform(env)

    def run(in_time: InTime) -> Done:
        told, complete = look_at_volume(deps, in_time)
        return Done({"told": told, "left": int(not complete)})

    return run


def _thresholds(env: Mapping[str, str]) -> Task:
    billing, platform = text(env, "TOLLGATE_BILLING_TABLE"), _platform(env)
    deps = BackstopDeps(
        gates=GateTable(env["TOLLGATE_GATES_TABLE"]),
        rules=wiring.rules_table(env),
        markers=MarkerTable(billing, seconds(env, "TOLLGATE_SEAL_SECONDS")),
        rows=wiring.event_table(env),
        outbox=OutboxTable(billing, system_clock),
        clock=system_clock,
    )

    def run(in_time: InTime) -> Done:
        looked, shared = look(deps, in_time), 0
        try:
            shared = look_at_shared(platform)
        except Exception as error:  # noqa: BLE001 - raised by the function, with what failed of the accounts
            looked.failures.append(error)
        counts = {"accounts": looked.accounts, "told": shared + looked.told, "left": int(looked.left)}
        return Done(counts, looked.failures)

    return run


def _anomalies(env: Mapping[str, str]) -> Task:
    billing = text(env, "TOLLGATE_BILLING_TABLE")
    deps = AnomalyDeps(
        rollups=RollupTable(billing),
        rules=wiring.rules_table(env),
        memory=AnomalyTable(billing),
        outbox=OutboxTable(billing, system_clock),
        clock=system_clock,
    )

    def run(in_time: InTime) -> Done:
        looked = look_for_anomalies(deps, in_time)
        return Done({"accounts": looked.accounts, "told": looked.told, "left": int(looked.left)}, looked.failures)

    return run


def _breaker(env: Mapping[str, str]) -> Task:
    billing = text(env, "TOLLGATE_BILLING_TABLE")
    deps = LearnDeps(
        accounts=wiring.account_deps(env),
        rollups=RollupTable(billing),
        store=LearnTable(billing),
        platform=PlatformTable(billing),
        outbox=OutboxTable(billing, system_clock),
    )

    def run(in_time: InTime) -> Done:
        done = learn(deps, in_time)
        counts = {"accounts": done.accounts, "changed": done.changed, "told": int(done.stopped), "left": int(done.left)}
        return Done(counts, done.failures, trips=int(done.stopped))

    return run


def _margins(env: Mapping[str, str]) -> Task:
    billing = text(env, "TOLLGATE_BILLING_TABLE")
    deps = MarginDeps(
        accounts=AccountTable(env["TOLLGATE_ACCOUNTS_TABLE"]),
        rules=wiring.rules_table(env),
        plans=wiring.catalog_table(env),
        rollups=RollupTable(billing),
        gates=GateTable(env["TOLLGATE_GATES_TABLE"]),
        book=BookTable(env["TOLLGATE_CONFIG_TABLE"], system_clock).book,
        store=MarginTable(billing),
        outbox=OutboxTable(billing, system_clock),
        clock=system_clock,
    )

    def run(in_time: InTime) -> Done:
        done = look_at_margins(deps, in_time)
        return Done({"accounts": done.accounts, "told": done.told, "left": int(done.left)}, done.failures)

    return run
