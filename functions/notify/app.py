"""The notify function: every minute, delivers what is due in the outbox to every channel it goes to."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from dataclasses import replace
from functools import cache, lru_cache
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from botocore.exceptions import ClientError

from tollgate import dynamo, secrets
from tollgate.accounts.store import AccountTable
from tollgate.clock import system_clock
from tollgate.notify import aws_channels, mail
from tollgate.notify.addresses import resolve
from tollgate.notify.channel_store import ChannelTable
from tollgate.notify.channels import Channel, Settings
from tollgate.notify.letter import Letter, NotDelivered
from tollgate.notify.letter_store import LetterTable
from tollgate.notify.post import post
from tollgate.notify.run import NotifyDeps, run
from tollgate.notify.sending import Outlets, Sender
from tollgate.settings import NotifySettings
from tollgate.undone import undone

logger = Logger()
metrics = Metrics()

RESERVE_MS = 20_000
"""What is left of the function's time when a run begins nothing more: an attempt takes up to 14 s."""


@lru_cache(maxsize=1)
def stores() -> tuple[NotifySettings, LetterTable, ChannelTable, AccountTable]:
    """Made at the first run; the environment decides."""
    env = NotifySettings.from_env(os.environ)
    return env, LetterTable(env.billing_table), ChannelTable(env.config_table), AccountTable(env.accounts_table)


def deps() -> NotifyDeps:
    """For one run: channels and secrets are read again in each, so that what is set binds within a minute."""
    env, letters, channels, accounts = stores()
    sender: list[Sender] = []

    def read() -> Settings:
        settings, _ = channels.settings()
        now = system_clock() // 1000
        hooks = {one.id: one.channel(now) for one in channels.endpoints() if one.disabled is None}
        settings = replace(settings, channels={**settings.channels, **hooks})
        outlets = Outlets(
            ses=aws_channels.send,
            smtp=mail.send,
            bus=lambda kind, detail, at: aws_channels.put_event(env.bus, kind, detail, at),
            post=lambda url, body, headers: post(url, body, headers, resolve, private=env.private_webhooks),
            secrets=cache(lambda: _secrets(env.secrets_parameter)),
            address_of=lambda account: _address(accounts, account),
        )
        sender.append(Sender(settings, outlets, env.stack, system_clock, env.api_url))
        return settings

    return NotifyDeps(
        letters=letters,
        channels=read,
        send=lambda channel, letter: sender[0](channel, letter),
        gone=lambda channel: _gone(channels, channel),
        told=_told,
        clock=system_clock,
        jitter=random.randrange,
    )


@logger.inject_lambda_context
@metrics.log_metrics
def handler(event: dict[str, Any], context: Any) -> dict[str, int]:
    """Answers `{"sent", "retried", "held", "failed", "digests"}`. Raises an ExceptionGroup once everything else is
    done, where something was wrong that is no channel's trouble."""
    counts = run(deps(), _in_time(context))
    answer = {
        "sent": counts.sent,
        "retried": counts.retried,
        "held": counts.held,
        "failed": counts.failed,
        "digests": counts.digests,
    }
    for name, metric in (("sent", "MessagesSent"), ("retried", "MessagesRetried"), ("failed", "MessagesFailed")):
        if answer[name]:  # CloudWatch bills a metric by the hours in which it has values; to the alarm silence is none
            metrics.add_metric(name=metric, unit=MetricUnit.Count, value=answer[name])
    if any(answer.values()):
        logger.info("notified", extra={**answer, "left": counts.left})
    if counts.failures:
        raise undone(logger, "notify left work undone", counts.failures)
    return answer


def _told(letter: Letter) -> None:
    """One line for each new message: the local stack prints them. The text may speak of persons, and is not logged."""
    logger.info(
        "message",
        extra={
            "message_id": letter.id,
            "kind": letter.kind,
            "audience": letter.audience,
            "account": letter.account,
            "subject": letter.words.subject,
        },
    )


def _gone(channels: ChannelTable, channel: Channel) -> None:
    logger.warning("an endpoint wants no more webhooks; it is disabled", extra={"endpoint": channel.name})
    channels.disable(channel.name, "it answered 410 Gone", channel.to[0])


def _address(accounts: AccountTable, account: str) -> str | None:
    """The email of an account, or of the one that it became."""
    row = accounts.read(account)
    if row is not None and row.merged_into is not None:
        row = accounts.read(row.merged_into)
    return None if row is None else row.email


def _secrets(parameter: str) -> dict[str, str]:
    secrets.read.cache_clear()
    try:
        found = json.loads(secrets.read(parameter))
    except ClientError as error:
        if dynamo.code_of(error) == "ParameterNotFound":
            return {}
        raise NotDelivered(f"the secrets cannot be read ({dynamo.code_of(error)})") from None
    except ValueError:
        raise NotDelivered("the secrets are no JSON: set them again with tollgate notify secret") from None
    return {str(name): str(value) for name, value in found.items()}


def _in_time(context: Any) -> Callable[[], bool]:
    return lambda: int(context.get_remaining_time_in_millis()) > RESERVE_MS
