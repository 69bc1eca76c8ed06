"""What making customers needs of Stripe and of our tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol


class Customer(NamedTuple):
    """A live customer at Stripe. `stack` and `account` are its metadata, None where it has none."""

    id: str
    created: int
    email: str | None = None
    name: str | None = None
    stack: str | None = None
    account: str | None = None


class Attempt(NamedTuple):
    """That a customer is being made for an account.

    `number` is part of the Idempotency-Key: whoever tries at the same time, or again, uses the same, until Stripe has
    answered under it in a way that it would repeat for a day. `since`: epoch seconds of the first try. `again`: another
    try came before, which may have made one.
    """

    number: int
    since: int
    again: bool


class CustomerPort(Protocol):
    """Stripe's customers. Every method raises StripeRefused and StripeUnavailable."""

    def search(self, stack: str, account: str) -> list[Customer]:
        """Live customers with this metadata, as Stripe's search knows them: a minute or more late."""
        ...

    def all(self, since: int | None = None) -> Iterator[Customer]:
        """Live customers made since an instant (epoch seconds), newest first. Never late."""
        ...

    def exists(self, customer: str) -> bool:
        """Whether it is known to this Stripe account and not deleted."""
        ...

    def create(self, stack: str, account: str, key: str) -> Customer:
        """One attempt under this Idempotency-Key. Only the metadata is sent, so that all attempts ask for the same."""
        ...

    def claim(self, customer: str, stack: str, account: str) -> None:
        """Write the account's metadata on a customer that others made."""
        ...

    def describe(self, customer: str, email: str | None, name: str | None) -> None:
        """Set email and name; None leaves one as it is."""
        ...


class AttemptStore(Protocol):
    """The attempts under way, one for each account."""

    def begin(self, account: str, now: int) -> Attempt:
        """The attempt to make: the one under way, else a first one, which is noted before this returns."""
        ...

    def next(self, account: str, attempt: Attempt) -> None:
        """Give up on the attempt's key, unless somebody did already: the next attempt has another number."""
        ...

    def end(self, account: str) -> None:
        """Forget the attempts of an account that has its customer. Repeating it is harmless."""
        ...
