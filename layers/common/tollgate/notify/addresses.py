"""Which URLs a webhook may go to: https, and a host all of whose addresses are public.

A name is resolved before it is stored, and again before each delivery, which then connects to the very address that was
checked: a name that changes its mind in between (rebinding) reaches nothing private.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final, NamedTuple
from urllib.parse import urlsplit

Resolve = Callable[[str, int], list[str]]
"""The addresses of a host, as `resolve` finds them."""
MOST_URL: Final = 2_048
_NAT64: Final = IPv6Network("64:ff9b::/96")
_NOT_PUBLIC: Final = (
    IPv6Network("fec0::/10"),  # site-local: deprecated (RFC 3879), and routed inside where it still is
    IPv6Network("3fff::/20"),  # documentation (RFC 9637)
    IPv4Network("192.88.99.0/24"),  # the relays of 6to4 (RFC 7526)
)
"""What `ipaddress` takes for public, and is not."""


class BadUrl(Exception):
    """A URL that no webhook goes to. `code`: url, https, host, unresolved, private_address."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class Place(NamedTuple):
    """Where a URL leads. `path` with its query."""

    secure: bool
    host: str
    port: int
    path: str
    netloc: str


def place_of(url: str, *, private: bool) -> Place:
    """The parts of a URL. `private`: the local stack, where plain http is allowed, too. Raises BadUrl."""
    if len(url) > MOST_URL or not url.isascii() or any(c <= " " or c in '\\"<>`{}|^\x7f' for c in url):
        raise BadUrl("url", f"a webhook's URL is at most {MOST_URL} visible ASCII characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise BadUrl("url", "this is no URL") from None
    if parts.scheme != "https" and not (private and parts.scheme == "http"):
        raise BadUrl("https", "a webhook's URL begins with https://")
    if not parts.hostname or "@" in parts.netloc or parts.fragment or "%" in parts.netloc or port == 0:
        raise BadUrl("host", "a webhook's URL names a host, no user and no fragment")
    secure = parts.scheme == "https"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Place(secure, parts.hostname.rstrip("."), port or (443 if secure else 80), path, parts.netloc)


def checked(place: Place, resolve: Resolve, *, private: bool) -> str:
    """An address to connect to: the first of the host's, all of which are public. Raises BadUrl."""
    found = resolve(place.host, place.port)
    if not found:
        raise BadUrl("unresolved", f"{place.host} has no address")
    if not private:
        for one in found:
            if not is_public(one):
                raise BadUrl("private_address", f"{place.host} leads to a private, local or reserved address")
    return found[0]


def is_public(text: str) -> bool:
    """Whether an address is one of the public internet: neither private, loopback, link-local, shared, reserved nor
    multicast, nor an IPv6 form of an IPv4 address that is."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return all(_is_global(one) for one in _meant(address))


def _is_global(address: IPv4Address | IPv6Address) -> bool:
    if any(address in network for network in _NOT_PUBLIC):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _meant(address: IPv4Address | IPv6Address) -> list[IPv4Address | IPv6Address]:
    """The address, or the IPv4 addresses that it stands for."""
    if isinstance(address, IPv4Address):
        return [address]
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    if address.sixtofour is not None:
        return [address, address.sixtofour]
    if address.teredo is not None:
        return [address, *address.teredo]
    if address in _NAT64:
        return [IPv4Address(int(address) & 0xFFFFFFFF)]
    if int(address) >> 32 == 0:
        return [address, IPv4Address(int(address))]
    return [address]


def resolve(host: str, port: int) -> list[str]:
    """As the system resolves it: also `2130706433`, `0177.0.0.1` and `0x7f.1`, which are ways to write an address."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(one[4][0]) for one in found))
