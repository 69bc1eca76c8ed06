"""Mail by a plain SMTP server: for self-hosters and the local stack."""

from __future__ import annotations

import smtplib
import ssl
import threading
from collections.abc import Sequence
from email.message import EmailMessage
from email.utils import formataddr, formatdate
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
    context = ssl.create_default_context()
    connection = smtplib.SMTP(timeout=STEP_S) if server.security != "tls" else _tls(context)
    timer = threading.Timer(WHOLE_S, connection.close)
    timer.daemon = True
    timer.start()
    try:
        connection.connect(server.host, server.port)
        if server.security == "starttls":
            connection.starttls(context=context)
        if server.user is not None:
            connection.login(server.user, password or "")
        connection.send_message(_message(sender, to, mail, name, now), sender[1], to)
    except smtplib.SMTPRecipientsRefused as refused:
        status = next(iter(refused.recipients.values()))[0]
        raise NotDelivered(f"the mail server refuses the address ({status})", final=status in _NO_SUCH) from None
    except smtplib.SMTPResponseException as error:
        raise NotDelivered(f"the mail server answered {error.smtp_code}") from None
    except (OSError, smtplib.SMTPException, ValueError, AttributeError) as error:
        # AttributeError: smtplib's, where the timer closed the connection under its hands.
        raise NotDelivered(f"the mail server does not answer ({type(error).__name__})") from None
    finally:
        timer.cancel()
        # No QUIT: the server has taken the message, and what it says afterwards must not send it again.
        connection.close()


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
