"""Quiet hours, and limits an hour whose rest becomes a digest."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import datetime

import pytest

from tests.unit.billing.world import NOON, Crash, Cut
from tests.unit.notify.stage import Postbox, Receiver, Stage
from tests.unit.notify.test_delivery import read
from tollgate.notify.channels import (
    BUS,
    CUSTOMERS,
    EMAIL,
    SLACK,
    Channel,
    Quiet,
    Settings,
    Smtp,
    WrongChannel,
    check_channel,
    settings_fields,
    settings_of,
)
from tollgate.notify.letter import FAILED, GIVE_UP_S, LEASE_S, WAITING, Delivery, Letter, NotDelivered, backoff, put_off
from tollgate.notify.run import run

HOUR = 3600


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


@pytest.mark.parametrize(
    ("quiet", "place", "moment", "ends"),
    [
        ("22:00-07:00", "UTC", "2026-11-21T22:00:00+00:00", "2026-11-22T07:00:00+00:00"),
        ("22:00-07:00", "UTC", "2026-11-21T21:59:59+00:00", None),
        ("22:00-07:00", "UTC", "2026-11-22T06:59:59+00:00", "2026-11-22T07:00:00+00:00"),
        ("22:00-07:00", "UTC", "2026-11-22T07:00:00+00:00", None),
        ("12:00-13:30", "UTC", "2026-11-21T13:29:00+00:00", "2026-11-21T13:30:00+00:00"),
        ("12:00-13:30", "UTC", "2026-11-21T11:59:00+00:00", None),
        ("00:00-23:59", "UTC", "2026-11-21T23:58:00+00:00", "2026-11-21T23:59:00+00:00"),
        ("22:00-07:00", "Europe/Vienna", "2026-11-21T21:00:00+00:00", "2026-11-22T06:00:00+00:00"),
        ("22:00-07:00", "Asia/Kolkata", "2026-11-21T16:30:00+00:00", "2026-11-22T01:30:00+00:00"),
        # The night in which clocks go forward is an hour shorter, the other one longer.
        ("22:00-07:00", "Europe/Vienna", "2026-03-28T22:00:00+00:00", "2026-03-29T05:00:00+00:00"),
        ("22:00-07:00", "Europe/Vienna", "2026-10-24T21:00:00+00:00", "2026-10-25T06:00:00+00:00"),
    ],
)
def test_quiet_hours_end(quiet: str, place: str, moment: str, ends: str | None) -> None:
    assert Quiet.parse(quiet, place).until(at(moment)) == (None if ends is None else at(ends))


def test_quiet_hours_always_end_later_than_now() -> None:
    quiet = Quiet.parse("01:00-02:30", "Europe/Vienna")
    for minute in range(-180, 180):
        now = at("2026-10-25T01:00:00+00:00") + minute * 60
        ends = quiet.until(now)
        assert ends is None or now < ends <= now + 4 * HOUR


def test_a_message_waits_for_the_end_of_the_quiet_hours(stage: Stage) -> None:
    stage.have(Channel(BUS, quiet=Quiet.parse("10:00-14:00", "UTC")))
    place = stage.put()
    assert stage.run().sent == 0
    assert (stage.letter(place).deliveries or {})["bus"].attempts == 0
    stage.now += 2 * HOUR - 1
    assert stage.run().sent == 0
    stage.now += 1
    assert stage.run().sent == 1


def test_critical_kinds_pass(stage: Stage) -> None:
    stage.have(Channel(BUS, quiet=Quiet.parse("10:00-14:00", "UTC"), per_hour=1))
    for name in ("a", "b", "c"):
        stage.put(name, kind="breaker_tripped")
    assert stage.run().sent == 3
    stage.have(critical=("margin",))
    stage.put("d", kind="breaker_tripped")
    stage.put("e", kind="margin")
    stage.run()
    assert [kind for kind, _ in stage.bus].count("margin") == 1
    assert len(stage.bus) == 4


def test_what_is_over_the_limit_comes_in_one_digest_and_nothing_is_dropped(stage: Stage) -> None:
    stage.have(Channel(BUS, per_hour=3))
    places = [stage.put(f"a{n:02}", subject=f"s{n}") for n in range(10)]
    counts = stage.run()
    assert (counts.sent, counts.held) == (3, 7)
    stage.now += HOUR - 1
    assert stage.run().sent == 0
    stage.now += 1
    counts = stage.run()
    assert (counts.sent, counts.digests) == (1, 1)
    kind, event = stage.bus[-1]
    assert (kind, event["data"]["subject"]) == ("digest", "7 messages")
    assert [one["subject"] for one in event["data"]["messages"]] == [f"s{n}" for n in range(3, 10)]
    assert [one["id"] for one in event["data"]["messages"]] == [stage.letter(place).id for place in places[3:]]
    assert [stage.states(place)["bus"] for place in places] == ["sent"] * 3 + ["digested"] * 7
    assert (stage.letter(places[9]).deliveries or {})["bus"].reason == event["data"]["id"]
    stage.put("new")
    assert stage.run().sent == 1, "a new hour has a new limit"
    stage.now += 86_400
    assert stage.run().sent == 0


def test_a_single_one_that_was_held_goes_as_it_is(stage: Stage) -> None:
    stage.have(Channel(BUS, per_hour=1))
    stage.put("a", subject="first")
    stage.put("b", subject="second")
    stage.run()
    stage.now += HOUR
    assert stage.run().digests == 0
    assert [event["data"]["subject"] for _, event in stage.bus] == ["first", "second"]


def test_a_digest_that_is_not_taken_is_sent_again_under_its_id(stage: Stage) -> None:
    stage.have(Channel(BUS, per_hour=1))
    for name in "abc":
        stage.put(name)
    stage.run()
    stage.now += HOUR
    seen: list[str] = []

    def send(channel: Channel, letter: Letter) -> None:
        seen.append(letter.id)
        if len(seen) == 1:
            raise NotDelivered("down")

    assert stage.run(send=send).retried == 1
    stage.now += 60
    assert stage.run(send=send).sent == 1
    assert len(set(seen)) == 1


def test_a_digest_that_is_not_taken_before_the_quiet_hours_waits_for_their_end(stage: Stage) -> None:
    stage.have(Channel(BUS, per_hour=1, quiet=Quiet.parse("13:01-15:00", "UTC")))
    for name in "abc":
        stage.put(name)
    stage.run()
    stage.now += HOUR

    def down(channel: Channel, letter: Letter) -> None:
        raise NotDelivered("down")

    assert stage.run(send=down).retried == 1
    stage.now += 60
    assert stage.run().sent == 0
    stage.now = NOON + 3 * HOUR
    assert (stage.run().sent, stage.bus[-1][0]) == (1, "digest")


def test_what_was_held_is_one_digest_whatever_chance_says(stage: Stage) -> None:
    stage.have(Channel(BUS, per_hour=1))
    for n in range(5):
        stage.put(str(n))
    chances = iter(range(60))
    run(replace(stage.deps(), jitter=lambda most: next(chances)), lambda: True)
    stage.now += HOUR
    assert (stage.run().digests, len(stage.bus)) == (1, 2)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_cut_while_a_digest_is_made(stage: Stage, after: bool) -> None:
    """Each message comes in exactly one digest, wherever the run is cut."""
    stage.have(Channel(BUS, per_hour=1))
    for step in range(40):
        stage.now += 24 * HOUR
        stage.bus.clear()
        ids = {stage.letter(stage.put(f"{step}.{n}")).id for n in range(5)}
        stage.run()
        stage.now += HOUR
        cut = Cut(step, after=after)
        stage.around = cut.around
        try:
            stage.run()
            finished = True
        except Crash:
            finished = False
        stage.around = lambda target: target
        for _ in range(4):
            stage.now += LEASE_S
            stage.run()
        told = Counter(
            one["id"] for name in {e["data"]["id"]: e for _, e in stage.bus}.values() for one in _ids(name["data"])
        )
        assert told == Counter(ids), f"cut {step}"
        if finished:
            assert step > 10
            return
    raise AssertionError("it never finished")


def _ids(data: dict[str, object]) -> list[dict[str, str]]:
    messages = data.get("messages", [data])
    assert isinstance(messages, list)
    return messages


def test_many_are_put_into_several_digests(stage: Stage) -> None:
    stage.have(Channel(BUS, per_hour=1))
    for n in range(121):
        stage.put(f"{n:03}")
    stage.run()
    stage.now += HOUR
    assert stage.run().digests == 3
    sizes = [len(event["data"]["messages"]) for kind, event in stage.bus if kind == "digest"]
    assert sizes == [50, 50, 20]


def test_each_customer_has_a_limit_and_a_digest_of_its_own(stage: Stage, postbox: Postbox) -> None:
    stage.have(Channel(CUSTOMERS, per_hour=1), sender="b@acme.test", smtp=postbox.start(), product="Acme")
    stage.addresses = {"one": "one@x.test", "two": "two@x.test"}
    for account in ("one", "two"):
        for n in range(3):
            stage.put(f"{account}{n}", account=account, audience="customer", subject=f"{account} {n}")
    assert stage.run().sent == 2
    stage.now += HOUR
    assert stage.run().sent == 2
    got = Counter((to[0], read(raw)["Subject"]) for to, raw in postbox.got)
    assert got == {
        ("one@x.test", "one 0"): 1,
        ("two@x.test", "two 0"): 1,
        ("one@x.test", "2 messages"): 1,
        ("two@x.test", "2 messages"): 1,
    }
    for to, raw in postbox.got:
        other = "two" if to[0].startswith("one") else "one"
        assert other not in read(raw).get_body(("plain",)).get_content()


def test_retries_take_nothing_of_the_limit(stage: Stage, receiver: Receiver) -> None:
    stage.have(Channel(SLACK, per_hour=2))
    stage.secrets["slack_url"] = receiver.url
    receiver.answers = [500]
    stage.put("a")
    stage.run()
    stage.now += 60
    assert stage.run().sent == 1
    stage.put("b")
    counts = stage.run()
    assert (counts.sent, counts.held) == (1, 0)


def test_what_is_put_off_untried_takes_nothing_of_the_limit_again(stage: Stage) -> None:
    stage.have(Channel(BUS, per_hour=8))
    places = [stage.put(f"{at}") for at in range(8)]

    def down(channel: Channel, letter: Letter) -> None:
        raise NotDelivered("down")

    counts = stage.run(send=down)
    assert (counts.retried, counts.held) == (3, 0)
    stage.now += 120
    counts = stage.run()
    assert (counts.sent, counts.held) == (8, 0), "each was counted once"
    assert {stage.states(place)["bus"] for place in places} == {"sent"}


def test_what_was_never_tried_ends_when_it_would_have_if_it_had_been() -> None:
    first = put_off(Delivery(WAITING, 0), 60, 1_000, lambda most: 0)
    assert first == Delivery(WAITING, 1_060, 0, 1_000, "the channel is down")
    last = put_off(first, 60, 1_000 + GIVE_UP_S - 60, lambda most: 0)
    assert (last.state, last.since) == (WAITING, 1_000)
    assert put_off(last, 60, 1_000 + GIVE_UP_S - 59, lambda most: 0).state == FAILED


def test_waits_grow_and_have_chance_in_them() -> None:
    assert [backoff(n, lambda most: 0) for n in range(1, 9)] == [15, 60, 240, 960, 3840, 7200, 7200, 7200]
    assert [backoff(n, lambda most: most - 1) for n in range(1, 9)] == [30, 120, 480, 1920, 7680, 14400, 14400, 14400]


def test_settings_are_kept_as_they_are() -> None:
    settings = Settings(
        {
            EMAIL: Channel(EMAIL, ("a@b.c",), ("breaker*",), Quiet.parse("22:00-07:30", "Europe/Vienna"), 7),
            BUS: Channel(BUS),
        },
        "Acme <a@b.c>",
        "Acme",
        Smtp("mail.acme.test", 587, "starttls", "user"),
        ("breaker*", "x"),
    )
    assert settings_of(settings_fields(settings)) == settings
    assert settings_of(settings_fields(Settings())) == Settings()


@pytest.mark.parametrize(
    ("channel", "said"),
    [
        (Channel("pager"), "no channel"),
        (Channel(EMAIL), "needs an address"),
        (Channel(EMAIL, ("a@b.c",) * 51), "50 addresses at most"),
        (Channel(EMAIL, ("a@b.c\r\nBcc: d@e.f",)), "no email address"),
        (Channel(SLACK, ("https://x",)), "takes no address"),
        (Channel(BUS, events=("Breaker",)), "no kind"),
        (Channel(BUS, per_hour=0), "a limit is 1"),
        (Channel(BUS, per_hour=10_001), "a limit is 1"),
    ],
)
def test_settings_that_make_no_sense(channel: Channel, said: str) -> None:
    with pytest.raises(WrongChannel, match=said):
        check_channel(channel)


@pytest.mark.parametrize("text", ["", "22-7", "24:00-07:00", "22:00-07:60", "07:00-07:00", "22:00 - 07:00"])
def test_quiet_hours_that_are_none(text: str) -> None:
    with pytest.raises(WrongChannel):
        Quiet.parse(text, "UTC")


def test_a_timezone_that_is_none() -> None:
    with pytest.raises(WrongChannel):
        Quiet.parse("22:00-07:00", "Mars/Olympus")
