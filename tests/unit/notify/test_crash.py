"""A run is cut at every call to the outside, and continued; and two runs work at the same time."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import pytest

from tests.unit.billing.world import Crash, Cut
from tests.unit.notify.stage import BUS_CHANNEL, Receiver, Stage
from tollgate.notify.channels import EMAIL, SLACK, Channel, Quiet
from tollgate.notify.letter import LEASE_S, Counts, Letter, NotDelivered

PLACES = 3


def prepared(stage: Stage) -> list[str]:
    stage.have(BUS_CHANNEL, Channel(SLACK), Channel(EMAIL, ("ops@example.com",)))
    return [stage.put(f"{stage.now} {at}") for at in range(PLACES)]


class Deliveries:
    """Takes what is sent; the Slack of it fails at first."""

    def __init__(self) -> None:
        self.got: list[tuple[str, str]] = []
        self.failing = 1
        self.lock = threading.Lock()

    def send(self, channel: Channel, letter: Letter) -> None:
        with self.lock:
            if channel.name == SLACK and self.failing:
                self.failing -= 1
                raise NotDelivered("down")
            self.got.append((channel.name, letter.id))


def finish(stage: Stage, taken: Deliveries) -> None:
    """What the schedule does: runs until nothing is due any more."""
    for _ in range(5):
        stage.now += LEASE_S
        stage.run(send=taken.send)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_cut_at_every_call_to_the_table(stage: Stage, after: bool) -> None:
    """Whatever the cut, every message reaches every channel, under its one id; the cut's own may come twice."""
    for at in itertools.count():
        places = prepared(stage)
        wanted = {(name, stage.letter(place).id) for name in ("bus", SLACK, EMAIL) for place in places}
        cut, taken = Cut(at, after=after), Deliveries()
        stage.around = cut.around
        try:
            stage.run(send=taken.send)
            finished = True
        except Crash:
            finished = False
        stage.around = lambda target: target
        sent_before_the_cut = len(taken.got)
        finish(stage, taken)
        assert set(taken.got) == wanted, f"cut {at}"
        assert len(taken.got) <= len(wanted) + sent_before_the_cut
        for place in places:
            assert stage.states(place) == dict.fromkeys(("bus", SLACK, EMAIL), "sent"), f"cut {at}"
            assert stage.letter(place).due_at is None
        if finished:
            assert at >= PLACES * (1 + 1 + 3), "there were fewer calls than messages, claims and results"
            assert sorted(taken.got) == sorted(wanted), "nothing is sent twice where nothing is cut"
            return


def test_what_was_sent_and_not_written_down_is_sent_again_once(stage: Stage) -> None:
    """The one place where a duplicate comes from: between the answer of a channel and the write."""
    stage.have(BUS_CHANNEL)
    place, got = stage.put(), []

    def send(channel: Channel, letter: Letter) -> None:
        got.append(letter.id)
        if len(got) == 1:
            stage.letters.replace = crash  # type: ignore[method-assign, assignment]

    def crash(*_: object) -> None:
        raise Crash

    with pytest.raises(Crash):
        stage.run(send=send)
    del stage.letters.replace
    stage.now += LEASE_S - 1
    assert stage.run(send=send).sent == 0, "its lease still runs"
    stage.now += 1
    assert stage.run(send=send).sent == 1
    assert got == [stage.letter(place).id] * 2
    stage.now += 86_400
    assert stage.run(send=send).sent == 0


def test_where_rows_cannot_be_written_nothing_more_is_sent(stage: Stage) -> None:
    stage.have(BUS_CHANNEL)
    for at in range(50):
        stage.put(str(at))
    got: list[str] = []
    failed = threading.Event()
    real = stage.letters.replace

    def replace(before: Letter, after: Letter, now: int) -> Any:
        if any(one.state == "sent" for one in (after.deliveries or {}).values()):
            failed.set()
            raise RuntimeError("no table")
        return real(before, after, now)

    def send(channel: Channel, letter: Letter) -> None:
        got.append(letter.id)
        if len(got) > 1:
            failed.wait(5)
            threading.Event().wait(0.05)

    stage.letters.replace = replace  # type: ignore[method-assign]
    counts = stage.run(send=send)
    assert [str(error) for error in counts.failures] == ["no table"]
    assert len(got) <= 3


def test_what_was_given_up_is_counted_though_a_later_row_cannot_be_written(stage: Stage) -> None:
    stage.have(BUS_CHANNEL)
    places = [stage.put(str(at)) for at in range(2)]
    real = stage.letters.replace

    def replace(before: Letter, after: Letter, now: int) -> Any:
        if before.place == places[1] and before.deliveries is not None:
            raise RuntimeError("no table")
        return real(before, after, now)

    def send(channel: Channel, letter: Letter) -> None:
        raise NotDelivered("never", final=True)

    stage.letters.replace = replace  # type: ignore[method-assign]
    counts = stage.run(send=send)
    assert (counts.failed, [str(error) for error in counts.failures]) == (1, ["no table"])


def test_a_defect_of_ours_is_raised_after_the_others_are_done(stage: Stage) -> None:
    stage.have(BUS_CHANNEL)
    places = [stage.put(str(at)) for at in range(3)]
    got: list[str] = []

    def send(channel: Channel, letter: Letter) -> None:
        if letter.place == places[0]:
            raise ZeroDivisionError
        got.append(letter.place)

    counts = stage.run(send=send)
    assert [type(one) for one in counts.failures] == [ZeroDivisionError]
    assert got == places[1:]
    assert stage.states(places[0]) == {"bus": "waiting"}


