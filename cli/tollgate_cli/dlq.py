"""`tollgate dlq`: messages that a function gave up on, and batches that are parked.

A message is a hint: sending it back never bills anything by itself, as flush looks at the row first and obeys what it
says. What is parked stands in the rows; only a proof or a person moves it on (`tollgate reconcile`, `tollgate
batches`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import boto3
import typer

from tollgate.billing.batch import FINAL, NO_CUSTOMER, BatchKey
from tollgate.billing.batch_store import BatchTable
from tollgate.billing.queue_store import key_of
from tollgate.clock import rfc3339
from tollgate.quantities import plain
from tollgate_cli.output import fail, note, out, table
from tollgate_cli.target import Profile, Region, StackName, Target, connected

app = typer.Typer(help="Messages that were given up on, and batches that are parked.", no_args_is_help=True)

HIDDEN_S = 60
"""How long looked-at messages stay out of other readers' sight; longer than a command needs."""
_MOST_EMPTY = 3
_SUFFIX = "DeadLetterQueueUrl"


@dataclass(frozen=True, slots=True)
class Queues:
    """A dead letter queue and the one that its messages came from."""

    name: str
    dead: str
    source: str


@dataclass(frozen=True, slots=True)
class Parked:
    """A message of a dead letter queue."""

    id: str
    body: str
    handle: str
    sent_s: int
    group: str | None


Queue = Annotated[str | None, typer.Option(help="Only this queue, as `tollgate dlq list` names it.")]


@app.command("list")
def list_queues(stack: StackName = None, profile: Profile = None, region: Region = None) -> None:
    """Show how many messages wait in each dead letter queue, and which batches are parked."""
    with connected(stack, profile, region) as target:
        sqs = _sqs(target)
        counts = [(one.name, _count(sqs, one.dead)) for one in queues_of(target, sqs)]
        parked = list(BatchTable(target.env["TOLLGATE_BILLING_TABLE"]).parked())
    out().print(table(f"Dead letter queues of {target.name}", ("queue", "messages"), counts))
    rows = [
        (one.account, one.key.sk, plain(one.units), one.state, one.reason, rfc3339(one.state_at), one.detail)
        for one in parked
    ]
    columns = ("account", "batch", "units", "state", "reason", "since", "last answer")
    out().print(table("Parked batches", columns, rows))
    if parked:
        note("None is billed without a proof or a person: tollgate reconcile --account ID [--apply].")


@app.command()
def show(queue: Queue = None, stack: StackName = None, profile: Profile = None, region: Region = None) -> None:
    """Show the messages of dead letter queues, and what sending each back would do. They stay where they are."""
    with connected(stack, profile, region) as target:
        rows = []
        for one, message, said, _ in _looked_at(target, queue):
            rows.append((one.name, message.id, rfc3339(message.sent_s), message.body[:200], said))
            _put_back(_sqs(target), one, message)
    out().print(table(f"Messages given up on, {target.name}", ("queue", "message", "sent", "body", "redrive"), rows))


@app.command()
def redrive(
    queue: Queue = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Do it; without it the command only says what it would.")
    ] = False,
    stack: StackName = None,
    profile: Profile = None,
    region: Region = None,
) -> None:
    """Send messages back to the queue that they came from, where their function can still do something with them.

    The rest is deleted (--apply): of a batch that is through or parked the message says nothing more. Poison (a body
    that no function can read) stays.
    """
    sent = dropped = left = 0
    with connected(stack, profile, region) as target:
        sqs = _sqs(target)
        rows = []
        for one, message, said, does in _looked_at(target, queue):
            rows.append((one.name, message.id, message.body[:120], said))
            sent, dropped, left = sent + (does == "send"), dropped + (does == "drop"), left + (does == "leave")
            if not apply or does == "leave":
                _put_back(sqs, one, message)
                continue
            if does == "send":
                _send_back(sqs, one, message)
            # A crash before this leaves the message here, too: sent back twice, it is looked at twice.
            sqs.delete_message(QueueUrl=one.dead, ReceiptHandle=message.handle)
    out().print(table(f"Redrive, {target.name}", ("queue", "message", "body", "what"), rows))
    verb = "were" if apply else "would be"
    note(f"{sent} {verb} sent back, {dropped} {verb} dropped, {left} stay.")
    if not apply and rows:
        note("Nothing was changed; --apply does it.")


