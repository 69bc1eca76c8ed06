"""TLS: a webhook's connection goes to the address that was checked, the certificate is the name's; mail servers too."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.unit.notify.stage import Postbox, Receiver
from tollgate.notify import mail as mail_module
from tollgate.notify import post as post_module
from tollgate.notify.channels import Smtp
from tollgate.notify.letter import NotDelivered
from tollgate.notify.post import post
from tollgate.notify.templates import Mail

NAME = "receiver.test"
MAIL = Mail("Subject", "Text", "<p>Text</p>")


class Trust(NamedTuple):
    serving: ssl.SSLContext
    trusting: ssl.SSLContext


@pytest.fixture
def trust(tmp_path: Path) -> Trust:
    """A certificate for NAME and for this machine, and who trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME), x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    chain, private = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(chain, private)
    return Trust(serving, ssl.create_default_context(cafile=str(chain)))


@pytest.fixture
def secure(trust: Trust, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A receiver with that certificate, which the product trusts."""
    monkeypatch.setattr(post_module, "_context", lambda: trust.trusting)
    made = Receiver(trust.serving)
    made.start()
    yield made
    made.stop()


def test_the_certificate_is_checked_against_the_name_and_not_the_address(secure: Receiver) -> None:
    url = secure.url.replace("http://127.0.0.1", f"https://{NAME}")
    post(url, b"{}", {}, lambda host, port: ["127.0.0.1"], private=True)
    assert secure.got[0].headers["host"] == url.split("/")[2]


@pytest.mark.parametrize("host", ["other.test", "127.0.0.1"])
def test_another_names_certificate_is_refused(secure: Receiver, host: str) -> None:
    url = secure.url.replace("http://127.0.0.1", f"https://{host}")
    with pytest.raises(NotDelivered, match="SSLCertVerificationError"):
        post(url, b"{}", {}, lambda host, port: ["127.0.0.1"], private=True)
    assert secure.got == []


def test_a_certificate_that_nobody_signed_is_refused(secure: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    url = secure.url.replace("http://127.0.0.1", f"https://{NAME}")
    with pytest.raises(NotDelivered, match="SSLCertVerificationError"):
        post(url, b"{}", {}, lambda host, port: ["127.0.0.1"], private=True)
    assert secure.got == []


# -- mail --------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["tls", "starttls"])
def server(request: pytest.FixtureRequest, trust: Trust) -> Iterator[tuple[Smtp, Postbox]]:
    """A mail server that takes nothing in the open."""
    made = Postbox(trust.serving, request.param)
    yield replace(made.start(), host="localhost"), made
    made.stop()


def deliver(server: Smtp) -> None:
    mail_module.send(server, None, ("Acme", "a@acme.test"), ["ops@acme.test"], MAIL, "msg_1", 0)


def test_mail_goes_by_tls_to_a_server_of_that_name(
    server: tuple[Smtp, Postbox], trust: Trust, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mail_module, "_context", lambda: trust.trusting)
    smtp, postbox = server
    deliver(smtp)
    assert [to for to, _ in postbox.got] == [["ops@acme.test"]]


def test_mail_to_a_server_of_another_name_is_refused(
    server: tuple[Smtp, Postbox], trust: Trust, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mail_module, "_context", lambda: trust.trusting)
    smtp, postbox = server
    with pytest.raises(NotDelivered, match="SSLCertVerificationError"):
        deliver(replace(smtp, host="127.0.0.1"))
    assert postbox.got == []


def test_mail_to_a_server_whose_certificate_nobody_signed_is_refused(server: tuple[Smtp, Postbox]) -> None:
    smtp, postbox = server
    with pytest.raises(NotDelivered, match="SSLCertVerificationError"):
        deliver(smtp)
    assert postbox.got == []
