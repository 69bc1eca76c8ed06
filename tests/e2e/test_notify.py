"""Messages leave the running stack: to a signed webhook and by mail, on loopback; without channels, nowhere."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from standardwebhooks import Webhook

from local.testing import StackProcess, wait_until
from tests.support.stack import running
from tests.unit.cli.test_running_stack import tollgate
from tests.unit.notify.stage import Postbox, Receiver


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackProcess]:
    yield from running(tmp_path_factory.mktemp("notify"), {})


def test_a_message_is_printed_kept_and_delivered(stack: StackProcess) -> None:
    assert stack.run("notify") == {"sent": 0, "retried": 0, "held": 0, "failed": 0, "digests": 0}
    tollgate(stack, "notify", "test")
    wait_until(lambda: "message for operator | test | This is a test" in stack.output, 60)
    [message] = stack.outbox()
    assert (message["subject"], message["audience"]) == ("This is a test", "operator")

    receiver, postbox = Receiver(), Postbox()
    receiver.start()
    server = postbox.start()
    try:
        made = stack.api("POST", "/v1/webhook_endpoints", {"url": receiver.url})
        assert made.status_code == 201, made.text
        tollgate(stack, "notify", "set", "email", "--to", "ops@acme.test")
        tollgate(
            stack, "notify", "mail", "--from", "a@acme.test", "--smtp", f"127.0.0.1:{server.port}", "--security", "none"
        )
        receiver.answers = [500]
        tollgate(stack, "notify", "test")
        wait_until(lambda: bool(receiver.got) and bool(postbox.got), 60)
        stack.advance(60)
        stack.run("notify")
        wait_until(lambda: len(receiver.got) == 2, 60)
        assert receiver.got[0].id == receiver.got[1].id
        assert receiver.got[1].json["data"]["id"] == receiver.got[1].id
        # The stack's time was moved: the library, which looks at the clock, takes the first one.
        Webhook(made.json()["secret"]).verify(receiver.got[0].body, receiver.got[0].headers)
        assert [to for to, _ in postbox.got] == [["ops@acme.test"]]
        assert len(stack.outbox()) == 2
    finally:
        receiver.stop()
        postbox.stop()


def test_without_the_local_stack_a_private_address_would_be_refused(stack: StackProcess) -> None:
    """Here it is taken, as the receiver is on this machine; another scheme is not."""
    assert stack.api("POST", "/v1/webhook_endpoints", {"url": "http://127.0.0.1:9/"}).status_code == 201
    refused = stack.api("POST", "/v1/webhook_endpoints", {"url": "file:///etc/passwd"})
    assert (refused.status_code, refused.json()["errors"]) == (422, [{"path": "url", "code": "https"}])
