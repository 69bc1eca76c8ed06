"""What messages say, word by word."""

from __future__ import annotations

import json

from tests.unit.billing.world import NOON
from tollgate.alerts.outbox import Alert, Words
from tollgate.notify.letter import Letter
from tollgate.notify.templates import Mail, addressed, digest, for_customer, for_operator, for_program, for_slack


def letter(name: str = "t#1", **changes: object) -> Letter:
    alert = Alert(
        **{
            "id": name,
            "kind": "breaker",
            "account": "acme",
            "subject": "acme is frozen",
            "text": "10 x its typical day.\n\nResume: https://app.test/resume?t=a&s=b.",
            "at_ms": NOON * 1000,
            "facts": {"meter": "tokens", "cost": "3.20"},
            "audience": "both",
            "customer": Words("Paused", "Your use is paused.\nAsk us."),
            **changes,
        }  # type: ignore[arg-type]
    )
    return Letter(f"{NOON * 1000:013d}#{name}", json.loads(alert.message()))


NAME = letter().id
_STYLE = 'style="font:15px/1.5 sans-serif;color:#1b1f24;max-width:36em"'
_FOOT = '<p style="color:#57606a;font-size:13px">'


def test_the_operators_mail() -> None:
    assert for_operator(letter(), "tollgate-prod") == Mail(
        "[tollgate-prod] acme is frozen",
        "10 x its typical day.\n\nResume: https://app.test/resume?t=a&s=b.\n\n-- \n"
        "Account: acme\nWhen: 2026-11-21T12:00:00.000Z\ncost: 3.20\nmeter: tokens\n"
        f"Message: {NAME}\n",
        f"<!doctype html><html><body {_STYLE}><p>10 x its typical day.</p>"
        '<p>Resume: <a href="https://app.test/resume?t=a&amp;s=b">https://app.test/resume?t=a&amp;s=b</a>.</p>'
        f"{_FOOT}Account: acme<br>When: 2026-11-21T12:00:00.000Z<br>cost: 3.20<br>meter: tokens<br>"
        f"Message: {NAME}</p></body></html>",
    )


def test_a_link_to_the_api_is_shown_whole() -> None:
    one = addressed(letter(facts={"resume_path": "/v1/resume?token=ab_c-d"}), "https://api.test")
    whole = "https://api.test/v1/resume?token=ab_c-d"
    mail = for_operator(one, "s")
    assert f"\nresume_url: {whole}\n" in mail.text
    assert f'<a href="{whole}">{whole}</a>' in mail.html
    assert f"resume_url {whole}" in for_slack(one, "s")["text"]
    data = json.loads(for_program(one))["data"]
    assert data["resume_url"] == whole
    assert "resume_path" not in data
    assert (one.id, one.place) == (letter().id, letter().place)
    assert whole not in for_customer(one, "Acme").text, "whoever has the link resumes"
    assert addressed(letter(), "https://api.test") == letter()


def test_the_customers_mail() -> None:
    assert for_customer(letter(), "Acme") == Mail(
        "Paused",
        "Your use is paused.\nAsk us.\n\n-- \nAcme\n"
        "You get this message because this address belongs to an account at Acme.\n",
        f"<!doctype html><html><body {_STYLE}><p>Your use is paused.<br>Ask us.</p>"
        f"{_FOOT}Acme<br>You get this message because this address belongs to an account at Acme.</p></body></html>",
    )


def test_a_sentence_for_both_is_the_customers_where_it_has_no_own() -> None:
    said = "You've used 80 out of 100 free messages this month."
    mail = for_customer(letter(customer=None, subject="80 % used", text=said, facts={"meter": "messages"}), "Acme")
    assert mail.subject == "80 % used"
    assert mail.text.startswith(f"{said}\n\n-- \n")
    assert "messages: " not in mail.text


def test_nothing_in_a_message_is_markup_or_a_header() -> None:
    nasty = letter(subject="x\r\nBcc: a@b.c\n" + "y" * 300, text="<script>alert(1)</script> & javascript:x")
    mail = for_operator(nasty, "s")
    assert mail.subject == ("[s] x Bcc: a@b.c " + "y" * 300)[:200]
    assert "<p>&lt;script&gt;alert(1)&lt;/script&gt; &amp; javascript:x</p>" in mail.html
    assert '"><' not in for_operator(letter(text='https://a.b/"><img>'), "s").html.split("<body")[1].split(">", 1)[1]


def test_slack() -> None:
    assert for_slack(letter(text="a < b & c > <!channel>"), "tollgate-prod") == {
        "text": "*acme is frozen* (tollgate-prod)\na &lt; b &amp; c &gt; &lt;!channel&gt;\n"
        f"account acme, cost 3.20, meter tokens, {NAME}"
    }
    assert "account" not in for_slack(letter(account="", audience="operator"), "s")["text"]


def test_for_programs_the_same_bytes_each_time() -> None:
    first = for_program(letter())
    assert first == for_program(letter())
    assert first.startswith('{"data":{"account":"acme","at":"2026-11-21T12:00:00.000Z","audience":"both","cost":"3.20"')
    body = json.loads(first)
    assert (body["type"], body["timestamp"], body["data"]["id"]) == ("breaker", "2026-11-21T12:00:00.000Z", NAME)


def test_a_digest_for_people_and_programs() -> None:
    two = [letter("a"), letter("b", subject="other", customer=None, text="Other")]
    made = digest(two, "2026-11-21T13:00:00.000Z", customer=False)
    assert made["text"] == (
        "There were more messages than this channel takes in an hour. Held back:\n\n"
        "2026-11-21T12:00:00.000Z  acme is frozen\n2026-11-21T12:00:00.000Z  other"
    )
    assert (made["subject"], made["kind"], made["account"], made["audience"]) == (
        "2 messages",
        "digest",
        "",
        "operator",
    )
    assert [one["id"] for one in made["messages"]] == [one.id for one in two]
    mine = digest(two, "2026-11-21T13:00:00.000Z", customer=True)
    assert mine["text"].endswith("2026-11-21T12:00:00.000Z  Paused\n2026-11-21T12:00:00.000Z  other")
    assert (mine["account"], mine["audience"]) == ("acme", "customer")
