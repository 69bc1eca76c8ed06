"""Messages reach a real HTTP receiver and a real mail server, whatever these do."""

from __future__ import annotations

import email
import email.policy
import threading
from datetime import UTC, datetime
from typing import Any

import pytest
from standardwebhooks import Webhook

from tests.unit.billing.world import NOON
from tests.unit.notify.stage import BUS_CHANNEL, Dripping, Postbox, Receiver, Silent, Stage, timed
from tollgate.alerts.outbox import Words, message_id
from tollgate.notify import mail as mail_module
from tollgate.notify import post as post_module
from tollgate.notify import run as run_module
from tollgate.notify.channels import CUSTOMERS, EMAIL, SLACK, Channel, Smtp
from tollgate.notify.letter import GIVE_UP_S, LEASE_S, Letter, NotDelivered

DAY = 86_400


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second instead of five, two instead of ten."""
    for module in (post_module, mail_module):
        monkeypatch.setattr(module, "STEP_S", 1)
        monkeypatch.setattr(module, "WHOLE_S", 2)


def verify(receiver: Receiver, secret: str, at: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The official library takes the last request."""
    import standardwebhooks.webhooks as library

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.fromtimestamp(at, UTC)

    monkeypatch.setattr(library, "datetime", Clock)
    return Webhook(secret).verify(receiver.got[-1].body, receiver.got[-1].headers)


