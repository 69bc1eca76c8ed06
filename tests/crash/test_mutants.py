"""Each mutant breaks one rule of the design, and the suite must see it: a suite that cannot fail proves nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.crash.scenarios import SCENARIOS
from tests.support import crash_run
from tests.support.crash_run import CONTINUATIONS, Scenario, Suite, prepare
from tollgate.accounts import service
from tollgate.alerts import telling, texts
from tollgate.billing import flush
from tollgate.billing.sealed_store import SealTable
from tollgate.gate import reclaim
from tollgate.gate.commit import _Commit
from tollgate.gate.ending import outcome_at
from tollgate.gate.hold import unpack
from tollgate.usage.marker_store import MarkerTable
from tollgate.usage.outcome import ACCOUNT
from tollgate.usage.store import EventTable

pytestmark = pytest.mark.filterwarnings("ignore:No application metrics to publish")

Patch = pytest.MonkeyPatch


def settle_before_the_row(patch: Patch) -> None:
    whole = _Commit.run

    def run(self: Any) -> Any:
        over = self._cover()
        at = outcome_at(self.deps, self.reservation.account, self.reservation.key, unpack(self.holds[ACCOUNT]))
        self._settled(self._event(at, over), duplicate=False)
        return whole(self)

    patch.setattr(_Commit, "run", run)


def markers_go_before_the_batches_are_queued(patch: Patch) -> None:
    claim = SealTable.claim

    def claimed(self: SealTable, marker: Any, nonce: bytes) -> bool:
        return claim(self, marker, nonce) and self.drop(marker, nonce)

    patch.setattr(SealTable, "claim", claimed)


def row_before_its_marker(patch: Patch) -> None:
    """Markers are written after the row (here: with the next put, or never)."""
    ensure, put = MarkerTable.ensure, EventTable.put_event
    waiting: list[Callable[[], None]] = []

    def later(self: MarkerTable, *args: Any, **kwargs: Any) -> None:
        waiting.append(lambda: ensure(self, *args, **kwargs))

    def put_first(self: EventTable, event: Any) -> Any:
        there = put(self, event)
        marks, waiting[:] = list(waiting), []
        for mark in marks:
            mark()
        return there

    patch.setattr(MarkerTable, "ensure", later)
    patch.setattr(EventTable, "put_event", put_first)


def resend_under_another_identifier(patch: Patch) -> None:
    resend = flush._resend

    def anew(deps: Any, batch: Any, now: int) -> Any:
        found = resend(deps, batch, now)
        return replace(found, identifier=f"{found.identifier}.{found.attempts}")

    patch.setattr(flush, "_resend", anew)


def doubt_forgotten(patch: Patch) -> None:
    """A batch found in `sending` counts as never sent, so that a refusal rejects it though Stripe may have it."""
    patch.setattr(flush, "_resend", lambda deps, batch, now: flush._claimed(replace(batch, doubt_since=None), now))


def units_back_without_a_void(patch: Patch) -> None:
    patch.setattr(reclaim, "_became", lambda *_: [])


def an_unchanged_account_is_not_applied(patch: Patch) -> None:
    """The defect that this suite found: a repeated PUT did not reach the gate that the first one had missed."""
    applied = service._applied

    def only_if_changed(deps: Any, account: str) -> Any:
        rules = deps.rules.known(account)
        before = rows.get(account)
        rows[account] = rules.rev
        return rules if before == rules.rev else applied(deps, account)

    rows: dict[str, int] = {}
    put = service.put_account

    def noted(deps: Any, account: str, patched: Any) -> Any:
        row = deps.accounts.read(account)
        rows[account] = -1 if row is None else row.rev
        return put(deps, account, patched)

    patch.setattr(service, "_applied", only_if_changed)
    patch.setattr("tollgate.http.manage_routes.put_account", noted)


def nobody_looks_for_what_was_not_told(patch: Patch) -> None:
    patch.setattr(telling, "tell_standing", lambda *seen: 0)


def a_mark_is_another_message_each_time(patch: Patch) -> None:
    """Its id has the time in it."""
    alert_of = texts.alert_of

    def timed(rules: Any, crossing: Any, member: Any, now_ms: int) -> Any:
        alert = alert_of(rules, crossing, member, now_ms)
        return replace(alert, id=f"{alert.id}#{now_ms}")

    patch.setattr(telling, "alert_of", timed)


@pytest.mark.parametrize(
    ("mutant", "names"),
    [
        (nobody_looks_for_what_was_not_told, ["a commit that passes a mark, and the scheduled look"]),
        (a_mark_is_another_message_each_time, ["a commit that passes a mark, and the scheduled look"]),
        (settle_before_the_row, ["commit of less, member gate"]),
        (markers_go_before_the_batches_are_queued, ["seal, delivered again", "seal of a row that was found late"]),
        (row_before_its_marker, ["commit of what was reserved"]),
        (resend_under_another_identifier, ["flush of a batch in doubt"]),
        (doubt_forgotten, ["flush rejected while in doubt"]),
        (units_back_without_a_void, ["sweep of holds that became nothing", "commit across midnight"]),
        (an_unchanged_account_is_not_applied, ["a change of plan binds the next reservation"]),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_the_suite_sees_it(suite: Suite, monkeypatch: Patch, mutant: Callable[[Patch], None], names: list[str]) -> None:
    mutant(monkeypatch)
    monkeypatch.setattr(crash_run, "EACH", len(CONTINUATIONS))  # what sees it must not depend on whose turn it is
    own = Suite(suite.world, suite.base)
    scenarios = [scenario for scenario in SCENARIOS if scenario.name in names]
    assert len(scenarios) == len(names)
    assert any(_violated(own, scenario) for scenario in scenarios)


def _violated(suite: Suite, scenario: Scenario) -> bool:
    try:
        state = prepare(suite.world, suite.base, scenario)
        for run in suite.runs(suite.record(scenario, state)):
            suite.play(scenario, state, run)
    except AssertionError:
        return True
    return False
