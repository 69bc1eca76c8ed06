"""What `tollgate doctor` looks at. Each check answers findings; none changes anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final, Literal

import httpx
from botocore.exceptions import BotoCoreError, ClientError

from tollgate import wiring
from tollgate.billing.batch_store import BatchTable
from tollgate.clock import Clock, rfc3339
from tollgate.errors import TollgateError
from tollgate.notify.channel_store import ChannelTable
from tollgate.notify.letter_store import LetterTable
from tollgate.stripe_api.catalog import StripeCatalog
from tollgate.stripe_api.client import STRIPE_VERSION
from tollgate.stripe_api.endpoints import StripeDestinations
from tollgate.sync.apply import look
from tollgate.sync.desired import desired
from tollgate.sync.diff import CHANGES, diff
from tollgate.webhooks.connect import plan, wanted
from tollgate.webhooks.dispatch import TYPES
from tollgate_cli import dlq, secret_store
from tollgate_cli.stripe_connect import OUTPUT, ParameterSecrets, secrets_parameter
from tollgate_cli.stripe_sync import published
from tollgate_cli.stripe_target import StripeTarget, stripe_at
from tollgate_cli.target import Target

State = Literal["ok", "note", "problem"]

SKEW_S: Final = 5
"""More than a Date header's second and a slow answer; the gate lets 2 s of skew pass."""
LATE_S: Final = 900
"""A message that is due for so long is not being delivered: notify runs each minute."""
GATE_S: Final = 24
"""Gate timeout, the SDK's retries and clock skew: a seal grace must be longer (template.yaml)."""
STRIPE: Final = "https://api.stripe.com"


@dataclass(frozen=True, slots=True)
class Finding:
    """`says`: what is so, and what it means; `fix`: the command or the step that mends it, empty where nothing is to
    be done."""

    check: str
    state: State
    says: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Patient:
    """A stack that is looked at. `client` makes AWS clients; `stack`: its description, empty for the local one."""

    target: Target
    client: Callable[[str], Any]
    http: httpx.Client
    clock: Clock
    stack: Mapping[str, Any] = field(default_factory=dict)

    @property
    def named(self) -> str:
        """What commands take to mean this stack."""
        return "" if self.target.local else f" --stack {self.target.name}"

    @property
    def parameters(self) -> dict[str, str]:
        return {one["ParameterKey"]: one["ParameterValue"] for one in self.stack.get("Parameters", ())}

    def stripe(self) -> StripeTarget:
        return stripe_at(self.target)


Check = Callable[[Patient], Iterator[Finding]]


def examine(patient: Patient) -> list[Finding]:
    """All checks, in order. One that cannot be made is a finding, and keeps no other from being made."""
    found: list[Finding] = []
    for name, check in CHECKS.items():
        if check in _ASK_STRIPE and any(one.check == "secrets" and "stripe-secret-key" in one.says for one in found):
            found.append(Finding(name, "problem", "Not looked at: it needs Stripe's key.", "see secrets"))
            continue
        try:
            said = [Finding(name, one.state, one.says, one.fix) for one in check(patient)]
        except (ClientError, BotoCoreError, httpx.HTTPError, TollgateError) as trouble:
            text = trouble.detail if isinstance(trouble, TollgateError) else str(trouble)
            said = [Finding(name, "problem", f"Could not be looked at: {text}", _reach(patient))]
        found += said or [Finding(name, "ok", _FINE[name])]
    return found


def _reach(patient: Patient) -> str:
    return "make run" if patient.target.local else "the network, the region, and what your credentials may read"


def problem(says: str, fix: str) -> Finding:
    return Finding("", "problem", says, fix)


def settings(on: Patient) -> Iterator[Finding]:
    """A catalogue, and parameters that do not stop what people count on."""
    if wiring.catalog_table(on.target.env).current() is None:
        yield problem("No catalogue is published: every call is refused.", f"tollgate catalog load{on.named}")
    said = on.parameters
    if said.get("FlushEnabled") == "false":
        yield problem("FlushEnabled is false: batches wait, and nothing reaches Stripe.", f"make deploy {_stage(on)}")
    if said.get("Shadow") == "true":
        yield Finding("", "note", "Shadow is true: usage is compared and never billed.", f"make deploy {_stage(on)}")
    grace = said.get("SealGraceSeconds", str(GATE_S + 1))
    if int(grace) <= GATE_S:
        yield problem(
            f"SealGraceSeconds is {grace}: a call in flight may write into a sealed window, whose usage goes out late.",
            f"make deploy {_stage(on)}",
        )
    if said.get("AlarmEmail") == "":
        yield Finding("", "note", "AlarmEmail is empty: nobody is told of alarms.", f"make deploy {_stage(on)}")


def _stage(on: Patient) -> str:
    return f"STAGE={on.target.name.removeprefix('tollgate-')}, after the change in samconfig.toml"