def test_a_webhook_is_signed_and_says_what_happened(
    stage: Stage, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = stage.endpoint(receiver.url)
    place = stage.put("a", audience="both", customer=Words("Yours", "Words"))
    counts = stage.run()
    assert (counts.sent, counts.failed, counts.retried, counts.left) == (1, 0, 0, 0)
    assert stage.states(place) == {"whe_1": "sent"}
    got = verify(receiver, endpoint.secret, stage.now, monkeypatch)
    assert got == {
        "type": "margin",
        "timestamp": "2026-11-21T12:00:00.000Z",
        "data": {
            "id": message_id(NOON * 1000, "a"),
            "kind": "margin",
            "account": "acme",
            "audience": "both",
            "subject": "Acme costs more than it pays",
            "text": "Look at acme.",
            "customer": {"subject": "Yours", "text": "Words"},
            "at": "2026-11-21T12:00:00.000Z",
            "meter": "tokens",
        },
    }
    assert receiver.got[0].path == "/hook?a=1"
    assert receiver.got[0].headers["host"] == receiver.url.split("/")[2]
    assert receiver.got[0].id == got["data"]["id"]
    assert stage.letter(place).due_at is None
    stage.now += DAY
    assert stage.run().sent == 0
    assert len(receiver.got) == 1


@pytest.mark.parametrize("trouble", [500, 503, 404, 301, 302, 429, "close", "hang", "drip"])
def test_what_is_not_taken_is_sent_again_under_the_same_id(
    stage: Stage, receiver: Receiver, trouble: int | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.answer_headers = {"Location": "http://127.0.0.1:1/"}
    receiver.answers = [trouble, trouble]
    endpoint = stage.endpoint(receiver.url)
    place = stage.put()
    with timed(5):
        assert stage.run().retried == 1
    assert stage.states(place) == {"whe_1": "waiting"}
    assert stage.run().retried == 0, "it is not due yet"
    stage.now += 15
    assert stage.run().retried == 1
    stage.now += 59
    assert stage.run().sent == 0, "the second wait is longer"
    stage.now += 1
    assert stage.run().sent == 1
    first, second, third = receiver.got
    assert first.id == second.id == third.id
    assert first.body == second.body == third.body
    times = [int(one.headers["webhook-timestamp"]) for one in receiver.got]
    assert times == [NOON, NOON + 15, NOON + 75]
    verify(receiver, endpoint.secret, stage.now, monkeypatch)


def test_a_receiver_that_did_its_work_and_hung_up_gets_the_same_id_again(stage: Stage, receiver: Receiver) -> None:
    """At least once: it took the message, its answer never came. By the id it knows what it has."""
    receiver.answers = ["close"]
    stage.endpoint(receiver.url)
    stage.put()
    stage.run()
    stage.now += 60
    stage.run()
    assert len({one.id for one in receiver.got}) == 1
    assert len(receiver.got) == 2


def test_nobody_listens(stage: Stage) -> None:
    stage.endpoint("http://127.0.0.1:9/")
    place = stage.put()
    assert stage.run().retried == 1
    assert (stage.letter(place).deliveries or {})["whe_1"].reason == "no answer (ConnectionRefusedError)"


def test_a_server_that_never_answers_takes_no_longer_than_a_step(stage: Stage) -> None:
    silent = Silent()
    try:
        stage.endpoint(f"https://127.0.0.1:{silent.port}/", "whe_tls")
        stage.endpoint(f"http://127.0.0.1:{silent.port}/", "whe_plain")
        stage.have(
            Channel(EMAIL, ("ops@example.com",)), sender="a@example.com", smtp=Smtp("127.0.0.1", silent.port, "none")
        )
        place = stage.put()
        with timed(5):
            stage.run()
        assert stage.states(place) == {"whe_tls": "waiting", "whe_plain": "waiting", "email": "waiting"}
    finally:
        silent.stop()


def test_it_waits_as_long_as_it_is_asked_to(stage: Stage, receiver: Receiver) -> None:
    receiver.answers, receiver.answer_headers = [429], {"Retry-After": "3600"}
    stage.endpoint(receiver.url)
    stage.put()
    stage.run()
    receiver.answer_headers = {}
    stage.now += 3_599
    assert stage.run().sent == 0
    stage.now += 1
    assert stage.run().sent == 1


def test_after_two_days_it_is_given_up_in_sight_and_can_be_replayed(stage: Stage, receiver: Receiver) -> None:
    receiver.answers = [500] * 1000
    stage.endpoint(receiver.url)
    place, began = stage.put(), stage.now
    failed = 0
    while not failed:
        due = stage.letter(place).due_at
        assert due is not None
        assert due <= began + GIVE_UP_S
        stage.now = due
        failed = stage.run().failed
    assert stage.now > began + GIVE_UP_S - 4 * 3600
    assert 10 < len(receiver.got) < 40
    assert stage.states(place) == {"whe_1": "failed"}
    stage.now += DAY
    assert stage.run().failed == 0
    [listed] = stage.letters.open()
    assert listed.failed
    assert (listed.deliveries or {})["whe_1"].reason == "answered 500"


def test_an_endpoint_that_is_gone_is_disabled(stage: Stage, receiver: Receiver) -> None:
    receiver.answers = [410]
    stage.endpoint(receiver.url)
    first = stage.put("first")
    assert stage.run().failed == 1
    second = stage.put("second")
    stage.run()
    assert (stage.states(first), stage.states(second)) == ({"whe_1": "failed"}, {})
    assert stage.channels.endpoint("whe_1").disabled == "it answered 410 Gone"
    assert len(receiver.got) == 1


def test_a_channel_that_is_down_stops_no_other(stage: Stage, receiver: Receiver) -> None:
    silent = Silent()
    try:
        stage.endpoint(f"http://127.0.0.1:{silent.port}/", "whe_dead")
        stage.endpoint(receiver.url, "whe_well")
        stage.have(BUS_CHANNEL)
        places = [stage.put(str(at)) for at in range(20)]
        with timed(15):  # twenty attempts would take 20
            counts = stage.run()
        assert (counts.sent, counts.retried) == (40, 3)
        for place in places:
            assert stage.states(place) == {"whe_dead": "waiting", "whe_well": "sent", "bus": "sent"}
        # Three of its messages were tried; the others are put off untried.
        tried = [(stage.letter(place).deliveries or {})["whe_dead"].attempts for place in places]
        assert sorted(tried) == [0] * 17 + [1] * 3
    finally:
        silent.stop()


def test_what_a_channel_heaps_up_that_is_down_for_days_is_looked_at_ever_less_often_and_given_up(stage: Stage) -> None:
    """Else its messages alone would be more than the runs can look at, and the others would wait behind them."""
    stage.have(BUS_CHANNEL, Channel(SLACK))
    places, looks, began = [stage.put(f"{at:02}") for at in range(7)], 0, stage.now

    def send(channel: Channel, letter: Letter) -> None:
        if channel.name == SLACK:
            raise NotDelivered("down")

    stage.run(send=send)
    while any("waiting" in stage.states(place).values() for place in places):
        due = min(at for place in places if (at := stage.letter(place).due_at) is not None)
        stage.now = max(due, stage.now + 1_200)
        assert stage.now <= began + GIVE_UP_S, "untried ones have the time of the others, and no more"
        counts = stage.run(send=send)
        looks += 1
        assert not counts.failures
        assert looks < 200
    assert stage.now > began + GIVE_UP_S - 5 * 3600
    assert all(stage.states(place) == {"bus": "sent", "slack": "failed"} for place in places)
    writes = sum(stage.letter(place).version for place in places) / len(places)
    assert writes < 80, "twice for each look at it"
    untried = [one for place in places if not (one := (stage.letter(place).deliveries or {})["slack"]).attempts]
    assert {one.reason for one in untried} <= {"the channel was down all the time"}


def test_an_untried_message_is_put_off_for_as_long_as_it_has_waited(stage: Stage) -> None:
    stage.have(Channel(SLACK))
    places, put = [stage.put(str(at)) for at in range(4)], stage.now

    def send(channel: Channel, letter: Letter) -> None:
        raise NotDelivered("down")

    for age, wait in ((0, 60), (7_200, 7_200), (36_000, 4 * 3600)):
        stage.now = put + age
        assert stage.run(send=send).retried == 3
        slack = [(stage.letter(place).deliveries or {})["slack"] for place in places]
        assert [one.at - stage.now for one in slack if one.reason == "the channel is down"] == [wait]


def test_a_name_server_that_never_answers_holds_up_nothing_else(
    stage: Stage, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "ATTEMPT_S", 1)
    stage.have(BUS_CHANNEL, Channel(SLACK))
    stage.endpoint(receiver.url)
    place, answers = stage.put(), threading.Event()

    def send(channel: Channel, letter: Letter) -> None:
        if channel.name == SLACK:
            answers.wait(30)  # as getaddrinfo does: no timeout of ours ends it
        stage.sender()(channel, letter)

    try:
        with timed(5):
            counts = stage.run(send=send)
    finally:
        answers.set()
    assert (counts.sent, counts.retried, counts.failures) == (2, 1, [])
    assert stage.states(place) == {"bus": "sent", "slack": "waiting", "whe_1": "sent"}
    assert (stage.letter(place).deliveries or {})["slack"].reason == "no answer within 1 s"


def test_a_removed_channel_is_skipped(stage: Stage, receiver: Receiver) -> None:
    receiver.answers = [500]
    stage.endpoint(receiver.url)
    place = stage.put()
    stage.run()
    stage.channels.delete_endpoint("whe_1")
    stage.now += 60
    stage.run()
    assert stage.states(place) == {"whe_1": "skipped"}
    assert stage.letter(place).due_at is None


def test_without_channels_nothing_waits(stage: Stage) -> None:
    place = stage.put()
    assert stage.run().sent == 0
    assert (stage.states(place), stage.letter(place).due_at) == ({}, None)
    assert stage.told == [stage.letter(place).id]


def test_rotation_signs_with_both_until_the_overlap_ends(
    stage: Stage, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = stage.endpoint(receiver.url)
    rotated = old.rotated("whsec_bmV3IHNlY3JldCBuZXcgc2VjcmV0", stage.now, 600)
    assert stage.channels.put_endpoint(rotated, old.rev)
    stage.put("during")
    stage.run()
    for secret in (old.secret, rotated.secret):
        assert verify(receiver, secret, stage.now, monkeypatch)["type"] == "margin"
    stage.now += 600
    stage.put("after")
    stage.run()
    assert receiver.got[-1].headers["webhook-signature"].count("v1,") == 1
    assert verify(receiver, rotated.secret, stage.now, monkeypatch)


def test_an_endpoint_gets_only_the_kinds_it_asked_for(stage: Stage, receiver: Receiver) -> None:
    stage.endpoint(receiver.url, events=("breaker*", "threshold"))
    for kind in ("margin", "breaker_tripped", "threshold", "thresholds"):
        stage.put(kind, kind=kind)
    stage.run()
    assert [one.json["type"] for one in receiver.got] == ["breaker_tripped", "threshold"]


# -- mail --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def mailing(stage: Stage, postbox: Postbox) -> Stage:
    stage.have(
        Channel(EMAIL, ("ops@example.com", "cto@example.com")),
        Channel(CUSTOMERS),
        sender="Acme Billing <billing@acme.test>",
        product="Acme",
        smtp=postbox.start(),
    )
    stage.addresses["acme"] = "customer@example.org"
    return stage


def read(raw: bytes) -> Any:
    return email.message_from_bytes(raw, policy=email.policy.default)


def test_mail_reaches_a_mail_server(mailing: Stage, postbox: Postbox) -> None:
    place = mailing.put()
    assert mailing.run().sent == 1
    [(to, raw)] = postbox.got
    message = read(raw)
    assert to == ["ops@example.com", "cto@example.com"]
    assert message["Subject"] == "[tollgate-test] Acme costs more than it pays"
    assert message["From"] == "Acme Billing <billing@acme.test>"
    assert message["Message-ID"] == f"<{mailing.letter(place).id}@acme.test>"
    assert message["Date"] == "Sat, 21 Nov 2026 12:00:00 -0000"
    assert "Look at acme." in message.get_body(("plain",)).get_content()
    assert "<p>Look at acme.</p>" in message.get_body(("html",)).get_content()


def test_the_customer_reads_its_own_words_at_its_own_address(mailing: Stage, postbox: Postbox) -> None:
    place = mailing.put(audience="both", customer=Words("Paused", "Your use is paused."))
    mailing.run()
    assert mailing.states(place) == {"email": "sent", "customers": "sent"}
    by_subject = {read(raw)["Subject"]: (to, read(raw)) for to, raw in postbox.got}
    to, message = by_subject["Paused"]
    assert to == ["customer@example.org"]
    for part in ("plain", "html"):
        text = message.get_body((part,)).get_content()
        assert "Your use is paused." in text
        assert "Look at acme" not in text
        assert "tokens" not in text


@pytest.mark.parametrize(("audience", "got"), [("operator", {"email"}), ("customer", {"customers"})])
def test_who_is_told(mailing: Stage, audience: str, got: set[str]) -> None:
    place = mailing.put(audience=audience)
    mailing.run()
    assert set(mailing.states(place)) == got


@pytest.mark.parametrize("address", [None, "", "nobody", "a@b.c, d@e.f", "a@b.c\nBcc: x@y.z", "<a@b.c>"])
def test_a_customer_without_an_address_is_skipped(mailing: Stage, postbox: Postbox, address: str | None) -> None:
    mailing.addresses = {} if address is None else {"acme": address}
    place = mailing.put(audience="customer")
    counts = mailing.run()
    assert (counts.failed, counts.retried) == (0, 0)
    assert mailing.states(place) == {"customers": "skipped"}
    assert postbox.got == []


def test_a_mail_server_that_is_busy_gets_it_again(mailing: Stage, postbox: Postbox) -> None:
    postbox.answers = ["451 later"]
    place = mailing.put()
    assert mailing.run().retried == 1
    assert (mailing.letter(place).deliveries or {})["email"].reason == "the mail server answered 451"
    mailing.now += 60
    assert mailing.run().sent == 1
    assert len(postbox.got) == 1


def test_mail_taken_by_a_server_that_hangs_up_has_the_same_message_id(mailing: Stage, postbox: Postbox) -> None:
    postbox.answers = ["close"]
    mailing.put()
    assert mailing.run().retried == 1
    mailing.now += 60
    assert mailing.run().sent == 1
    assert len({read(raw)["Message-ID"] for _, raw in postbox.got}) == 1
    assert len(postbox.got) == 2


def test_an_address_that_does_not_exist_is_given_up_at_once(mailing: Stage, postbox: Postbox) -> None:
    postbox.refused = {"customer@example.org": "550 no such user"}
    place = mailing.put(audience="customer")
    assert mailing.run().failed == 1
    assert (mailing.letter(place).deliveries or {})["customers"].reason == "the mail server refuses the address (550)"


def test_an_address_that_is_greylisted_is_tried_again(mailing: Stage, postbox: Postbox) -> None:
    postbox.refused = {"customer@example.org": "450 greylisted"}
    mailing.put(audience="customer")
    assert mailing.run().retried == 1


def test_a_mail_server_that_drips_is_cut(stage: Stage) -> None:
    """Each byte comes in time, the line never ends."""
    dripping = Dripping(b"220-" + b"x" * 10_000)
    try:
        server = Smtp("127.0.0.1", dripping.port, "none")
        stage.have(Channel(EMAIL, ("ops@example.com",)), sender="a@example.com", smtp=server)
        place = stage.put()
        with timed(5):
            assert stage.run().retried == 1
        reason = (stage.letter(place).deliveries or {})["email"].reason
        assert reason.startswith("the mail server does not answer"), "the attempt's own end came first"
    finally:
        dripping.stop()


def test_one_of_several_addresses_that_does_not_exist_stands_in_sight(mailing: Stage, postbox: Postbox) -> None:
    postbox.refused = {"cto@example.com": "550 no such user"}
    place = mailing.put()
    assert mailing.run().failed == 1
    assert [to for to, _ in postbox.got] == [["ops@example.com"]], "the other one has it"
    assert (mailing.letter(place).deliveries or {})["email"].reason == "the mail server refuses the address (550)"


def test_one_of_several_addresses_that_is_put_off_gets_it_later(mailing: Stage, postbox: Postbox) -> None:
    postbox.refused = {"cto@example.com": "450 greylisted"}
    mailing.put()
    assert mailing.run().retried == 1
    postbox.refused = {}
    mailing.now += 60
    assert mailing.run().sent == 1
    assert {address for to, _ in postbox.got for address in to} == {"ops@example.com", "cto@example.com"}
    assert len({read(raw)["Message-ID"] for _, raw in postbox.got}) == 1


# -- Slack -------------------------------------------------------------------------------------------------------------


def test_slack(stage: Stage, receiver: Receiver) -> None:
    stage.have(Channel(SLACK))
    place = stage.put(text="Look <here> & there.")
    assert stage.run().retried == 1, "its URL is not set yet"
    stage.secrets["slack_url"] = receiver.url
    stage.now += 60
    assert stage.run().sent == 1
    assert receiver.got[0].json == {
        "text": "*Acme costs more than it pays* (tollgate-test)\nLook &lt;here&gt; &amp; there.\n"
        f"account acme, meter tokens, {stage.letter(place).id}"
    }


def test_a_lease_outlives_every_run() -> None:
    assert LEASE_S > 55 + 10
