"""What webhook destinations a stack wants at Stripe, and what is to be done for them (pure).

Two: Stripe delivers snapshot events and thin ones to separate destinations, each with a secret of its own that it shows
once, at creation. A destination is known by the metadata that this writes; `mark` is the fingerprint of its secret,
written once the secret is stored. So one whose secret got lost, as in a crash between the two, is told from one that
works, and is replaced.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Final, Literal, NamedTuple, Protocol

Payload = Literal["snapshot", "thin"]
Kind = Literal["match", "create", "update", "replace", "remove", "foreign"]
STACK: Final = "tollgate_stack"
MARK: Final = "tollgate_secret"
_THIN: Final = ("v1.", "v2.")


class Destination(NamedTuple):
    """One at Stripe. `version`: of its snapshots; None: thin, or the account's own. `stack`, `mark`: metadata."""

    id: str
    payload: Payload
    url: str
    events: frozenset[str]
    version: str | None
    enabled: bool
    stack: str | None
    mark: str | None


class Wanted(NamedTuple):
    payload: Payload
    url: str
    events: frozenset[str]
    version: str | None


class Step(NamedTuple):
    """`found`: what it is about, None for a creation. `why`: in a few words, for people."""

    kind: Kind
    wanted: Wanted
    found: Destination | None
    why: str


class Port(Protocol):
    """Stripe's destinations and the stored secrets. Raises StripeRefused, StripeUnavailable."""

    def all(self) -> list[Destination]: ...

    def create(self, wanted: Wanted, stack: str) -> tuple[Destination, str]:
        """The new one and its secret."""

    def update(self, found: Destination, wanted: Wanted) -> None:
        """Address and events as wanted, enabled."""

    def mark(self, found: Destination, mark: str) -> None: ...
    def remove(self, found: Destination) -> None: ...


class Secrets(Protocol):
    """The secrets that deliveries are verified with."""

    def read(self) -> tuple[str, ...]: ...
    def write(self, secrets: Sequence[str]) -> None: ...


def wanted(url: str, types: Sequence[str], version: str) -> tuple[Wanted, Wanted]:
    """Both destinations for the event types that are handled."""
    thin = frozenset(name for name in types if name.startswith(_THIN))
    return Wanted("snapshot", url, frozenset(types) - thin, version), Wanted("thin", url, thin, None)


def fingerprint(secret: str) -> str:
    """Tells secrets apart without telling one."""
    return hashlib.sha256(secret.encode()).hexdigest()[:16]


def plan(wishes: Sequence[Wanted], found: Sequence[Destination], stack: str, secrets: Sequence[str]) -> list[Step]:
    """What is to be done, in order. `secrets`: those that are stored."""
    known = {fingerprint(secret) for secret in secrets}
    steps: list[Step] = []
    for wish in wishes:
        same = [one for one in found if one.payload == wish.payload]
        ours = sorted((one for one in same if one.stack == stack), key=lambda one: (one.mark not in known, one.id))
        steps += [
            Step("foreign", wish, one, "delivers here, and was not made by this command; remove it by hand")
            for one in same
            if one.url == wish.url and one.stack is None
        ]
        if not ours:
            steps.append(Step("create", wish, None, f"{len(wish.events)} event types"))
            continue
        steps.append(_step(wish, ours[0], known))
        steps += [Step("remove", wish, one, "a second one of this stack") for one in ours[1:]]
    return steps


def _step(wish: Wanted, one: Destination, known: set[str]) -> Step:
    if one.mark not in known:
        return Step("replace", wish, one, "its secret is not stored here, and Stripe shows it only once")
    if one.version != wish.version:
        return Step("replace", wish, one, f"its version {one.version} cannot be changed to {wish.version}")
    differs = []
    if one.url != wish.url:
        differs.append(f"its address is {one.url}")
    if one.events != wish.events:
        more, less = len(one.events - wish.events), len(wish.events - one.events)
        differs.append(f"{less} event types are missing, {more} too many")
    if not one.enabled:
        differs.append("it is disabled")
    return Step("update", wish, one, "; ".join(differs)) if differs else Step("match", wish, one, "")


def apply(port: Port, secrets: Secrets, steps: Sequence[Step], stack: str, done: Callable[[Step], None]) -> None:
    """Carry the steps out. A crash anywhere is healed by running it again; between a creation and its removal two
    destinations deliver, and the inbox takes each event once. Raises what the ports raise."""
    for step in steps:
        if step.kind in ("create", "replace"):
            made, secret = port.create(step.wanted, stack)
            # A crash here loses the secret: the destination has no mark, and the next run replaces it.
            secrets.write((*secrets.read(), secret))
            # A crash here leaves a destination that works and has no mark: the next run replaces it, too.
            port.mark(made, fingerprint(secret))
            if step.found is not None:
                # The old one last, so that no event falls between.
                port.remove(step.found)
        elif step.kind == "update" and step.found is not None:
            port.update(step.found, step.wanted)
        elif step.kind == "remove" and step.found is not None:
            port.remove(step.found)
        else:
            continue
        done(step)
