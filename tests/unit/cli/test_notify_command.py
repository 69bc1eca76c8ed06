"""`tollgate notify`: channels are set, failed messages listed and replayed."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import boto3
import pytest

from tests.unit.cli.conftest import Cli
from tollgate import dynamo
from tollgate.alerts.outbox import Alert, message_id
from tollgate.alerts.outbox_store import OutboxTable
from tollgate.notify.channel_store import ChannelTable
from tollgate.notify.channels import Channel, Quiet, Settings, Smtp
from tollgate.notify.endpoint import Endpoint
from tollgate.notify.letter import Delivery, Letter
from tollgate.notify.letter_store import LetterTable
from tollgate.notify.signing import new_secret

BILLING, CONFIG = "tollgate-local-BillingTable", "tollgate-local-ConfigTable"
NOW = 1_795_262_400


@pytest.fixture
def notify(cli: Cli, server: str, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """With the index `due`, and the test's own clients at the same server."""
    dynamodb = boto3.client("dynamodb", endpoint_url=server)
    dynamodb.update_table(
        TableName=BILLING,
        AttributeDefinitions=[
            {"AttributeName": name, "AttributeType": kind}
            for name, kind in (("pk", "S"), ("sk", "S"), ("due_shard", "S"), ("due_at", "N"))
        ],
        GlobalSecondaryIndexUpdates=[
            {
                "Create": {
                    "IndexName": "due",
                    "KeySchema": [
                        {"AttributeName": "due_shard", "KeyType": "HASH"},
                        {"AttributeName": "due_at", "KeyType": "RANGE"},
                    ],
                    "Projection": {"ProjectionType": "KEYS_ONLY"},
                }
            }
        ],
    )
    monkeypatch.setitem(os.environ, "AWS_ENDPOINT_URL_DYNAMODB", server)
    dynamo.session.cache_clear()
    dynamo.client.cache_clear()
    return cli


def settings() -> Settings:
    return ChannelTable(CONFIG).settings()[0]


def letter(name: str, deliveries: dict[str, Delivery]) -> Letter:
    alert = Alert(name, "margin", "acme", "Subject", "Text", NOW * 1000)
    assert OutboxTable(BILLING, lambda: NOW * 1000).put(alert)
    letters = LetterTable(BILLING)
    there = letters.get(f"{NOW * 1000:013d}#{name}")
    assert there is not None
    written = letters.replace(there, there.at_channels(deliveries), NOW)
    assert written is not None
    return written


def test_channels_are_made_changed_and_taken_away(notify: Cli) -> None:
    done = notify.done("notify", "set", "email", "--to", "a@b.test", "--to", "c@d.test", "--kind", "breaker*")
    assert "No mail is sent before it has a sender" in done.output
    notify.done("notify", "mail", "--from", "Acme <billing@acme.test>", "--product", "Acme")
    notify.done("notify", "set", "email", "--quiet", "22:00-07:00", "--timezone", "Europe/Vienna", "--per-hour", "10")
    notify.done("notify", "set", "slack")
    email = Channel("email", ("a@b.test", "c@d.test"), ("breaker*",), Quiet(1320, 420, "Europe/Vienna"), 10)
    assert settings() == Settings(
        {"email": email, "slack": Channel("slack")}, sender="Acme <billing@acme.test>", product="Acme"
    )
    notify.done("notify", "set", "email", "--quiet", "21:00-06:00")
    assert settings().channels["email"].quiet == Quiet(1260, 360, "Europe/Vienna")
    notify.done("notify", "set", "email", "--timezone", "Asia/Tokyo")
    assert settings().channels["email"].quiet == Quiet(1260, 360, "Asia/Tokyo")
    notify.done("notify", "set", "email", "--quiet", "none", "--per-hour", "0")
    assert settings().channels["email"] == replace(email, quiet=None, per_hour=None)
    notify.done("notify", "set", "email", "--off")
    assert set(settings().channels) == {"slack"}
    ChannelTable(CONFIG).put_endpoint(Endpoint("whe_1", "https://hooks.test", ("*",), "", 1, new_secret()), 0)
    shown = notify.done("notify", "show").output
    for words in ("slack", "whe_1", "https://hooks.test", "Acme <billing@acme.test>", "breaker*"):
        assert words in shown
    assert "whsec_" not in shown


def test_a_mail_server(notify: Cli) -> None:
    notify.done("notify", "mail", "--smtp", "mail.acme.test:587", "--user", "tollgate")
    assert settings().smtp == Smtp("mail.acme.test", 587, "starttls", "tollgate")
    notify.done("notify", "mail", "--smtp", "none")
    assert settings().smtp is None


@pytest.mark.parametrize(
    "arguments",
    [
        ("set", "pager"),
        ("set", "email"),
        ("set", "email", "--to", "nobody"),
        ("set", "slack", "--quiet", "ten to six"),
        ("set", "slack", "--quiet", "22:00-07:00", "--timezone", "Mars/Olympus"),
        ("set", "slack", "--timezone", "Europe/Vienna"),
        ("set", "slack", "--per-hour", "-1"),
        ("set", "slack", "--kind", "No Kind"),
        ("mail", "--from", "nobody"),
        ("mail", "--security", "tls"),
        ("mail", "--user", "tollgate"),
        ("mail", "--smtp", "mail.acme.test"),
        ("mail", "--smtp", "mail.acme.test:99999"),
    ],
)
def test_what_makes_no_sense_changes_nothing(notify: Cli, arguments: tuple[str, ...]) -> None:
    found = notify("notify", *arguments)
    assert (found.exit_code, settings()) == (2, Settings()), found.output


