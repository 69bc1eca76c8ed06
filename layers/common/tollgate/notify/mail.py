"""Mail by a plain SMTP server: for self-hosters and the local stack."""

from __future__ import annotations

import smtplib
import socket
import ssl
import threading
from collections.abc import Mapping, Sequence
from email.message import EmailMessage
from email.utils import formataddr, formatdate
from functools import lru_cache
from typing import Final

from tollgate.notify.channels import Smtp
from tollgate.notify.letter import NotDelivered
from tollgate.notify.templates import Mail

STEP_S: Final = 5
WHOLE_S: Final = 10
_NO_SUCH: Final = (550, 551, 553, 554)
"""Answers about a recipient that no later attempt changes (RFC 5321, 4.2.2)."""


def send(
    server: Smtp, password: str | None, sender: tuple[str, str], to: Sequence[str], mail: Mail, name: str, now: int
) -> None:
    """One message. `sender`: name and address; `name`: the message's id. Raises NotDelivered."""
    # The server's own security is the operator's word: `tls` and `starttls` both check its certificate.
    context = _context()
    connection = smtplib.SMTP(timeout=STEP_S) if server.security != "tls" else _tls(context)
    # smtplib checks a certificate against the host that its constructor was given; given one, that would connect at
    # once, before the timer below can cut it.
    connection._host = server.host  # type: ignore[attr-defined]
    timer = threading.Timer(WHOLE_S, _cut, (connection,))
    timer.daemon = True
    timer.start()
    try:
        connection.connect(server.host, server.port)
        if server.security == "starttls":
            connection.starttls(context=context)
        if server.user is not None:
            connection.login(server.user, password or "")
        refused = connection.send_message(_message(sender, to, mail, name, now), sender[1], to)
    except smtplib.SMTPRecipientsRefused as all_of_them:
        raise _refused(all_of_them.recipients) from None
    except smtplib.SMTPResponseException as error:
        raise NotDelivered(f"the mail server answered {error.smtp_code}") from None
    except (OSError, smtplib.SMTPException, ValueError, AttributeError) as error:
        # AttributeError: smtplib's and ssl's, where the timer ended the connection under their hands.
        raise NotDelivered(f"the mail server does not answer ({type(error).__name__})") from None
    finally:
        timer.cancel()
        # No QUIT: the server has taken the message, and what it says afterwards must not send it again.
        connection.close()
    if refused:
        # The others have it, and get it once more under its id where an address is only put off.
        raise _refused(refused)


def _refused(recipients: Mapping[str, tuple[int, bytes]]) -> NotDelivered:
    statuses = sorted({status for status, _ in recipients.values()})
    said = ", ".join(map(str, statuses))
    return NotDelivered(f"the mail server refuses the address ({said})", final=set(statuses) <= set(_NO_SUCH))


def _cut(connection: smtplib.SMTP) -> None:
    """End it from another thread: whatever it waits for fails. (Closing it would wait for the reader.)"""
    there = connection.sock
    if there is not None:
        try:
            there.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it has ended already


@lru_cache(maxsize=1)
def _context() -> ssl.SSLContext:
    return ssl.create_default_context()


def _tls(context: ssl.SSLContext) -> smtplib.SMTP:
    return smtplib.SMTP_SSL(timeout=STEP_S, context=context)


def _message(sender: tuple[str, str], to: Sequence[str], mail: Mail, name: str, now: int) -> EmailMessage:
    message = EmailMessage()
    message["From"] = formataddr(sender)
    message["To"] = ", ".join(to)
    message["Subject"] = mail.subject
    message["Date"] = formatdate(now)
    message["Message-ID"] = f"<{name}@{sender[1].partition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(mail.text)
    message.add_alternative(mail.html, subtype="html")
    return message
