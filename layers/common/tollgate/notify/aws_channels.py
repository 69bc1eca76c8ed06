"""Mail by SES and events on the stack's EventBridge bus."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tollgate import dynamo
from tollgate.notify.letter import NotDelivered
from tollgate.notify.templates import Mail

_SOURCE: Final = "tollgate"


@lru_cache(maxsize=2)
def _client(service: str) -> Any:
    # Another attempt is the run's to make, with its own waits.
    config = Config(connect_timeout=3, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 1})
    return dynamo.session().create_client(service, config=config)


def send(sender: str, to: Sequence[str], mail: Mail, name: str) -> None:
    """One message by SES v2. `sender` as a From header has it. Raises NotDelivered."""
    try:
        _client("sesv2").send_email(
            FromEmailAddress=sender,
            Destination={"ToAddresses": list(to)},
            Content={
                "Simple": {
                    "Subject": {"Data": mail.subject, "Charset": "UTF-8"},
                    "Body": {
                        "Text": {"Data": mail.text, "Charset": "UTF-8"},
                        "Html": {"Data": mail.html, "Charset": "UTF-8"},
                    },
                    # SES makes a Message-ID of its own.
                    "Headers": [
                        {"Name": "X-Tollgate-Message", "Value": name},
                        {"Name": "Auto-Submitted", "Value": "auto-generated"},
                    ],
                }
            },
        )
    except ClientError as error:
        raise NotDelivered(f"SES answered {dynamo.code_of(error)}") from None
    except BotoCoreError as error:
        raise NotDelivered(f"SES does not answer ({type(error).__name__})") from None


def put_event(bus: str, kind: str, detail: str, at_s: int) -> None:
    """One event. Raises NotDelivered."""
    entry = {"EventBusName": bus, "Source": _SOURCE, "DetailType": kind, "Detail": detail, "Time": at_s}
    try:
        answer = _client("events").put_events(Entries=[entry])
    except ClientError as error:
        raise NotDelivered(f"EventBridge answered {dynamo.code_of(error)}") from None
    except BotoCoreError as error:
        raise NotDelivered(f"EventBridge does not answer ({type(error).__name__})") from None
    if answer.get("FailedEntryCount"):
        raise NotDelivered(f"EventBridge answered {answer['Entries'][0].get('ErrorCode')}")
