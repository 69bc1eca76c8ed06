"""The alert function as Lambda runs it: tasks by name, all without one, and one's failure stops no other."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.unit.billing.test_handlers import Context
from tests.unit.billing.world import ACCOUNTS, BILLING, CONFIG, EVENTS, tables
from tollgate.alerts import tasks
from tollgate.alerts.backstop import Looked
from tollgate.alerts.tasks import Done, InTime
from tollgate.settings import BadSetting

SAMPLE = Path(__file__).parents[3] / "events/alert.json"
ENVIRONMENT = {
    "TOLLGATE_STACK": "tollgate-test",
    "TOLLGATE_GATES_TABLE": "gates",
    "TOLLGATE_EVENTS_TABLE": EVENTS,
    "TOLLGATE_BILLING_TABLE": BILLING,
    "TOLLGATE_ACCOUNTS_TABLE": ACCOUNTS,
    "TOLLGATE_CONFIG_TABLE": CONFIG,
    "TOLLGATE_SEAL_SECONDS": "300",
    "POWERTOOLS_SERVICE_NAME": "tollgate-test-alert",
    "POWERTOOLS_METRICS_NAMESPACE": "Tollgate",
}


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    module = importlib.import_module("alert.app")
    forget = module.known.cache_clear
    forget()
    with tables():
        yield module
    forget()


def test_the_sample_runs_its_task_and_no_task_runs_them_all(app: ModuleType) -> None:
    nothing = {"accounts": 0, "told": 0, "left": 0}
    assert app.handler(json.loads(SAMPLE.read_text()), Context()) == {"thresholds": nothing}
    everything = app.handler({}, Context())
    assert everything["thresholds"] == nothing
    assert everything["volume"] == {"told": 0, "left": 0}
    assert set(everything) == set(app.known())


def test_a_name_that_is_none_is_an_error(app: ModuleType) -> None:
    with pytest.raises(KeyError):
        app.handler({"task": "other"}, Context())


def test_a_task_that_fails_keeps_no_other_from_its_run(
    app: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = []

    def broken(in_time: InTime) -> Done:
        raise RuntimeError("poison")

    def half(in_time: InTime) -> Done:
        ran.append(in_time())
        return Done({"told": 2}, [ValueError("one account")])

    monkeypatch.setattr(app, "known", lambda: {"broken": broken, "half": half})
    with pytest.raises(ExceptionGroup) as raised:
        app.handler({}, Context(remaining_ms=30_000))
    assert [str(error) for error in raised.value.exceptions] == ["poison", "one account"]
    assert ran == [True]
    assert '"AlertsTold":[2.0]' in capsys.readouterr().out
    with pytest.raises(ExceptionGroup):
        app.handler({"task": "half"}, Context(remaining_ms=20_000))
    assert ran == [True, False]


def test_shared_limits_that_fail_keep_no_account_from_its_look(
    app: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = Looked(accounts=3)

    def broken(deps: object) -> int:
        raise RuntimeError("no such version")

    monkeypatch.setattr(tasks, "look_at_shared", broken)
    monkeypatch.setattr(tasks, "look", lambda deps, in_time: looked)
    with pytest.raises(ExceptionGroup):
        app.handler({"task": "thresholds"}, Context())
    assert [str(error) for error in looked.failures] == ["no such version"]


def test_a_stop_that_the_rollups_show_is_counted_where_the_alarm_looks(
    app: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(app, "known", lambda: {"breaker": lambda in_time: Done({"told": 1}, trips=1)})
    app.handler({"task": "breaker"}, Context())
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if "BreakerTrips" in line]
    assert [(line["service"], line["BreakerTrips"]) for line in lines] == [("tollgate-test-gate", [1.0])]


def test_settings_are_checked(app: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLGATE_SEAL_SECONDS", "0")
    with pytest.raises(BadSetting, match="TOLLGATE_SEAL_SECONDS"):
        app.handler({}, Context())