def test_a_row_that_cannot_be_read_stops_no_other(stage: Stage) -> None:
    stage.have(BUS_CHANNEL)
    places = [stage.put(str(at)) for at in range(3)]
    real = stage.letters.get

    def get(place: str) -> Letter | None:
        if place == places[0]:
            raise ValueError("no JSON")
        return real(place)

    stage.letters.get = get  # type: ignore[method-assign]
    counts = stage.run()
    assert (counts.sent, len(counts.failures)) == (2, 1)


def test_many_rows_that_cannot_be_read_stop_no_other(stage: Stage) -> None:
    """They stay at the head of the line for good: whatever was put later must not wait behind them."""
    stage.have(BUS_CHANNEL)
    broken = [stage.put(f"broken {at:02}") for at in range(12)]
    stage.now += 1
    well = stage.put("well")
    real = stage.letters.get

    def get(place: str) -> Letter | None:
        if place in broken:
            raise ValueError("no JSON")
        return real(place)

    stage.letters.get = get  # type: ignore[method-assign]
    counts = stage.run()
    assert (counts.sent, len(counts.failures), counts.left) == (1, 5, 7)
    assert counts.failures[0].__notes__ == [f"claiming message {Letter(broken[0], {}).id}"], (
        "an alert's own id may name a member"
    )
    stage.letters.get = real  # type: ignore[method-assign]
    assert stage.states(well) == {"bus": "sent"}


# -- two at once -------------------------------------------------------------------------------------------------------


class Serial:
    """A table whose calls come one after another: moto's conditions hold only so."""

    def __init__(self, target: Any) -> None:
        self._target, self._lock = target, threading.Lock()

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any) -> Any:
            with self._lock:
                answer = getattr(self._target, name)(*args)
                return iter(list(answer)) if name == "due" else answer

        return call


def test_two_runs_at_the_same_time_send_each_message_once(stage: Stage) -> None:
    places = prepared(stage) + [stage.put(f"more {at}") for at in range(20)]
    taken = Deliveries()
    taken.failing = 0
    table = Serial(stage.letters)
    stage.around = lambda target: table
    start = threading.Barrier(4)
    found: list[Counts] = []

    def one() -> None:
        start.wait()
        found.append(stage.run(send=taken.send))

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts.sent for counts in found) == 3 * len(places)
    assert len(taken.got) == len(set(taken.got)) == 3 * len(places)
    for place in places:
        assert stage.states(place) == dict.fromkeys(("bus", SLACK, EMAIL), "sent")


def test_a_run_that_outlived_its_lease_loses_nobodys_state(stage: Stage) -> None:
    """The slow run's message was taken over by another one; each writes only what its own channel came to."""
    stage.have(BUS_CHANNEL, Channel(SLACK))
    place = stage.put()
    slow_may_end, slow_sends = threading.Event(), threading.Event()

    def slow(channel: Channel, letter: Letter) -> None:
        if channel.name == SLACK:
            slow_sends.set()
            assert slow_may_end.wait(30)

    first = threading.Thread(target=stage.run, kwargs={"send": slow})
    first.start()
    assert slow_sends.wait(30)
    while stage.states(place)["bus"] != "sent":
        threading.Event().wait(0.01)
    stage.now += LEASE_S

    def failing(channel: Channel, letter: Letter) -> None:
        assert channel.name == SLACK, "the bus has it already"
        raise NotDelivered("down")

    assert stage.run(send=failing).retried == 1
    slow_may_end.set()
    first.join()
    assert stage.states(place) == {"bus": "sent", "slack": "sent"}, "that the slow one sent it was lost"
    assert stage.letter(place).due_at is None


# -- time --------------------------------------------------------------------------------------------------------------


def test_a_run_ends_in_time_and_leaves_the_rest_due(stage: Stage) -> None:
    stage.have(BUS_CHANNEL)
    for at in range(30):
        stage.put(str(at))
    asked = itertools.count()
    first = stage.run(in_time=lambda: next(asked) < 15)
    assert first.sent + first.left > 0
    assert first.sent < 30
    total = first.sent
    for _ in range(3):
        stage.now += LEASE_S
        total += stage.run().sent
    assert total == 30
    assert len(stage.bus) == 30


def test_the_oldest_come_first(stage: Stage) -> None:
    stage.have(BUS_CHANNEL)
    for name in ("c", "a", "b"):
        stage.put(name, subject=name)
        stage.now += 1
    stage.run()
    assert [event["data"]["subject"] for _, event in stage.bus] == ["c", "a", "b"]


def test_quiet_hours_of_one_channel_hold_up_no_other(stage: Stage, receiver: Receiver) -> None:
    stage.have(BUS_CHANNEL, Channel(SLACK, quiet=Quiet.parse("11:00-13:00", "UTC")))
    stage.secrets["slack_url"] = receiver.url
    place = stage.put()
    assert stage.run().sent == 1
    assert stage.states(place) == {"bus": "sent", "slack": "waiting"}
    assert stage.letter(place).due_at == stage.now + 3600
