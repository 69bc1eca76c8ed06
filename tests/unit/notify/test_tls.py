"""A webhook over TLS: the connection goes to the address that was checked, the certificate is the name's."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.unit.notify.stage import Receiver
from tollgate.notify import post as post_module
from tollgate.notify.letter import NotDelivered
from tollgate.notify.post import post

NAME = "receiver.test"


@pytest.fixture
def secure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A receiver with a certificate for NAME, which the product trusts."""
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
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    chain, private = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    trusting = ssl.create_default_context(cafile=str(chain))
    monkeypatch.setattr(post_module, "_context", lambda: trusting)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(chain, private)
    made = Receiver(serving)
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