def secrets(on: Patient) -> Iterator[Finding]:
    """There, encrypted, of the stack's mode."""
    ssm = on.client("ssm")
    for text in secret_store.problems(ssm, on.target.name, on.target.mode):
        which = " webhook" if "webhook" in text else ""
        yield problem(f"{text}.", f"tollgate secrets set{which} --stack {on.target.name}")
    if not on.target.local and not secret_store.webhook_secrets(ssm, on.target.name):
        yield problem(
            "No webhook secret is stored: every delivery of Stripe is refused.",
            f"tollgate stripe connect --apply{on.named}",
        )


def webhooks(on: Patient) -> Iterator[Finding]:
    """Both destinations at Stripe: address, event types, API version, a secret that is stored here."""
    if on.target.local:
        return  # the double delivers by itself
    url = on.target.outputs.get(OUTPUT)
    if url is None:
        yield problem(f"The stack has no output {OUTPUT}: it is of an older release.", f"make deploy {_stage(on)}")
        return
    store = ParameterSecrets(on.client("ssm"), secrets_parameter(on.target.name))
    destinations = StripeDestinations(on.stripe().connection).all()
    for step in plan(wanted(url, TYPES, STRIPE_VERSION), destinations, on.target.name, store.read()):
        if step.kind == "match":
            continue
        where = step.found.id if step.found else step.wanted.url
        said = f"The destination for {step.wanted.payload} events ({where}) needs `{step.kind}`: {step.why}."
        yield problem(said, f"tollgate stripe connect --apply{on.named}")


def meters(on: Patient) -> Iterator[Finding]:
    """Meters, products and prices at Stripe against the published catalogue; also whether Stripe takes the key."""
    versions = published(wiring.catalog_table(on.target.env), False)
    if versions is None:
        return  # said by settings
    wishes = desired(versions, on.target.name)
    port = StripeCatalog(on.stripe().connection, "doctor")
    lacking = []
    for step in diff(wishes, look(port, wishes), live=on.target.mode == "live"):
        if step.kind == "refuse":
            yield problem(f"{step.what} {step.name}: {step.detail}.", f"tollgate stripe sync{on.named}")
        elif step.kind in CHANGES and step.what == "meter":
            text = f"Meter {step.name} is not at Stripe as the catalogue has it ({step.kind}): its usage is refused."
            yield problem(text, f"tollgate stripe sync --apply{on.named}")
        elif step.kind in CHANGES:
            lacking.append(f"{step.what} {step.name} ({step.kind})")
    if lacking:  # on a new stack that is all of them: one finding, and the command's table has each
        rest = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        text = f"Not at Stripe as the catalogue has it: {lacking[0]}{rest}. What hangs on that cannot be sold."
        yield problem(text, f"tollgate stripe sync --apply{on.named}")