def test_what_failed_on_a_channel_that_is_off_stays_listed(notify: Cli) -> None:
    failed = letter("failed", {"whe_1": Delivery("failed", NOW), "slack": Delivery("failed", NOW)})
    notify.done("notify", "set", "slack")
    hook = Endpoint("whe_1", "https://hooks.test", ("*",), "", 1, new_secret(), disabled="it answered 410 Gone")
    assert ChannelTable(CONFIG).put_endpoint(hook, 0)
    refused = notify("notify", "replay", failed.id)
    assert (refused.exit_code, "whe_1 is off" in refused.output) == (1, True)
    notify.done("notify", "replay", failed.id, "--channel", "slack")
    after = LetterTable(BILLING).get(failed.place)
    assert after is not None
    assert after.failed


def test_what_failed_is_listed_and_replayed(notify: Cli) -> None:
    notify.done("notify", "set", "slack")
    failed = letter(
        "failed", {"slack": Delivery("failed", NOW, 12, NOW - 1, "answered 500"), "bus": Delivery("sent", NOW)}
    )
    letter("waits", {"slack": Delivery("waiting", NOW + 60)})
    letter("done", {"slack": Delivery("sent", NOW)})
    shown = notify.done("notify", "list", "--failed").output
    assert failed.id in shown
    assert "answered 500" in shown
    assert "1 messages" in shown
    assert "2 messages" in notify.done("notify", "list").output
    notify.done("notify", "replay", failed.id)
    after = LetterTable(BILLING).get(failed.place)
    assert after is not None
    assert after.deliveries is not None
    assert (after.deliveries["slack"].state, after.deliveries["bus"].state) == ("waiting", "sent")
    assert after.deliveries["slack"].attempts == 0
    assert list(LetterTable(BILLING).due(after.deliveries["slack"].at)) != []
    assert "0 messages" in notify.done("notify", "list", "--failed").output


def test_what_was_sent_is_replayed_only_where_it_is_asked_for(notify: Cli) -> None:
    done = letter("done", {"whe_1": Delivery("sent", NOW), "bus": Delivery("sent", NOW)})
    assert notify("notify", "replay", done.id).exit_code == 1
    assert notify("notify", "replay", done.id, "--channel", "slack").exit_code == 1
    ChannelTable(CONFIG).put_endpoint(Endpoint("whe_1", "https://hooks.test", ("*",), "", 1, new_secret()), 0)
    notify.done("notify", "replay", done.id, "--channel", "whe_1")
    after = LetterTable(BILLING).get(done.place)
    assert after is not None
    assert after.deliveries is not None
    assert {name: one.state for name, one in after.deliveries.items()} == {"whe_1": "waiting", "bus": "sent"}


@pytest.mark.parametrize("name", ["msg_", "x", f"msg_{NOW}000{'0' * 20}", ""])
def test_a_message_that_does_not_exist(notify: Cli, name: str) -> None:
    assert notify("notify", "replay", name).exit_code == 1


def test_what_was_sent_can_be_listed_and_read(notify: Cli) -> None:
    done = letter("done", {"slack": Delivery("sent", NOW)})
    unwanted = letter("unwanted", {})
    assert done.id not in notify.done("notify", "list").output
    listed = notify.done("notify", "list", "--all").output
    assert all(words in listed for words in (done.id, "sent", unwanted.id, "no channel", "2 messages")), listed
    alert = Alert("stopped", "breaker", "acme", "Stopped", "[Look].", NOW, {"member": "m1", "resume_path": "/v1/x?t=1"})
    assert OutboxTable(BILLING, lambda: NOW * 1000).put(alert)
    name = message_id(NOW * 1000, "stopped")
    shown = notify.done("notify", "read", name).output
    for words in ("Stopped", "[Look].", "member: m1", "/v1/x?t=1", "resume_url: http", name):
        assert words in shown
    assert notify("notify", "read", "msg_1").exit_code == 1


def test_a_test_message(notify: Cli) -> None:
    notify.done("notify", "test")
    [place] = LetterTable(BILLING).due(NOW * 2)
    assert "#test#" in place


def test_secrets_are_stored_beside_each_other_and_never_shown(notify: Cli, server: str) -> None:
    from typer.testing import CliRunner

    from tollgate_cli.app import app

    for which, value in (("slack", "https://hooks.slack.test/T/B/x"), ("smtp", "hunter2")):
        found = CliRunner().invoke(app, ["notify", "secret", which], input=f"{value}\n", env={"TOLLGATE_PORT": "8978"})
        assert found.exit_code == 0, found.output
        assert value not in found.output
    ssm = boto3.client("ssm", endpoint_url=server, region_name="us-east-1")
    stored = ssm.get_parameter(Name="/tollgate/tollgate-local/notify-secrets", WithDecryption=True)["Parameter"]
    assert stored["Type"] == "SecureString"
    assert json.loads(stored["Value"]) == {"slack_url": "https://hooks.slack.test/T/B/x", "smtp_password": "hunter2"}
