"""One POST to a URL of somebody else's: bounded in time and size, to a checked address, following nothing."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from tollgate.notify.addresses import BadUrl, Place, Resolve, checked, place_of
from tollgate.notify.letter import NotDelivered

STEP_S: Final = 5
"""For connecting, and for each wait for bytes."""
WHOLE_S: Final = 10
"""For all of it: an answer that drips byte by byte ends here."""
_MOST_ANSWER: Final = 16_384
_USER_AGENT: Final = "tollgate-notify/1"


def post(url: str, body: bytes, headers: Mapping[str, str], resolve: Resolve, *, private: bool) -> None:
    """POST JSON; returns where the answer is 2xx. `private`: the local stack. Raises NotDelivered."""
    try:
        place = place_of(url, private=private)
        address = checked(place, resolve, private=private)
    except BadUrl as bad:
        # A name may resolve again later; an address that is private is tried again, too: DNS is in others' hands.
        raise NotDelivered(f"{bad.code}: {bad.reason}") from None
    connection = _Connection(place, address)
    timer = threading.Timer(WHOLE_S, connection.cut)
    timer.daemon = True
    timer.start()
    try:
        connection.request("POST", place.path, body, {"User-Agent": _USER_AGENT, **headers})
        answer = connection.getresponse()
        answer.read(_MOST_ANSWER)
        if connection.is_cut:
            raise TimeoutError  # it ended under our own hand: no whole answer, whatever its first line said
        status, wait = answer.status, answer.headers.get("Retry-After", "")
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NotDelivered(f"no answer ({type(error).__name__})") from None
    finally:
        timer.cancel()
        connection.close()
    if 200 <= status < 300:
        return
    retry_after = int(wait) if wait.isascii() and wait.isdecimal() and len(wait) < 10 else None
    raise NotDelivered(f"answered {status}", gone=status == 410, retry_after=retry_after)


class _Connection(http.client.HTTPConnection):
    """A connection to the address that was checked, whose certificate is checked against the host's name."""

    def __init__(self, place: Place, address: str) -> None:
        super().__init__(place.host, place.port, timeout=STEP_S)
        self._place, self._address, self.is_cut = place, address, False
        if place.secure:
            self.default_port = 443  # else the Host header would name the port

    def connect(self) -> None:
        plain = socket.create_connection((self._address, self._place.port), STEP_S)
        self.sock = plain
        if self._place.secure:
            # The handshake apart: until it is done, `cut` must find the socket that waits.
            secure = _context().wrap_socket(plain, server_hostname=self._place.host, do_handshake_on_connect=False)
            self.sock = secure
            secure.do_handshake()
        if self.is_cut:
            raise TimeoutError

    def cut(self) -> None:
        """End it from another thread: whatever it waits for fails."""
        self.is_cut = True
        there = self.sock
        if there is not None:
            try:
                there.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # it has ended already


@lru_cache(maxsize=1)
def _context() -> ssl.SSLContext:
    return ssl.create_default_context()
