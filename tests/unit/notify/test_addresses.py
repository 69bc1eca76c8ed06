"""No webhook reaches a private address: not by its URL, not by a name, not by a name that changes its mind."""

from __future__ import annotations

import socket

import pytest

from tests.unit.notify.stage import Receiver
from tollgate.notify.addresses import BadUrl, checked, is_public, place_of, resolve
from tollgate.notify.letter import NotDelivered
from tollgate.notify.post import post

PRIVATE = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254",
    "100.64.0.1", "198.18.0.1", "192.0.2.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::1", "::", "fe80::1",
    "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1",
    "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:a00:1::", "fe80::1%eth0", "fec0::1", "3fff::1",
    "192.88.99.1", "2002:c058:6301::", "64:ff9b:1::7f00:1", "::ffff:0:127.0.0.1", "2001:0:7f00:1::", "nonsense",
]  # fmt: skip
PUBLIC = ["93.184.216.34", "8.8.8.8", "2606:2800:220:1:248:1893:25c8:1946", "::ffff:8.8.8.8", "64:ff9b::808:808"]


@pytest.mark.parametrize("address", PRIVATE)
def test_private(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "0177.0.0.1",
        "0x7f.1",
        "0x7f000001",
        "127.1",
        "127.0.0.1.",
        "localhost",
        "[::1]",
        "[::ffff:7f00:1]",
    ],
)
def test_every_way_to_write_loopback(host: str) -> None:
    place = place_of(f"https://{host}/", private=False)
    with pytest.raises(BadUrl) as refused:
        checked(place, resolve, private=False)
    assert refused.value.code == "private_address"


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://example.com/", "https"),
        ("ftp://example.com/", "https"),
        ("//example.com/", "https"),
        ("https:///path", "host"),
        ("https://user:pass@example.com/", "host"),
        ("https://example.com@127.0.0.1/", "host"),
        ("https://example.com/#x", "host"),
        ("https://exam%70le.com/", "host"),
        ("https://example.com:0/", "host"),
        ("https://example.com:99999/", "url"),
        ("https://[::1/", "url"),
        ("https://example.com/a b", "url"),
        ("https://example.com/\r\nX: y", "url"),
        ("https://example.com\\@127.0.0.1/", "url"),
        ("https://ex\u00e4mple.com/", "url"),
        ("https://example.com/" + "x" * 2048, "url"),
        ("", "https"),
    ],
)
def test_urls_that_are_none(url: str, code: str) -> None:
    with pytest.raises(BadUrl) as refused:
        place_of(url, private=False)
    assert refused.value.code == code


def test_one_private_address_among_public_ones_is_enough() -> None:
    place = place_of("https://mixed.test/", private=False)
    with pytest.raises(BadUrl):
        checked(place, lambda host, port: ["8.8.8.8", "10.0.0.1"], private=False)
    with pytest.raises(BadUrl, match="no address"):
        checked(place, lambda host, port: [], private=False)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.1"])
def test_a_name_that_resolves_to_a_private_address_at_delivery(
    receiver: Receiver, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was public when it was stored. No connection is even tried."""
    monkeypatch.setattr(socket, "create_connection", None)
    url = receiver.url.replace("http://127.0.0.1", "https://receiver.test")
    with pytest.raises(NotDelivered, match="private_address"):
        post(url, b"{}", {}, lambda host, port: [address], private=False)
    assert receiver.got == []


def test_it_connects_to_the_address_that_was_checked_and_never_resolves_again(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["8.8.8.8"] if len(asked) == 1 else ["127.0.0.1"]

    connected: list[object] = []

    def connect(address: object, timeout: int) -> socket.socket:
        connected.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(NotDelivered):
        post("https://rebinding.test:8443/x", b"{}", {}, rebinding, private=False)
    assert (asked, connected) == (["rebinding.test"], [("8.8.8.8", 8443)])


def test_no_redirect_is_followed(receiver: Receiver) -> None:
    receiver.answers, receiver.answer_headers = [307], {"Location": receiver.url}
    with pytest.raises(NotDelivered, match="answered 307"):
        post(receiver.url, b"{}", {}, resolve, private=True)
    assert len(receiver.got) == 1


def test_plain_http_is_for_the_local_stack_only(receiver: Receiver) -> None:
    with pytest.raises(NotDelivered, match="https"):
        post(receiver.url, b"{}", {}, resolve, private=False)
    assert receiver.got == []


def test_no_proxy_of_the_environment_is_asked(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would resolve the name itself."""
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    post(receiver.url, b"{}", {}, resolve, private=True)
    assert len(receiver.got) == 1