def queues_of(target: Target, sqs: Any) -> list[Queues]:
    """The dead letter queues of a stack: by its outputs, or those of the local stack."""
    if target.local:
        urls = sqs.list_queues(QueueNamePrefix=f"{target.name}-").get("QueueUrls", [])
        dead = {url.rsplit("/", 1)[1].removeprefix(f"{target.name}-"): url for url in urls if "-dead-letter" in url}
        return [
            Queues(name.split("-dead-letter")[0], url, url.replace("-dead-letter", ""))
            for name, url in sorted(dead.items())
        ]
    found = target.outputs
    names = sorted(name.removesuffix(_SUFFIX) for name in found if name.endswith(_SUFFIX))
    return [
        Queues(re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower(), found[name + _SUFFIX], found[f"{name}QueueUrl"])
        for name in names
        if f"{name}QueueUrl" in found
    ]


def _looked_at(target: Target, queue: str | None) -> Iterator[tuple[Queues, Parked, str, str]]:
    """Each message, what there is to say of it, and what a redrive does: send, drop or leave."""
    sqs = _sqs(target)
    batches = BatchTable(target.env["TOLLGATE_BILLING_TABLE"])
    known = queues_of(target, sqs)
    if queue is not None and queue not in {one.name for one in known}:
        fail(f"There is no queue `{queue}`; `tollgate dlq list` shows them.")
    for one in known:
        if queue not in (None, one.name):
            continue
        for message in list(_messages(sqs, one.dead)):  # all, before any is put back and comes again
            said, does = _flush_says(batches, message.body) if one.name == "flush" else _readable(message.body)
            yield one, message, said, does


def _flush_says(batches: BatchTable, body: str) -> tuple[str, str]:
    """What flush would do with a hint: the row decides. A batch in doubt for too long is not sent by a redrive either,
    as flush makes it `unconfirmed` then."""
    try:
        key: BatchKey = key_of(body)
    except ValueError:
        return "poison: names no batch", "leave"
    batch = batches.get(key)
    if batch is None:
        return "its batch is gone: tollgate reconcile finds out why", "leave"
    if batch.state in FINAL or batch.state == NO_CUSTOMER:
        return f"its batch is {batch.state}: nothing to send", "drop"
    return f"its batch is {batch.state}: flush decides", "send"


def _readable(body: str) -> tuple[str, str]:
    try:
        json.loads(body)
    except ValueError:
        return "poison: no JSON", "leave"
    return "sent back", "send"


def _messages(sqs: Any, url: str) -> Iterator[Parked]:
    """Every message of a queue once; it is hidden from others for a minute, and stays."""
    seen: set[str] = set()
    empty = 0
    while empty < _MOST_EMPTY:
        answer = sqs.receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=10,
            VisibilityTimeout=HIDDEN_S,
            MessageSystemAttributeNames=["All"],
        )
        fresh = [one for one in answer.get("Messages", []) if one["MessageId"] not in seen]
        empty = 0 if fresh else empty + 1
        for one in fresh:
            seen.add(one["MessageId"])
            attributes = one.get("Attributes", {})
            sent_s = int(attributes.get("SentTimestamp", 0)) // 1000
            yield Parked(one["MessageId"], one["Body"], one["ReceiptHandle"], sent_s, attributes.get("MessageGroupId"))


def _put_back(sqs: Any, queues: Queues, message: Parked) -> None:
    """In sight of others again, at once."""
    sqs.change_message_visibility(QueueUrl=queues.dead, ReceiptHandle=message.handle, VisibilityTimeout=0)


def _send_back(sqs: Any, queues: Queues, message: Parked) -> None:
    fifo = {}
    if queues.source.endswith(".fifo"):
        # Named after the message: a redrive that is repeated within five minutes sends it once.
        name = hashlib.sha256(f"redrive\x00{message.id}".encode()).hexdigest()
        fifo = {"MessageGroupId": message.group or name, "MessageDeduplicationId": name}
    sqs.send_message(QueueUrl=queues.source, MessageBody=message.body, **fifo)


def _count(sqs: Any, url: str) -> int:
    name = "ApproximateNumberOfMessages"
    return int(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[name])["Attributes"][name])


def _sqs(target: Target) -> Any:
    return boto3.session.Session().client("sqs", endpoint_url=target.sqs)