def clock(on: Patient) -> Iterator[Finding]:
    """This machine's clock against the Date of the API's and of Stripe's answers."""
    stripe = on.stripe().api_base or STRIPE
    for who, url in (("the API", f"{on.target.api}/v1/health"), ("Stripe", f"{stripe}/v1/billing/meters")):
        before = on.clock()
        date = on.http.get(url).headers.get("date")  # without a key: a refusal tells the time, too
        if date is None:
            yield problem(f"{who} answers without a Date.", f"curl -i {url}")
            continue
        theirs, after = int(parsedate_to_datetime(date).timestamp()), on.clock()
        apart = max(before // 1000 - theirs, theirs - after // 1000)
        if apart > SKEW_S:
            text = (
                f"{who} says {date}, this machine is {apart} s away: signatures and what you ask for by time go wrong."
            )
            yield problem(text, "set this machine's clock by NTP; if it is right: the status page of AWS or Stripe")


def schedules(on: Patient) -> Iterator[Finding]:
    """Every rule is enabled and was started lately. CloudWatch counts it for AWS, the runner for the local stack."""
    if on.target.local:
        yield from _local_schedules(on)
        return
    metrics, events = on.client("cloudwatch"), on.client("events")
    pages = on.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=on.target.name)
    found = [one for page in pages for one in page["StackResourceSummaries"]]
    rules = [one for one in found if one["ResourceType"] == "AWS::Events::Rule"]
    if not rules:
        yield problem("The stack has no schedules: nothing is sealed or told.", f"make deploy {_stage(on)}")
    for one in rules:
        name, logical = one["PhysicalResourceId"], one["LogicalResourceId"]
        rule = events.describe_rule(Name=name.rsplit("/", 1)[-1])
        if rule["State"] != "ENABLED":
            text = f"The schedule {logical} is switched off: its work is not done."
            yield problem(text, f"aws events enable-rule --name {rule['Name']}")
            continue
        every = _seconds(rule["ScheduleExpression"])
        now = datetime.fromtimestamp(on.clock() // 1000, UTC)
        since = now - timedelta(seconds=3 * every + 600)  # CloudWatch shows a value after some minutes
        if _created(on) > since:
            continue  # a new stack's first run is one interval away
        points = metrics.get_metric_statistics(
            Namespace="AWS/Events",
            MetricName="Invocations",
            Dimensions=[{"Name": "RuleName", "Value": rule["Name"]}],
            StartTime=since,
            EndTime=now,
            Period=max(60, min(every, 86_400)),
            Statistics=["Sum"],
        )["Datapoints"]
        if not any(point["Sum"] for point in points):
            said = (
                f"The schedule {logical} ({rule['ScheduleExpression']}) started nothing since {since:%Y-%m-%d %H:%MZ}."
            )
            yield problem(said, f"make deploy {_stage(on)}; is the function throttled?")


def _local_schedules(on: Patient) -> Iterator[Finding]:
    """Those of every minute have run; all others may not have had their turn since `make run`."""
    answer = on.http.get(f"{on.target.api}/_local/functions").raise_for_status().json()["data"]
    rows = {one["name"]: one for one in answer}
    for name in ("seal", "notify"):
        if not rows.get(name, {}).get("invocations"):
            yield problem(
                f"{name} has not run yet: usage and messages wait.", f"curl -X POST {on.target.api}/_local/run/{name}"
            )
    for name, row in sorted(rows.items()):
        if row["failures"]:
            text = f"{name} failed {row['failures']} times since the stack started."
            yield problem(text, f"tail {row['log']}")


def _seconds(rate: str) -> int:
    """Of `rate(5 minutes)`; the template has no other kind."""
    number, _, unit = rate.removeprefix("rate(").removesuffix(")").partition(" ")
    return int(number) * {"minute": 60, "hour": 3600, "day": 86_400}[unit.rstrip("s")]


def _created(on: Patient) -> datetime:
    found: datetime = on.stack["CreationTime"]
    return found


def dead_letters(on: Patient) -> Iterator[Finding]:
    """Messages that were given up on, and batches that wait for a person."""
    sqs = on.client("sqs")
    for queue in dlq.queues_of(on.target, sqs):
        name = "ApproximateNumberOfMessages"
        said = sqs.get_queue_attributes(QueueUrl=queue.dead, AttributeNames=[name])["Attributes"]
        if int(said[name]):
            text = f"{said[name]} messages to {queue.name} were given up on."
            yield problem(text, f"tollgate dlq show --queue {queue.name}{on.named}")
    parked = list(BatchTable(on.target.env["TOLLGATE_BILLING_TABLE"]).parked())
    if parked:
        states = ", ".join(sorted({one.state for one in parked}))
        yield problem(
            f"{len(parked)} batches are parked ({states}): nobody is billed for them.", f"tollgate dlq list{on.named}"
        )


def outbox(on: Patient) -> Iterator[Finding]:
    """Messages that are late or given up, and whether they have anywhere to go."""
    now = _stack_time(on)
    letters = list(LetterTable(on.target.env["TOLLGATE_BILLING_TABLE"]).open())
    late = [one for one in letters if one.due_at is not None and one.due_at < now - LATE_S]
    failed = [one for one in letters if one.failed]
    if late:
        oldest = rfc3339(min(one.due_at for one in late if one.due_at is not None))
        yield problem(
            f"{len(late)} messages wait to be delivered, the oldest since {oldest}: notify does not run, or fails.",
            f"tollgate notify list{on.named}",
        )
    if failed:
        text = f"{len(failed)} messages were given up on some channel."
        yield problem(text, f"tollgate notify list --failed{on.named}, then replay")
    channels = ChannelTable(on.target.env["TOLLGATE_CONFIG_TABLE"])
    if not channels.settings()[0].channels and not channels.endpoints():
        text = "No channel is set: alerts reach nobody but the in-app list."
        yield Finding("", "note", text, f"tollgate notify set email --to ADDRESS{on.named}")


def _stack_time(on: Patient) -> int:
    """Epoch seconds; the local stack's clock may have been moved."""
    if not on.target.local:
        return on.clock() // 1000
    said = on.http.get(f"{on.target.api}/_local/clock").raise_for_status().json()
    return on.clock() // 1000 + int(said["offset_seconds"])


CHECKS: Final[Mapping[str, Check]] = {
    "settings": settings,
    "secrets": secrets,
    "webhooks": webhooks,
    "meters": meters,
    "clock": clock,
    "schedules": schedules,
    "dead-letters": dead_letters,
    "outbox": outbox,
}
_ASK_STRIPE: Final = (webhooks, meters, clock)
_FINE: Final = {
    "settings": "A catalogue is published, and no parameter stops anything.",
    "secrets": "There, encrypted, of the right mode.",
    "webhooks": "Stripe delivers what is handled, in the pinned version.",
    "meters": "Stripe has what the catalogue sells, and takes the key.",
    "clock": "This machine, the API and Stripe agree.",
    "schedules": "Enabled, and started lately.",
    "dead-letters": "None, and no batch is parked.",
    "outbox": "Nothing waits, nothing was given up.",
}
