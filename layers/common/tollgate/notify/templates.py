"""What a message says on each channel. Pure: no clock, no store; tested word by word."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from tollgate.notify.letter import Letter

DIGEST: Final = "digest"
"""The kind of a message that holds others."""
_OWN: Final = frozenset({"id", "kind", "account", "audience", "subject", "text", "at", "customer", "messages"})
_LINK: Final = re.compile(r"https?://[^\s<>\"']+[^\s<>\"'.,;:!?)]")


class Mail(NamedTuple):
    subject: str
    text: str
    html: str


def addressed(letter: Letter, api: str) -> Letter:
    """With the whole address of what it links to: what is told knows paths of the API (`resume_path`), not where it is
    served."""
    path = letter.message.get("resume_path")
    if path is None:
        return letter
    rest = {name: value for name, value in letter.message.items() if name != "resume_path"}
    return replace(letter, message={**rest, "resume_url": f"{api}{path}"})


def for_operator(letter: Letter, stack: str) -> Mail:
    """What the operator reads: the text, then account, time, facts, and the message's id."""
    lines = [f"Account: {letter.account}"] if letter.account else []
    lines.append(f"When: {letter.message['at']}")
    lines += [f"{name}: {value}" for name, value in facts(letter).items()]
    lines.append(f"Message: {letter.id}")
    subject, text = letter.words
    return _mail(f"[{stack}] {subject}", text, "\n".join(lines))


def for_customer(letter: Letter, product: str) -> Mail:
    """What the customer reads: its own words and nothing of the operator's."""
    subject, text = letter.to_customer
    return _mail(
        subject, text, f"{product}\nYou get this message because this address belongs to an account at {product}."
    )


def for_slack(letter: Letter, stack: str) -> dict[str, Any]:
    """The body for an incoming webhook of Slack; `&`, `<` and `>` are its control characters [docs]."""
    lines = [f"*{_slack(letter.words.subject)}* ({_slack(stack)})", _slack(letter.words.text)]
    where = [f"account {letter.account}"] if letter.account else []
    lines.append(_slack(", ".join([*where, *(f"{name} {value}" for name, value in facts(letter).items()), letter.id])))
    return {"text": "\n".join(lines)}


def for_program(letter: Letter) -> str:
    """JSON for webhooks and the bus: `{type, timestamp, data}`, as Standard Webhooks asks for. The same bytes each time
    that it is sent."""
    data = {**letter.message, "id": letter.id}
    body = {"type": letter.kind, "timestamp": letter.message["at"], "data": data}
    return json.dumps(body, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def digest(letters: Sequence[Letter], at: str, *, customer: bool) -> dict[str, Any]:
    """Messages that were held back, as one: all of them for programs, a line of each for people."""
    account = letters[0].account if customer else ""
    words = [one.to_customer if customer else one.words for one in letters]
    lines = [f"{letter.message['at']}  {subject}" for letter, (subject, _) in zip(letters, words, strict=True)]
    held = [{**one.message, "id": one.id} for one in letters]
    return {
        "id": f"digest of {letters[0].id}",
        "kind": DIGEST,
        "account": account,
        "audience": "customer" if customer else "operator",
        "subject": f"{len(letters)} messages",
        "text": "\n".join(["There were more messages than this channel takes in an hour. Held back:", "", *lines]),
        "at": at,
        "messages": held,
    }


def facts(letter: Letter) -> dict[str, str]:
    """What a message says beside its own fields, by name."""
    return {name: str(value) for name, value in sorted(letter.message.items()) if name not in _OWN}


def _mail(subject: str, text: str, foot: str) -> Mail:
    paragraphs = "".join(f"<p>{_html(one)}</p>" for one in text.split("\n\n") if one.strip())
    page = (
        '<!doctype html><html><body style="font:15px/1.5 sans-serif;color:#1b1f24;max-width:36em">'
        f'{paragraphs}<p style="color:#57606a;font-size:13px">{_html(foot)}</p></body></html>'
    )
    return Mail(_line(subject), f"{text}\n\n-- \n{foot}\n", page)


def _line(text: str) -> str:
    """One line: what ends a line in a subject could begin another header."""
    return " ".join(text.split())[:200]


def _html(text: str) -> str:
    found, last = [], 0
    for link in _LINK.finditer(text):
        found.append(html.escape(text[last : link.start()]))
        safe = html.escape(link[0])
        found.append(f'<a href="{safe}">{safe}</a>')
        last = link.end()
    found.append(html.escape(text[last:]))
    return "".join(found).replace("\n", "<br>")


def _slack(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
